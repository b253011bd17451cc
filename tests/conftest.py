"""What every test may ask for: a Docker engine that answers, and a tiny model; and the watch that nothing is left behind.

Tests marked `docker` make the engine run (tools/docker-engine); where it truly cannot be had they are skipped with the
reason, but in continuous integration (CI is set) they fail. When the session ends, no container, network, volume or
process of a test's instance (their names begin with "t-") that was not there before may be left.
"""

import fcntl
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.leftovers import leftovers

# Modules of assertions that are no test files; said here, before any test file imports them.
pytest.register_assert_rewrite("tests.contract.shimlet_contract", "tests.shimlets.process.place")

ROOT = Path(__file__).resolve().parent.parent
ENGINE = pytest.StashKey[str]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="run the long form of the random tests, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--soak"):
        for item in items:
            if item.get_closest_marker("soak"):
                item.add_marker(pytest.mark.skip(reason="takes long: only with --soak"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("docker") is None:
        return
    lacking = item.config.stash.get(ENGINE, None)
    if lacking is None:
        lacking = item.config.stash[ENGINE] = why_no_engine()
    if lacking and os.environ.get("CI"):
        pytest.fail(f"no Docker engine: {lacking}", pytrace=False)
    if lacking:
        pytest.skip(f"no Docker engine: {lacking}")


def why_no_engine() -> str:
    """Make an engine answer; the sentence that says why there is none, "" if there is. One process at a time."""
    with (Path(tempfile.gettempdir()) / f"xmod-engine-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        started = subprocess.run([ROOT / "tools" / "docker-engine"], capture_output=True, text=True, check=False)
    said = started.stderr.strip().splitlines() or [f"tools/docker-engine ended with {started.returncode}"]
    return "" if started.returncode == 0 else said[-1]


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file that a llama.cpp server loads."""
    from tools import tiny_model

    path = tmp_path_factory.mktemp("models") / "tiny.gguf"
    tiny_model.write(path)
    return path


@pytest.fixture(scope="session")
def llama_bin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a real `llama-server` in it."""
    from tools import demo

    folder = tmp_path_factory.mktemp("bin")
    demo.write_program(folder / "llama-server")
    return folder


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Fail if anything of a test's instance outlives the tests."""
    with (Path(tempfile.gettempdir()) / f"xmod-tests-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        before = leftovers()
        yield
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # another run of the tests goes on here, and what is seen may be its own
        deadline = time.monotonic() + 10
        while (left := leftovers() - before) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not left, f"the tests left behind: {', '.join(sorted(left))}"
