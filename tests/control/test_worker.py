"""All retry policy: what one look leads to, by table; and the facts and statuses that a worker tells."""

from collections import Counter
from dataclasses import dataclass, field

import pytest

from agent.contracts import (
    Achieved,
    Conflict,
    Failed,
    GoalContext,
    Pending,
    Permanent,
    ServiceName,
    Transient,
    Verdict,
    compose,
)
from agent.control.board import Phase
from agent.control.intent import Run
from agent.control.workqueue import Priority
from goalsets.sets import SERVICE_DELETE, SERVICE_DEPLOY
from tests.fakes.agent import GOALSETS, MiniAgent, clock_at_noon, service
from tests.fakes.facts import NoFacts
from tests.fakes.memory import World

WEB = ServiceName("web")


@dataclass
class Oracle:
    """A goal that says or raises what it is told, and nothing else is in its goalset."""

    answer: Verdict | Exception
    name: str = "oracle"
    acts: Exception | None = None

    def is_achieved(self, ctx: GoalContext) -> Verdict | bool:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def ensure(self, ctx: GoalContext) -> None:
        if self.acts is not None:
            raise self.acts


@dataclass
class Counting(NoFacts):
    """Counts the facts."""

    told: Counter[tuple[str, ...]] = field(default_factory=Counter)

    def reconciled(self, shimlet: str, result: str, seconds: float) -> None:
        self.told["reconciled", result] += 1

    def ensured(self, goalset: str, goal: str, result: str) -> None:
        self.told["ensured", goal, result] += 1

    def converged(self, shimlet: str, goalset: str, seconds: float) -> None:
        self.told["converged", str(seconds)] += 1

    def drifted(self, shimlet: str) -> None:
        self.told["drifted", shimlet] += 1

    def pruned(self, result: str, name: str, reason: str = "", message: str = "") -> None:
        self.told["pruned", result] += 1


def asked(answer: Verdict | Exception, acts: Exception | None = None) -> tuple[MiniAgent, Counting]:
    clock = clock_at_noon()
    facts = Counting()
    oracle = compose("oracle").then(Oracle(answer, acts=acts)).build()
    agent = MiniAgent(World(now=clock.now), clock, goalsets={**GOALSETS, "oracle": oracle}, facts=facts)
    agent.see()
    agent.want(service("web", goalset="oracle"))
    return agent, facts


def look(agent: MiniAgent) -> None:
    """Exactly one look."""
    assert agent.queue.take("memory", timeout=0) == WEB
    try:
        agent.workers["memory"].step(WEB)
    finally:
        agent.queue.done(WEB)


def wait(agent: MiniAgent) -> float:
    due = agent.queue.next_at(WEB)
    assert due is not None
    return due - agent.clock.monotonic()


@pytest.mark.parametrize(
    ("answer", "acts", "word", "after", "reason"),
    [
        (Achieved(), None, "achieved", 30.0, "Converged"),
        (Pending("Loading", retry_after=7.0), None, "pending", 7.0, "Loading"),
        (Pending("Loading", retry_after=0.0), None, "pending", 0.0, "Loading"),
        (Pending("Loading"), None, "pending", 5.0, "Loading"),
        (Transient("down", delay=9.0), None, "transient", 9.0, "Unreachable"),
        (Failed("Bad", "it is bad"), None, "failed", 0.0, "Bad"),
        (Permanent("no"), None, "permanent", 60.0, "Refused"),
        (Conflict("foreign"), None, "permanent", 60.0, "Conflict"),
        (Pending("Wants"), Transient("down", delay=3.0), "transient", 3.0, "Unreachable"),
        (Pending("Wants"), Permanent("no"), "failed", 0.0, "Refused"),
        (Pending("Wants"), Conflict("foreign"), "permanent", 60.0, "Conflict"),
    ],
)
def test_what_a_look_leads_to(
    answer: Verdict | Exception, acts: Exception | None, word: str, after: float, reason: str
) -> None:
    agent, facts = asked(answer, acts)
    look(agent)
    assert facts.told["reconciled", word] == 1
    assert wait(agent) == pytest.approx(after)
    status = agent.status("web")
    assert status.converged.reason == reason
    if not status.converged.holds:
        assert status.next_try is not None
        assert (status.next_try - agent.clock.now()).total_seconds() == pytest.approx(after)
    assert agent.queue.attempts(WEB) == 0


@pytest.mark.parametrize(
    ("answer", "word", "reason"), [(Transient("down"), "transient", "Unreachable"), (KeyError("x"), "error", "Bug")]
)
def test_without_a_delay_it_backs_off(answer: Exception, word: str, reason: str) -> None:
    agent, facts = asked(answer)
    for tries in range(1, 5):
        look(agent)
        assert facts.told["reconciled", word] == tries
        assert agent.queue.attempts(WEB) == tries
        assert 0 <= wait(agent) <= 2.0 ** (tries - 1)
        assert agent.status("web").converged.reason == reason
        assert agent.status("web").attempts == tries
        agent.clock.advance(wait(agent))  # type: ignore[attr-defined]


def test_a_new_spec_resets_the_back_off() -> None:
    agent, _ = asked(Transient("down"))
    for _ in range(8):
        look(agent)
        agent.clock.advance(wait(agent))  # type: ignore[attr-defined]
    look(agent)
    agent.want(service("web", "v2", goalset="oracle"))
    assert wait(agent) <= 0
    look(agent)
    assert agent.queue.attempts(WEB) == 1


def test_the_traceback_of_a_bug_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    agent, _ = asked(KeyError("x"))
    for _ in range(3):
        look(agent)
        agent.clock.advance(wait(agent))  # type: ignore[attr-defined]
    told = [record for record in caplog.records if record.exc_info]
    assert len(told) == 1
    assert told[0].service == "web"  # type: ignore[attr-defined]


def test_what_a_goal_does_is_counted() -> None:
    agent, facts = asked(Pending("Wants"), ZeroDivisionError())
    look(agent)
    assert facts.told["ensured", "oracle", "error"] == 1


def test_a_name_that_moved_to_another_lane_is_handed_on() -> None:
    agent, facts = asked(Achieved())
    agent.queue.take("memory", timeout=0)
    agent.controller._intents = {WEB: Run(service("web", shimlet="other"))}
    agent.workers["memory"].step(WEB)
    agent.queue.done(WEB)
    assert agent.queue.take("other", timeout=0) == WEB
    assert not facts.told["reconciled", "achieved"]


def test_a_name_that_nobody_knows_is_forgotten() -> None:
    agent, _ = asked(Achieved())
    look(agent)
    agent.controller._intents = {}
    agent.queue.add(WEB, lane="memory", priority=Priority.DRIFT)
    look(agent)
    assert agent.board.get(WEB) is None
    assert agent.queue.next_at(WEB) is None


def whole() -> tuple[MiniAgent, Counting]:
    clock = clock_at_noon()
    facts = Counting()
    agent = MiniAgent(World(now=clock.now, probes=False), clock, facts=facts)
    agent.see()
    return agent, facts


def test_what_is_wanted_converges_once_and_says_how_long_it_took() -> None:
    agent, facts = whole()
    agent.want(service("web"))
    agent.settle(20)
    assert [told for told in facts.told if told[0] == "converged"] == [("converged", "10.0")]
    assert facts.told["converged", "10.0"] == 1
    assert not facts.told["drifted", "memory"]


def test_drift_is_counted_once() -> None:
    agent, facts = whole()
    agent.want(service("web"))
    agent.settle()
    agent.memory.exit("web")
    agent.settle(20)
    assert facts.told["drifted", "memory"] == 1
    assert agent.status("web").phase is Phase.READY


def test_a_removal_is_counted_once() -> None:
    agent, facts = whole()
    agent.want(service("web"), service("api"))
    agent.settle()
    agent.want(service("api"))
    agent.settle(20)
    assert (facts.told["pruned", "removed"], facts.told["pruned", "held"]) == (1, 0)


def test_a_change_stalls_after_the_deadline_of_its_goalset() -> None:
    clock = clock_at_noon()
    oracle = compose("oracle").then(Oracle(Pending("Loading", "half of it"))).within(60).build()
    agent = MiniAgent(World(now=clock.now), clock, goalsets={**GOALSETS, "oracle": oracle})
    agent.see()
    agent.want(service("web", goalset="oracle"))
    agent.settle(5)
    assert agent.status("web").converged.message == "half of it"
    agent.settle(10)
    assert agent.status("web").converged.message == "stalled: half of it"


def test_a_stop_ends_the_worker_after_its_look() -> None:
    import threading

    agent, _ = asked(Achieved())
    stop = threading.Event()
    thread = threading.Thread(target=agent.workers["memory"].run, args=(stop,))
    thread.start()
    stop.set()
    agent.queue.shut_down()
    thread.join(5)
    assert not thread.is_alive()


def test_the_goals_of_a_look_are_told_in_their_order() -> None:
    agent, _ = whole()
    agent.want(service("web"))
    agent.pump()
    status = agent.status("web")
    assert [goal.name for goal in status.goals] == [goal.name for goal in SERVICE_DEPLOY.goals]
    assert status.goal == "healthy"
    verdicts = [goal.verdict for goal in status.goals]
    assert verdicts == ["achieved"] * 4 + ["pending"] + ["waiting"] * 2
    assert SERVICE_DELETE.name == SERVICE_DEPLOY.removal
