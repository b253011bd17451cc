"""Which calls one apply makes, by tables."""

from dataclasses import replace
from typing import Any

import pytest

from agent.contracts import Digest, Placement, Service, ServiceName, Workload
from shimlets.docker.arguments import Engine
from shimlets.docker.observing import Detail, Found
from shimlets.docker.steps import Step, There, Verb, steps

P0, P1 = Placement(0, 18000), Placement(1, 18001)


def service(**fields: Any) -> Service:
    fields = {"replicas": 2} | fields
    return Service(
        ServiceName("web"), Workload(cpu=1.0), Digest("d" * 64), Digest("s"), "docker", "service-deploy", **fields
    )


def name(index: int, suffix: str = "") -> str:
    return f"xmod-edge-web-dddddddd-{index}{suffix}"


def one(placement: Placement = P0, word: str = "running", *, suffix: str = "", **fields: Any) -> Found:
    container = Found(f"c{placement.index}", name(placement.index, suffix), word, 0, service(), placement, "sha256:1")
    return replace(container, **fields)


def right(word: str = "running", **fields: Any) -> Detail:
    fields = {"nano_cpus": 10**9, "policy": "unless-stopped", "networks": frozenset({"xmod-edge"})} | fields
    return Detail(word, **fields)


def todo(
    *containers: Found, wanted: list[Placement], stopping: str = "", of: Service | None = None, **seen: Any
) -> list[Step]:
    details = {c.id: right(c.word, **seen) for c in containers}
    there = There("edge", Engine(), containers, details, frozenset(filter(None, [stopping])))
    return steps(there, of or service(), wanted, lambda seal: seal != "other")


def create(placement: Placement, suffix: str = ".new") -> Step:
    return Step(Verb.CREATE, placement=placement, name=name(placement.index, suffix))


START, STOP, REMOVE, RETIRE = (Step(verb, "c0") for verb in (Verb.START, Verb.STOP, Verb.REMOVE, Verb.RETIRE))
STOP1, REMOVE1, RETIRE1 = (Step(verb, "c1") for verb in (Verb.STOP, Verb.REMOVE, Verb.RETIRE))


@pytest.mark.parametrize(
    ("there", "wanted", "does"),
    [
        ([], [P0, P1], [create(P0), create(P1)]),
        ([], [], []),
        ([one()], [P0], []),
        ([one()], [P0, P1], [create(P1, "")]),
        ([one(suffix=".new")], [P0, P1], [create(P1)]),
        ([one(word="restarting")], [P0], []),
        ([one(word="removing")], [P0], []),
        ([one(word="created")], [P0], [START]),
        ([one(word="exited")], [P0], [START]),
        ([one(word="dead")], [P0], [REMOVE, create(P0, "")]),
        ([one()], [], [STOP]),
        ([one(word="paused")], [], [STOP]),
        ([one(word="restarting")], [], [STOP]),
        ([one(word="exited")], [], []),
        ([one(word="created")], [], []),
        ([one(), one(P1)], [P0], [STOP1]),
        ([one(), one(P1, "exited")], [P0], []),
    ],
)
def test_exactly_the_wanted_replicas_run_and_the_others_are_stopped_and_kept(
    there: list[Found], wanted: list[Placement], does: list[Step]
):
    assert todo(*there, wanted=wanted) == does


def test_a_replica_beyond_the_count_is_removed_running_or_not():
    assert todo(one(), one(P1), wanted=[P0], of=service(replicas=1)) == [RETIRE1]
    assert todo(one(), one(P1, "exited"), wanted=[P0], of=service(replicas=1)) == [REMOVE1]


@pytest.mark.parametrize(
    ("changed", "of"),
    [
        (one(Placement(0, 1)), service()),
        (one(Placement(0, 18000, ("g0",))), service()),
        (one(), service(bind="0.0.0.0")),
        (one(seal="other"), service()),
    ],
)
def test_what_no_longer_fits_is_stopped_first_and_replaced_once_it_stopped(changed: Found, of: Service):
    assert todo(changed, wanted=[P0], of=of) == [STOP]
    stopped = replace(changed, word="exited")
    assert todo(stopped, wanted=[P0], of=of) == [REMOVE, create(P0, "")]


def test_another_bind_address_is_nothing_to_what_publishes_no_port():
    unpublished = Placement(0)
    assert todo(one(unpublished), wanted=[unpublished], of=service(bind="0.0.0.0")) == []


def test_nothing_is_done_to_what_is_being_stopped_until_it_stopped():
    assert todo(one(), wanted=[P0], stopping="c0") == []
    assert todo(one(), wanted=[], stopping="c0") == []
    assert todo(one(), wanted=[], stopping="c0", of=service(replicas=0)) == [RETIRE], "a stop may become a removal"


@pytest.mark.parametrize(
    ("word", "seen", "does"),
    [
        ("running", {"nano_cpus": 5}, [Step(Verb.UPDATE, "c0", update={"NanoCpus": 10**9})]),
        ("running", {"memory": 2**26}, [STOP]),
        ("running", {"networks": frozenset()}, [Step(Verb.CONNECT, "c0")]),
        ("paused", {}, [Step(Verb.UNPAUSE, "c0")]),
    ],
)
def test_drift_is_mended_in_place_if_it_can_be_and_else_anew(word: str, seen: dict[str, Any], does: list[Step]):
    assert todo(one(word=word), wanted=[P0], **seen) == does


def test_what_was_stopped_because_it_drifted_is_not_started_as_it_was():
    assert todo(one(word="exited"), wanted=[P0], memory=2**26) == [REMOVE, create(P0, "")]


def test_a_name_that_somebody_changed_is_changed_back():
    mine = one(P1, suffix=".new")
    assert todo(one(name="hers"), mine, wanted=[P0, P1]) == [Step(Verb.RENAME, "c0", name=name(0))]


def test_of_two_that_claim_one_index_the_running_one_stays():
    twin = one(word="exited", id="c9")
    assert todo(twin, one(), wanted=[P0]) == [Step(Verb.REMOVE, "c9")]


FAILED = one(word="exited", suffix=".failed")


def test_a_failed_generation_that_is_wanted_begins_afresh_as_new():
    assert todo(FAILED, wanted=[P0]) == [REMOVE, create(P0)]
    assert todo(replace(FAILED, word="running"), wanted=[P0]) == [STOP]
    assert todo(FAILED, one(P1, "exited", suffix=".failed"), wanted=[P0]) == [REMOVE, REMOVE1, create(P0)]


def test_a_fresh_start_that_was_cut_short_goes_on_and_does_not_begin_again():
    fresh = one(suffix=".new")
    left = one(P1, "exited", suffix=".failed")
    assert todo(fresh, left, wanted=[P0, P1]) == [REMOVE1, create(P1)]


def test_a_failed_generation_that_is_only_stopped_or_shrunk_stays_failed():
    assert todo(FAILED, wanted=[]) == []
    running = one(suffix=".failed")
    assert todo(running, wanted=[]) == [STOP]
    assert todo(running, one(P1, suffix=".failed"), wanted=[P0]) == [STOP1]


def test_stops_come_before_removals_before_starts():
    wrong = one(Placement(1, 9), "exited")
    there = [one(word="exited"), wrong, one(Placement(2, 18002))]
    does = todo(*there, wanted=[P0, P1], of=service(replicas=3))
    assert [step.verb for step in does] == [Verb.STOP, Verb.REMOVE, Verb.START, Verb.CREATE]
