"""Folders to read, sources that are closed afterwards, and mounts that are taken away."""

import contextlib
import logging
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.clock import SystemClock
from agent.source.directory import DirectorySource
from tests.fakes.following import Follower, git
from tests.fakes.signing import GpgHome, SshKey, gpg_home, ssh_key


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "specs"
    made.mkdir()
    return made


@pytest.fixture
def follow() -> Iterator[Callable[..., Follower]]:
    with contextlib.ExitStack() as stack:

        def start(path: Path, **options) -> Follower:
            return stack.enter_context(Follower(DirectorySource(path, clock=SystemClock(), **options)))

        yield start


@pytest.fixture
def open_source() -> Iterator[Callable[..., DirectorySource]]:
    with contextlib.ExitStack() as stack:

        def start(path: Path, **options) -> DirectorySource:
            return stack.enter_context(contextlib.closing(DirectorySource(path, clock=SystemClock(), **options)))

        yield start


@pytest.fixture
def mount() -> Iterator[Callable[[Path], None]]:
    """Mounts a tmpfs over a folder, and takes it away again."""
    mounted: list[Path] = []

    def over(path: Path) -> None:
        done = subprocess.run(["mount", "-t", "tmpfs", "none", str(path)], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"this user may not mount: {done.stderr.strip()}")
        mounted.append(path)

    yield over
    for path in mounted:
        subprocess.run(["umount", str(path)], capture_output=True, check=False)


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What the source logs, whatever other tests made of the logging."""
    logger = logging.getLogger("xmod.source")
    level = logger.level
    logger.addHandler(caplog.handler)
    logger.setLevel(logging.INFO)
    yield caplog
    logger.removeHandler(caplog.handler)
    logger.setLevel(level)


class Repo:
    """A repository with a work tree, and words to change it by."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True)
        git(root, "init", "-q", "-b", "main")

    def commit(self, **files: str | None) -> str:
        """Commit these files below specs/ (a__b is a/b, None removes); the commit's id."""
        for name, text in files.items():
            path = self.root / "specs" / f"{name.replace('__', '/')}.yaml"
            if text is None:
                git(self.root, "rm", "-q", str(path))
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
                git(self.root, "add", str(path))
        git(self.root, "commit", "-q", "--allow-empty", "-m", "change")
        return self.head

    @property
    def head(self) -> str:
        return git(self.root, "rev-parse", "HEAD").strip()

    def git(self, *words: str) -> str:
        return git(self.root, *words)


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    made = Repo(tmp_path / "repo")
    made.commit(a="a: 1\n", b__c="c: 1\n")
    return made


@pytest.fixture(scope="session")
def jane(tmp_path_factory: pytest.TempPathFactory) -> SshKey:
    """Somebody who signs."""
    return ssh_key(tmp_path_factory.mktemp("jane") / "key")


@pytest.fixture(scope="session")
def mallory(tmp_path_factory: pytest.TempPathFactory) -> SshKey:
    """Somebody who signs too, and whom nobody named."""
    return ssh_key(tmp_path_factory.mktemp("mallory") / "key")


@pytest.fixture
def signers(tmp_path: Path, jane: SshKey) -> Path:
    """A file of allowed signers: Jane."""
    file = tmp_path / "signers"
    file.write_text(jane.allowed())
    return file


@pytest.fixture(scope="session")
def gpg() -> Iterator[GpgHome]:
    with gpg_home() as home:
        yield home
