"""A clock that stands still until a test moves it."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta


class VirtualClock:
    """Implements agent.clock.Clock; thread-safe. Both times move together, by `advance` alone."""

    def __init__(self, now: datetime = datetime(2026, 1, 1, tzinfo=UTC), monotonic: float = 1000.0) -> None:
        self._lock = threading.Lock()
        self._now = now
        self._monotonic = monotonic
        self._listeners: list[Callable[[], None]] = []

    def now(self) -> datetime:
        with self._lock:
            return self._now

    def monotonic(self) -> float:
        with self._lock:
            return self._monotonic

    def advance(self, seconds: float) -> None:
        """Move on, then tell those who wait (a WorkQueue: `clock.on_advance(queue.recheck)`)."""
        if seconds < 0:
            raise ValueError(f"advance({seconds}): time does not go back")
        with self._lock:
            self._now += timedelta(seconds=seconds)
            self._monotonic += seconds
        for listener in tuple(self._listeners):
            listener()

    def on_advance(self, listener: Callable[[], None]) -> None:
        """Call it after every `advance` from now on."""
        self._listeners.append(listener)
