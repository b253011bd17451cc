"""A worker takes a name, reads its intent anew, looks, and says when to look again: all retry policy is here.

all goals hold            at resync, or on an event
Pending                   after its retry_after, or when its task or probe ends
Transient                 after its delay, else back-off
Failed                    at once, for the rollback; then when the spec changes or someone asks
Permanent, Conflict       slowly; burns nothing
anything else (a bug)     back-off; the traceback is logged once, counted; the agent lives on
not wanted, nothing left  never
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from agent.clock import Clock
from agent.contracts import (
    Achieved,
    Dial,
    Failed,
    Generation,
    GoalSet,
    Pending,
    Permanent,
    ServiceName,
    Transient,
    Verdict,
    XmodError,
)
from agent.control import opinion
from agent.control.board import Board, Truth
from agent.control.facts import Facts
from agent.control.intent import Forget, Intent, Keep, lane
from agent.control.reconciler import Look, Reconciler
from agent.control.task import TaskPool
from agent.control.workqueue import Priority, WorkQueue
from agent.control.world import World

log = logging.getLogger("xmod.worker")

_SLOWLY = 60.0  # seconds until something that the world refuses is tried again
_UNASKED = 5.0  # seconds until a pending goal that names no time is looked at again


class Plans(Protocol):
    """Where a worker reads a name's intent, and tells what became of it."""

    def intent(self, name: ServiceName) -> Intent | None:
        """The newest intent; None: nobody knows that name."""
        ...

    def ended(self, look: Look, verdict: Verdict) -> None:
        """A look came to an end of its intent: all goals hold, the spec failed, or nothing is left to do."""

    def told(self, name: ServiceName) -> None:
        """The board says what this look found: others may have waited for it."""


@dataclass(frozen=True, slots=True)
class Desk:
    """All that a worker works with."""

    queue: WorkQueue
    plans: Plans
    reconciler: Reconciler
    tasks: TaskPool
    board: Board
    world: World
    goalsets: Callable[[str], GoalSet]
    facts: Facts
    clock: Clock
    resync: Callable[[], float]


@dataclass(frozen=True, slots=True)
class _Result:
    """How a look ended: the word for metrics, the verdict for people, and the wait in seconds (None: back-off)."""

    word: str
    verdict: Verdict
    wait: float | None
    priority: Priority = Priority.DRIFT
    steady: bool = True


class Worker:
    """One of the threads of a lane."""

    def __init__(self, lane: str, desk: Desk) -> None:
        self._lane = lane
        self._desk = desk
        self._bugs: set[str] = set()

    def run(self, stop: threading.Event) -> None:
        """Work until told to stop; a look that has begun is finished."""
        while not stop.is_set():
            name = self._desk.queue.take(self._lane, timeout=1.0)
            if name is not None:
                try:
                    self.step(name)
                finally:
                    self._desk.queue.done(name)

    def step(self, name: ServiceName) -> None:
        """One look at a name that was taken."""
        desk = self._desk
        intent = desk.plans.intent(name)
        if intent is None:
            self._forget(name)
            return
        if lane(intent) != self._lane:
            desk.queue.add(name, lane=lane(intent), priority=Priority.CHANGE)
            return
        look = Look(name, intent)
        began = desk.clock.monotonic()
        desk.tasks.begin_look(name)
        result = self._look(look)
        desk.tasks.end_look(name)
        desk.facts.reconciled(self._lane, result.word, desk.clock.monotonic() - began)
        wait = self._again(name, result)
        given_up = isinstance(look.intent, Forget) and result.word in ("permanent", "error")
        if look.gone or look.settled or given_up or result.word in ("achieved", "failed"):
            desk.plans.ended(look, result.verdict)
        if look.gone and desk.plans.intent(name) is None:
            self._forget(name)
            return
        self._tell(look, result, wait)
        desk.plans.told(name)

    def _look(self, look: Look) -> _Result:
        try:
            verdict = self._desk.reconciler.look(look)
        except Transient as error:
            return _Result("transient", Pending(error.reason, str(error)), error.delay, steady=False)
        except Permanent as error:
            return _Result("permanent", Pending(error.reason, str(error)), _SLOWLY)
        except Exception as error:  # noqa: BLE001 - a bug in a goal or shimlet must not end the agent: it is logged and counted
            self._told_once(look, error)
            return _Result("error", Pending("Bug", f"{type(error).__name__}: {error}"), None, steady=False)
        if isinstance(look.intent, Keep) and (look.settled or look.target is None):
            return _Result("kept", verdict, self._desk.resync(), Priority.RESYNC)
        match verdict:
            case Achieved():
                return _Result("achieved", verdict, self._desk.resync(), Priority.RESYNC)
            case Pending(retry_after=after):
                return _Result("pending", verdict, _UNASKED if after is None else after)
            case Failed(reason=reason):
                settled = reason in ("Burnt", "RolledBack")
                return _Result("failed", verdict, self._desk.resync() if settled else 0.0)

    def _again(self, name: ServiceName, result: _Result) -> float:
        """Put the name back into the queue for its next look; in how many seconds."""
        queue = self._desk.queue
        if result.steady:
            queue.forget(name)
        elif result.wait is None:
            return queue.retry(name, lane=self._lane, priority=result.priority)
        wait = result.wait or 0.0
        queue.add(name, lane=self._lane, priority=result.priority, delay=wait)
        return wait

    def _tell(self, look: Look, result: _Result, wait: float) -> None:
        """Write on the board what is thought of the service now, and count what changed for the better or worse."""
        desk, now = self._desk, self._desk.clock.now()
        before = desk.board.get(look.name)
        status = opinion.status(
            look,
            result.verdict,
            truth=self._truth(look),
            before=before,
            now=now,
            wait=wait,
            attempts=desk.queue.attempts(look.name),
            deadline=self._deadline(look),
        )
        if before is not None and before.wanted == status.wanted and before.converged.holds and look.acted:
            desk.facts.drifted(self._lane)
        if status.converged.holds and before is not None and before.wanted_since is not None:
            desk.facts.converged(self._lane, status.goalset, (now - before.wanted_since).total_seconds())
        desk.board.put(status)

    def _truth(self, look: Look) -> tuple[Truth, Generation | None, int]:
        """Whether it serves, as far as can be told."""
        shimlet = self._desk.world.shimlets.get(lane(look.intent))
        dial: Dial | None = None
        route = None
        try:
            if shimlet is not None:
                facets = self._desk.reconciler.facets(shimlet)
                dial = facets.dial
                routed = facets.router.routed(look.name) if facets.router is not None else None
                route = routed.digest if routed is not None else None
            return opinion.serving(look, route=route, dial=dial)
        except Exception as error:  # noqa: BLE001 - a facet may be a stranger's, and this is the worker's own thread
            if not isinstance(error, XmodError):
                self._told_once(look, error)
            return Truth(False, "Unknown", f"{type(error).__name__}: {error}"), None, 0

    def _deadline(self, look: Look) -> float:
        try:
            return self._desk.goalsets(look.goalset).deadline if look.goalset else float("inf")
        except LookupError:
            return float("inf")

    def _forget(self, name: ServiceName) -> None:
        """Nothing of it is wanted or left: no trace of it stays in memory."""
        self._desk.reconciler.forget(name)
        self._desk.tasks.forget(name)
        self._desk.queue.forget(name)
        self._desk.board.forget(name)

    def _told_once(self, look: Look, error: Exception) -> None:
        key = f"{look.name}/{look.goal}/{error!r}"
        if key not in self._bugs:
            self._bugs.add(key)
            log.error("a look ended in a bug", exc_info=error, extra={"service": look.name, "goal": look.goal})
