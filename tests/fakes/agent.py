"""The real planner, gate, queue, worker, reconciler, ledger and goals over worlds in memory, one thread and virtual time."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from agent.contracts import (
    Accelerators,
    Check,
    Digest,
    GoalSet,
    Health,
    Replica,
    Service,
    ServiceName,
    Shimlet,
    Transient,
    Workload,
    digest_of,
)
from agent.control.board import Board, Status
from agent.control.controller import Controller, Limits
from agent.control.desired import DesiredState
from agent.control.facts import Facts
from agent.control.lending import Host
from agent.control.operator import Operator
from agent.control.reconciler import Reconciler
from agent.control.task import TaskPool
from agent.control.words import Words
from agent.control.worker import Desk, Worker
from agent.control.workqueue import WorkQueue
from agent.control.world import World
from agent.host.ledger import HostLedger
from agent.host.router import DirectRouter
from agent.host.secret import HostSecrets
from agent.spec.resolve import Wanted
from goalsets.sets import LLM_DELETE, LLM_DEPLOY, SERVICE_DELETE, SERVICE_DEPLOY
from tests.fakes.clock import VirtualClock
from tests.fakes.facts import NoFacts
from tests.fakes.memory import MemoryShimlet
from tests.fakes.memory import World as MemoryWorld

GOALSETS = {goalset.name: goalset for goalset in (SERVICE_DEPLOY, SERVICE_DELETE, LLM_DEPLOY, LLM_DELETE)}


def service(name: str, version: str = "v1", **changes: object) -> Service:
    """A resolved service whose digest depends on its version and its number of accelerators."""
    count = changes.pop("count", 0)
    assert isinstance(count, int)
    port = changes.pop("listens", 8080)
    workload = Workload(
        image=f"{name}:{version}",
        port=port,  # type: ignore[arg-type]
        check=Check(path="/"),
        accelerators=Accelerators(count=count),
    )
    plain = Service(
        name=ServiceName(name),
        workload=workload,
        digest=digest_of(workload),
        spec_digest=Digest(f"{name}/{version}/{count}/{sorted(changes.items())}"),
        shimlet="memory",
        goalset="service-deploy",
        source="folder:/specs",
        file=f"{name}.yaml",
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


class WorldDial:
    """Asks the world in memory whether a replica answers: the other end of the wire, not our code."""

    def __init__(self, world: MemoryWorld) -> None:
        self._world = world

    def health(self, service: Service, replica: Replica) -> Health:
        return Health(self._world.answers(service.digest), failures=9, message="no answer")

    def ask(self, replica: Replica, method: str, path: str, body: bytes, timeout: float) -> tuple[int, bytes]:
        raise Transient("nobody asks in these tests")

    def forget(self, name: ServiceName, keep: Digest | None = None) -> None:
        """Nothing is remembered."""


class KeptWords:
    """A state folder in memory."""

    def __init__(self, words: Words) -> None:
        self.data: Mapping[str, object] = words.to_plain()

    def save(self, data: Mapping[str, object]) -> None:
        self.data = data


class MiniAgent:
    """An agent without threads: `want` is the source, `pump` the workers, `pass_time` the clock."""

    def __init__(
        self,
        world: MemoryWorld,
        clock: VirtualClock,
        *,
        devices: tuple[str, ...] = (),
        words: Words | None = None,
        limits: Limits | None = None,
        ports: range = range(18000, 18100),
        goalsets: Mapping[str, GoalSet] = GOALSETS,
        shimlets: Mapping[str, Shimlet] | None = None,
        environment: Mapping[str, str] | None = None,
        port_free: Callable[[str, int], bool] = lambda bind, port: True,
        facts: Facts | None = None,
        permits: Callable[[Service], str] = lambda service: "",
    ) -> None:
        self.clock = clock
        self.memory = world
        self.kept = KeptWords(words or Words())
        self.ledger = HostLedger(ports=ports, devices=devices, port_free=port_free)
        self.world = World(clock=clock, news=lambda shimlet, seen: self.ledger.note(shimlet, seen))
        facts = facts or NoFacts()
        for name, shimlet in (shimlets or {"memory": MemoryShimlet(world, "test")}).items():
            self.world.add(name, shimlet)
        self.board = Board()
        self.queue = WorkQueue(clock=clock)
        self.tasks = TaskPool(1, lambda name: self.controller.hint((name,)), clock=clock)
        self.router = DirectRouter()
        secrets = HostSecrets(environment if environment is not None else {})
        host = Host(ledger=self.ledger, router=self.router, dial=WorldDial(world), secrets=secrets)
        self.reconciler = Reconciler(
            world=self.world,
            goalsets=goalsets.__getitem__,
            host=host,
            tasks=self.tasks.of,
            permits=permits,
            facts=facts,
            clock=clock,
        )
        self.controller = Controller(
            world=self.world,
            queue=self.queue,
            board=self.board,
            facts=facts,
            clock=clock,
            memory=self.kept,
            words=words or Words(),
            limits=limits or Limits(),
        )
        self.operator = Operator(
            self.controller, world=self.world, queue=self.queue, board=self.board, facts=facts, clock=clock
        )
        desk = Desk(
            queue=self.queue,
            plans=self.controller,
            reconciler=self.reconciler,
            tasks=self.tasks,
            board=self.board,
            world=self.world,
            goalsets=goalsets.__getitem__,
            facts=facts,
            clock=clock,
            resync=lambda: 30.0,
        )
        self.workers = {name: Worker(name, desk) for name in self.world.shimlets}

    def want(self, *services: Service, **changes: object) -> DesiredState:
        """The source holds exactly these now."""
        now = self.clock.now()
        state = DesiredState(
            source="folder:/specs",
            revision=f"r{now.timestamp()}",
            identity="1:1",
            location="/specs",
            read_at=now,
            wanted={s.name: Wanted(s, suspended=False, restarted_at=None, line=1) for s in services},
        )
        state = replace(state, **changes)  # type: ignore[arg-type]
        self.controller.take(state)
        return state

    def see(self) -> None:
        """List every world."""
        for name in self.world.shimlets:
            try:
                self.controller.saw(name, self.world.relist(name))
            except Transient as error:
                self.controller.lost(name, str(error))

    def pump(self) -> None:
        """Look at every name whose turn it is."""
        for _ in range(1000):
            turns = ((lane, self.queue.take(lane, timeout=0)) for lane in self.workers)
            lane, name = next(((lane, name) for lane, name in turns if name is not None), ("", None))
            if name is None:
                return
            try:
                self.workers[lane].step(name)
            finally:
                self.queue.done(name)
        raise AssertionError(f"never at rest: {self.memory.log[-20:]}")

    def pass_time(self, seconds: float = 5.0) -> None:
        """The world moves on, it is listed, and everything that is due is looked at."""
        self.memory.tick()
        self.clock.advance(seconds)
        self.see()
        self.pump()

    def settle(self, rounds: int = 40) -> None:
        """Let everything come to its end."""
        for _ in range(rounds):
            self.pass_time()

    def status(self, name: str) -> Status:
        """What the board says."""
        found = self.board.get(ServiceName(name))
        assert found is not None, f"{name} is not on the board: {list(self.board.all())}"
        return found


def clock_at_noon() -> VirtualClock:
    """A virtual clock that shows a day's noon."""
    return VirtualClock(now=datetime(2026, 1, 1, 12, tzinfo=UTC))
