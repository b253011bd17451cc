"""Takes events from any thread at the cost of an append, and writes them from one of its own, in order, many at a time.

What cannot be written now (a full disk) waits and is tried again. Only so many wait: what comes when all room is taken is
counted, and the journal itself says how many are missing, at that place. The same thread keeps the journal within its age
and size, a few rows at a time, and gives the space back.
"""

import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import islice

from agent.clock import Clock
from agent.journal.event import Event, Kind, cleaned, insert, micros
from agent.journal.store import CannotWrite, Store

log = logging.getLogger("xmod.journal")

_ROOM = 10_000  # events that may wait
_BATCH = 1_000  # events written in one transaction
_GATHER = 0.1  # seconds: what happens together is written together
_AGAIN, _CAP = 1.0, 30.0  # seconds until what could not be written is tried again, at first and at most
_TRIMMED = 60.0  # seconds between two trims while something is written
_IDLE = 3600.0  # seconds between two trims while nothing is
_ROWS = 500  # deleted in one transaction
_FREED = 256  # pages given back in one transaction
_LOW = 0.9  # of the size, down to which it is trimmed


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is kept: no event older than `age`, and no file larger than `size` bytes (the -wal, 2 MiB, besides)."""

    age: timedelta = timedelta(days=30)
    size: int = 64 * 2**20


class Recorder:
    """The queue and its writer. `trouble`: why nothing can be written now, "" if it can; `lost`: events that found no room."""

    def __init__(
        self, store: Store, *, bounds: Bounds, clock: Clock, told: Callable[[str, int], None], room: int = _ROOM
    ) -> None:
        self._store = store
        self._bounds = bounds
        self._clock = clock
        self._told = told
        self._room = room
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._waiting: deque[Event] = deque()
        self._news = threading.Event()
        self._missing = 0
        self._trimmed = float("-inf")
        self._written = False
        self.lost = 0
        self.trouble = ""

    def record(self, event: Event) -> None:
        """Keep it, in its turn. Never waits, never raises."""
        event = cleaned(event)
        with self._lock:
            full = len(self._waiting) >= self._room
            if full:
                self._missing += 1
                self.lost += 1
            else:
                if self._missing:
                    self._waiting.append(_missing(self._missing, event.at))
                    self._missing = 0
                self._waiting.append(event)
        if full:
            self._told("lost", 1)
        if not self._news.is_set():
            self._news.set()

    def run(self, stop: threading.Event) -> None:
        """Write what comes, until told to stop; `close` writes the rest."""
        pause = _AGAIN
        while not stop.is_set():
            if self._store.unchecked:
                self._store.check()
            if self._news.wait(1.0):
                stop.wait(_GATHER)
                if self.flush():
                    pause = _AGAIN
                else:
                    stop.wait(pause)
                    pause = min(_CAP, pause * 2)
            self._trim_in_time(stop)

    def flush(self) -> bool:
        """Write all that waits; whether that went well."""
        with self._flushing:
            self._news.clear()
            while batch := self._next():
                if not self._write(batch):
                    self._news.set()
                    return False
                with self._lock:
                    for _ in batch:
                        self._waiting.popleft()
            return True

    def _next(self) -> Sequence[Event]:
        with self._lock:
            if self._missing and not self._waiting:
                self._waiting.append(_missing(self._missing, self._clock.now()))
                self._missing = 0
            return list(islice(self._waiting, _BATCH))

    def _write(self, batch: Sequence[Event]) -> bool:
        lost = sum(event.kind is Kind.JOURNAL and event.what == "EventsLost" for event in batch)
        try:
            self._store.write(lambda connection: insert(connection, batch))
        except CannotWrite as error:
            if not self.trouble:
                log.error("cannot keep what happens", extra={"file": str(self._store.path), "error": str(error)})
            self.trouble = str(error)
            return False
        if self.trouble:
            log.warning("what happens is kept again", extra={"file": str(self._store.path)})
        self.trouble = ""
        self._written = True
        self._told("kept", len(batch) - lost)
        return True

    def _trim_in_time(self, stop: threading.Event) -> None:
        now = self._clock.monotonic()
        if now - self._trimmed >= (_TRIMMED if self._written else _IDLE):
            self._trimmed, self._written = now, False
            if not self._store.gone():
                self.trim(self._clock.now(), stop)

    def trim(self, now: datetime, stop: threading.Event) -> None:
        """Forget what is too old, then the oldest while there is too much, and give the space back."""
        old = partial(_forget, before=micros(now - self._bounds.age))
        try:
            while not stop.is_set() and self._store.write(old):
                pass
            if self._store.write(_pages)[0] * 4096 > self._bounds.size:
                while not stop.is_set() and self._store.write(self._too_much) and self._store.write(_forget):
                    pass
            while not stop.is_set() and self._store.write(_give_back):
                pass
        except CannotWrite as error:
            log.warning("cannot trim the journal", extra={"file": str(self._store.path), "error": str(error)})

    def _too_much(self, connection: sqlite3.Connection) -> bool:
        pages, free = _pages(connection)
        return (pages - free) * 4096 > self._bounds.size * _LOW


def _missing(count: int, at: datetime) -> Event:
    message = f"{count} events are missing here: they came faster than they could be written"
    return Event(at=at, kind=Kind.JOURNAL, what="EventsLost", message=message)


def _forget(connection: sqlite3.Connection, *, before: int | None = None) -> int:
    """Delete the oldest rows, those from before a time if one is given; how many were."""
    oldest = "DELETE FROM events WHERE id IN (SELECT id FROM events ORDER BY id LIMIT ?)"
    if before is None:
        return connection.execute(oldest, (_ROWS,)).rowcount
    return connection.execute(f"{oldest} AND at < ?", (_ROWS, before)).rowcount


def _pages(connection: sqlite3.Connection) -> tuple[int, int]:
    """How many there are, and how many of them are free."""
    (pages,), (free,) = (connection.execute(f"PRAGMA {what}").fetchone() for what in ("page_count", "freelist_count"))
    return pages, free


def _give_back(connection: sqlite3.Connection) -> bool:
    """Free pages leave the file; whether there are more of them that can."""
    before = _pages(connection)[1]
    connection.execute(f"PRAGMA incremental_vacuum({_FREED})").fetchall()
    return 0 < _pages(connection)[1] < before
