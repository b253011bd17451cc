"""Who has which port and device, by table and by histories of a few services."""

import socket
from collections.abc import Sequence
from dataclasses import replace

import pytest

from agent.contracts import Fate, Generation, Model, Observed, Placement, Replica, Room, Service, State
from agent.host.ledger import HostLedger, port_is_free
from tests.fakes.agent import service

WEB, API = service("web"), service("api")
WEB2 = service("web", "v2")


def ledger(
    ports: range = range(18000, 18010), devices: Sequence[str] = (), busy: frozenset[int] = frozenset()
) -> HostLedger:
    return HostLedger(ports=ports, devices=devices, port_free=lambda bind, port: port not in busy)


def runs(of: Service, *placements: Placement, state: State = State.RUNNING, fate: Fate = Fate.SERVED) -> Generation:
    return Generation(of, tuple(Replica(placement, state) for placement in placements), fate)


def seen(book: HostLedger, *generations: Generation, world: str = "memory") -> HostLedger:
    book.note(world, Observed(generations[0].service.name, generations))
    return book


def claimed(book: HostLedger, of: Service) -> tuple[Placement, ...]:
    book.claim(of)
    return book.room(of).held


def test_a_replica_gets_a_port_and_keeps_it() -> None:
    book = ledger()
    assert book.room(WEB) == Room(more=1)
    assert claimed(book, WEB) == (Placement(0, 18000),)
    assert claimed(book, WEB) == (Placement(0, 18000),), "asking again changes nothing"
    assert claimed(book, API) == (Placement(0, 18001),)
    seen(book, runs(WEB, Placement(0, 18000)))
    assert book.room(WEB) == Room((Placement(0, 18000),))


def test_each_replica_gets_a_port_of_its_own() -> None:
    assert claimed(ledger(), replace(WEB, replicas=3)) == tuple(Placement(i, 18000 + i) for i in range(3))


def test_a_workload_without_a_port_needs_none() -> None:
    assert claimed(ledger(range(0)), service("web", listens=None)) == (Placement(0),)


def test_a_port_that_a_stranger_uses_is_passed_over() -> None:
    assert claimed(ledger(busy=frozenset({18000, 18001})), WEB) == (Placement(0, 18002),)


def test_every_port_taken_is_told() -> None:
    room = ledger(range(18000, 18002), busy=frozenset({18000, 18001})).room(WEB)
    assert not room.fits
    assert room.need == "every port of 18000-18001 is taken"


def test_as_many_as_fit_are_claimed() -> None:
    book = ledger(range(18000, 18002))
    assert len(claimed(book, replace(WEB, replicas=3))) == 2
    room = book.room(replace(WEB, replicas=3))
    assert (room.more, room.swap, room.need) == (0, 0, "every port of 18000-18001 is taken")


# A fixed port.


def test_a_fixed_port_is_taken_or_told() -> None:
    fixed = replace(WEB, port=9000)
    assert claimed(ledger(), fixed) == (Placement(0, 9000),)
    assert ledger(busy=frozenset({9000})).room(fixed).need == "port 9000 is in use by another program"
    taken = seen(ledger(), runs(API, Placement(0, 9000)))
    assert taken.room(fixed).need == "port 9000 is held by service api"


def test_a_fixed_port_of_the_older_generation_is_a_swap() -> None:
    book = seen(ledger(busy=frozenset({9000})), runs(WEB, Placement(0, 9000)))
    room = book.room(replace(WEB2, port=9000))
    assert (room.more, room.swap) == (0, 1)
    seen(book, runs(WEB, Placement(0, 9000), state=State.STOPPED))
    assert book.room(replace(WEB2, port=9000)).need == "port 9000 is in use by another program"


def test_a_fixed_port_that_changed_is_claimed_beside_what_runs() -> None:
    book = seen(ledger(), runs(WEB, Placement(0, 9000)))
    moved = replace(WEB, port=9001)
    assert book.room(moved).held == ()
    assert claimed(book, moved) == (Placement(0, 9001),)


def test_a_port_that_is_no_longer_fixed_is_kept() -> None:
    assert seen(ledger(), runs(WEB, Placement(0, 9000))).room(WEB).held == (Placement(0, 9000),)


# Rolling.


def test_stop_first_waits_for_the_older_one_and_then_takes_its_port() -> None:
    book = seen(ledger(), runs(WEB, Placement(0, 18005)))
    room = book.room(WEB2)
    assert (room.more, room.swap, room.held) == (0, 1, ())
    seen(book, runs(WEB, Placement(0, 18005), state=State.STOPPED))
    assert claimed(book, WEB2) == (Placement(0, 18005),)


def test_stop_first_rolls_one_by_one() -> None:
    old, new = replace(WEB, replicas=2), replace(WEB2, replicas=2)
    book = seen(ledger(), runs(old, Placement(0, 18000), Placement(1, 18001)))
    assert (book.room(new).more, book.room(new).swap) == (0, 2)
    one_left = Generation(
        old, (Replica(Placement(0, 18000), State.RUNNING), Replica(Placement(1, 18001), State.STOPPED)), Fate.SERVED
    )
    seen(book, one_left)
    assert (book.room(new).more, len(claimed(book, new))) == (1, 1)


def test_side_by_side_takes_the_room_there_is() -> None:
    side = replace(WEB2, strategy="side-by-side")
    book = seen(ledger(), runs(WEB, Placement(0, 18000)))
    assert (book.room(side).more, book.room(side).swap) == (1, 0)
    assert claimed(book, side) == (Placement(0, 18001),)


def test_side_by_side_without_room_is_a_swap() -> None:
    side = replace(service("web", "v2", count=1), strategy="side-by-side")
    book = seen(ledger(devices=["g0"]), runs(service("web", count=1), Placement(0, 18000, ("g0",))))
    assert (book.room(side).more, book.room(side).swap) == (0, 1)


# Devices.


def test_devices_are_held_against_others_and_told() -> None:
    book = ledger(devices=["g0", "g1"])
    assert claimed(book, service("web", count=1))[0].devices == ("g0",)
    assert claimed(book, service("api", count=1))[0].devices == ("g1",)
    need = book.room(service("third", count=1)).need
    assert need == (
        "needs 1 accelerator(s), this host has 2, 0 of them free; g0 is held by service web; g1 is held by service api"
    )


def test_more_devices_than_there_are_is_told() -> None:
    assert ledger(devices=["g0"]).room(service("web", count=2)).need == (
        "needs 2 accelerator(s), this host has 1, 1 of them free"
    )


def test_pinned_devices_are_these_or_none() -> None:
    pinned = service("web", count=1)
    pinned = replace(
        pinned,
        workload=replace(pinned.workload, accelerators=replace(pinned.workload.accelerators, ids=("g1",))),
    )
    assert claimed(ledger(devices=["g0", "g1"]), pinned)[0].devices == ("g1",)
    assert not ledger(devices=["g0"]).room(pinned).fits
    taken = seen(ledger(devices=["g0", "g1"]), runs(service("api", count=1), Placement(0, 18000, ("g1",))))
    assert not taken.room(pinned).fits


@pytest.mark.parametrize(
    ("state", "fate", "free"),
    [
        (State.RUNNING, Fate.SERVED, False),
        (State.STOPPING, Fate.FAILED, False),
        (State.STOPPED, Fate.SERVED, False),
        (State.STOPPED, Fate.NEW, False),
        (State.EXITED, Fate.SERVED, False),
        (State.STOPPED, Fate.FAILED, True),
        (State.EXITED, Fate.FAILED, True),
    ],
)
def test_what_is_kept_holds_against_others_but_a_failure_that_ended_does_not(
    state: State, fate: Fate, free: bool
) -> None:
    book = seen(
        ledger(devices=["g0"]), runs(service("web", count=1), Placement(0, 18000, ("g0",)), state=state, fate=fate)
    )
    assert book.room(service("api", count=1)).fits == free


def test_an_exited_replica_keeps_its_place_unless_it_has_a_new_holder() -> None:
    web = service("web", count=1)
    book = seen(ledger(devices=["g0"]), runs(web, Placement(0, 18000, ("g0",)), state=State.EXITED))
    assert book.room(web).held == (Placement(0, 18000, ("g0",)),)
    seen(book, runs(service("api", count=1), Placement(0, 18005, ("g0",))))
    assert book.room(web).held == ()
    assert not book.room(web).fits


def test_going_back_finds_its_old_place() -> None:
    web, new = service("web", count=1), service("web", "v2", count=1)
    book = ledger(devices=["g0", "g1"])
    kept = runs(web, Placement(0, 18003, ("g1",)), state=State.STOPPED)
    failed = runs(new, Placement(0, 18003, ("g1",)), state=State.STOPPED, fate=Fate.FAILED)
    seen(book, kept, failed)
    assert claimed(book, web) == (Placement(0, 18003, ("g1",)),)


# Claims.


def test_claims_for_what_is_no_longer_walked_to_are_void() -> None:
    book = ledger(devices=["g0"])
    claimed(book, service("web", count=1))
    book.keep_only(WEB.name, WEB2.digest)
    assert book.room(service("api", count=1)).fits
    claimed(book, service("api", count=1))
    assert not book.room(service("web", count=1)).fits
    book.keep_only(API.name, None)
    assert book.room(service("web", count=1)).fits
    assert book._claims == {}
    assert book._digests == {}


def test_fewer_replicas_hold_less() -> None:
    three = replace(WEB, replicas=3)
    book = seen(ledger(), runs(three, *(Placement(i, 18000 + i) for i in range(3))))
    assert book.room(replace(WEB, replicas=1)) == Room((Placement(0, 18000),))


def test_two_worlds_of_one_host_share_it() -> None:
    book = ledger(devices=["g0"])
    seen(book, runs(service("web", count=1), Placement(0, 18000, ("g0",))), world="docker")
    assert not book.room(service("api", count=1)).fits
    book.note("process", Observed(WEB.name))
    assert not book.room(service("api", count=1)).fits, "gone from one world is not gone from the other"
    book.note("docker", Observed(WEB.name))
    assert book.room(service("api", count=1)).fits


def test_what_is_gone_leaves_no_trace() -> None:
    book = ledger(devices=["g0"])
    web = service("web", count=1)
    claimed(book, web)
    seen(book, runs(web, Placement(0, 18000, ("g0",))))
    book.note("memory", Observed(web.name))
    book.keep_only(web.name, None)
    assert (dict(book._seen), dict(book._holders), book._claims, book._claimers, book._digests) == ({}, {}, {}, {}, {})


def test_what_is_still_in_use_is_told() -> None:
    book = seen(ledger(), runs(WEB, Placement(0, 18000, ("g0", "g1")), state=State.STOPPING))
    assert book.busy(WEB.name) == "port 18000, g0, g1"
    seen(book, runs(WEB, Placement(0, 18000, ("g0", "g1")), state=State.STOPPED))
    assert book.busy(WEB.name) == ""
    assert book.busy(API.name) == ""


@pytest.mark.parametrize(("source", "path"), [("/models/x", "/models/x"), ("file:///models/x", "/models/x")])
def test_a_local_model_is_where_it_is(source: str, path: str) -> None:
    modelled = replace(WEB, workload=replace(WEB.workload, model=Model(source)))
    assert claimed(ledger(), modelled)[0].model_path == path


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_real_port_is_free_or_not(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        try:
            listener.bind((host, 0))
        except OSError:
            pytest.skip(f"this machine has no {host}")
        listener.listen()
        port = listener.getsockname()[1]
        assert not port_is_free(host, port)
    assert port_is_free(host, port)


def test_an_address_that_this_host_does_not_have_is_not_free() -> None:
    assert not port_is_free("192.0.2.1", 18000)
