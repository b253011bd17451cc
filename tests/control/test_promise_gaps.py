"""Promises 1, 4, 6, 10 and 13, where only a deliberate break of the code showed that no other test would notice."""

import threading
from collections.abc import Mapping, Sequence
from typing import ClassVar

import pytest

from agent.contracts import Fate, Permanent, Placement, Service, ServiceName, State
from agent.control.board import Phase
from agent.control.words import Words
from tests.fakes.agent import MiniAgent, clock_at_noon, service
from tests.fakes.facts import NoFacts
from tests.fakes.folder import Folder, document
from tests.fakes.memory import MemoryShimlet, World

WEB = ServiceName("web")


def test_1_a_name_that_stays_in_two_files_keeps_its_last_word_however_often_it_is_read() -> None:
    folder = Folder(clock_at_noon(), {"a.yaml": document("web")})
    good = folder.desired().wanted[WEB]
    for version in ("v2", "v3", "v4"):
        folder.files = {"a.yaml": document("web", version), "b.yaml": document("web", version)}
        doubt = folder.desired().doubts[WEB]
        assert (doubt.reason, doubt.last) == ("DuplicateName", good)


@pytest.mark.parametrize("restarted", [False, True])
def test_4_removals_one_by_one_spend_the_same_budget(restarted: bool) -> None:
    clock = clock_at_noon()
    world = World(now=clock.now, probes=False, stops_at_once=True)
    agent = MiniAgent(world, clock)
    services = [service(f"s{number}") for number in range(12)]
    agent.see()
    agent.want(*services)
    agent.settle(10)
    clock.advance(600)  # all were there when the window began
    for gone in (1, 2, 3, 4):
        if restarted:
            agent = MiniAgent(world, clock, words=Words.from_plain(dict(agent.kept.data)))
            agent.want(*services[gone - 1 :])
            agent.see()
        agent.want(*services[gone:])
        agent.settle(5)
    assert sorted(agent.controller.held()) == ["s3"], "three of twelve fit, the fourth does not"
    assert [sum(world.running(f"s{number}").values()) for number in range(12)] == [0] * 3 + [1] * 9


def test_4_a_removal_that_is_held_is_counted_once() -> None:
    class Pruned(NoFacts):
        told: ClassVar[list[str]] = []

        def pruned(self, result: str, name: str, reason: str = "", message: str = "") -> None:
            self.told.append(result)

    clock = clock_at_noon()
    facts = Pruned()
    agent = MiniAgent(World(now=clock.now, probes=False, stops_at_once=True), clock, facts=facts)
    agent.see()
    agent.want(service("a"), service("b"), service("c"))
    agent.settle(5)
    agent.want(service("a"))
    agent.settle(20)
    assert facts.told == ["held", "held"]
    agent.operator.approve([ServiceName("b")])
    agent.settle(5)
    assert facts.told == ["held", "held", "approved", "removed"]


@pytest.mark.parametrize("restarted", [False, True])
def test_4_an_approval_that_was_given_while_the_world_was_out_of_sight_counts_when_it_is_back(restarted: bool) -> None:
    clock = clock_at_noon()
    world = World(now=clock.now, probes=False, stops_at_once=True)
    agent = MiniAgent(world, clock)
    services = [service(f"s{number}") for number in range(4)]  # one may go at once
    agent.see()
    agent.want(*services)
    agent.settle(5)
    agent.want(*services[3:])
    agent.settle(5)
    assert sorted(agent.controller.held()) == ["s0", "s1", "s2"]
    world.down = True
    agent.settle(2)
    agent.operator.approve([ServiceName("s0"), ServiceName("s1")])
    agent.settle(2)
    if restarted:
        agent = MiniAgent(world, clock, words=Words.from_plain(dict(agent.kept.data)))
        agent.want(*services[3:])
        agent.settle(2)
    world.down = False
    agent.settle(5)
    assert sorted(agent.controller.held()) == ["s2"]
    assert [len(world.observed(name).generations) for name in ("s0", "s1", "s2", "s3")] == [0, 0, 1, 1]


def test_6_a_look_that_ends_in_a_bug_of_the_worker_gives_its_name_back() -> None:
    clock = clock_at_noon()
    agent = MiniAgent(World(now=clock.now, probes=False, stops_at_once=True), clock)
    worker = agent.workers["memory"]
    agent.see()
    agent.want(service("web"))

    def fails(name: ServiceName) -> None:
        raise RuntimeError(name)

    worker.step = fails  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="web"):
        worker.run(threading.Event())
    del worker.step
    agent.controller.hint((WEB,))
    agent.settle(5)
    assert agent.status("web").phase is Phase.READY


class Refusing(MemoryShimlet):
    """Refuses to start anything, once told to."""

    refuses = False

    def apply(self, service: Service, placements: Sequence[Placement], secrets: Mapping[str, str]) -> None:
        if placements and self.refuses:
            raise Permanent("its image is gone", reason="ImageMissing")
        super().apply(service, placements, secrets)


def test_10_what_served_is_not_burnt_by_a_refusal_to_start_it_again() -> None:
    clock = clock_at_noon()
    world = World(now=clock.now, probes=False, stops_at_once=True)
    shimlet = Refusing(world, "test")
    agent = MiniAgent(world, clock, shimlets={"memory": shimlet})
    agent.see()
    agent.want(service("web", replicas=2))
    agent.settle(10)
    shimlet.refuses = True
    world.exit("web")
    agent.settle(5)
    status = agent.status("web")
    assert (status.serving.holds, status.converged.reason) == (True, "ImageMissing"), "the other replica serves on"
    (generation,) = world.observed("web").generations
    assert generation.fate is Fate.SERVED
    shimlet.refuses = False
    agent.settle(120)
    assert agent.status("web").phase is Phase.READY
    assert agent.status("web").ready == 2


def test_10_the_record_of_a_failure_stays_although_it_takes_its_time_to_stop() -> None:
    clock = clock_at_noon()
    world = World(now=clock.now, probes=False, stops_at_once=False)
    agent = MiniAgent(world, clock)
    agent.see()
    agent.want(service("web", strategy="side-by-side"))
    agent.settle(10)
    bad = service("web", "v2", strategy="side-by-side")
    world.mute.add(bad.digest)
    agent.want(bad)
    agent.settle(60)
    assert agent.status("web").converged.reason == "RolledBack"
    fates = {g.service.digest: (g.fate, [r.state for r in g.replicas]) for g in world.observed("web").generations}
    assert fates == {
        service("web").digest: (Fate.SERVED, [State.RUNNING]),
        bad.digest: (Fate.FAILED, [State.STOPPED]),
    }


def test_13_every_whole_reading_of_the_source_is_a_heartbeat_also_if_nothing_changed() -> None:
    class Beats(NoFacts):
        told = 0

        def scanned(self) -> None:
            self.told += 1

    clock = clock_at_noon()
    facts = Beats()
    agent = MiniAgent(World(now=clock.now, probes=False, stops_at_once=True), clock, facts=facts)
    desired = agent.want(service("web"))
    agent.controller.take(desired)
    agent.settle(5)
    assert facts.told == 2
