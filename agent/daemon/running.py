"""The running agent: threads, signals, and what it answers to the surface.

Start: what would make the agent useless or dangerous (a bad setting, a taken port, another agent on the runtime) ends it
with a sentence; what may pass (an engine that is down, a folder that is missing) does not. Stop: no new work, looks that
have begun are finished within a bound, services go on running.
"""

import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from types import FrameType

from agent import __version__, log
from agent.clock import Clock, SystemClock
from agent.contracts import Conflict, Observed, Permanent, ServiceName, Shimlet, Transient
from agent.control.board import Board, Phase, Status
from agent.control.controller import Controller, Limits, UnknownNameError
from agent.control.desired import DesiredReader, DesiredState
from agent.control.reconciler import Host, Reconciler
from agent.control.scanner import Scanner
from agent.control.task import TaskPool
from agent.control.watcher import Watcher
from agent.control.worker import Desk, Worker
from agent.control.workqueue import WorkQueue
from agent.control.world import World
from agent.daemon import parts
from agent.daemon.parts import StartError
from agent.host.dial import Dialer
from agent.host.ledger import HostLedger
from agent.host.router import DirectRouter
from agent.journal import Journal
from agent.settings import Settings
from agent.surface.metrics import Metrics
from agent.surface.operations import (
    AgentView,
    HeldPrune,
    InvalidFile,
    Refused,
    SourceView,
    UnknownName,
    WorldView,
)
from agent.surface.server import Surface
from agent.surface.socket_file import CannotListen

logger = logging.getLogger("xmod.daemon")

_STOP = 10.0  # seconds that looks under way have at a stop
_NOT_YET = "it was not listed yet"
_FIRST_PASS = 2.0  # seconds that worlds wait for the source's first word, so that all is not shown as doubtful at first
_STUCK = 120.0  # seconds after which one look counts as stuck
_PER_SERVICE = 0.25  # seconds of the resync interval for each service: many services are looked at less often
_HELD = ("OverBudget", "OtherSource", "SourceEmpty", "SourceReplaced", "SourceUnread", "Protected")


def run(settings: Settings, *, once: bool) -> int:
    """Run until told to stop, or with `once` until everything is settled; the exit code."""
    log.configure(level=settings.logging.level, format=settings.logging.format, output=settings.logging.output)
    log.watch_threads()
    try:
        running = Running(settings, SystemClock())
        running.start()
    except (StartError, CannotListen, Conflict) as error:
        logger.error("cannot start", extra={"error": str(error)})
        sys.stderr.write(f"xmod-agent: {error}\n")
        return 1
    try:
        return running.settle() if once else running.wait()
    finally:
        running.stop()


@dataclass(slots=True)
class _Threads:
    """Every thread that must live for the agent to be well."""

    stop: threading.Event = field(default_factory=threading.Event)
    all: list[threading.Thread] = field(default_factory=list)

    def start(self, name: str, work: Callable[[threading.Event], None]) -> None:
        thread = threading.Thread(target=work, args=(self.stop,), name=name, daemon=True)
        self.all.append(thread)
        thread.start()

    def dead(self) -> str:
        return ", ".join(thread.name for thread in self.all if not thread.is_alive())

    def join(self, seconds: float) -> None:
        for thread in self.all:
            thread.join(seconds)


class Running:
    """The agent's parts, put together. Implements Operations."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._started_at = clock.now()
        self._threads = _Threads()
        self._registry = parts.registry_of(settings)
        goalsets = parts.goalsets_of(self._registry)
        names = sorted(self._registry.goalsets)
        self._metrics = Metrics(
            clock=clock,
            shimlets=sorted(self._registry.shimlets),
            goals=sorted({(g.name, goal.name) for g in map(goalsets, names) for goal in g.goals}),
            held_reasons=_HELD,
        )
        self._journal = Journal(settings.agent.state_dir)
        words, self._remembers = parts.words_of(self._journal)
        self._source = parts.source_of(settings, clock)
        self._queue = WorkQueue(clock=clock, metrics=self._metrics)
        self._board = Board()
        ports = settings.ports.range
        self._ledger = HostLedger(ports=range(ports.first, ports.last + 1), devices=settings.accelerators.devices)
        self._world = World(clock=clock, news=self._news)
        self._tasks = TaskPool(8, self._wake)
        self._dial = Dialer(clock=clock, wake=self._wake)
        host = Host(ledger=self._ledger, router=DirectRouter(), dial=self._dial, secrets=parts.secrets_of())
        reconciler = Reconciler(
            world=self._world,
            goalsets=goalsets,
            host=host,
            tasks=self._tasks.of,
            facts=self._metrics,
            clock=clock,
        )
        self._controller = Controller(
            world=self._world,
            queue=self._queue,
            board=self._board,
            facts=self._metrics,
            clock=clock,
            memory=self._journal,
            words=words,
            limits=Limits(settings.prune.fraction, timedelta(seconds=settings.prune.window)),
        )
        self._desk = Desk(
            queue=self._queue,
            plans=self._controller,
            reconciler=reconciler,
            tasks=self._tasks,
            board=self._board,
            world=self._world,
            goalsets=goalsets,
            facts=self._metrics,
            clock=clock,
            resync=self._resync,
        )
        self._scanner = Scanner(
            source=self._source,
            reader=DesiredReader(parts.resolver_of(settings, self._registry).read_file),
            take=self._take,
            facts=self._metrics,
            clock=clock,
            interval=settings.agent.rescan_interval,
        )
        self._surface = Surface(
            self,
            self._metrics,
            bind=settings.service.bind,
            port=settings.service.port,
            socket=settings.agent.socket,
            read_timeout=settings.service.read_timeout,
            write_timeout=settings.service.write_timeout,
            allow_remote=settings.service.allow_remote,
        )
        self._known = frozenset({settings.plugins.default_shimlet}) | words.shimlets
        self._shimlets: list[Shimlet] = []

    # its life

    def start(self) -> None:
        """Open everything, then let the threads go. Raises StartError, CannotListen, and Conflict for a second agent."""
        try:
            worlds = {name: self._made(name, at_start=True) for name in sorted(self._known)}
            self._surface.start()
        except (StartError, CannotListen, Conflict):
            self._close()
            raise
        self._metrics.observe(self.view, self._queue.snapshot)
        self._board.listen(_told)
        self._threads.start("source", self._scanner.run)
        self._scanner.passed.wait(_FIRST_PASS)
        for name, shimlet in worlds.items():
            self._engage(name, shimlet)
        logger.info(
            "agent started",
            extra={
                "source": self._source.location,
                "instance": self._settings.agent.instance,
                "port": self._surface.port,
            },
        )

    def wait(self) -> int:
        """Until a signal says stop."""
        with _Signals(self._threads.stop, self._source.kick):
            while not self._threads.stop.wait(3600):
                pass
        return 0

    def settle(self) -> int:
        """Until nothing is on its way any more: 0 if all is as the folder says, else 1."""
        with _Signals(self._threads.stop, self._source.kick):
            while not self._threads.stop.wait(0.2):
                states = self._settled()
                if states is not None:
                    return 0 if states and not self._invalid() else 1
        return 1

    def stop(self) -> None:
        """End the threads within a bound; services go on running."""
        logger.info("agent stops, services go on running")
        self._threads.stop.set()
        self._source.close()
        if not self._queue.drain(_STOP):
            logger.warning("a look did not end in time and is abandoned")
        self._tasks.close(1.0)
        self._dial.close()
        self._surface.stop()
        self._close()
        self._threads.join(1.0)

    def _close(self) -> None:
        for shimlet in self._shimlets:
            shimlet.close()

    def _made(self, name: str, *, at_start: bool = False) -> Shimlet | None:
        """A world to use. At the start a bad setting or another agent's lock ends us; later it is shown."""
        error = _NOT_YET
        shimlet: Shimlet | None = None
        try:
            shimlet = parts.shimlet_of(self._settings, self._registry, name)
            self._shimlets.append(shimlet)
            if at_start:
                shimlet.acquire()
        except Conflict:
            raise
        except (Transient, Permanent) as refusal:
            error = str(refusal)
        except StartError as refusal:
            if at_start:
                raise
            error = str(refusal)
            logger.error("cannot use a shimlet", extra={"shimlet": name, "error": error})
        self._world.add(name, shimlet, error)
        return shimlet

    def _engage(self, name: str, shimlet: Shimlet | None) -> None:
        """Keep a world in sight, and work on its names."""
        self._controller.uses(name)
        for number in range(self._settings.agent.workers):
            self._threads.start(f"worker-{name}-{number}", Worker(name, self._desk).run)
        if shimlet is not None:
            interval = self._settings.agent.resync_interval
            watcher = Watcher(
                name=name, shimlet=shimlet, world=self._world, controller=self._controller, interval=interval
            )
            self._threads.start(f"watch-{name}", watcher.watch)
            self._threads.start(f"list-{name}", watcher.list)

    def _take(self, desired: DesiredState) -> None:
        """A snapshot may name a shimlet that was not in use yet."""
        named = {w.service.shimlet for w in desired.wanted.values()} - self._known
        self._known |= named
        for name in sorted(named):
            self._engage(name, self._made(name))
        self._controller.take(desired)

    def _news(self, shimlet: str, seen: Observed) -> None:
        """What local worlds hold, the ledger knows."""
        if self._world.shimlets[shimlet].local:
            self._ledger.note(shimlet, seen)

    def _wake(self, name: ServiceName) -> None:
        self._controller.hint((name,))

    def _resync(self) -> float:
        return max(self._settings.agent.resync_interval, _PER_SERVICE * len(self._controller.intents()))

    def _invalid(self) -> bool:
        desired = self._controller.desired()
        return desired is None or bool(desired.invalid)

    def _settled(self) -> bool | None:
        """Whether all services are as wanted; None while something is on its way."""
        sights = self._world.sights().values()
        if self._controller.desired() is None or any(s.services is None and not s.error for s in sights):
            return None
        statuses = [self._board.get(name) for name in self._controller.intents()]
        if any(status is None or _on_its_way(status) for status in statuses):
            return None
        return all(status is not None and status.phase is Phase.READY for status in statuses)

    # what it answers

    def view(self) -> AgentView:
        """Everything at one moment."""
        desired = self._controller.desired()
        held = self._controller.held()
        return AgentView(
            version=__version__,
            instance=self._settings.agent.instance,
            started_at=self._started_at,
            heartbeat=self._clock.now() - timedelta(seconds=self._clock.monotonic() - self._scanner.beat),
            source=self._source_view(desired),
            worlds=tuple(WorldView(n, sight.seen_at, sight.error) for n, sight in sorted(self._world.sights().items())),
            services=tuple(self._board.all().values()),
            held=tuple(HeldPrune(n, h.reason, h.message, h.since) for n, h in sorted(held.items())),
            notices=(self._journal.trouble,) if self._journal.trouble else (),
            memory_is_new=not self._remembers and self._controller.inherited,
        )

    def _source_view(self, desired: DesiredState | None) -> SourceView:
        if desired is None:
            return SourceView(self._source.id, self._source.location, "", None, 0, (), self._scanner.error)
        invalid = tuple(InvalidFile(bad.path, bad.errors) for bad in desired.invalid)
        return SourceView(
            desired.source,
            desired.location,
            desired.revision,
            desired.read_at,
            len(desired.wanted),
            invalid,
            self._scanner.error,
        )

    def alive(self) -> str:
        """Why the agent is not healthy."""
        dead = self._threads.dead()
        if dead:
            return f"dead thread: {dead}"
        silent = self._clock.monotonic() - self._scanner.beat
        if silent > 3 * self._settings.agent.rescan_interval:
            return f"source thread: no heartbeat for {silent:.0f} s"
        stuck = [lane.lane for lane in self._queue.snapshot() if lane.longest > _STUCK]
        return f"a look takes more than {_STUCK:g} s in lane {', '.join(stuck)}" if stuck else ""

    def ready(self) -> str:
        """Why the agent does not do its work yet."""
        if self._controller.desired() is None:
            return f"the source was not read yet: {self._scanner.error or 'it is being read'}"
        unseen = [f"{name}: {sight.error}" for name, sight in self._world.sights().items() if sight.error]
        return f"out of sight: {'; '.join(unseen)}" if unseen else ""

    def logs(self, name: str, tail: int, follow: threading.Event | None) -> Iterator[str]:
        """A service's log lines."""
        status = self._board.get(ServiceName(name))
        shimlet = self._world.shimlets.get(status.shimlet) if status is not None else None
        if shimlet is None:
            raise UnknownName(f"there is no service {name}")
        return shimlet.logs(ServiceName(name), tail, follow)

    def rescan(self) -> None:
        """Read the source now."""
        self._source.kick()

    def approve_prune(self, names: Sequence[str]) -> tuple[str, ...]:
        """Release these held removals."""
        with _Refusing():
            return self._controller.approve([ServiceName(name) for name in names])

    def restart(self, name: str) -> None:
        """Start a service's replicas again."""
        with _Refusing():
            self._controller.restart(ServiceName(name))

    def rollout(self, names: Sequence[str]) -> tuple[str, ...]:
        """Let these services take what their specs resolve to now."""
        with _Refusing():
            return self._controller.rollout([ServiceName(name) for name in names])

    def adopt(self, source_id: str) -> int:
        """Treat services of another source as this one's."""
        with _Refusing():
            return self._controller.adopt(source_id)


class _Refusing:
    """Turns the controller's refusals into the surface's."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, UnknownNameError):
            raise Refused(str(error.args[0])) from error


class _Signals:
    """While entered: TERM and INT stop, HUP reads the source again."""

    def __init__(self, stop: threading.Event, kick: Callable[[], None]) -> None:
        self._stop = stop
        self._kick = kick
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            self._before[number] = signal.signal(number, self._handle)

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type] # what signal() gave it takes

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - signal's signature
        if number == signal.SIGHUP:
            self._kick()
        else:
            self._stop.set()


def _on_its_way(status: Status) -> bool:
    if status.phase is Phase.DEGRADED:
        return status.blocked == "none"
    return status.phase in (Phase.PROGRESSING, Phase.REMOVING)


def _told(before: Status | None, after: Status | None) -> None:
    """One log line for each change of a service's phase or reason."""
    if after is None:
        return
    known = (before.phase, before.converged.reason) if before is not None else None
    if known != (after.phase, after.converged.reason):
        well = after.phase in (Phase.READY, Phase.PROGRESSING, Phase.REMOVING)
        first = before is None and after.phase is Phase.KEPT  # until the worlds are seen, as at every start
        level = logging.DEBUG if first else logging.INFO if well else logging.WARNING
        logger.log(
            level,
            "service is %s",
            after.phase.lower(),
            extra={
                "service": after.name,
                "goal": after.goal,
                "reason": after.converged.reason,
                "error": after.converged.message,
            },
        )
