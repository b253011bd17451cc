"""Tasks: work that outlives a look (a pull, a download, a smoke test), one per key however many services ask.

Interest keeps a task alive: a service that starts it or asks for its state is interested until a whole look of its
passes without a word about that key. The end of a task wakes all who are interested; a task that interests nobody
gets Cancelled at its next `report`, and is then as if it had never begun.
A failed task keeps its error as its state, and anyone may start it again: when, is a goal's decision.
Threads are few, begin lazily, and are daemons: what does not end within `close` is abandoned, which is safe because
whatever a task makes is found or made again by the next look.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from agent.clock import Clock, SystemClock
from agent.contracts import Cancelled, Permanent, ServiceName, Task, Tasks, TaskState, Transient, XmodError

_log = logging.getLogger("xmod.task")
_CLOCK = SystemClock()
_QUEUED = TaskState(running=True, message="waits for a free worker")

Work: TypeAlias = Callable[[Task], None]


@dataclass(slots=True)
class _Entry:
    """One key. All fields are guarded by the pool's lock."""

    work: Work
    state: TaskState = _QUEUED
    interested: set[ServiceName] = field(default_factory=set)


@dataclass(slots=True)
class _Interest:
    """One service: the keys that it is interested in, and those that it asked for in the look under way."""

    keys: set[str] = field(default_factory=set)
    asked: set[str] = field(default_factory=set)


class TaskPool:
    """At most `workers` threads; without locks held, `wake` is called for every service whose task ended.

    `ended` is told its kind (what stands before ":" in its key) and result.
    """

    def __init__(
        self,
        workers: int,
        wake: Callable[[ServiceName], None],
        *,
        clock: Clock = _CLOCK,
        kept: int = 256,
        ended: Callable[[str, str], None] = lambda kind, result: None,  # noqa: ARG005 - who does not count
    ) -> None:
        self._workers = workers
        self._wake = wake
        self._ended = ended
        self._clock = clock
        self._kept = kept  # ended states; beyond it the oldest go, those that nobody asks for first
        self._lock = threading.Lock()
        self._work_came = threading.Condition(self._lock)
        self._entries: dict[str, _Entry] = {}
        self._interests: dict[ServiceName, _Interest] = {}
        self._queue: deque[str] = deque()
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._closed = False

    def of(self, name: ServiceName) -> Tasks:
        """The tasks as one service asks for them."""
        return _View(self, name)

    def begin_look(self, name: ServiceName) -> None:
        """From now until `end_look`, mark what the service asks for."""
        with self._lock:
            self._interests.setdefault(name, _Interest()).asked.clear()

    def end_look(self, name: ServiceName) -> None:
        """What the service did not ask for since `begin_look` no longer interests it."""
        with self._lock:
            interest = self._interests.get(name)
            if interest is not None:
                self._lose(name, interest.keys - interest.asked)

    def forget(self, name: ServiceName) -> None:
        """The service is gone: nothing interests it."""
        with self._lock:
            interest = self._interests.get(name)
            if interest is not None:
                self._lose(name, set(interest.keys))

    def start(self, name: ServiceName, key: str, work: Work) -> None:
        """Begin a task, unless it runs, and be interested in it. After `close`: nothing."""
        with self._lock:
            if self._closed:
                return
            entry = self._entries.get(key)
            if entry is None or not entry.state.running:
                interested = entry.interested if entry is not None else set()
                self._entries.pop(key, None)
                self._entries[key] = _Entry(work, interested=interested)
                self._queue.append(key)
                self._find_thread()
            self._ask(name, key)

    def state(self, name: ServiceName, key: str) -> TaskState | None:
        """What became of a task, and be interested in it; None if it was never begun, was cancelled, or is long over."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._ask(name, key)
            return entry.state

    def report(self, key: str, done: float, message: str) -> None:
        """Note how far a running task is. Raises Cancelled if it interests nobody, or the pool closes."""
        with self._lock:
            entry = self._entries.get(key)
            if self._closed or entry is None or not entry.interested:
                raise Cancelled(f"task {key}: nobody wants it any more")
            entry.state = replace(entry.state, done=done, message=message)

    def close(self, timeout: float) -> bool:
        """Begin nothing more, cancel what runs, and wait up to `timeout` seconds; whether all ended, else abandon it."""
        end = time.monotonic() + timeout  # the threads are real, and so is the time that they take
        with self._lock:
            self._closed = True
            for key in self._queue:
                self._drop(key)
            self._queue.clear()
            self._work_came.notify_all()
            threads = tuple(self._threads)
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        with self._lock:
            left = sorted(key for key, entry in self._entries.items() if entry.state.running)
        if left:
            _log.warning("tasks abandoned", extra={"reason": "Closing", "tasks": left})
        return not left

    def _ask(self, name: ServiceName, key: str) -> None:
        interest = self._interests.setdefault(name, _Interest())
        interest.keys.add(key)
        interest.asked.add(key)
        self._entries[key].interested.add(name)

    def _lose(self, name: ServiceName, keys: set[str]) -> None:
        interest = self._interests[name]
        interest.keys -= keys
        for key in keys:
            self._entries[key].interested.discard(name)
        if interest.keys:
            interest.asked.clear()
        else:
            del self._interests[name]

    def _drop(self, key: str) -> None:
        """Remove a key and every interest in it."""
        for name in self._entries.pop(key).interested:
            interest = self._interests[name]
            interest.keys.discard(key)
            interest.asked.discard(key)

    def _find_thread(self) -> None:
        if self._idle >= len(self._queue):
            self._work_came.notify()
        elif len(self._threads) < self._workers:
            thread = threading.Thread(target=self._serve, name=f"task-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self) -> None:
        while (job := self._next()) is not None:
            key, work = job
            self._end(key, self._outcome(key, work))

    def _next(self) -> tuple[str, Work] | None:
        """Wait for work that still interests someone; None when the pool closes."""
        with self._lock:
            while not self._closed:
                while self._queue:
                    key = self._queue.popleft()
                    entry = self._entries[key]
                    if entry.interested:
                        entry.state = TaskState(running=True)
                        return key, entry.work
                    self._drop(key)
                self._idle += 1
                self._work_came.wait()
                self._idle -= 1
            return None

    def _outcome(self, key: str, work: Work) -> Exception | None:
        try:
            work(_Inside(self, key))
        except XmodError as error:
            return error
        except (Exception, SystemExit) as bug:  # noqa: BLE001 - the thread boundary: the work is a stranger's, beyond here
            # nobody could hear it, and a task that never ends would keep its services waiting without a word.
            _log.exception("bug in a task", extra={"reason": "TaskBug", "task": key, "error": repr(bug)})
            return bug if isinstance(bug, Exception) else RuntimeError(f"task {key}: its work called exit({bug})")
        return None

    def _end(self, key: str, error: Exception | None) -> None:
        with self._lock:
            entry = self._entries[key]
            wake = () if self._closed else tuple(sorted(entry.interested))
            if isinstance(error, Cancelled):
                self._drop(key)
            else:
                if error is not None:
                    error.__traceback__ = None  # its frames hold whatever the work had in hand
                entry.state = replace(
                    entry.state,
                    running=False,
                    done=entry.state.done if error is not None else 1.0,
                    error=error,
                    ended_at=self._clock.now().timestamp(),
                )
                self._entries[key] = self._entries.pop(key)  # the order of their ends
                self._bound()
        self._ended(key.partition(":")[0], _result(error))
        for name in wake:
            self._wake(name)

    def _bound(self) -> None:
        ended = [key for key, entry in self._entries.items() if not entry.state.running]
        if len(ended) > self._kept:
            self._drop(next((key for key in ended if not self._entries[key].interested), ended[0]))


def _result(error: Exception | None) -> str:
    """The word for metrics."""
    match error:
        case None:
            return "ok"
        case Cancelled():
            return "cancelled"
        case Transient():
            return "transient"
        case Permanent():
            return "permanent"
    return "error"


@dataclass(frozen=True, slots=True)
class _View:
    """The pool as one service sees it."""

    pool: TaskPool
    name: ServiceName

    def start(self, key: str, work: Work) -> None:
        """Begin it, unless it runs."""
        self.pool.start(self.name, key, work)

    def state(self, key: str) -> TaskState | None:
        """What became of it; None if it was never begun."""
        return self.pool.state(self.name, key)


@dataclass(frozen=True, slots=True)
class _Inside:
    """The pool as a running task sees it."""

    pool: TaskPool
    key: str

    def report(self, done: float, message: str) -> None:
        """Say how far; raises Cancelled once nobody wants it."""
        self.pool.report(self.key, done, message)
