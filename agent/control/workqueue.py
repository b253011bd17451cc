"""The work queue: names in, one worker a name out. A pure core (`Waiting`) in a thin blocking shell (`WorkQueue`).

Semantics are client-go's: a name is waiting at most once; while it is worked on an add waits for `done`; so no name is
handed out twice at once and no wish is lost. Beyond it: one queue with lanes (a lane = the workers of one shimlet; a
name moves to the newest lane that an add named), priorities that age, and back-off as a *floor*: while a name backs off
only CHANGE (or `forget`) brings its turn forward. Otherwise a replica that dies at each try, and whose death is an
event, would be tried as fast as it dies.
The core has no thread, lock or clock: every method takes `now`, monotonic seconds.
"""

import heapq
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Protocol

from agent.clock import Clock
from agent.contracts import ServiceName

AGEING = 10.0
"""Seconds of waiting that weigh as much as one step of priority."""


class Priority(IntEnum):
    """Why a name is to be looked at. A fresh commit goes before drift, drift before resync."""

    RESYNC = 0
    DRIFT = 1
    CHANGE = 2


@dataclass(frozen=True, slots=True)
class LaneView:
    """One lane at one moment, for gauges. Times in seconds.

    `depth`: names whose turn has come, those added again while they are worked on included. `delayed`: their turn is
    yet to come. `processing`: being worked on. `unfinished`: the sum of their ages; `longest`: the oldest of them.
    """

    lane: str
    depth: int = 0
    delayed: int = 0
    processing: int = 0
    unfinished: float = 0.0
    longest: float = 0.0


class QueueMetrics(Protocol):
    """Hears what client-go's counters and histograms need; `lane` is their label `name`. Gauges: `WorkQueue.snapshot`.

    Called under the queue's lock: must be quick and must not call the queue.
    """

    def added(self, lane: str) -> None:
        """A name came in that was not waiting already (workqueue_adds_total)."""

    def taken(self, lane: str, waited: float) -> None:
        """A worker took a name, this long after its turn had come (workqueue_queue_duration_seconds)."""

    def finished(self, lane: str, worked: float) -> None:
        """A worker is done with a name (workqueue_work_duration_seconds)."""

    def retried(self, lane: str) -> None:
        """A name was put back to be tried again after a back-off (workqueue_retries_total)."""


class NoQueueMetrics:
    """Listens to nothing."""

    def added(self, lane: str) -> None:
        """Nothing."""

    def taken(self, lane: str, waited: float) -> None:
        """Nothing."""

    def finished(self, lane: str, worked: float) -> None:
        """Nothing."""

    def retried(self, lane: str) -> None:
        """Nothing."""


_NO_METRICS = NoQueueMetrics()


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential, with full jitter: between 0 and `base` × 2^n seconds, never more than `cap`."""

    base: float = 1.0
    cap: float = 300.0
    draw: Callable[[float, float], float] = random.uniform

    def delay(self, failures: int) -> float:
        """Seconds to wait after that many failures in a row."""
        steps = min(failures - 1, 64)  # beyond it every cap is reached, and a float would overflow at 1024
        return self.draw(0.0, min(self.cap, self.base * 2.0**steps))


_BACKOFF = Backoff()


@dataclass(frozen=True, slots=True)
class _Wish:
    """A name that waits. `due`: when its turn comes; `floor`: it backs off; `order`: who came first."""

    lane: str
    priority: Priority
    due: float
    order: int
    floor: bool

    @property
    def rank(self) -> float:
        """Who goes first: the smaller. A fixed number, although the wish ages, because all ranks age alike."""
        return self.due - AGEING * self.priority


@dataclass(frozen=True, slots=True)
class _Job:
    """A name that is worked on."""

    lane: str
    since: float


@dataclass(slots=True)
class _Lane:
    """Two heaps of (rank or due, order, name). An entry that its wish has outgrown stays, and is skipped when it comes up."""

    ready: list[tuple[float, int, ServiceName]] = field(default_factory=list)
    delayed: list[tuple[float, int, ServiceName]] = field(default_factory=list)


class Waiting:
    """The pure core: which name is handed out when.

    Every name is in at most one wish and at most one job. A wish is in its lane's heaps unless its name is worked on.
    Names leave no trace once they neither wait nor are worked on.
    """

    def __init__(self, *, metrics: QueueMetrics = _NO_METRICS, backoff: Backoff = _BACKOFF) -> None:
        self._metrics = metrics
        self._backoff = backoff
        self._wishes: dict[ServiceName, _Wish] = {}
        self._jobs: dict[ServiceName, _Job] = {}
        self._failures: dict[ServiceName, int] = {}
        self._lanes: dict[str, _Lane] = {}
        self._orders = 0
        self.closed = False

    @property
    def busy(self) -> bool:
        """Some name is worked on."""
        return bool(self._jobs)

    def add(self, name: ServiceName, *, lane: str, priority: Priority, delay: float, now: float) -> None:
        """Wish that a name be looked at; the newest lane, the highest priority and the earliest time count."""
        if self.closed:
            return
        if priority is Priority.CHANGE:
            self._failures.pop(name, None)
        due, floor = now + max(0.0, delay), False
        old = self._wishes.get(name)
        if old is not None and old.floor and priority is not Priority.CHANGE:
            due, floor = old.due, True
        self._wish(name, lane=lane, priority=priority, due=due, floor=floor)

    def retry(self, name: ServiceName, *, lane: str, priority: Priority, now: float) -> float:
        """Wish for another look after a back-off. Raises ValueError if the name is not being worked on."""
        if name not in self._jobs:
            raise ValueError(f"retry {name}: not being worked on; a worker asks for it between take and done")
        self._failures[name] = self._failures.get(name, 0) + 1
        delay = self._backoff.delay(self._failures[name])
        if self.closed:
            return delay
        self._metrics.retried(lane)
        old = self._wishes.get(name)  # added after the worker took the name, so it knows the lane better
        if old is None:
            self._wish(name, lane=lane, priority=priority, due=now + delay, floor=True)
        elif old.priority is Priority.CHANGE:
            return max(0.0, old.due - now)
        else:
            self._wishes[name] = replace(old, priority=max(old.priority, priority), due=now + delay, floor=True)
        return delay

    def forget(self, name: ServiceName) -> None:
        """Its failures are history: the next back-off begins anew, and any add may bring its turn forward."""
        self._failures.pop(name, None)
        wish = self._wishes.get(name)
        if wish is not None and wish.floor:
            self._wishes[name] = replace(wish, floor=False)

    def take(self, lane: str, now: float) -> ServiceName | None:
        """Hand out the name of that lane whose turn it is, None if there is none."""
        heaps = self._ripen(lane, now)
        while heaps.ready:
            rank, order, name = heapq.heappop(heaps.ready)
            wish = self._wishes.get(name)
            if wish is not None and (wish.lane, wish.rank, wish.order) == (lane, rank, order):
                del self._wishes[name]
                self._jobs[name] = _Job(lane, now)
                self._metrics.taken(lane, now - wish.due)
                return name
        return None

    def done(self, name: ServiceName, now: float) -> str | None:
        """The work on a name ended; the lane in which it waits again, None if nobody wished for it."""
        job = self._jobs.pop(name, None)
        if job is None:
            return None
        self._metrics.finished(job.lane, now - job.since)
        wish = self._wishes.get(name)
        if wish is None:
            self._failures.pop(name, None)
            return None
        self._push(name, wish)
        return wish.lane

    def due(self, lane: str, now: float) -> float | None:
        """When the next name of that lane has its turn; in the past if one has it now; None if none waits."""
        heaps = self._ripen(lane, now)
        if heaps.ready:
            return now
        return heaps.delayed[0][0] if heaps.delayed else None

    def next_at(self, name: ServiceName) -> float | None:
        """When a name has its turn, None if it does not wait."""
        wish = self._wishes.get(name)
        return wish.due if wish is not None else None

    def attempts(self, name: ServiceName) -> int:
        """How often in a row its looks failed."""
        return self._failures.get(name, 0)

    def close(self) -> None:
        """Hand out nothing more and drop what waits; what is worked on is still to be done."""
        self.closed = True
        self._wishes.clear()
        self._lanes.clear()

    def snapshot(self, now: float) -> tuple[LaneView, ...]:
        """Every lane that was ever named, by name."""
        views: list[LaneView] = []
        for lane in sorted(self._lanes.keys() | {job.lane for job in self._jobs.values()}):
            dues = [wish.due for wish in self._wishes.values() if wish.lane == lane]
            ages = [now - job.since for job in self._jobs.values() if job.lane == lane]
            ready = sum(due <= now for due in dues)
            views.append(LaneView(lane, ready, len(dues) - ready, len(ages), sum(ages), max(ages, default=0.0)))
        return tuple(views)

    def _wish(self, name: ServiceName, *, lane: str, priority: Priority, due: float, floor: bool) -> None:
        old = self._wishes.get(name)
        if old is None:
            self._orders += 1
            wish = _Wish(lane, priority, due, self._orders, floor)
            self._metrics.added(lane)
        else:
            wish = _Wish(lane, max(old.priority, priority), min(old.due, due), old.order, floor)
        self._wishes[name] = wish
        self._lanes.setdefault(lane, _Lane())
        if name not in self._jobs and wish != old:
            self._push(name, wish)

    def _push(self, name: ServiceName, wish: _Wish) -> None:
        heaps = self._lanes[wish.lane]
        heapq.heappush(heaps.delayed, (wish.due, wish.order, name))
        if len(heaps.ready) + len(heaps.delayed) > 2 * len(self._wishes) + 64:
            self._sweep(wish.lane, heaps)

    def _ripen(self, lane: str, now: float) -> _Lane:
        """Move what has its turn to `ready`, and drop outgrown entries from the top of `delayed`."""
        heaps = self._lanes.setdefault(lane, _Lane())
        while heaps.delayed:
            due, order, name = heaps.delayed[0]
            wish = self._wishes.get(name)
            current = wish is not None and (wish.lane, wish.due, wish.order) == (lane, due, order)
            if current and due > now:
                break
            heapq.heappop(heaps.delayed)
            if wish is not None and current:
                heapq.heappush(heaps.ready, (wish.rank, order, name))
        return heaps

    def _sweep(self, lane: str, heaps: _Lane) -> None:
        """Drop all outgrown entries: a name that is added again and again must not cost memory."""
        waiting = [(n, w) for n, w in self._wishes.items() if w.lane == lane and n not in self._jobs]
        heaps.ready.clear()
        heaps.delayed[:] = [(wish.due, wish.order, name) for name, wish in waiting]
        heapq.heapify(heaps.delayed)


class WorkQueue:
    """The shell: one lock, and a condition per lane on which its workers wait exactly until the next turn."""

    def __init__(self, *, clock: Clock, metrics: QueueMetrics = _NO_METRICS, backoff: Backoff = _BACKOFF) -> None:
        self._clock = clock
        self._core = Waiting(metrics=metrics, backoff=backoff)
        self._lock = threading.Lock()
        self._turns: dict[str, threading.Condition] = {}
        self._ended = threading.Condition(self._lock)

    def add(self, name: ServiceName, *, lane: str, priority: Priority, delay: float = 0.0) -> None:
        """Wish that a name be looked at, `delay` seconds from now; CHANGE is for a new wish of the user's.

        While it waits already, the newest lane, the highest priority and the earliest time count. CHANGE resets the
        back-off; a lesser priority does not bring forward a name that backs off. After `shut_down`: ignored.
        """
        with self._lock:
            self._core.add(name, lane=lane, priority=priority, delay=delay, now=self._clock.monotonic())
            self._wake(lane)

    def retry(self, name: ServiceName, *, lane: str, priority: Priority) -> float:
        """Wish for another look after a back-off, and say after how many seconds it comes; between take and done.

        A CHANGE that came in meanwhile goes first. Raises ValueError if the name is not being worked on.
        """
        with self._lock:
            return self._core.retry(name, lane=lane, priority=priority, now=self._clock.monotonic())

    def forget(self, name: ServiceName) -> None:
        """Its failures are history: the next back-off begins anew, and any add may bring its turn forward."""
        with self._lock:
            self._core.forget(name)

    def take(self, lane: str, timeout: float | None = None) -> ServiceName | None:
        """Wait for a name of that lane, whose turn it is; None after `timeout` seconds, and at once after `shut_down`.

        Whoever takes a name must call `done`, whatever becomes of the work.
        """
        with self._lock:
            now = self._clock.monotonic()
            end = None if timeout is None else now + timeout
            while True:
                name = self._core.take(lane, now)
                if name is not None or self._core.closed or (end is not None and now >= end):
                    return name
                due = self._core.due(lane, now)
                until = min((at for at in (due, end) if at is not None), default=None)
                waiting = None if until is None else min(until - now, threading.TIMEOUT_MAX)
                self._turn(lane).wait(waiting)
                now = self._clock.monotonic()

    def done(self, name: ServiceName) -> None:
        """The work on a name ended: what was wished meanwhile has its turn. A name that was not taken: nothing."""
        with self._lock:
            lane = self._core.done(name, self._clock.monotonic())
            if lane is not None:
                self._wake(lane)
            self._ended.notify_all()

    def attempts(self, name: ServiceName) -> int:
        """How often in a row its looks failed."""
        with self._lock:
            return self._core.attempts(name)

    def next_at(self, name: ServiceName) -> float | None:
        """When a name has its turn, in the clock's monotonic seconds; None if it does not wait."""
        with self._lock:
            return self._core.next_at(name)

    def snapshot(self) -> tuple[LaneView, ...]:
        """Every lane, by name, as of now."""
        with self._lock:
            return self._core.snapshot(self._clock.monotonic())

    def shut_down(self) -> None:
        """Hand out nothing more, to nobody; what waits is dropped, for the next start finds it again in the world."""
        with self._lock:
            self._core.close()
            for turn in self._turns.values():
                turn.notify_all()

    def drain(self, timeout: float) -> bool:
        """Shut down, and wait up to `timeout` seconds until all that was taken is done; whether it is."""
        self.shut_down()
        with self._lock:
            return self._ended.wait_for(lambda: not self._core.busy, timeout)

    def recheck(self) -> None:
        """Let all waiters read the clock again; for a clock that was moved."""
        with self._lock:
            for lane in self._turns:
                self._wake(lane)

    def _turn(self, lane: str) -> threading.Condition:
        return self._turns.setdefault(lane, threading.Condition(self._lock))

    def _wake(self, lane: str) -> None:
        """Wake all of them, for one that times out at this moment would swallow a single call; they are few."""
        self._turn(lane).notify_all()
