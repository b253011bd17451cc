"""The in-memory world passes the contract suite, so that tests on it mean something."""

import contextlib
import itertools
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from agent.contracts import (
    Accelerators,
    Conflict,
    Fate,
    Placement,
    SecretRef,
    Service,
    ServiceName,
    Shimlet,
    State,
    Transient,
    Workload,
)
from tests.contract.shimlet_contract import (
    DIES,
    SECRETIVE,
    TALKS,
    ContractPlace,
    ShimletContract,
    service_of,
)
from tests.fakes.memory import Crash, MemoryShimlet, World, factory


class MemoryPlace:
    """A World whose time goes on with each step."""

    patience = 2.0
    conflicts = True

    def __init__(self) -> None:
        self.owner = "test"
        self.time = datetime(2026, 11, 1, tzinfo=UTC)
        self.world = World(now=lambda: self.time)
        self.world.crash_code = 3
        self.world.last_words = "last words"
        self.ports = itertools.count(18000)

    def shimlet(self, owner: str | None = None) -> Shimlet:
        return MemoryShimlet(self.world, owner or self.owner)

    def service(self, name: str, workload: str, replicas: int = 1) -> Service:
        env = (("TOKEN", SecretRef("env", "TOKEN")),) if workload == SECRETIVE else ()
        service = service_of(
            name, Workload(program=workload, env=env), shimlet="memory", goalset="service-deploy", replicas=replicas
        )
        if workload == DIES:
            self.world.crashing.add(service.digest)
        return service

    def placement(self, index: int) -> Placement:
        return Placement(index, next(self.ports))

    def step(self) -> None:
        self.time += timedelta(seconds=1)
        self.world.tick()
        talks = self.service("a", TALKS).digest
        if self.world.running("a").get(talks):
            if not self.world.lines(self.owner, ServiceName("a")):
                for n in range(1, 31):
                    self.world.say("a", f"line {n}")
            self.world.say("a", "again")
        time.sleep(0.001)

    def remains(self, name: str) -> Collection[str]:
        here = self.world.observed(name, owner=self.owner).generations
        there = [g for other, g in self.world.forgotten if other == name]
        return [f"{g.service.digest}#{r.placement} since {r.started_at}" for g in (*here, *there) for r in g.replicas]

    def kill(self, name: str) -> None:
        self.world.exit(name)

    def stranger(self, service: Service, index: int) -> Callable[[], bool]:
        self.world.foreign[service.name] = "a container of that name"
        return lambda: self.world.foreign[service.name] == "a container of that name"

    def text(self, name: str) -> str:
        return self.world.text()

    @contextlib.contextmanager
    def rival(self, owner: str) -> Iterator[str]:
        rival = MemoryShimlet(self.world, owner)
        try:
            rival.acquire()
        except Conflict as error:
            yield str(error)
        else:
            yield ""
            self.world.agent_died(owner)


class TestMemoryShimlet(ShimletContract):
    @pytest.fixture
    def place(self) -> ContractPlace:
        return MemoryPlace()


A, B = ServiceName("a"), ServiceName("b")


def service(name: str = "a", program: str = "v1", replicas: int = 1) -> Service:
    workload = Workload(program=program, accelerators=Accelerators(count=1))
    return service_of(name, workload, shimlet="memory", goalset="service-deploy", replicas=replicas)


def a_life(shimlet: MemoryShimlet, v1: Service) -> None:
    shimlet.apply(v1, [Placement(0, 1), Placement(1, 2)], {})
    shimlet.record(v1.name, v1.digest, Fate.SERVED)
    shimlet.apply(v1, [Placement(0, 1)], {})
    shimlet.remove(v1.name, v1.digest)


def test_a_crash_comes_after_each_side_effect_and_leaves_it_done():
    v1 = service(replicas=2)
    effects = ["start", "start", "record", "stop", "remove"]
    for n, what in enumerate(effects, start=1):
        world = World(crash_at=n)
        shimlet = MemoryShimlet(world)
        with pytest.raises(Crash):
            a_life(shimlet, v1)
        assert [line.split()[0] for line in world.log] == effects[:n]
        assert world.log[-1].startswith(what)
        assert len(world.observed("a").generations[0].replicas) == min(n, 2)


def test_a_device_or_port_of_two_live_replicas_is_a_violation():
    for one, other in (
        (Placement(0, 1, ("g0",)), Placement(0, 2, ("g0",))),
        (Placement(0, 1, ("g0",)), Placement(0, 1, ("g1",))),
    ):
        world = World()
        shimlet = MemoryShimlet(world)
        shimlet.apply(service("a"), [one], {})
        with pytest.raises(AssertionError):
            shimlet.apply(service("b"), [other], {})
        assert world.violations


def test_a_stopped_replica_frees_its_device_only_once_it_has_stopped():
    world = World()
    shimlet = MemoryShimlet(world)
    a, b = service("a"), service("b")
    shimlet.apply(a, [Placement(0, 1, ("g0",))], {})
    world.tick()
    shimlet.apply(a, [], {})
    with pytest.raises(AssertionError):
        shimlet.apply(b, [Placement(0, 2, ("g0",))], {})
    world.tick()
    shimlet.apply(b, [Placement(0, 2, ("g0",))], {})


@pytest.mark.parametrize("switch", ["down", "hung"])
def test_an_unreachable_world_raises_transient_everywhere(switch: str):
    world = World()
    setattr(world, switch, True)
    shimlet, v1 = MemoryShimlet(world), service()
    for call in (
        shimlet.list,
        shimlet.acquire,
        lambda: shimlet.observe(A),
        lambda: shimlet.apply(v1, [Placement(0)], {}),
        lambda: shimlet.record(A, v1.digest, Fate.SERVED),
        lambda: shimlet.remove(A, v1.digest),
    ):
        with pytest.raises(Transient):
            call()
    assert not world.log


def test_mute_digests_run_and_are_not_ready():
    world, v1 = World(), service()
    world.mute.add(v1.digest)
    shimlet = MemoryShimlet(world)
    shimlet.apply(v1, [Placement(0, 1)], {})
    world.tick()
    replica = shimlet.observe(A).generations[0].replicas[0]
    assert (replica.state, replica.ready) == (State.RUNNING, False)


def test_without_probes_nobody_is_told_who_is_ready():
    world = World(probes=False)
    shimlet = MemoryShimlet(world)
    shimlet.apply(service(), [Placement(0, 1)], {})
    world.tick()
    assert shimlet.observe(A).generations[0].replicas[0].ready is None


def test_a_failed_generation_that_is_shrunk_stays_failed():
    world, v1 = World(), service(replicas=2)
    shimlet = MemoryShimlet(world)
    shimlet.apply(v1, [Placement(0, 1), Placement(1, 2)], {})
    world.tick()
    shimlet.record(A, v1.digest, Fate.FAILED)
    shimlet.apply(v1, [Placement(0, 1)], {})
    assert world.observed("a").generations[0].fate is Fate.FAILED


def test_a_failed_generation_that_still_runs_is_started_again_when_asked_for():
    world, v1 = World(stops_at_once=True), service()
    shimlet = MemoryShimlet(world)
    shimlet.apply(v1, [Placement(0, 1)], {})
    world.tick()
    shimlet.record(A, v1.digest, Fate.FAILED)
    shimlet.apply(v1, [Placement(0, 1)], {})
    assert world.observed("a").generations[0].fate is Fate.NEW
    assert world.starts[(A, v1.digest)] == 2


def test_the_plugin_factory_finds_its_world_again_and_refuses_what_it_does_not_know(tmp_path):
    factory("x", {}, tmp_path).apply(service(), [Placement(0, 1)], {})
    assert factory("x", {}, tmp_path).observe(A).generations[0].replicas[0].state is State.RUNNING
    assert factory("x", {"world": "another"}, tmp_path).list() == {}
    with pytest.raises(ValueError, match="colour"):
        factory("x", {"colour": 1}, tmp_path)


def test_a_replica_keeps_its_place_when_only_what_is_not_run_changes():
    world, v1 = World(), service()
    shimlet = MemoryShimlet(world)
    shimlet.apply(v1, [Placement(0, 1)], {})
    shimlet.apply(replace(v1, replicas=3, priority=9), [Placement(0, 1)], {})
    assert world.log == [f"start a/{v1.digest}#0"]
