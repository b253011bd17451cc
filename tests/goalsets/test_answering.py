"""Ready means it answers: what is not yet, what is a failure, and what is only reported."""

from dataclasses import replace
from datetime import timedelta

import pytest

from agent.contracts import Achieved, Check, Failed, Fate, Health, Pending, Replica, State, Verdict
from goalsets.answering import Healthy
from tests.goalsets.making import NOW, V1, Line, generation, moment, replica

NEW, SERVED = Fate.NEW, Fate.SERVED
YES = Health(answered=True)
NO = Health(answered=False, failures=3, message="/ says 500")


def judged(
    *replicas: Replica, fate: Fate = NEW, says: Health | None = YES, after: float = 0.0, check: Check | None = None
) -> Verdict:
    target = replace(V1, workload=replace(V1.workload, check=check or Check(path="/", startup_deadline=60.0)))
    ctx = moment(
        generation(target, *replicas, fate=fate), target=target, dial=Line(says), now=NOW + timedelta(seconds=after)
    )
    return Healthy().is_achieved(ctx)


def test_what_answers_is_healthy() -> None:
    assert judged(replica()) == Achieved()
    assert judged(replica(0), replica(1)) == Achieved()


def test_what_is_not_there_is_starting() -> None:
    assert Healthy().is_achieved(moment()) == Pending("Starting")


def test_what_was_not_asked_yet_is_starting() -> None:
    assert judged(replica(), says=None) == Pending("Starting", "not asked yet", 4.0)


@pytest.mark.parametrize(("after", "wait"), [(0.0, 5.0), (30.0, 5.0), (57.0, 3.0), (59.9, 0.5)])
def test_within_its_deadline_it_is_awaited(after: float, wait: float) -> None:
    assert judged(replica(), says=NO, after=after) == Pending("Starting", "/ says 500", pytest.approx(wait))


def test_past_its_deadline_it_failed() -> None:
    assert judged(replica(), says=NO, after=60.0) == Failed(
        "StartupDeadline", "it did not answer within 60 s: / says 500"
    )
    starting = replica(0, State.STARTING)
    assert judged(starting, after=60.0) == Failed(
        "StartupDeadline", "it did not answer within 60 s: it is still starting"
    )


def test_one_slow_answer_is_no_evidence() -> None:
    """After a restart of the agent the deadline may be long past, and nobody has asked three times yet."""
    once = replace(NO, failures=1)
    assert judged(replica(), says=once, after=3600.0) == Pending("Starting", "/ says 500", 0.5)


def test_a_deadline_without_a_beginning_does_not_pass() -> None:
    assert judged(replica(0, started_at=None), says=NO, after=3600.0) == Pending("Starting", "/ says 500", 5.0)


@pytest.mark.parametrize(
    ("there", "reason", "message"),
    [
        (replica(0, State.EXITED, message="exited with code 1"), "Exited", "exited with code 1"),
        (
            replica(0, State.EXITED, restarts=3, message="exited with code 1"),
            "CrashLoop",
            "started 3 times and exited: exited with code 1",
        ),
        (
            replica(0, State.STARTING, restarts=5, message="exited with code 1"),
            "CrashLoop",
            "started 5 times and exited: exited with code 1",
        ),
    ],
)
def test_an_exit_is_a_failure_until_it_served_and_only_told_from_then_on(
    there: Replica, reason: str, message: str
) -> None:
    assert judged(there) == Failed(reason, message)
    assert judged(there, fate=SERVED) == Pending(reason, message)


def test_what_served_is_never_a_failure() -> None:
    assert judged(replica(), fate=SERVED, says=NO, after=9999.0) == Pending("Unhealthy", "/ says 500", 10.0)
    starting = judged(replica(0, State.STARTING), fate=SERVED, after=9999.0)
    assert starting == Pending("Starting", "it is still starting", 5.0)


@pytest.mark.parametrize("state", [State.STOPPING, State.STOPPED])
def test_what_makes_way_need_not_answer(state: State) -> None:
    assert judged(replica(0), replica(1, state), says=YES) == Achieved()


def test_the_worst_replica_decides() -> None:
    bad = replica(1, State.EXITED, message="x")
    assert judged(replica(0), bad) == Failed("Exited", "x")
    assert judged(replica(0, State.STARTING), bad) == Failed("Exited", "x")
    assert isinstance(judged(replica(0), replica(1, State.STARTING)), Pending)


@pytest.mark.parametrize("ready", [True, False])
def test_a_world_that_probes_by_itself_is_believed(ready: bool) -> None:
    verdict = judged(replica(0, ready=ready, message="probe says 500"), says=None, after=60.0)
    assert verdict == (
        Achieved() if ready else Failed("StartupDeadline", "it did not answer within 60 s: probe says 500")
    )


def test_without_a_check_running_is_enough() -> None:
    assert judged(replica(), says=NO, check=Check()) == Achieved()
    assert judged(replica(), says=YES, check=Check(tcp=True)) == Achieved()


def test_without_a_dial_running_is_enough() -> None:
    assert Healthy().is_achieved(moment(generation(fate=NEW))) == Achieved()
