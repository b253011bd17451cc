"""What is news and what is not: the journal tells what happened, and is not flooded."""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from agent.contracts import ServiceName
from agent.control.board import Board, Change, GoalState, Phase, Truth
from agent.control.desired import DesiredState, InvalidFile
from agent.daemon.chronicle import Chronicle, Facts
from agent.journal import Event, Journal, Kind
from agent.surface.speaker import SPEAKER
from tests.fakes.agent import MiniAgent, clock_at_noon, service
from tests.fakes.clock import VirtualClock
from tests.fakes.facts import NoFacts
from tests.fakes.memory import World
from tests.fakes.operations import NOW, a_status


class Kept:
    """A journal in memory."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def record(self, happened: Event) -> None:
        self.events.append(happened)

    def newest(self, kind: Kind) -> Mapping[str, Event]:
        return {event.service: event for event in self.events if event.kind is kind}

    @property
    def told(self) -> list[str]:
        return [f"{event.what} {event.reason}".strip() for event in self.events]


class Desk:
    def __init__(self, kept: Kept | None = None) -> None:
        self.clock = VirtualClock(NOW)
        self.kept = kept or Kept()
        self.chronicle = Chronicle(self.kept, self.clock)
        self.board = Board()
        self.board.listen(self.chronicle.heard)

    def put(self, **changes: object) -> None:
        self.clock.advance(0.1)
        self.board.put(a_status("web", **{"phase": Phase.PROGRESSING, "goal": "healthy"} | changes))


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_a_transition_is_told_with_all_that_is_known(desk: Desk) -> None:
    change = Change("a1b2c3d4e5f6", "Ann", NOW, "Use the new model")
    desk.put(
        converged=Truth(False, "Loading", "503 from /health"),
        goals=(GoalState("healthy", "pending"),),
        revision="r1",
        wanted="d" * 64,
        routed="e" * 64,
        serving=Truth(True, "Serving"),
        change=change,
    )
    assert desk.kept.events == [
        Event(
            at=desk.clock.now(),
            kind=Kind.SERVICE,
            what="Progressing",
            service="web",
            goal="healthy",
            verdict="pending",
            reason="Loading",
            message="503 from /health",
            serving=True,
            converged=False,
            wanted="d" * 12,
            routed="e" * 12,
            revision="r1",
            commit="a1b2c3d4e5f6",
            author="Ann",
            subject="Use the new model",
        )
    ]


def test_what_converged_and_does_not_serve_says_why_it_does_not_serve(desk: Desk) -> None:
    desk.put(phase=Phase.DEGRADED, converged=Truth(True, "Converged"), serving=Truth(False, "Unhealthy", "500"))
    assert (desk.kept.events[0].reason, desk.kept.events[0].message) == ("Unhealthy", "500")


NEWS: list[dict[str, object]] = [
    {"phase": Phase.FAILED},
    {"converged": Truth(False, "Other")},
    {"converged": Truth(True, "Loading")},
    {"serving": Truth(True, "NotYet")},
    {"goal": "placed"},
    {"wanted": "d2"},
    {"routed": "d2"},
    {"revision": "r2"},
]
NO_NEWS: list[dict[str, object]] = [
    {"attempts": 7},
    {"next_try": NOW},
    {"converged": Truth(False, "Loading", "after 7 s")},
    {"ready": 3},
    {"endpoints": ("http://x",)},
    {"notices": ("n",)},
    {"goals": ()},
]


@pytest.mark.parametrize("change", NEWS)
def test_it_is_news_when(desk: Desk, change: dict[str, object]) -> None:
    desk.put()
    desk.put(**change)
    assert len(desk.kept.events) == 2


@pytest.mark.parametrize("change", NO_NEWS)
def test_it_is_no_news_when(desk: Desk, change: dict[str, object]) -> None:
    desk.put()
    desk.put(**change)
    assert len(desk.kept.events) == 1


def test_flickering_is_bounded_and_said(desk: Desk) -> None:
    for number in range(1000):  # 100 s: thirty at once, and one every ten seconds
        desk.put(converged=Truth(False, f"R{number % 2}", "m"))
    assert 38 <= len(desk.kept.events) <= 42
    desk.put(phase=Phase.FAILED, converged=Truth(False, "Failed", "it ended"))
    assert desk.kept.events[-1].what == "Failed"
    assert desk.kept.events[-1].message.startswith("it ended (")
    assert desk.kept.events[-1].message.endswith("flickers before it were left out)")


def test_a_phase_is_told_however_often_it_changes(desk: Desk) -> None:
    for number in range(200):
        desk.put(phase=Phase.READY if number % 2 else Phase.DEGRADED)
    assert len(desk.kept.events) == 200


def test_what_is_gone_is_told_and_forgotten(desk: Desk) -> None:
    desk.put()
    desk.board.forget(ServiceName("web"))
    assert desk.kept.told == ["Progressing Loading", "Removed"]
    assert desk.kept.events[-1].commit == ""
    assert not desk.chronicle._told, "nothing is remembered of it"
    desk.put()
    assert len(desk.kept.events) == 3, "it is new"
    desk.put(change=Change("a1b2c3", "Ann", NOW, "No more web"))
    desk.board.forget(ServiceName("web"))
    assert (desk.kept.events[-1].commit, desk.kept.events[-1].author) == ("a1b2c3", "Ann"), "who took it away"


def test_until_the_worlds_are_seen_nothing_is_told(desk: Desk) -> None:
    desk.put(phase=Phase.KEPT, converged=Truth(False, "WorldUnseen", "docker was not listed yet"))
    assert desk.kept.events == []
    desk.put(phase=Phase.READY)
    desk.put(phase=Phase.KEPT)
    assert [event.what for event in desk.kept.events] == ["Ready", "Kept"]


def test_a_new_service_that_is_kept_from_the_first_is_told(desk: Desk) -> None:
    desk.put(phase=Phase.KEPT, goal="", converged=Truth(False, "DependencyMissing", "for db"))
    assert desk.kept.told == ["Kept DependencyMissing"]


READY: dict[str, object] = {
    "phase": Phase.READY,
    "goal": "",
    "converged": Truth(True, "Converged"),
    "serving": Truth(True, "Serving"),
}


def after_a_restart() -> Desk:
    """An agent whose predecessor ended with the service ready."""
    before = Desk()
    before.chronicle.begin("here")
    before.put(**READY)
    desk = Desk(before.kept)
    desk.chronicle.begin("there")
    return desk


def test_a_restart_that_changes_nothing_tells_nothing_of_services() -> None:
    desk = after_a_restart()
    desk.put(phase=Phase.KEPT, converged=Truth(False, "WorldUnseen", "docker was not listed yet"))
    desk.put(converged=Truth(False, "Starting", "not asked yet"), routed="d1")
    desk.put(**READY)
    assert [event.what for event in desk.kept.events] == ["Started", "Ready", "Started"]
    assert desk.kept.events[-1].message.endswith("there; the one before ended without a word")
    desk.put(converged=Truth(False, "Restarting"), wanted="d1")
    assert desk.kept.events[-1].what == "Progressing", "from then on all is news"


def test_another_revision_of_what_did_not_change_is_no_news_after_a_restart() -> None:
    desk = after_a_restart()
    desk.put(**READY, revision="r2")
    assert desk.kept.events[-1].what == "Started"
    desk.put(**READY, revision="r3")
    assert desk.kept.events[-1].revision == "r3"


def test_what_is_no_longer_as_it_was_is_told_after_a_restart() -> None:
    desk = after_a_restart()
    desk.put(converged=Truth(False, "Starting", "not asked yet"), wanted="d2")
    assert desk.kept.events[-1].what == "Progressing"
    desk = after_a_restart()
    desk.put(converged=Truth(False, "Starting"))
    desk.put(phase=Phase.FAILED, converged=Truth(False, "Exited"))
    assert desk.kept.events[-1].what == "Failed"


def test_an_agent_that_was_stopped_is_not_missed() -> None:
    desk = Desk()
    desk.chronicle.begin("here")
    desk.chronicle.end()
    desk.chronicle.begin("here")
    assert [event.what for event in desk.kept.events] == ["Started", "Stopped", "Started"]
    assert "without a word" not in desk.kept.events[-1].message


def a_revision(revision: str, **more: object) -> DesiredState:
    plain = DesiredState("folder:/specs", revision, "1:1", "/specs", NOW)
    return replace(plain, **more)  # type: ignore[arg-type]


def test_a_revision_is_told_once_also_over_a_restart(desk: Desk) -> None:
    desk.chronicle.begin("here")
    for revision in ("r1", "r1", "r2"):
        desk.chronicle.read(a_revision(revision))
    again = Desk(desk.kept)
    again.chronicle.begin("here")
    again.chronicle.read(a_revision("r2"))
    bad = InvalidFile("x.yaml", ("1:1: no",), b"")
    again.chronicle.read(a_revision("r3", invalid=(bad,)))
    told = [(event.revision, event.message) for event in desk.kept.events if event.kind is Kind.SOURCE]
    assert told == [
        ("r1", "services: 0"),
        ("r2", "services: 0"),
        ("r3", "services: 0, invalid files: 1, x.yaml:1:1: no"),
    ]


def test_a_commit_that_is_held_is_told_once_also_over_a_restart_and_that_another_one_is_not(desk: Desk) -> None:
    desk.chronicle.read(a_revision("r1"))
    desk.chronicle.judged("", head="r1", message="")
    for _ in range(2):
        desk.chronicle.judged("unsigned", head="r2", message="r2 is held")
    again = Desk(desk.kept)
    again.chronicle.begin("here")
    again.chronicle.read(a_revision("r1"))
    again.chronicle.judged("unsigned", head="r2", message="r2 is held")
    again.chronicle.read(a_revision("r3"))
    again.chronicle.judged("", head="r3", message="")
    told = [(e.what, e.reason, e.revision, e.commit) for e in desk.kept.events if e.kind is Kind.SOURCE]
    assert told == [
        ("Revision", "", "r1", ""),
        ("Held", "unsigned", "r1", "r2"),
        ("Revision", "", "r3", ""),
        ("Verified", "", "r3", ""),
    ]


def test_a_source_in_trouble_is_told_and_counted(desk: Desk) -> None:
    counted: list[str] = []

    class Counts(NoFacts):
        def unread(self, error: str) -> None:
            counted.append(error)

    facts = Facts(Counts(), desk.chronicle)
    facts.unread("it is not mounted")
    facts.unread("")
    assert counted == ["it is not mounted", ""]
    assert [(event.what, event.message) for event in desk.kept.events] == [
        ("Unreadable", "it is not mounted"),
        ("Readable", ""),
    ]


def test_a_word_is_told_of_each_service_with_who_said_it(desk: Desk) -> None:
    SPEAKER.set("ann")
    desk.chronicle.said("approve-prune", ["a", "b"])
    desk.chronicle.said("adopt", message="2 services from x")
    SPEAKER.set("")
    told = [(event.what, event.service, event.who, event.message) for event in desk.kept.events]
    assert told == [
        ("approve-prune", "a", "ann", ""),
        ("approve-prune", "b", "ann", ""),
        ("adopt", "", "ann", "2 services from x"),
    ]


def test_a_held_removal_its_approval_and_its_end_are_told() -> None:
    clock = clock_at_noon()
    kept = Kept()
    chronicle = Chronicle(kept, clock)
    agent = MiniAgent(World(now=clock.now, probes=False, stops_at_once=True), clock, facts=_Both(NoFacts(), chronicle))
    agent.board.listen(chronicle.heard)
    agent.see()
    agent.want(service("a"), service("b"), service("c"))
    agent.settle(5)
    kept.events.clear()
    agent.want(service("a"))
    agent.settle(20)
    assert [(e.what, e.service, e.reason) for e in kept.events if e.kind is Kind.PRUNE] == [
        ("Held", "b", "OverBudget"),
        ("Held", "c", "OverBudget"),
    ]
    kept.events.clear()
    agent.operator.approve([ServiceName("b")])
    agent.settle(5)
    whats = [event.what for event in kept.events]
    assert whats[0] == "Approved"
    assert whats[-1] == "Removed"
    assert {event.service for event in kept.events} == {"b"}


class _Both(NoFacts):
    """All facts, of which the chronicle hears its part."""

    def __init__(self, counts: NoFacts, chronicle: Chronicle) -> None:
        self.pruned = Facts(counts, chronicle).pruned  # type: ignore[method-assign]


def test_a_rollout_is_a_handful_of_events() -> None:
    clock = clock_at_noon()
    kept = Kept()
    agent = MiniAgent(World(now=clock.now, probes=False, stops_at_once=True), clock)
    agent.board.listen(Chronicle(kept, clock).heard)
    agent.see()
    agent.want(service("web"))
    agent.settle(40)
    assert kept.told[-1].startswith("Ready")
    first = len(kept.events)
    assert first <= 8
    agent.settle(40)
    assert len(kept.events) == first, "an idle agent tells nothing"
    agent.want(service("web", "v2"))
    agent.settle(40)
    assert kept.told[-1].startswith("Ready")
    assert len(kept.events) - first <= 12


def test_a_status_costs_microseconds(desk: Desk, tmp_path: Path) -> None:
    """Generous, for a machine that is busy; it is about 20 µs."""
    journal = Journal(tmp_path / "never-written")
    chronicle = Chronicle(journal, desk.clock)
    ready, degraded = a_status("web"), a_status("web", Phase.DEGRADED)
    began = time.process_time()
    for _ in range(2500):
        chronicle.heard(degraded, ready)
        chronicle.heard(ready, degraded)
    assert (time.process_time() - began) / 5000 < 300e-6
    assert not (tmp_path / "never-written").exists()
