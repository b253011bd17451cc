"""A plain folder in which git checks out two commits back to back, read by us and, beside us, by a naive reader."""

import threading
import time
from pathlib import Path

import pytest

from agent.clock import SystemClock
from agent.contracts import Transient
from agent.source.directory import DirectorySource
from tests.fakes.following import contents, git

FILES = 100


@pytest.fixture
def repository(folder: Path) -> Path:
    git(folder, "init", "-q", "-b", "main")
    for revision in ("one", "two"):
        (folder / "team").mkdir(exist_ok=True)
        for number in range(FILES):
            where = folder / "team" if number % 2 else folder
            (where / f"s{number:03}.yaml").write_text(f"revision: {revision}\nname: s{number}\n")
        git(folder, "add", "-A")
        git(folder, "commit", "-q", "-m", revision)
        git(folder, "tag", revision)
    return folder


@pytest.mark.parametrize("pause", [0.0, 0.12])
def test_no_file_of_both_commits_is_ever_absent_or_empty_while_git_checks_out(repository: Path, pause: float):
    names = {str(path.relative_to(repository)) for path in repository.rglob("*.yaml")}
    stop = threading.Event()
    naive_missed = 0

    def check_out() -> None:
        while not stop.is_set():
            for revision in ("one", "two"):
                git(repository, "checkout", "-q", "-f", revision)
                stop.wait(pause)

    def read_naively() -> None:
        nonlocal naive_missed
        while not stop.is_set():
            seen = {str(path.relative_to(repository)) for path in repository.rglob("*.yaml") if size(path)}
            naive_missed += seen != names

    threads = [threading.Thread(target=check_out), threading.Thread(target=read_naively)]
    source = DirectorySource(repository, clock=SystemClock())
    wholes = parts = 0
    for thread in threads:
        thread.start()
    try:
        deadline = time.monotonic() + 4
        while time.monotonic() < deadline:
            try:
                found = contents(source.look())
            except Transient:
                continue
            assert set(found) == names
            assert b"" not in found.values()
            if None in found.values():
                parts += 1
            else:
                wholes += 1
            source.wait(stop, 0.5)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        source.close()
    assert naive_missed > 0, "the race was not hard enough to prove anything"
    assert wholes + parts > 0
    if pause:
        assert wholes > 0, "between two checkouts there is rest, and it must be used"


def test_after_a_checkout_the_folder_is_what_git_says(repository: Path):
    source = DirectorySource(repository, clock=SystemClock())
    try:
        for revision in ("one", "two", "one"):
            git(repository, "checkout", "-q", revision)
            assert all(f"revision: {revision}".encode() in (text or b"") for text in contents(source.look()).values())
    finally:
        source.close()


def size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
