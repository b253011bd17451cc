"""One look: strangers' goals, secrets, images, conflicts, retries, and what a look may never do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from threading import Event
from typing import Self

import pytest

from agent.contracts import (
    Achieved,
    Fate,
    GoalContext,
    Health,
    Observed,
    Permanent,
    Placement,
    SecretRef,
    Service,
    ServiceName,
    Task,
    Transient,
    Verdict,
    compose,
    digest_of,
)
from agent.control.board import Phase
from goalsets.sets import SERVICE_DELETE, SERVICE_DEPLOY
from tests.fakes.agent import GOALSETS, MiniAgent, clock_at_noon, service
from tests.fakes.memory import MemoryShimlet, World


def make(**options: object) -> MiniAgent:
    clock = clock_at_noon()
    world = World(now=clock.now, probes=False, stops_at_once=True)
    return MiniAgent(world, clock, **options)  # type: ignore[arg-type]


def made(agent: MiniAgent, *services: Service, rounds: int = 10) -> MiniAgent:
    agent.see()
    agent.want(*services)
    agent.settle(rounds)
    return agent


# Secrets.


def secretive(name: str, version: str = "v1") -> Service:
    plain = service(name, version)
    workload = replace(plain.workload, env=(("TOKEN", SecretRef("env", f"TOKEN_{version}")),))
    return replace(plain, workload=workload, digest=digest_of(workload))


def test_a_missing_secret_keeps_the_service_as_it_was() -> None:
    agent = made(make(environment={"TOKEN_v1": "one"}), secretive("web"))
    before = list(agent.memory.log)
    agent.want(secretive("web", "v2"))
    agent.settle()
    assert agent.memory.log == before
    status = agent.status("web")
    assert (status.serving.holds, status.converged.reason) == (True, "SecretUnreadable")
    assert "TOKEN_v2" in status.converged.message
    assert status.next_try is not None


def test_a_secret_that_is_there_at_last_is_used() -> None:
    environment = {"TOKEN_v1": "one"}
    agent = made(make(environment=environment), secretive("web"))
    agent.want(secretive("web", "v2"))
    agent.settle()
    environment["TOKEN_v2"] = "two"
    agent.settle(20)
    assert agent.status("web").phase is Phase.READY
    assert agent.memory.running("web") == {secretive("web", "v2").digest: 1}


def test_a_secret_that_went_away_keeps_what_runs_also_when_a_restart_is_asked_for() -> None:
    environment = {"TOKEN_v1": "one"}
    agent = made(make(environment=environment), secretive("web"))
    environment.clear()
    agent.clock.advance(60)  # type: ignore[attr-defined]
    agent.operator.restart(ServiceName("web"))
    agent.settle()
    assert sum(agent.memory.running("web").values()) == 1


def test_a_secret_that_went_away_between_two_agents_degrades_what_runs() -> None:
    """Nothing new is on its way: it is worse than it could be, and no agent remembers that it was Ready."""
    environment = {"TOKEN_v1": "one"}
    before = made(make(environment=environment), secretive("web"))
    environment.clear()
    after = made(MiniAgent(before.memory, before.clock, environment=environment), secretive("web"))  # type: ignore[arg-type]
    status = after.status("web")
    assert (status.phase, status.converged.reason, status.serving.holds) == (Phase.DEGRADED, "SecretUnreadable", True)
    environment["TOKEN_v1"] = "one"
    after.settle(20)
    assert after.status("web").phase is Phase.READY


def test_a_changed_secret_replaces_in_place() -> None:
    environment = {"TOKEN_v1": "one"}
    agent = made(make(environment=environment), secretive("web"))
    agent.memory.log.clear()
    environment["TOKEN_v1"] = "two"
    agent.settle()
    assert [line.split()[0] for line in agent.memory.log] == ["stop", "start"]
    assert len(agent.memory.observed("web").generations) == 1
    assert agent.status("web").phase is Phase.READY
    assert "two" not in agent.memory.text()


# Images, by tasks.


class Shop(MemoryShimlet):
    """A world with an image store; pulls end when told to."""

    def __init__(self, world: World) -> None:
        super().__init__(world, "test")
        self.images: set[str] = set()
        self.outcome: Exception | None = None
        self.pulls = 0
        self.go = Event()
        self.ended = Event()

    def has_image(self, ref: str) -> bool:
        return ref in self.images

    def pull_image(self, ref: str, task: Task) -> None:
        self.pulls += 1
        task.report(0.5, "half of it")
        self.go.wait(10)
        if self.outcome is not None:
            raise self.outcome
        self.images.add(ref)


@dataclass
class Shopping:
    """An agent whose world has images."""

    outcome: Exception | None = None
    agent: MiniAgent = field(init=False)
    shop: Shop = field(init=False)

    def __post_init__(self) -> None:
        clock = clock_at_noon()
        world = World(now=clock.now, probes=False, stops_at_once=True)
        self.shop = Shop(world)
        self.shop.outcome = self.outcome
        self.agent = MiniAgent(world, clock, shimlets={"memory": self.shop})

    def let(self) -> None:
        """Let the pull that runs end, and wait until the pool knows."""
        self.shop.go.set()
        deadline = Event()
        for _ in range(1000):
            states = [entry.state for entry in self.agent.tasks._entries.values()]
            if all(not state.running for state in states):
                break
            deadline.wait(0.005)
        self.shop.go.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.shop.go.set()
        assert self.agent.tasks.close(5)


def test_a_pull_is_watched_and_not_waited_for() -> None:
    with Shopping() as shopping:
        agent = made(shopping.agent, service("web"), rounds=3)
        status = agent.status("web")
        assert (status.converged.reason, status.goal) == ("Pulling", "image_present")
        assert not agent.memory.log
        shopping.let()
        agent.settle()
        assert agent.status("web").phase is Phase.READY
        assert shopping.shop.pulls == 1


@pytest.mark.parametrize(
    ("outcome", "reason", "pause"),
    [
        (Transient("the registry is down"), "ImagePullFailed", 30),
        (Permanent("no such image"), "ImageRefused", 300),
    ],
)
def test_a_pull_that_failed_is_tried_again_after_a_pause_and_the_old_one_serves_on(
    outcome: Exception, reason: str, pause: int
) -> None:
    with Shopping() as shopping:
        shopping.shop.images.add("web:v1")
        agent = made(shopping.agent, service("web"))
        shopping.shop.outcome = outcome
        before = list(agent.memory.log)
        agent.want(service("web", "v2"))
        agent.pump()
        shopping.let()
        agent.pass_time(1)
        status = agent.status("web")
        assert (status.converged.reason, status.converged.message) == (reason, str(outcome))
        assert status.serving.holds
        assert status.blocked == "none"
        pulls = shopping.shop.pulls
        for _ in range(pause // 5 - 1):
            agent.pass_time(5)
        assert shopping.shop.pulls == pulls, "not before the pause has passed"
        for _ in range(3):
            agent.pass_time(5)
        shopping.shop.outcome = None
        shopping.let()
        agent.settle(80)
        assert agent.status("web").phase is Phase.READY
        assert agent.memory.log[: len(before)] == before


def test_a_pull_for_many_services_is_one() -> None:
    with Shopping() as shopping:
        same = [replace(service(name), workload=service("web").workload) for name in ("a", "b", "c")]
        agent = made(shopping.agent, *same, rounds=3)
        shopping.let()
        agent.settle()
        assert shopping.shop.pulls == 1
        assert all(agent.status(name).phase is Phase.READY for name in ("a", "b", "c"))


# A stranger's goals.


@dataclass
class Lamp:
    """A goal that answers with what it is told."""

    answer: object
    name: str = "lamp"
    lit: int = 0

    def is_achieved(self, ctx: GoalContext) -> Verdict | bool:
        if callable(self.answer):
            return self.answer(self)  # type: ignore[no-any-return]
        return self.answer  # type: ignore[return-value]

    def ensure(self, ctx: GoalContext) -> None:
        self.lit += 1


def with_lamp(lamp: Lamp) -> MiniAgent:
    lit = compose("lit").then(*SERVICE_DEPLOY.goals[:5], lamp, *SERVICE_DEPLOY.goals[5:]).build()
    return make(goalsets={**GOALSETS, "lit": lit, "service-delete": SERVICE_DELETE})


def test_a_bool_from_a_stranger_is_accepted() -> None:
    lamp = Lamp(lambda self: self.lit > 0)
    agent = made(with_lamp(lamp), service("web", goalset="lit"))
    assert agent.status("web").phase is Phase.READY
    assert lamp.lit == 1


def test_a_false_for_ever_is_pending_and_named() -> None:
    agent = made(with_lamp(Lamp(answer=False)), service("web", goalset="lit"))
    status = agent.status("web")
    assert (status.phase, status.goal, status.converged.reason) == (Phase.PROGRESSING, "lamp", "NotYet")
    assert [goal.verdict for goal in status.goals][-3:] == ["pending", "waiting", "waiting"]


@pytest.mark.parametrize("answer", [None, "yes", 1])
def test_nonsense_from_a_stranger_is_a_bug_that_is_told_and_the_agent_lives_on(answer: object) -> None:
    agent = made(with_lamp(Lamp(answer)), service("web", goalset="lit"), service("api"))
    status = agent.status("web")
    assert status.converged.reason == "Bug"
    assert "lamp" in status.converged.message
    assert agent.status("api").phase is Phase.READY


def test_an_exception_from_a_stranger_is_a_bug_with_back_off() -> None:
    def explode(lamp: Lamp) -> bool:
        raise ZeroDivisionError("lamp")

    agent = made(with_lamp(Lamp(explode)), service("web", goalset="lit"), service("api"))
    status = agent.status("web")
    assert (status.converged.reason, status.converged.message) == ("Bug", "ZeroDivisionError: lamp")
    assert status.attempts > 0
    assert agent.status("api").phase is Phase.READY


def test_a_goalset_that_does_not_exist_any_more_is_told() -> None:
    agent = made(make(), service("web"), service("api"))
    agent.want(service("web", "v2", goalset="gone"), service("api"))
    agent.settle()
    status = agent.status("web")
    assert status.converged.reason == "UnknownGoalSet"
    assert sum(agent.memory.running("web").values()) == 1


# What the world refuses.


class Picky(MemoryShimlet):
    """Refuses to start one digest."""

    refused = ""

    def apply(self, service: Service, placements: Sequence[Placement], secrets: Mapping[str, str]) -> None:
        if placements and service.digest == self.refused:
            raise Permanent("no such runtime", reason="Refused")
        super().apply(service, placements, secrets)


def picky() -> tuple[MiniAgent, Picky]:
    clock = clock_at_noon()
    world = World(now=clock.now, probes=False, stops_at_once=True)
    shimlet = Picky(world, "test")
    return MiniAgent(world, clock, shimlets={"memory": shimlet}), shimlet


def test_what_the_world_refuses_is_rolled_back_and_not_tried_again() -> None:
    agent, shimlet = picky()
    made(agent, service("web"))
    shimlet.refused = service("web", "v2").digest
    agent.want(service("web", "v2"))
    agent.settle()
    status = agent.status("web")
    assert (status.serving.holds, status.converged.reason) == (True, "RolledBack")
    assert "no such runtime" in status.converged.message
    before = list(agent.memory.log)
    shimlet.refused = ""
    agent.settle(40)
    assert agent.memory.log == before


@pytest.mark.parametrize("by", ["word", "annotation"])
def test_what_was_refused_without_a_trace_is_tried_again_when_asked(by: str) -> None:
    agent, shimlet = picky()
    made(agent, service("web"))
    shimlet.refused = service("web", "v2").digest
    state = agent.want(service("web", "v2"))
    agent.settle()
    shimlet.refused = ""
    name = ServiceName("web")
    if by == "word":
        agent.operator.restart(name)
    else:
        agent.clock.advance(1)  # type: ignore[attr-defined]
        wanted = replace(state.wanted[name], restarted_at=agent.clock.now())
        agent.want(wanted={name: wanted})
    agent.settle()
    assert agent.status("web").phase is Phase.READY
    assert agent.memory.running("web") == {service("web", "v2").digest: 1}


def test_someone_may_ask_again_and_again() -> None:
    agent = made(make(), service("web"))
    bad = service("web", "v2")
    agent.memory.crashing.add(bad.digest)
    agent.want(bad)
    agent.settle()
    for _ in range(5):
        agent.operator.restart(ServiceName("web"))
        agent.settle()
    assert agent.memory.starts[bad.name, bad.digest] == 6
    agent.memory.crashing.clear()
    agent.operator.restart(ServiceName("web"))
    agent.settle()
    assert agent.status("web").phase is Phase.READY


# Moments to come.


@pytest.mark.parametrize("bad", [False, True])
def test_a_restart_at_a_moment_to_come_waits_for_it_and_does_not_loop(bad: bool) -> None:
    """A wrong time zone is easily written."""
    agent = made(make(), service("web", "v1"))
    wish = service("web", "v2" if bad else "v1")
    if bad:
        agent.memory.crashing.add(wish.digest)
    state = agent.want(wish)
    moment = agent.clock.now() + timedelta(minutes=5)
    agent.want(wanted={wish.name: replace(state.wanted[wish.name], restarted_at=moment)})
    agent.settle(20)
    early = agent.memory.starts[wish.name, wish.digest]
    assert early == 1
    agent.settle(60)
    assert agent.memory.starts[wish.name, wish.digest] == early + 1


# Devices.


def test_a_failed_generation_that_is_stopped_gives_its_device_to_others() -> None:
    agent = make(devices=("g0",))
    bad, good = service("bad", count=1), service("good", count=1)
    agent.memory.crashing.add(bad.digest)
    made(agent, bad)
    assert agent.status("bad").phase is Phase.FAILED
    agent.want(bad, good)
    agent.settle()
    assert agent.status("good").phase is Phase.READY


def test_a_kept_generation_that_is_to_be_gone_back_to_holds_its_device() -> None:
    agent = make(devices=("g0",))
    web, other = service("web", count=1), service("other", count=1)
    made(agent, web)
    agent.memory.mute.add(service("web", "v2", count=1).digest)
    agent.want(service("web", "v2", count=1), other)
    agent.settle(30)
    assert agent.memory.running("web")[web.digest] == 1
    assert agent.status("other").converged.reason == "NoRoom"
    assert "g0 is held by service web" in agent.status("other").converged.message


def test_a_removal_frees_the_device_for_whom_waits() -> None:
    agent = make(devices=("g0",))
    made(agent, service("web", count=1), service("anchor"))
    agent.want(service("next", count=1), service("anchor"))
    agent.settle()
    assert agent.status("next").phase is Phase.READY


# Looks.


def test_a_pass_over_services_that_are_right_costs_one_list() -> None:
    looks: list[ServiceName] = []

    class Counting(MemoryShimlet):
        def observe(self, name: ServiceName) -> Observed:
            looks.append(name)
            return super().observe(name)

    clock = clock_at_noon()
    world = World(now=clock.now, probes=False)
    agent = MiniAgent(world, clock, shimlets={"memory": Counting(world, "test")})
    made(agent, *(service(f"s{number}") for number in range(20)), rounds=20)
    looks.clear()
    lists, log = world.lists, len(world.log)
    agent.pass_time(31)
    assert (looks, world.lists - lists, len(world.log) - log) == ([], 1, 0)


def test_drift_is_mended() -> None:
    class Audited(MemoryShimlet):
        drifted = ""

        def observe(self, name: ServiceName) -> Observed:
            seen = super().observe(name)
            return replace(seen, generations=tuple(replace(g, drift=self.drifted) for g in seen.generations))

        def apply(self, service: Service, placements: Sequence[Placement], secrets: Mapping[str, str]) -> None:
            self.drifted = ""
            super().apply(service, placements, secrets)

    clock = clock_at_noon()
    world = World(now=clock.now, probes=False)
    shimlet = Audited(world, "test")
    agent = made(MiniAgent(world, clock, shimlets={"memory": shimlet}), service("web"))
    shimlet.drifted = "memory limit is 1 GiB, not 2 GiB"
    agent.world.touch("memory", ServiceName("web"))
    agent.controller.hint([ServiceName("web")])
    agent.pump()
    assert shimlet.drifted == ""
    assert agent.status("web").phase is Phase.READY


def test_a_notice_is_told_and_not_acted_on() -> None:
    class Noticing(MemoryShimlet):
        def observe(self, name: ServiceName) -> Observed:
            seen = super().observe(name)
            moved = tuple(replace(g, notice="the tag mini:latest moved") for g in seen.generations)
            return replace(seen, generations=moved)

    clock = clock_at_noon()
    world = World(now=clock.now, probes=False)
    agent = made(MiniAgent(world, clock, shimlets={"memory": Noticing(world, "test")}), service("web"))
    assert agent.status("web").notices == ("the tag mini:latest moved",)
    assert agent.status("web").phase is Phase.READY


def test_a_world_that_is_not_local_is_handed_nothing_of_this_host() -> None:
    seen: list[GoalContext] = []

    @dataclass
    class Peek:
        name: str = "peek"

        def is_achieved(self, ctx: GoalContext) -> Verdict | bool:
            seen.append(ctx)
            return Achieved()

        def ensure(self, ctx: GoalContext) -> None:
            raise AssertionError("nothing to do")

    clock = clock_at_noon()
    world = World(now=clock.now)
    goalsets = {**GOALSETS, "peek": compose("peek").then(*SERVICE_DEPLOY.goals, Peek()).build()}
    shimlet = MemoryShimlet(world, "test", local=False)
    agent = MiniAgent(world, clock, shimlets={"memory": shimlet}, goalsets=goalsets)
    made(agent, service("web", goalset="peek", listens=None))
    assert seen
    assert (seen[-1].ledger, seen[-1].router, seen[-1].dial, seen[-1].images) == (None, None, None, None)
    assert agent.status("web").phase is Phase.READY
    assert agent.memory.observed("web").generations[0].fate is Fate.SERVED


# A facet that fails must not end a worker.


class Blind(MemoryShimlet):
    """Brings a dial of its own, which is broken."""

    error: Exception | None = None

    def health(self, service: Service, replica: object) -> Health:
        if self.error is not None:
            raise self.error
        return Health(answered=True)

    def ask(self, replica: object, method: str, path: str, body: bytes, timeout: float) -> tuple[int, bytes]:
        raise Transient("nobody asks")


@pytest.mark.parametrize("error", [Transient("the proxy is down"), ValueError("a bug")])
def test_a_facet_that_fails_ends_no_worker(error: Exception) -> None:
    clock = clock_at_noon()
    world = World(now=clock.now, probes=False)
    shimlet = Blind(world, "test")
    agent = MiniAgent(world, clock, shimlets={"memory": shimlet})
    made(agent, service("web"))
    shimlet.error = error
    agent.settle()
    status = agent.status("web")
    assert not status.converged.holds
    assert str(error) in status.converged.message
    shimlet.error = None
    agent.clock.advance(300)  # type: ignore[attr-defined] # no back-off is longer
    agent.settle()
    assert agent.status("web").phase is Phase.READY
