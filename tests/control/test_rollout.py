"""Which generation to walk towards, by table."""

from dataclasses import replace

import pytest

from agent.contracts import Digest, Fate, Generation, Observed, Placement, Replica, Room, Service, State
from agent.control.rollout import Target, burnt_reason, routed, target
from tests.fakes.agent import service

V1, V2, V3 = service("web", "v1"), service("web", "v2"), service("web", "v3")
FITS, NO_ROOM = Room(more=1), Room(need="needs 1 accelerator(s)")


def generation(of: Service, fate: Fate = Fate.SERVED, message: str = "") -> Generation:
    return Generation(of, (Replica(Placement(0, 18000), State.RUNNING, message=message),), fate)


def seen(*generations: Generation) -> Observed:
    return Observed(V1.name, generations)


def walked(
    *generations: Generation,
    wanted: Service = V2,
    burnt: str = "",
    route: Digest | None = None,
    room: Room | None = FITS,
) -> Target:
    return target(wanted, seen(*generations), burnt=burnt, route=route, room=room)


SERVED, NEW, FAILED = Fate.SERVED, Fate.NEW, Fate.FAILED


@pytest.mark.parametrize(
    ("generations", "expected"),
    [
        ([], Target(V2)),
        ([generation(V1)], Target(V2)),
        ([generation(V1), generation(V2, NEW)], Target(V2)),
        ([generation(V1, FAILED)], Target(V2)),
    ],
)
def test_the_wanted_one_is_walked_to(generations: list[Generation], expected: Target) -> None:
    assert walked(*generations) == expected
    assert walked(*generations, room=None) == expected, "a world without a ledger places by itself"


def test_a_burnt_one_is_left_for_the_one_that_served() -> None:
    found = walked(generation(V1), generation(V2, FAILED), burnt="Exited: 1")
    assert found == Target(V1, frozenset({V2.digest}), "Exited: 1")


def test_a_burnt_one_is_left_for_the_newest_that_served() -> None:
    both = generation(V1), generation(V3)
    assert walked(*both, generation(V2, FAILED), burnt="x").service == V3


def test_where_the_route_leads_goes_first() -> None:
    both = generation(V1), generation(V3)
    assert walked(*both, generation(V2, FAILED), burnt="x", route=V1.digest).service == V1


def test_an_older_one_that_never_served_is_better_than_nothing() -> None:
    assert walked(generation(V1, NEW), generation(V2, FAILED), burnt="x").service == V1


def test_nowhere_to_walk_to() -> None:
    assert walked(generation(V2, FAILED), burnt="x") == Target(None, frozenset({V2.digest}), "x")
    assert walked(burnt="x") == Target(None, frozenset({V2.digest}), "x")


def test_nobody_goes_back_to_a_failure_and_only_the_record_of_this_wish_stays() -> None:
    found = walked(generation(V1, FAILED), generation(V2, FAILED), burnt="x")
    assert found == Target(None, frozenset({V2.digest}), "x")
    same = replace(V1, spec_digest=V2.spec_digest)
    found = walked(generation(same, FAILED), generation(V2, FAILED), burnt="x")
    assert found == Target(None, frozenset({V1.digest, V2.digest}), "x"), "an upgrade resolves it differently"


def test_a_rollback_has_as_many_replicas_as_are_wanted_now() -> None:
    found = walked(generation(V1), generation(V2, FAILED), wanted=replace(V2, replicas=3), burnt="x")
    assert found.service == replace(V1, replicas=3)


def test_without_room_the_proven_one_stays() -> None:
    found = walked(generation(V1), room=NO_ROOM)
    assert found == Target(V1, frozenset({V2.digest}), waits="needs 1 accelerator(s)")


@pytest.mark.parametrize("generations", [[], [generation(V1, NEW)], [generation(V1, FAILED)]])
def test_without_room_and_without_a_proven_one_the_wish_waits_itself(generations: list[Generation]) -> None:
    assert walked(*generations, room=NO_ROOM) == Target(V2)


@pytest.mark.parametrize("room", [Room(held=(Placement(0),)), Room(more=1), Room(swap=1)])
def test_any_way_to_run_one_replica_is_room(room: Room) -> None:
    assert walked(generation(V1), room=room) == Target(V2)


def test_what_failed_is_burnt_by_its_record_and_by_memory() -> None:
    assert burnt_reason(V2, seen(generation(V2, FAILED, "exited with code 1")), {}).endswith("exited with code 1")
    assert burnt_reason(V2, seen(), {V2.digest: "StartupDeadline: mute"}) == "StartupDeadline: mute"
    assert burnt_reason(V2, seen(generation(V1, FAILED)), {V1.digest: "x"}) == ""


def test_a_served_digest_is_never_burnt() -> None:
    assert burnt_reason(V2, seen(generation(V2)), {V2.digest: "an old failure"}) == ""


def test_the_same_spec_under_another_digest_has_failed_too() -> None:
    upgraded = replace(V2, digest=Digest("another"))
    assert burnt_reason(upgraded, seen(generation(V2, FAILED)), {}) != ""


def test_the_route_or_else_the_newest_that_served_serves() -> None:
    found = seen(generation(V1), generation(V2), generation(V3, NEW))
    assert routed(found, None) == generation(V2)
    assert routed(found, V1.digest) == generation(V1)
    assert routed(found, Digest("gone")) == generation(V2)
    assert routed(seen(generation(V3, NEW)), None) is None


def test_without_room_the_proven_one_keeps_as_many_replicas_as_it_has() -> None:
    """A mark tells how many there were when its replica was made."""
    two = Generation(V1, tuple(Replica(Placement(i, 18000 + i), State.RUNNING) for i in range(2)), SERVED)
    assert walked(two, room=NO_ROOM).service == replace(V1, replicas=2)
