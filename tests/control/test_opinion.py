"""From a look to a status, by table."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from agent.contracts import (
    Achieved,
    Check,
    Failed,
    Fate,
    Generation,
    Health,
    Observed,
    Pending,
    Placement,
    Replica,
    Service,
    State,
    Verdict,
)
from agent.control.board import GoalState, Phase, Status, Truth
from agent.control.intent import Intent, Keep, Remove, Run
from agent.control.opinion import queued, serving, status
from agent.control.reconciler import Look
from tests.fakes.agent import service

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
V1, V2 = service("web", "v1"), service("web", "v2")
SERVES, SILENT = Truth(True, "Serving"), Truth(False, "NotServing", "nothing was proven to serve")


def replica(index: int = 0, *, ready: bool | None = None, state: State = State.RUNNING) -> Replica:
    return Replica(Placement(index, 18000 + index), state, ready=ready, address=f"127.0.0.1:{18000 + index}")


def generation(of: Service = V1, *replicas: Replica, fate: Fate = Fate.SERVED) -> Generation:
    return Generation(of, replicas or (replica(),), fate)


def a_look(intent: Intent, *generations: Generation, **more: object) -> Look:
    look = Look(V1.name, intent, Observed(V1.name, generations))
    for key, value in more.items():
        setattr(look, key, value)
    return look


def judged(
    look: Look,
    verdict: Verdict,
    *,
    serves: bool = True,
    before: Status | None = None,
    wait: float | None = 30.0,
    now: datetime = NOW,
) -> Status:
    routed = generation() if serves else None
    truth = (SERVES if serves else SILENT, routed, 1 if serves else 0)
    return status(look, verdict, truth=truth, before=before, now=now, wait=wait, attempts=2, deadline=3600)


BEFORE = judged(a_look(Run(V1)), Achieved())


@pytest.mark.parametrize(
    ("look", "verdict", "serves", "phase", "converged", "blocked"),
    [
        (a_look(Run(V1)), Achieved(), True, Phase.READY, (True, "Converged"), "none"),
        (a_look(Run(V1)), Achieved(), False, Phase.DEGRADED, (True, "Converged"), "none"),
        (a_look(Run(V1)), Pending("Pulling"), False, Phase.PROGRESSING, (False, "Pulling"), "none"),
        (a_look(Run(V2)), Pending("Starting"), True, Phase.PROGRESSING, (False, "Starting"), "none"),
        (a_look(Run(V1, "SpecInvalid")), Achieved(), True, Phase.KEPT, (False, "SpecInvalid"), "failed"),
        (a_look(Run(V1, "DuplicateName")), Achieved(), True, Phase.KEPT, (False, "DuplicateName"), "failed"),
        (a_look(Run(V1, "ResolvesDifferently")), Achieved(), True, Phase.READY, (True, "Converged"), "none"),
        (a_look(Run(V1, "RolloutWaits")), Achieved(), True, Phase.READY, (True, "Converged"), "none"),
        (a_look(Run(V1, "SpecInvalid", "policy.images: no")), Achieved(), True, Phase.KEPT, (False, "SpecInvalid"), "policy"),
        (a_look(Run(V2), burnt="x"), Failed("RolledBack"), True, Phase.DEGRADED, (False, "RolledBack"), "failed"),
        (a_look(Run(V2), burnt="x"), Failed("Burnt"), False, Phase.FAILED, (False, "Burnt"), "failed"),
        (a_look(Remove("memory")), Pending("Stopping"), False, Phase.REMOVING, (False, "Stopping"), "none"),
        (a_look(Keep("memory", "Suspended")), Pending("Suspended"), True, Phase.SUSPENDED, (False, "Suspended"), "suspended"),
        (a_look(Keep("memory", "WorldUnseen")), Pending("WorldUnseen"), True, Phase.KEPT, (False, "WorldUnseen"), "none"),
        (
            a_look(Keep("memory", "OverBudget", "", NOW)),
            Pending("OverBudget"),
            True,
            Phase.KEPT,
            (False, "OverBudget"),
            "held",
        ),
    ],
)  # fmt: skip
def test_phase_truth_and_what_is_in_the_way(
    look: Look, verdict: Verdict, serves: bool, phase: Phase, converged: tuple[bool, str], blocked: str
) -> None:
    found = judged(look, verdict, serves=serves)
    assert (found.phase, found.serving.holds) == (phase, serves)
    assert (found.converged.holds, found.converged.reason) == converged
    assert found.blocked == blocked


def test_what_waits_and_never_ran_is_shown_as_it_is_wanted() -> None:
    waits = replace(a_look(Keep("memory", "Waiting", wanted=V1)), target=None)
    found = judged(waits, Pending("Waiting"), serves=False)
    assert (found.file, found.replicas, found.goalset) == (V1.file, V1.replicas, V1.goalset)


def test_what_was_ready_and_is_no_more_without_a_change_is_degraded() -> None:
    found = judged(a_look(Run(V1)), Pending("Unhealthy"), serves=False, before=BEFORE)
    assert found.phase is Phase.DEGRADED
    assert judged(a_look(Run(V1)), Pending("CrashLoop"), before=found).phase is Phase.DEGRADED
    assert judged(a_look(Run(V2)), Pending("Starting"), before=BEFORE).phase is Phase.PROGRESSING


ACHIEVED, UNDER_WAY, REFUSED = (
    GoalState("placed", "achieved"),
    GoalState("healthy", "pending"),
    GoalState("made", "failed"),
)


@pytest.mark.parametrize(
    ("run", "goals", "serves", "phase"),
    [
        (Run(V1), [ACHIEVED], True, Phase.DEGRADED),  # the goal whose turn it was raised
        (Run(V1), [], True, Phase.DEGRADED),
        (Run(V1), [ACHIEVED, REFUSED], True, Phase.DEGRADED),
        (Run(V1), [ACHIEVED, UNDER_WAY], True, Phase.PROGRESSING),
        (Run(V2), [ACHIEVED], True, Phase.PROGRESSING),  # a change is on its way
        (Run(V1), [ACHIEVED], False, Phase.PROGRESSING),
    ],
)
@pytest.mark.parametrize("before", [None, queued(Run(V1), None, NOW)])
def test_what_serves_as_wanted_and_is_refused_something_is_degraded_from_the_first_look_on(
    run: Run, goals: list[GoalState], serves: bool, phase: Phase, before: Status | None
) -> None:
    """A secret that became unreadable, seen by an agent that just started."""
    found = judged(a_look(run, goals=goals), Pending("SecretUnreadable"), serves=serves, before=before)
    assert (found.phase, found.converged.reason) == (phase, "SecretUnreadable")


def test_what_waits_for_room_is_a_change_on_its_way() -> None:
    waiting = a_look(Run(V1), goals=[ACHIEVED], waits="port 8000 is taken")
    assert judged(waiting, Pending("NoRoom")).phase is Phase.PROGRESSING


def test_lag_is_none_when_converged_and_counts_from_the_oldest_change_else() -> None:
    assert BEFORE.wanted_since is None
    pending = judged(a_look(Run(V2)), Pending("Starting"), before=BEFORE)
    assert pending.wanted_since == NOW
    later = judged(a_look(Run(V2)), Failed("RolledBack"), before=pending, now=NOW + timedelta(1))
    assert later.wanted_since == NOW
    assert judged(a_look(Run(V1)), Achieved(), before=later).wanted_since is None


def test_what_is_held_lags_since_it_is_held() -> None:
    held = Keep("memory", "OverBudget", "", NOW - timedelta(2))
    assert judged(a_look(held), Pending("OverBudget"), before=BEFORE).wanted_since == NOW - timedelta(2)


def test_the_next_try_is_told_while_there_is_something_to_try() -> None:
    assert BEFORE.next_try is None
    assert judged(a_look(Run(V1)), Pending("Pulling"), wait=7.0).next_try == NOW + timedelta(seconds=7)


def test_what_stalls_says_so() -> None:
    old = replace(BEFORE, wanted_since=NOW - timedelta(hours=2))
    assert judged(a_look(Run(V1)), Pending("Pulling", "10 %"), before=old).converged.message == "stalled: 10 %"
    assert judged(a_look(Run(V1)), Pending("Pulling"), before=old).converged.message == "stalled: Pulling"


def test_notices_are_told_once() -> None:
    moved = replace(generation(), notice="the tag moved")
    look = a_look(Run(V2, "ResolvesDifferently", "later"), moved, moved, waits="no room", burnt="exited")
    assert judged(look, Achieved()).notices == (
        "the tag moved",
        "ResolvesDifferently: later",
        "the new version waits: no room",
        "the wanted version is not tried again until its spec changes (or xmod-agent retry web): exited",
    )


def test_endpoints_are_of_what_serves() -> None:
    assert BEFORE.endpoints == ("http://127.0.0.1:18000",)
    assert judged(a_look(Run(V1)), Achieved(), serves=False).endpoints == ()
    tcp = replace(V1, workload=replace(V1.workload, check=Check(tcp=True)))
    look = a_look(Run(tcp), generation(tcp))
    truth = (SERVES, generation(tcp), 1)
    found = status(look, Achieved(), truth=truth, before=None, now=NOW, wait=None, attempts=0, deadline=1)
    assert found.endpoints == ("tcp://127.0.0.1:18000",)


# Serving.


class Answers:
    """A dial that knows."""

    def __init__(self, *answers: Health | None) -> None:
        self.answers = list(answers)

    def health(self, service: Service, replica: Replica) -> Health | None:
        return self.answers.pop(0)

    def ask(self, replica: Replica, method: str, path: str, body: bytes, timeout: float) -> tuple[int, bytes]:
        raise AssertionError


YES, NO = Health(answered=True), Health(answered=False, message="/ says 500")


@pytest.mark.parametrize(
    ("replicas", "answers", "truth", "ready"),
    [
        ([replica()], [YES], SERVES, 1),
        ([replica()], [NO], Truth(False, "Unhealthy", "/ says 500"), 0),
        ([replica()], [None], Truth(False, "Unhealthy", "it was not asked yet"), 0),
        ([replica(0), replica(1)], [NO, YES], SERVES, 1),
        ([replica(ready=True)], [], SERVES, 1),
        ([replica(ready=False)], [], Truth(False, "Unhealthy"), 0),
        ([replica(state=State.STOPPED)], [], SILENT, 0),
        ([replica(state=State.EXITED)], [], SILENT, 0),
        ([replica(0), replica(1, state=State.EXITED)], [YES], SERVES, 1),
    ],
)
def test_one_replica_that_answers_serves(
    replicas: list[Replica], answers: list[Health | None], truth: Truth, ready: int
) -> None:
    of = Generation(V1, tuple(replicas), Fate.SERVED)
    found = serving(a_look(Run(V1), of), route=None, dial=Answers(*answers))
    assert found == (truth, of, ready)


def test_what_was_never_proven_does_not_serve() -> None:
    new = generation(V1, fate=Fate.NEW)
    assert serving(a_look(Run(V1), new), route=None, dial=Answers()) == (SILENT, None, 0)
    assert serving(Look(V1.name, Run(V1)), route=None, dial=None) == (SILENT, None, 0)


def test_without_a_check_running_is_serving() -> None:
    plain = replace(V1, workload=replace(V1.workload, check=Check()))
    assert serving(a_look(Run(plain), generation(plain)), route=None, dial=Answers())[0] == SERVES


# Queued.


def test_a_change_is_on_the_board_before_the_first_look() -> None:
    found = queued(Run(V1), None, NOW)
    assert found is not None
    assert (found.phase, found.converged.reason, found.wanted_since) == (Phase.PROGRESSING, "Queued", NOW)
    later = queued(Run(V2), BEFORE, NOW)
    assert later is not None
    assert (later.serving, later.wanted, later.wanted_since) == (SERVES, V2.digest, NOW)
    lagging = queued(Run(V2), replace(BEFORE, wanted_since=NOW - timedelta(1)), NOW)
    assert lagging is not None
    assert lagging.wanted_since == NOW - timedelta(1)


@pytest.mark.parametrize("intent", [Keep("memory", "Suspended"), Remove("memory"), Run(V1, "SpecInvalid")])
def test_what_is_no_wish_is_not_queued(intent: Intent) -> None:
    assert queued(intent, BEFORE, NOW) is None
