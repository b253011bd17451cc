"""The source's thread: a bad pass changes nothing, a good one is the heartbeat."""

import threading
import time
from collections import deque
from dataclasses import dataclass, field, replace

import pytest

from agent.clock import SystemClock
from agent.contracts import Transient
from agent.control.desired import DesiredReader, DesiredState
from agent.control.scanner import Scanner
from agent.source.snapshot import Snapshot, SourceFile, revision_of
from tests.fakes.agent import clock_at_noon
from tests.fakes.clock import VirtualClock
from tests.fakes.facts import NoFacts
from tests.fakes.folder import RESOLVER, Folder, document


@dataclass
class Scripted:
    """A source that hands in what the test put there."""

    looks: deque[Snapshot | Transient] = field(default_factory=deque)
    waits: list[float] = field(default_factory=list)
    changed: threading.Event = field(default_factory=threading.Event)
    id: str = "folder:/specs"
    location: str = "/specs"

    def look(self) -> Snapshot:
        found = self.looks[0] if len(self.looks) == 1 else self.looks.popleft()
        if isinstance(found, Transient):
            raise found
        return found

    def wait(self, stop: threading.Event, timeout: float) -> None:
        self.waits.append(timeout)
        self.changed.wait(0.01)

    def kick(self) -> None:
        self.changed.set()

    def close(self) -> None:
        self.changed.set()


@dataclass
class Heard(NoFacts):
    """What was told."""

    lags: list[float] = field(default_factory=list)

    def detected(self, seconds: float) -> None:
        self.lags.append(seconds)


@dataclass
class Bench:
    clock: VirtualClock = field(default_factory=clock_at_noon)
    source: Scripted = field(default_factory=Scripted)
    facts: Heard = field(default_factory=Heard)
    taken: list[DesiredState] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder = Folder(self.clock)
        self.scanner = Scanner(
            source=self.source,
            reader=DesiredReader(RESOLVER.read_file),
            take=self.taken.append,
            facts=self.facts,
            clock=self.clock,
            interval=30.0,
        )

    def holds(self, **files: str | bytes | None) -> Snapshot:
        self.folder.files = {f"{name}.yaml": content for name, content in files.items()}
        snapshot = self.folder.snapshot()
        self.source.looks = deque([snapshot])
        return snapshot


def test_what_comes_after_a_pass_is_called_by_the_scan_loop_itself_good_or_bad() -> None:
    bench = Bench()
    bench.source.looks = deque([Transient("the disk is gone"), bench.folder.snapshot()])
    threads: list[str] = []
    stop = threading.Event()

    def after() -> None:
        threads.append(threading.current_thread().name)
        if len(threads) == 2:
            stop.set()

    scanner = Scanner(
        source=bench.source,
        reader=DesiredReader(RESOLVER.read_file),
        take=bench.taken.append,
        facts=bench.facts,
        clock=bench.clock,
        interval=30.0,
        after=after,
    )
    loop = threading.Thread(target=scanner.run, args=(stop,), name="the-loop")
    loop.start()
    loop.join(10)
    assert threads == ["the-loop"] * 2


def test_a_good_pass_hands_on_and_beats() -> None:
    bench = Bench()
    bench.holds(a=document("web"))
    bench.clock.advance(7)
    assert bench.scanner.step()
    assert [set(state.wanted) for state in bench.taken] == [{"web"}]
    assert bench.scanner.beat == bench.clock.monotonic()
    assert bench.scanner.error == ""


def test_a_bad_pass_beats_says_why_and_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    bench.holds(a=document("web"))
    bench.scanner.step()
    bench.source.looks = deque([Transient("/specs is not there")])
    bench.clock.advance(7)
    assert not bench.scanner.step()
    assert not bench.scanner.step()
    assert len(bench.taken) == 1
    assert bench.scanner.error == "/specs is not there"
    assert bench.scanner.beat == bench.clock.monotonic()
    assert len([r for r in caplog.records if "cannot be read" in r.message]) == 1, "told once"
    bench.holds(a=document("web"))
    assert bench.scanner.step()
    assert bench.scanner.error == ""


def test_a_bad_source_is_tried_again_sooner_than_a_good_one() -> None:
    bench = Bench()
    bench.source.looks = deque([Transient("gone")])
    stop = threading.Event()
    thread = threading.Thread(target=bench.scanner.run, args=(stop,))
    thread.start()
    end = time.monotonic() + 5
    while len(bench.source.waits) < 8 and time.monotonic() < end:
        stop.wait(0.005)
    bench.holds(a=document("web"))
    while 30.0 not in bench.source.waits[8:] and time.monotonic() < end:
        stop.wait(0.005)
    stop.set()
    bench.source.close()
    thread.join(5)
    assert not thread.is_alive()
    assert bench.source.waits[:7] == [2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    assert bench.taken


def test_a_change_is_told_with_its_age_but_not_what_was_there_at_start() -> None:
    bench = Bench()
    bench.source.looks = deque([_aged(bench, 1000, a=document("web"))])
    bench.scanner.step()
    assert bench.facts.lags == []
    bench.source.looks = deque([_aged(bench, 0.25, a=document("web"), b=document("api"))])
    bench.scanner.step()
    assert bench.facts.lags == [0.25]
    bench.source.looks = deque([_aged(bench, -5, a=document("web", "v2"), b=document("api"))])
    bench.scanner.step()
    assert bench.facts.lags == [0.25, 0.0], "a clock that goes wrong is no age"


def _aged(bench: Bench, age: float, **files: str) -> Snapshot:
    snapshot = bench.holds(**files)
    at = bench.clock.now().timestamp() - age
    made: tuple[SourceFile, ...] = tuple(replace(file, modified_at=at) for file in snapshot.files)
    return replace(snapshot, files=made, revision=revision_of(made))


def test_an_error_in_a_file_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    bench.holds(a="]: {")
    for _ in range(3):
        bench.scanner.step()
    assert len([r for r in caplog.records if "spec is invalid" in r.message]) == 1


def test_a_stop_is_obeyed_at_once() -> None:
    bench = Bench()
    bench.holds()
    stop = threading.Event()
    stop.set()
    bench.scanner.run(stop)
    assert bench.taken == []
    assert SystemClock().monotonic() > 0
