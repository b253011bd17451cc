"""The running agent: its parts, put together, its start and its stop.

Start: what would make the agent useless or dangerous (a bad setting, a taken port, another agent on the runtime) ends it
with a sentence; what may pass (an engine that is down, a folder that is missing) does not. Stop: no new work, looks that
have begun are finished within a bound, services go on running.
"""

import logging
import os
import signal
import sys
from datetime import timedelta

from agent import log
from agent.clock import Clock, SystemClock
from agent.contracts import Conflict, Observed, Permanent, ServiceName, Shimlet, Transient
from agent.control.board import CALM, Board, Phase, Status
from agent.control.controller import Controller, Limits
from agent.control.desired import DesiredReader, DesiredState
from agent.control.lending import Host
from agent.control.operator import Operator
from agent.control.provenance import Provenance
from agent.control.reconciler import Reconciler
from agent.control.scanner import Scanner
from agent.control.task import TaskPool
from agent.control.watcher import Watcher
from agent.control.worker import Desk, Worker
from agent.control.workqueue import WorkQueue
from agent.control.world import World
from agent.daemon import outside, parts
from agent.daemon.answers import Answers
from agent.daemon.chronicle import Chronicle, Facts
from agent.daemon.once import Once
from agent.daemon.parts import StartError
from agent.daemon.supervisor import Reports, Supervisor, supervisor_of
from agent.daemon.threads import Signals, Threads
from agent.host.dial import Dialer
from agent.host.ledger import HostLedger
from agent.host.router import DirectRouter
from agent.settings import Settings
from agent.surface.metrics import Metrics
from agent.surface.server import Surface
from agent.surface.socket_file import CannotListen

logger = logging.getLogger("xmod.daemon")

_BREATH = 5.0  # seconds between two checks that memory is still there
_STOP = 10.0  # seconds that looks under way have at a stop
_NOT_YET = "it was not listed yet"
_FIRST_PASS = 2.0  # seconds that worlds wait for the source's first word, so that all is not shown as doubtful at first
_PER_SERVICE = 0.25  # seconds of the resync interval for each service: many services are looked at less often
_HELD = (
    "OverBudget",
    "OtherSource",
    "SourceEmpty",
    "SourceReplaced",
    "SourceInvalid",
    "SourceUnread",
    "HostChanged",
    "Protected",
    "Suspended",
)


def run(settings: Settings, *, once: bool) -> int:
    """Run until told to stop, or with `once` until everything is settled; the exit code."""
    log.configure(level=settings.logging.level, format=settings.logging.format, output=settings.logging.output)
    log.watch_threads()
    with Signals() as signals:  # also while it starts and stops: neither is cut short
        try:
            running = Running(settings, SystemClock(), signals, supervisor_of(os.environ, os.getpid()))
            running.start()
        except (StartError, CannotListen, Conflict) as error:
            logger.error("cannot start", extra={"error": str(error)})
            sys.stderr.write(f"xmod-agent: {error}\n")
            return 1
        try:
            return running.settle() if once else running.wait()
        finally:
            running.stop()


class Running:
    """The agent's parts, put together."""

    def __init__(self, settings: Settings, clock: Clock, signals: Signals, supervisor: Supervisor) -> None:
        self._settings = settings
        self._clock = clock
        self._threads = Threads()
        self._signals = signals
        self._registry = parts.registry_of(settings)
        goalsets = parts.goalsets_of(self._registry)
        names = sorted(self._registry.goalsets)
        self._metrics = Metrics(
            clock=clock,
            shimlets=sorted(self._registry.shimlets),
            goals=sorted({(g.name, goal.name) for g in map(goalsets, names) for goal in g.goals}),
            held_reasons=_HELD,
        )
        self._journal = parts.journal_of(settings, clock, self._metrics.journaled)
        self._chronicle = Chronicle(self._journal, clock)
        facts = Facts(self._metrics, self._chronicle)
        words, remembers = parts.words_of(self._journal)
        self._source = parts.source_of(settings, clock)
        self._queue = WorkQueue(clock=clock, metrics=self._metrics)
        self._board = Board()
        ports = settings.ports.range
        self._ledger = HostLedger(ports=range(ports.first, ports.last + 1), devices=settings.accelerators.devices)
        self._world = World(clock=clock, news=self._news)
        self._tasks = TaskPool(8, self._wake, clock=clock, ended=self._metrics.task_ended)
        self._dial = Dialer(clock=clock, wake=self._wake)
        self._sops = parts.sops_beside(settings, self._source)
        resolver = parts.resolver_of(settings, self._registry, self._sops)
        self._secrets = parts.secrets_of(resolver)
        host = Host(ledger=self._ledger, router=DirectRouter(), dial=self._dial, secrets=self._secrets)
        reconciler = Reconciler(
            world=self._world,
            goalsets=goalsets,
            host=host,
            tasks=self._tasks.of,
            permits=parts.permits_of(resolver),
            facts=self._metrics,
            clock=clock,
        )
        self._controller = Controller(
            world=self._world,
            queue=self._queue,
            board=self._board,
            facts=facts,
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
        self._provenance = Provenance(
            board=self._board,
            read_file=resolver.read_file,
            recall=lambda revision, words: self._scanner.recall(revision, words),
            clock=clock,
        )
        self._scanner = Scanner(
            source=self._source,
            reader=DesiredReader(resolver.read_file, str(parts.host_of(settings)), begin=resolver.begin),
            take=self._take,
            provenance=self._provenance,
            facts=facts,
            clock=clock,
            interval=supervisor.interval(settings.agent.rescan_interval),
            after=lambda: self._reports.feed(),
        )
        self._tellers: list[outside.Teller] = []
        self._once = Once(
            self._controller,
            world=self._world,
            board=self._board,
            scanner=self._scanner,
            provenance=self._provenance,
            clock=clock,
        )
        self._answers = Answers(
            settings=settings,
            clock=clock,
            started_at=clock.now(),
            threads=self._threads,
            source=self._source,
            scanner=self._scanner,
            provenance=self._provenance,
            controller=self._controller,
            operator=Operator(
                self._controller,
                world=self._world,
                queue=self._queue,
                board=self._board,
                facts=facts,
                clock=clock,
            ),
            world=self._world,
            board=self._board,
            queue=self._queue,
            journal=self._journal,
            chronicle=self._chronicle,
            remembers=remembers,
            tellers=self._tellers,
        )
        self._tellers += outside.tellers_of(settings, view=self._answers.view, metrics=self._metrics, clock=clock)
        self._reports = Reports(
            supervisor, view=self._answers.view, alive=self._answers.alive, passed=self._scanner.passed
        )
        self._surface = Surface(
            self._answers,
            self._metrics,
            bind=settings.service.bind,
            port=settings.service.port,
            socket=settings.agent.socket,
            group=settings.agent.socket_group,
            read_timeout=settings.service.read_timeout,
            write_timeout=settings.service.write_timeout,
            allow_remote=settings.service.allow_remote,
            webhook=outside.webhook_of(settings, kick=self._source.kick, count=self._metrics.hooked),
            webhook_at=outside.webhook_at(settings),
        )
        self._known = frozenset({settings.plugins.default_shimlet}) | words.shimlets
        self._shimlets: list[Shimlet] = []
        self._state: int | None = None

    # its life

    def start(self) -> None:
        """Open everything, then let the threads go. Raises StartError, CannotListen, and Conflict for a second agent."""
        try:
            self._state = parts.hold(self._settings.agent.state_dir)
            worlds = {name: self._made(name, at_start=True) for name in sorted(self._known)}
            self._surface.start()
        except (StartError, CannotListen, Conflict):
            self._close()
            self._let_go()
            raise
        self._threads.adopt(self._surface.thread)
        self._metrics.observe(self._answers.view, self._queue.snapshot)
        self._board.listen(_told)
        self._chronicle.begin(f"instance {self._settings.agent.instance}, {self._source.location}")
        self._board.listen(self._chronicle.heard)
        self._threads.start("journal", self._journal.run)
        self._board.listen(self._provenance.heard)
        self._threads.start("history", self._provenance.run)
        self._threads.start("source", self._scanner.run)
        self._scanner.passed.wait(_FIRST_PASS)
        for name, shimlet in worlds.items():
            self._engage(name, shimlet)
        for teller in self._tellers:
            self._board.listen(teller.hear)
            self._threads.start(teller.name, teller.run)
        self._reports.started()
        logger.info(
            "agent started",
            extra={
                "source": self._source.location,
                "instance": self._settings.agent.instance,
                "port": self._surface.port,
                "webhook_port": self._surface.webhook_port or None,
            },
        )

    def wait(self) -> int:
        """Until a signal says stop; HUP reads the source again."""
        while (number := self._signals.wait(_BREATH)) in (None, signal.SIGHUP):
            if number is not None:
                self._reports.reload(self._source.kick)
            self._journal.keep()
            self._reports.status()
        return 0

    def settle(self) -> int:
        """Until nothing is on its way any more: 0 if all is as the folder says, else 1."""
        began = self._clock.monotonic()
        while self._signals.wait(0.2) in (None, signal.SIGHUP):
            code = self._once.outcome(waited=self._clock.monotonic() - began)
            if code is not None:
                return code
        return 1

    def stop(self) -> None:
        """End the threads within a bound; services go on running."""
        logger.info("agent stops, services go on running")
        self._reports.stopping()
        self._threads.stop.set()
        self._source.close()
        self._sops.close()
        if not self._queue.drain(_STOP):
            logger.warning("a look did not end in time and is abandoned")
        self._tasks.close(1.0)
        self._dial.close()
        self._surface.stop()
        self._close()
        self._threads.join(1.0)
        self._chronicle.end()
        self._journal.close()
        self._let_go()

    def _close(self) -> None:
        for shimlet in self._shimlets:
            shimlet.close()

    def _let_go(self) -> None:
        if self._state is not None:
            os.close(self._state)
        self._state = None

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
        """A snapshot may name a shimlet that was not in use yet; and what is looked at because of it finds its secrets."""
        named = {w.service.shimlet for w in desired.wanted.values()} - self._known
        self._known |= named
        for name in sorted(named):
            self._engage(name, self._made(name))
        self._chronicle.read(desired)
        self._chronicle.judged(self._source.unverified, head=self._source.head, message=self._source.notice)
        self._secrets.keep(desired.secrets)
        self._controller.take(desired)

    def _news(self, shimlet: str, seen: Observed) -> None:
        """What local worlds hold, the ledger knows."""
        if self._world.shimlets[shimlet].local:
            self._ledger.note(shimlet, seen)

    def _wake(self, name: ServiceName) -> None:
        self._controller.hint((name,))

    def _resync(self) -> float:
        return max(self._settings.agent.resync_interval, _PER_SERVICE * len(self._controller.intents()))


def _told(before: Status | None, after: Status | None) -> None:
    """One log line for each change of a service's phase or reason."""
    if after is None:
        return
    known = (before.phase, before.converged.reason) if before is not None else None
    if known != (after.phase, after.converged.reason):
        going = after.phase in (Phase.PROGRESSING, Phase.REMOVING, Phase.KEPT) and after.converged.reason in CALM
        well = after.phase is Phase.READY or going
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
                "detail": after.converged.message,
                **({"revision": after.change.commit, "author": after.change.author} if after.change else {}),
            },
        )
