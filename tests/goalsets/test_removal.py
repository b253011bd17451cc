"""Goals that take a service away."""

import pytest

from agent.contracts import Achieved, Pending, Route, State
from goalsets.removal import Drained, Removed, Stopped
from tests.goalsets.making import V1, V2, Signpost, calls, generation, moment, replica


@pytest.mark.parametrize(
    ("leads", "verdict"),
    [
        (None, Achieved()),
        (Route(V1.digest), Achieved()),
        (Route(V1.digest, frozenset({0})), Pending("Draining")),
        (Route(V2.digest, frozenset({0})), Pending("Draining")),
    ],
)
def test_drained_is_an_address_that_leads_nowhere(leads: Route | None, verdict: object) -> None:
    assert Drained().is_achieved(moment(generation(), router=Signpost(leads))) == verdict
    assert Drained().is_achieved(moment(generation())) == Achieved(), "without a router there is no address"


def test_draining_leads_it_nowhere() -> None:
    signpost = Signpost(Route(V1.digest, frozenset({0})))
    Drained().ensure(moment(generation(), router=signpost))
    assert signpost.routes == [(V1.digest, ())]


def test_stopping_is_not_stopped() -> None:
    both = moment(generation(V1, replica(0, State.STOPPING)), generation(V2, replica(0, State.EXITED)))
    assert Stopped().is_achieved(both) == Pending("Stopping", "1 still running", 1.0)
    assert Stopped().is_achieved(moment(generation(V1, replica(0, State.STOPPED)))) == Achieved()
    assert Stopped().is_achieved(moment()) == Achieved()


def test_only_what_lives_is_stopped_and_needs_no_secret() -> None:
    ctx = moment(generation(V1), generation(V2, replica(0, State.STOPPING)))
    Stopped().ensure(ctx)
    assert calls(ctx) == [("apply", V1.digest, (), {})]


def test_removed_is_true_absence() -> None:
    ctx = moment(generation(V1, replica(0, State.STOPPED)), generation(V2, replica(0, State.EXITED)))
    assert Removed().is_achieved(ctx) == Pending("Removing")
    Removed().ensure(ctx)
    assert calls(ctx) == [("remove", V1.digest), ("remove", V2.digest)]
    assert Removed().is_achieved(moment()) == Achieved()
