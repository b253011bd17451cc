"""What states amount to."""

import pytest

from agent.contracts import Generation, Observed, Placement, Replica, State
from tests.fakes.agent import service

V1, V2 = service("web", "v1"), service("web", "v2")


@pytest.mark.parametrize(
    ("state", "live", "holds"),
    [
        (State.STARTING, True, True),
        (State.RUNNING, True, True),
        (State.STOPPING, False, True),
        (State.STOPPED, False, False),
        (State.EXITED, False, False),
    ],
)
def test_a_replica_that_stops_still_holds_its_place(state: State, live: bool, holds: bool) -> None:
    replica = Replica(Placement(0), state)
    assert (replica.live, replica.holds) == (live, holds)


def test_a_generation_tells_its_live_replicas() -> None:
    replicas = tuple(Replica(Placement(index), state) for index, state in enumerate(State))
    assert [r.state for r in Generation(V1, replicas).live] == [State.STARTING, State.RUNNING]


def test_a_generation_is_found_by_its_digest() -> None:
    one, two = Generation(V1, ()), Generation(V2, ())
    found = Observed(V1.name, (one, two))
    assert found.generation(V2.digest) is two
    assert found.generation(service("web", "v3").digest) is None
    assert Observed(V1.name).generation(V1.digest) is None
