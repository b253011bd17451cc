"""What apply does, as a table."""

import dataclasses

import pytest

from agent.contracts import Placement, Workload, encode
from shimlets.process.deciding import Steps, steps
from shimlets.process.environment import Carried
from shimlets.process.finding import Found, Stat, Who
from shimlets.process.observing import Seen
from shimlets.process.recording import Kept, Key, Record, Wish
from tests.contract.shimlet_contract import service_of

SERVICE = service_of("a", Workload(command=("x",)), shimlet="process", goalset="g", replicas=2)
P0, P1, MOVED = Placement(0, 18000), Placement(1, 18001), Placement(0, 18009)


def process(placement: Placement, pid: int, *, leads: bool = True, run: str = "r") -> Found:
    mark = Carried(SERVICE, placement, encode(SERVICE, placement), "", run, pid if leads else 1, 1.0)
    return Found(Stat(Who(pid, 1), "S", 1, pid, pid, ("", "")), mark)


def seen(placement: Placement, what: str, wish: Wish = Wish.RUN) -> Seen:
    """`what`: runs, ended, left (its leader is gone, a child is not) or twins."""
    finished = None if what in ("runs", "twins") or wish is not Wish.RUN else 2.0
    record = Record(encode(SERVICE, placement), "r", 1.0, wish=wish, pid=10, ticks=1, finished=finished)
    leader = process(placement, 10) if what in ("runs", "twins") else None
    rest = (process(placement, 11, leads=False),) if what == "left" else ()
    twins = (process(placement, 12, run="s"),) if what == "twins" else ()
    key = Key(SERVICE.name, SERVICE.digest, placement.index)
    return Seen(key, Kept(record, SERVICE, placement), leader, rest, twins)


@pytest.mark.parametrize(
    ("placements", "there", "expected"),
    [
        ([], [], Steps()),
        ([P0, P1], [], Steps(start=(P0, P1))),
        ([P0], [seen(P0, "runs")], Steps()),
        ([P0], [seen(P0, "runs"), seen(P1, "runs")], Steps(stop=(1,))),
        ([], [seen(P0, "runs")], Steps(stop=(0,))),
        ([], [seen(P0, "ended")], Steps()),
        ([P0], [seen(P0, "ended")], Steps(start=(P0,))),
        ([P0], [seen(P0, "ended", Wish.STOP)], Steps(start=(P0,))),
        ([MOVED], [seen(P0, "runs")], Steps(stop=(0,))),
        ([MOVED], [seen(P0, "ended")], Steps(start=(MOVED,))),
        ([P0], [seen(P0, "left")], Steps(clear=(0,))),
        ([], [seen(P0, "left")], Steps(clear=(0,))),
        ([P0], [seen(P0, "twins")], Steps(clear=(0,))),
        ([], [seen(P0, "twins")], Steps(stop=(0,))),
        ([P0], [seen(P0, "runs", Wish.STOP)], Steps(stop=(0,))),
        ([P0], [seen(P0, "runs", Wish.REMOVE)], Steps(stop=(0,))),
        ([], [seen(P0, "runs", Wish.REMOVE)], Steps(drop=(0,))),
        ([P0], [seen(P0, "runs"), seen(Placement(2, 1), "runs")], Steps(drop=(2,))),
        ([P0], [seen(P0, "runs"), seen(Placement(2, 1), "ended", Wish.STOP)], Steps(drop=(2,))),
    ],
)
def test_steps(placements, there, expected):
    found = {s.key.index: s for s in there}
    assert steps(SERVICE, placements, found, failed=False, same_secrets=lambda _: True) == expected


def test_another_bind_address_or_secret_replaces_it():
    there = {0: seen(P0, "runs")}
    moved = dataclasses.replace(SERVICE, bind="10.0.0.1")
    assert steps(moved, [P0], there, failed=False, same_secrets=lambda _: True) == Steps(stop=(0,))
    assert steps(SERVICE, [P0], there, failed=False, same_secrets=lambda _: False) == Steps(stop=(0,))


@pytest.mark.parametrize(
    ("placements", "there", "expected"),
    [
        ([], [seen(P0, "runs")], Steps(stop=(0,))),
        ([P0], [seen(P0, "ended", Wish.STOP)], Steps(start=(P0,), afresh=True)),
        ([P0], [seen(P0, "runs")], Steps(stop=(0,), afresh=True)),
        ([P0], [seen(P0, "runs"), seen(P1, "runs")], Steps(stop=(1,))),
    ],
)
def test_a_failed_generation_is_tried_afresh_unless_it_is_only_shrunk(placements, there, expected):
    found = {s.key.index: s for s in there}
    assert steps(SERVICE, placements, found, failed=True, same_secrets=lambda _: True) == expected
