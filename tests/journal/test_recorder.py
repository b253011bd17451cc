"""Events are written in order, soon, and within bounds; whoever tells of them never waits."""

import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from agent.journal.event import Event, select
from agent.journal.recorder import Bounds, Recorder
from agent.journal.store import Store
from tests.fakes.clock import VirtualClock
from tests.journal.making import NOON, happened


class Bench:
    def __init__(self, folder: Path, *, bounds: Bounds | None = None, room: int = 10_000) -> None:
        self.folder = folder / "state"
        self.clock = VirtualClock(NOON)
        self.counted: Counter[str] = Counter()
        self.store = Store(self.folder, lambda connection: None)
        self.recorder = Recorder(self.store, bounds=bounds or Bounds(), clock=self.clock, told=self.count, room=room)

    def count(self, result: str, number: int) -> None:
        self.counted[result] += number

    def events(self) -> list[Event]:
        found = self.store.read(lambda at: select(at, service="", since=None, after=0, limit=1_000_000))
        return list(found or ())

    def whats(self) -> list[str]:
        return [event.what for event in self.events()]

    def size(self) -> int:
        return (self.folder / "journal.db").stat().st_size


@contextmanager
def running(bench: Bench) -> Iterator[threading.Event]:
    """Its thread runs meanwhile; the word to stop."""
    stop = threading.Event()
    thread = threading.Thread(target=bench.recorder.run, args=(stop,), daemon=True)
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()


def eventually(claim: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not claim():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_nothing_is_written_before_something_happens(bench: Bench) -> None:
    assert bench.recorder.flush()
    assert not bench.folder.exists()


def test_the_thread_writes_soon_and_in_order(bench: Bench) -> None:
    with running(bench):
        for number in range(3000):
            bench.recorder.record(happened(str(number)))
        eventually(lambda: len(bench.whats()) == 3000)
    assert bench.whats() == [str(number) for number in range(3000)]
    assert bench.counted == {"kept": 3000}


def test_several_threads_keep_their_order_each(bench: Bench) -> None:
    def tell(who: str) -> None:
        for number in range(500):
            bench.recorder.record(happened(str(number), who))

    threads = [threading.Thread(target=tell, args=(who,)) for who in "abcd"]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        bench.recorder.flush()
    bench.recorder.flush()
    for who in "abcd":
        assert [e.what for e in bench.events() if e.service == who] == [str(number) for number in range(500)]


def test_what_finds_no_room_is_counted_and_said_in_its_place(tmp_path: Path) -> None:
    bench = Bench(tmp_path, room=3)
    for number in range(5):
        bench.recorder.record(happened(str(number)))
    bench.recorder.flush()
    bench.recorder.record(happened("5"))
    bench.recorder.flush()
    assert bench.whats() == ["0", "1", "2", "EventsLost", "5"]
    assert bench.events()[3].message.startswith("2 events are missing here")
    assert bench.recorder.lost == 2
    assert bench.counted == {"kept": 4, "lost": 2}


def test_what_comes_after_the_missing_comes_after_the_word_of_it(tmp_path: Path) -> None:
    """Room is made while others tell on: the gap is where it was."""
    bench = Bench(tmp_path, room=3)
    for number in range(5):
        bench.recorder.record(happened(str(number)))
    bench.recorder._waiting.popleft()  # as if it had been written
    bench.recorder.record(happened("5"))
    bench.recorder.flush()
    assert bench.whats() == ["1", "2", "EventsLost", "5"]


def test_what_strangers_wrote_is_harmless_when_it_is_kept(bench: Bench) -> None:
    bench.recorder.record(happened(message="\x1b[31m\n\udcff", author="x" * 9999))
    assert bench.recorder.flush()
    [event] = bench.events()
    assert event.message == "\\u001b[31m\\n\\udcff"
    assert len(event.author) == 2000


def test_a_disk_that_is_full_for_a_while_loses_nothing(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.folder.write_text("a file where the folder should be")
    bench.recorder.record(happened("one"))
    assert not bench.recorder.flush()
    bench.recorder.record(happened("two"))
    assert not bench.recorder.flush()
    assert bench.recorder.trouble
    assert [record.message for record in caplog.records] == ["cannot keep what happens"], "told once"
    bench.folder.unlink()
    assert bench.recorder.flush()
    assert (bench.whats(), bench.recorder.trouble) == (["one", "two"], "")


def test_telling_never_waits_for_the_file(bench: Bench) -> None:
    """Another program holds SQLite's lock; who tells goes on at once."""
    bench.recorder.record(happened("first"))
    bench.recorder.flush()
    other = sqlite3.connect(bench.folder / "journal.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with running(bench):
        began = time.monotonic()
        for number in range(1000):
            bench.recorder.record(happened(str(number)))
        assert time.monotonic() - began < 2.0
        other.execute("COMMIT")
        other.close()
    bench.recorder.flush()
    assert bench.whats() == ["first", *(str(number) for number in range(1000))]


def test_what_is_too_old_is_forgotten(tmp_path: Path) -> None:
    bench = Bench(tmp_path, bounds=Bounds(age=timedelta(hours=1)))
    for number in range(2000):
        bench.recorder.record(happened(str(number), seconds=number))
    bench.recorder.flush()
    bench.recorder.trim(NOON + timedelta(seconds=3600 + 1500), threading.Event())
    assert bench.whats() == [str(number) for number in range(1500, 2000)]
    bench.recorder.trim(NOON - timedelta(days=9), threading.Event())
    assert len(bench.whats()) == 500, "a clock that goes back forgets nothing"


def test_the_file_stays_within_its_size_and_gives_space_back(tmp_path: Path) -> None:
    bench = Bench(tmp_path, bounds=Bounds(size=2**20))
    for number in range(10_000):
        bench.recorder.record(happened(str(number), message="x" * 300))
    bench.recorder.flush()
    assert bench.size() > 2**21
    bench.recorder.trim(NOON, threading.Event())
    bench.store.close()
    assert bench.size() <= 2**20
    left = bench.whats()
    assert left == [str(number) for number in range(10_000 - len(left), 10_000)], "the oldest went"
    assert len(left) > 1000
    bench.store.check()
    assert bench.store.renewed == ""


def test_the_thread_trims_and_an_idle_one_writes_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path, bounds=Bounds(age=timedelta(hours=1)))
    bench.recorder.record(happened("old", seconds=-7200))
    bench.recorder.record(happened("new"))
    bench.recorder.flush()
    with running(bench):
        eventually(lambda: bench.whats() == ["new"])


def test_a_stop_ends_it_within_a_second(bench: Bench) -> None:
    with running(bench) as stop:
        began = time.monotonic()
        stop.set()
    assert time.monotonic() - began < 5.0
