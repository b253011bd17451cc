"""What the running agent answers to the surface: everything at one moment, whether it is well, and operators' words."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from agent import __version__
from agent.clock import Clock
from agent.contracts import ServiceName
from agent.control.board import Board
from agent.control.controller import Controller
from agent.control.desired import DesiredState
from agent.control.operator import Operator
from agent.control.provenance import Provenance
from agent.control.scanner import Scanner
from agent.control.words import UnknownNameError
from agent.control.workqueue import WorkQueue
from agent.control.world import World
from agent.daemon import parts
from agent.daemon.chronicle import Chronicle
from agent.daemon.outside import Teller
from agent.daemon.threads import Threads
from agent.journal import CannotRead, Journal
from agent.settings import Settings
from agent.source.snapshot import Source
from agent.surface.operations import (
    AgentView,
    HeldPrune,
    History,
    InvalidFile,
    Refused,
    Resumed,
    SourceView,
    SuspensionView,
    UnknownName,
    WorldView,
)

_FORGET = 15.0  # seconds that a world has to give something up
_SILENT = 90.0  # seconds without a pass over the source, at least: a first clone may take one of 60 s
_STUCK = 120.0  # seconds after which one look counts as stuck


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """Implements Operations over the agent's parts. `remembers`: the state folder held words of before.

    `tellers`: those who tell the outside.
    """

    settings: Settings
    clock: Clock
    started_at: datetime
    threads: Threads
    source: Source
    scanner: Scanner
    provenance: Provenance
    controller: Controller
    operator: Operator
    world: World
    board: Board
    queue: WorkQueue
    journal: Journal
    chronicle: Chronicle
    remembers: bool
    tellers: Sequence[Teller] = ()

    def view(self) -> AgentView:
        """Everything at one moment."""
        desired = self.controller.desired()
        held = self.controller.held()
        untold = (teller.trouble for teller in self.tellers)
        history = f"history is not known: {self.provenance.trouble}" if self.provenance.trouble else ""
        return AgentView(
            version=__version__,
            instance=self.settings.agent.instance,
            started_at=self.started_at,
            heartbeat=self.clock.now() - timedelta(seconds=self.clock.monotonic() - self.scanner.beat),
            source=self._source_view(desired),
            worlds=tuple(WorldView(n, sight.seen_at, sight.error) for n, sight in sorted(self.world.sights().items())),
            services=tuple(self.board.all().values()),
            held=tuple(HeldPrune(n, h.reason, h.message, h.since) for n, h in sorted(held.items())),
            notices=tuple(said for said in (self.source.notice, history, *self.journal.notices, *untold) if said),
            memory_is_new=not self.remembers and self.controller.inherited,
            host=str(parts.host_of(self.settings)),
            suspended=self._suspended(),
        )

    def _suspended(self) -> SuspensionView | None:
        words = self.controller.words()
        said = words.all_suspended
        return SuspensionView(said.since, said.reason, tuple(sorted(words.excepted))) if said is not None else None

    def _source_view(self, desired: DesiredState | None) -> SourceView:
        if desired is None:
            source = self.source
            return SourceView(
                source.id, source.location, "", None, 0, (), self.scanner.error, unverified=source.unverified
            )
        invalid = tuple(InvalidFile(bad.path, bad.errors) for bad in desired.invalid)
        place = self.provenance.place
        return SourceView(
            desired.source,
            desired.location,
            desired.revision,
            desired.read_at,
            len(desired.wanted),
            invalid,
            self.scanner.error,
            len(desired.elsewhere),
            unverified=self.source.unverified,
            head=place.head,
            behind=place.behind,
            commit=place.commit,
        )

    def alive(self) -> str:
        """Why the agent is not healthy."""
        dead = self.threads.dead()
        if dead:
            return f"dead thread: {dead}"
        silent = self.clock.monotonic() - self.scanner.beat
        if silent > max(_SILENT, 3 * self.settings.agent.rescan_interval):
            return f"source thread: no heartbeat for {silent:.0f} s"
        stuck = [lane.lane for lane in self.queue.snapshot() if lane.longest > _STUCK]
        return f"a look takes more than {_STUCK:g} s in lane {', '.join(stuck)}" if stuck else ""

    def ready(self) -> str:
        """Why the agent does not do its work yet."""
        if self.controller.desired() is None:
            return f"the source was not read yet: {self.scanner.error or 'it is being read'}"
        unseen = [f"{name}: {sight.error}" for name, sight in self.world.sights().items() if sight.error]
        return f"out of sight: {'; '.join(unseen)}" if unseen else ""

    def events(self, name: str, since: datetime | None, after: int, limit: int) -> History:
        """What happened."""
        try:
            found = self.journal.events(service=name, since=since, after=after, limit=limit)
            if name and not found and self.board.get(ServiceName(name)) is None and not self.journal.knows(name):
                raise UnknownName(f"no service is called {name}, and the journal has none that was")
        except CannotRead as error:
            raise Refused(f"the journal cannot be read: {error}") from error
        return History(found, found[-1].id if found else after, self.journal.notices)

    def logs(self, name: str, tail: int, follow: threading.Event | None) -> Iterator[str]:
        """A service's log lines."""
        status = self.board.get(ServiceName(name))
        shimlet = self.world.shimlets.get(status.shimlet) if status is not None else None
        if shimlet is None:
            raise UnknownName(f"no service is called {name}; those there are: xmod-agent status")
        return shimlet.logs(ServiceName(name), tail, follow)

    def rescan(self) -> None:
        """Read the source now."""
        self.source.kick()

    def approve_prune(self, names: Sequence[str]) -> tuple[str, ...]:
        """Release these held removals."""
        with _Refusing():
            released = self.operator.approve([ServiceName(name) for name in names])
        self.chronicle.said("approve-prune", released)
        return released

    def restart(self, name: str) -> None:
        """Start a service's replicas again."""
        with _Refusing():
            self.operator.restart(ServiceName(name))
        self.chronicle.said("restart", [name])

    def rollout(self, names: Sequence[str]) -> tuple[str, ...]:
        """Let these services take what their specs resolve to now."""
        with _Refusing():
            taken = self.operator.rollout([ServiceName(name) for name in names])
        self.chronicle.said("rollout", taken)
        return taken

    def cancel_rollout(self, names: Sequence[str]) -> tuple[str, ...]:
        """Take back rollouts that are not through."""
        with _Refusing():
            cancelled = self.operator.cancel_rollout([ServiceName(name) for name in names])
        self.chronicle.said("cancel-rollout", cancelled)
        return cancelled

    def suspend(self, name: str | None, reason: str) -> None:
        """Leave a service, or all, as it is."""
        with _Refusing():
            self.operator.suspend(None if name is None else ServiceName(name), reason)
        self.chronicle.said("suspend", _named(name), reason)

    def resume(self, name: str | None) -> Resumed:
        """Take back what was suspended by word."""
        with _Refusing():
            names = self.operator.resume(None if name is None else ServiceName(name))
            self.chronicle.said("resume", _named(name))
            by_spec = self.operator.suspended_by_spec()
            return Resumed(names, {n: place for n, place in by_spec.items() if name in (None, n)})

    def retry(self, name: str) -> None:
        """Try again now."""
        with _Refusing():
            self.operator.retry(ServiceName(name))
        self.chronicle.said("retry", [name])

    def forget(self, name: str) -> tuple[str, ...]:
        """Give a service up, and wait for that; what could not be done in time is taken back."""
        with _Refusing():
            giving = self.operator.forget(ServiceName(name))
            try:
                left = giving.done.result(timeout=_FORGET)
            except TimeoutError:
                self.controller.keep_on(ServiceName(name))
            else:
                self.chronicle.said("forget", [name], "; ".join(left))
                return left
        status = self.board.get(ServiceName(name))
        why = f" ({status.converged.reason}: {status.converged.message})" if status is not None else ""
        raise Refused(f"{name} was not given up within {_FORGET:g} s{why}; say it again, it goes on where it stands")

    def adopt(self, source_id: str) -> int:
        """Treat services of another source as this one's."""
        with _Refusing():
            count = self.operator.adopt(source_id)
        self.chronicle.said("adopt", message=f"{count} services from {source_id}")
        return count


def _named(name: str | None) -> Sequence[str]:
    """One service, or none for all."""
    return [] if name is None else [name]


class _Refusing:
    """Turns the controller's refusals into the surface's."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, UnknownNameError):
            raise Refused(str(error.args[0])) from error
