import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.source.place import trace
from agent.source.scan import Limits, scan
from agent.source.watch import Deaf, Grounds, Watch, arm, grounds, rust_notify

NEVER = threading.Event()


def grounds_of(folder: Path) -> Grounds:
    way = trace(str(folder))
    return grounds(way, scan(way, str(folder), known={}, limits=Limits(), now=0))


@pytest.fixture
def watch(folder: Path) -> Iterator[Watch]:
    (folder / "sub").mkdir()
    (folder / ".git" / "objects").mkdir(parents=True)
    (folder / "a.yaml").write_text("a")
    (folder / "notes.txt").write_text("a")
    armed = arm(grounds_of(folder), rust_notify)
    yield armed
    armed.close()


def test_only_what_was_listed_is_watched_and_the_parent(folder: Path, watch: Watch):
    assert set(watch.grounds.folders) == {str(folder), str(folder / "sub")}
    assert set(watch.grounds.beside) == {str(folder.parent)}


@pytest.mark.parametrize("path", ["a.yaml", "new.yaml", "sub/b.json", "newdir/", "..data@"])
def test_what_a_scan_would_read_is_heard(folder: Path, watch: Watch, path: str):
    if path.endswith("/"):
        (folder / path).mkdir()
    elif path.endswith("@"):
        (folder / path[:-1]).symlink_to("sub")
    else:
        (folder / path).write_text("x")
    assert watch.heard(NEVER, 2)


@pytest.mark.parametrize(
    "path", ["notes.txt", ".a.yaml.swp", ".git/objects/x", ".git/config.yaml", "../beside.yaml", "../x"]
)
def test_what_no_scan_reads_is_not(folder: Path, watch: Watch, path: str):
    (folder / path).write_text("x")
    assert not watch.heard(NEVER, 0.2)


def test_the_folder_itself_is_heard_from_its_parent(folder: Path, watch: Watch):
    folder.rename(folder.with_name("old"))
    assert watch.heard(NEVER, 2)


def test_the_swap_of_a_link_is_heard_at_the_links_place(tmp_path: Path):
    for tree in ("one", "two"):
        (tmp_path / tree / "specs").mkdir(parents=True)
    (tmp_path / "git").mkdir()
    link = tmp_path / "git" / "current"
    link.symlink_to("../one")
    watch = arm(grounds_of(link / "specs"), rust_notify)
    try:
        (tmp_path / "git" / "next").symlink_to("../two")
        (tmp_path / "git" / "next").rename(link)
        assert watch.heard(NEVER, 2)
    finally:
        watch.close()


def test_what_happened_between_two_waits_is_heard(folder: Path, watch: Watch):
    (folder / "a.yaml").write_text("b")
    time.sleep(0.1)
    began = time.monotonic()
    assert watch.heard(NEVER, 5)
    assert time.monotonic() - began < 1


def test_waiting_ends_when_it_is_told_to(watch: Watch):
    until = threading.Event()
    until.set()
    assert not watch.heard(until, 60)


def test_a_folder_that_cannot_be_watched_is_an_error(folder: Path):
    wanted = grounds_of(folder)
    os.rmdir(folder)  # noqa: PTH106
    with pytest.raises(Deaf):
        arm(wanted, rust_notify)


def test_a_missing_folder_is_watched_for_where_it_would_appear(tmp_path: Path):
    way = trace(str(tmp_path / "a" / "b"))
    watch = arm(grounds(way, None), rust_notify)
    try:
        (tmp_path / "a").mkdir()
        assert watch.heard(NEVER, 2)
    finally:
        watch.close()


def test_a_folder_whose_name_is_no_utf_8_cannot_be_watched(folder: Path):
    (folder / os.fsdecode(b"caf\xe9")).mkdir()
    with pytest.raises(Deaf, match="no UTF-8"):
        arm(grounds_of(folder), rust_notify)
