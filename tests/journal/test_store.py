"""The journal's file: whole or set aside, read without a trace, made again when it is gone."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from agent.journal.event import insert, select
from agent.journal.store import CannotWrite, Corrupt, Store
from tests.journal.making import happened


def nothing(connection: sqlite3.Connection) -> None:
    """Do nothing."""


def put(store: Store, *whats: str) -> None:
    store.write(lambda connection: insert(connection, [happened(what) for what in whats]))


def found(store: Store) -> list[str] | None:
    events = store.read(lambda connection: select(connection, service="", since=None, after=0, limit=1_000_000))
    return None if events is None else [event.what for event in events]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def filled(folder: Path, count: int = 3000) -> Store:
    """A journal of many pages, closed."""
    store = Store(folder, nothing)
    put(store, *(f"event {number} " + "x" * 200 for number in range(count)))
    store.close()
    return store


def test_what_was_written_is_read_by_the_next(tmp_path: Path) -> None:
    store = Store(tmp_path / "new" / "state", nothing)
    assert found(store) is None
    put(store, "one", "two")
    assert found(store) == ["one", "two"]
    store.close()
    assert names(tmp_path / "new" / "state") == ["journal.db"]
    assert found(Store(tmp_path / "new" / "state", nothing)) == ["one", "two"]
    assert store.renewed == ""


def test_half_a_write_is_none(tmp_path: Path) -> None:
    store = Store(tmp_path, nothing)
    put(store, "before")

    def breaks(connection: sqlite3.Connection) -> None:
        insert(connection, [happened("half")])
        raise LookupError

    with pytest.raises(LookupError):
        store.write(breaks)
    put(store, "after")
    assert found(store) == ["before", "after"]


WRITER = """
import sys, os
from pathlib import Path
from agent.journal.store import Store
from tests.journal.test_store import nothing, put
store = Store(Path(sys.argv[1]), nothing)
number = 0
while True:
    put(store, *(str(number * 10 + one) for one in range(10)))
    number += 1
    os.write(1, b".")
"""


def killed(folder: Path, after: int) -> None:
    """A process that writes ten at a time is killed after so many times ten."""
    with subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        seen = 0
        while seen < after:
            seen += len(writer.stdout.read1(65536))
        writer.send_signal(signal.SIGKILL)


def test_a_kill_leaves_whole_writes_and_nothing_else(tmp_path: Path) -> None:
    for round_ in range(3):
        folder = tmp_path / str(round_)
        killed(folder, 5 + 40 * round_)
        assert "journal.db-wal" in names(folder)
        before = found(Store(folder, nothing))
        assert before is not None
        assert len(before) % 10 == 0
        assert before == [str(number) for number in range(len(before))]
        store = Store(folder, nothing)
        put(store, "next")
        assert found(store) == [*before, "next"]
        assert store.renewed == ""
        store.close()


@pytest.mark.parametrize("state", ["closed", "open", "killed", "no shm"])
def test_reading_leaves_no_trace(tmp_path: Path, state: str) -> None:
    """A dry run reads beside an agent that runs, was stopped, or was killed."""
    writer = Store(tmp_path, nothing)
    if state in ("killed", "no shm"):
        killed(tmp_path, 5)
    else:
        put(writer, "one")
        if state == "closed":
            writer.close()
    if state == "no shm":
        (tmp_path / "journal.db-shm").unlink()
    for path in tmp_path.iterdir():
        os.utime(path, (1, 1))
    before = contents(tmp_path)
    look = "import sys; from tests.journal.test_store import *; print(len(found(Store(Path(sys.argv[1]), nothing))))"
    count = int(subprocess.run([sys.executable, "-c", look, tmp_path], capture_output=True, check=True).stdout)
    assert count == 1 or count >= 50
    assert contents(tmp_path) == before
    assert {path.stat().st_mtime for path in tmp_path.iterdir()} == {1}
    writer.close()


def flip(path: Path) -> None:
    """Every second page is another."""
    data = bytearray(path.read_bytes())
    for at in range(4096, len(data), 8192):
        data[at : at + 4096] = bytes(255 - byte for byte in data[at : at + 4096])
    path.write_bytes(data)


def newer(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()


def foreign(path: Path) -> None:
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()


def no_tables(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE events")
    connection.commit()
    connection.close()


def no_text(path: Path) -> None:
    """SQLite quotes what it does not understand as it stands there."""
    data = path.read_bytes()
    assert b"CREATE TABLE events (" in data
    path.write_bytes(data.replace(b"CREATE TABLE events (", b"CREATE TABLE events \xb0"))


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "something").write_text("x")


def pipe_instead(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


RUINS = {
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "truncated to less than a page": lambda path: os.truncate(path, 1000),
    "garbage": lambda path: path.write_bytes(b"\xffgarbage" * 10_000),
    "pages flipped": flip,
    "newer": newer,
    "another program's": foreign,
    "without tables": no_tables,
    "tables that are no text": no_text,
    "a folder": folder_instead,
    "a pipe": pipe_instead,
}


@pytest.mark.parametrize("ruin", RUINS)
def test_what_is_no_journal_is_set_aside_and_a_new_one_begun(tmp_path: Path, ruin: str) -> None:
    filled(tmp_path)
    RUINS[ruin](tmp_path / "journal.db")
    store = Store(tmp_path, lambda connection: insert(connection, [happened("seed")]))
    store.check()
    put(store, "after")
    assert found(store) == ["seed", "after"]
    assert "journal.db.corrupt" in names(tmp_path)
    assert "journal.db.corrupt" in store.renewed
    assert "it was corrupt" in store.renewed
    store.check()
    assert found(store) == ["seed", "after"], "a sound one stays"


@pytest.mark.parametrize("ruin", ["truncated", "garbage", "pages flipped"])
def test_a_file_that_is_ruined_while_it_is_open_is_set_aside(tmp_path: Path, ruin: str) -> None:
    store = filled(tmp_path)
    put(store, "open")
    other = tmp_path / "journal.db"
    with other.open("r+b") as file:  # in place: the file is the same
        data = file.read()
        copy = tmp_path / "copy"
        copy.write_bytes(data)
        RUINS[ruin](copy)
        file.seek(0)
        file.truncate()
        file.write(copy.read_bytes())
    copy.unlink()
    store.check()
    put(store, "after")
    assert found(store) == ["after"]
    assert {"journal.db.corrupt", "journal.db.corrupt-wal"} <= set(names(tmp_path))


def test_a_new_file_beside_the_wal_of_an_old_one_is_read_alone(tmp_path: Path) -> None:
    """The agent was killed between the renames."""
    killed(tmp_path, 5)
    (tmp_path / "journal.db").unlink()
    store = Store(tmp_path, nothing)
    put(store, "after")
    assert found(store) == ["after"]


def test_what_was_set_aside_before_is_replaced(tmp_path: Path) -> None:
    def ruined() -> Store:
        (tmp_path / "journal.db").write_bytes(b"garbage" * 1000)
        store = Store(tmp_path, nothing)
        put(store, "after")
        assert found(store) == ["after"]
        store.close()
        return store

    for _ in range(3):
        assert ruined().renewed
        assert names(tmp_path) == ["journal.db", "journal.db.corrupt"]
    (tmp_path / "journal.db.corrupt").unlink()
    (tmp_path / "journal.db.corrupt").mkdir()
    assert ruined().renewed


@pytest.mark.parametrize("what", ["folder", "file", "wal"])
def test_what_was_deleted_while_it_was_open_is_made_again(tmp_path: Path, what: str) -> None:
    folder = tmp_path / "state"
    store = Store(folder, nothing)
    put(store, "one")
    assert not store.gone()
    store.check()
    if what == "folder":
        shutil.rmtree(folder)
    else:
        (folder / ("journal.db" if what == "file" else "journal.db-wal")).unlink()
    assert store.gone()
    put(store, "two")
    assert store.unchecked, "who knows what else was done to it"
    assert not store.gone()
    assert found(store) == (["one", "two"] if what == "wal" else ["two"])
    assert store.renewed == ("" if what == "wal" else "it was deleted while the agent ran")


def test_ids_grow_from_one_journal_to_the_next(tmp_path: Path) -> None:
    def ids(store: Store) -> list[int]:
        events = store.read(lambda connection: select(connection, service="", since=None, after=0, limit=9))
        return [event.id for event in events or ()]

    store = Store(tmp_path, nothing)
    put(store, "one", "two")
    before = ids(store)
    (tmp_path / "journal.db").unlink()
    put(store, "three")
    assert before[-1] < ids(store)[0]


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    blocked = tmp_path / "state"
    blocked.write_text("a file where the folder should be")
    store = Store(blocked, nothing)
    assert store.gone()
    with pytest.raises(CannotWrite):
        put(store, "one")
    assert found(store) is None
    blocked.unlink()
    put(store, "two")
    assert found(store) == ["two"]


FULL = """
import resource, sys
from tests.journal.test_store import *
store = Store(Path(sys.argv[1]), nothing)
put(store, "before")
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, resource.RLIM_INFINITY))
refused = 0
for number in range(100):
    try:
        put(store, "x" * 2000)
    except CannotWrite:
        refused += 1
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
put(store, "after")
kept = found(store)
assert 20 < refused < 100, refused
assert (kept[0], kept[-1], len(kept)) == ("before", "after", 102 - refused)
assert store.renewed == ""
"""


def test_a_full_disk_costs_what_is_written_then_and_nothing_else(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr


READONLY = """
import os, sys
from tests.journal.test_store import *
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
store = Store(Path(sys.argv[1]), nothing)
try:
    put(store, "one")
except CannotWrite as error:
    print(error)
print(found(store))
"""


@pytest.mark.parametrize("state", ["empty", "filled"])
def test_a_read_only_folder_is_said_and_its_journal_read(tmp_path: Path, state: str) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    if state == "filled":
        filled(folder, 1)
    for path in (folder, *folder.iterdir()):
        path.chmod(path.stat().st_mode & ~0o222)
    for path in folder.parents:
        if path.stat().st_uid == os.geteuid() and path != Path("/"):
            path.chmod(path.stat().st_mode | 0o011)
    ran = subprocess.run([sys.executable, "-c", READONLY, folder], capture_output=True, text=True, check=False)
    folder.chmod(0o755)
    assert ran.returncode == 0, ran.stderr
    said, read = ran.stdout.splitlines()
    assert "unable to open" in said or "readonly" in said
    assert ("event 0" in read) if state == "filled" else read == "None"


def test_a_reader_is_told_of_corruption(tmp_path: Path) -> None:
    (tmp_path / "journal.db").write_bytes(b"garbage" * 1000)
    before = contents(tmp_path)
    with pytest.raises(Corrupt):
        found(Store(tmp_path, nothing))
    assert contents(tmp_path) == before
