"""Reads what blocks in threads of its own, so that the reader can obey a stop within a moment."""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from agent.contracts import XmodError

T = TypeVar("T")

_MOMENT = 0.2  # seconds in which a reader looks up
_PENDING = 1000  # items that may wait for a reader


class Pump(Generic[T]):
    """Several sources in one. `add` begins to read one; `items` ends when all ended, or `until` says so.

    A source is a function of the pump that calls `put` as long as it is true. What a source raises of ours ends it, and
    is kept in `errors`.
    """

    def __init__(self) -> None:
        self._items: queue.Queue[T] = queue.Queue(_PENDING)
        self._threads: list[threading.Thread] = []
        self._closed = threading.Event()
        self._on_close: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self.errors: list[XmodError] = []

    def add(self, source: Callable[["Pump[T]"], None], name: str) -> None:
        """Begin to read a source."""
        thread = threading.Thread(target=self._run, args=(source,), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def put(self, item: T) -> bool:
        """Hand an item over; waits while the reader is behind. False: nobody wants any more."""
        while not self._closed.is_set():
            try:
                self._items.put(item, timeout=_MOMENT)
            except queue.Full:
                continue
            return True
        return False

    def on_close(self, hang_up: Callable[[], None]) -> None:
        """Call it when the pump is closed, or now if it is."""
        with self._lock:
            if not self._closed.is_set():
                self._on_close.append(hang_up)
                return
        hang_up()

    def pause(self, seconds: float) -> bool:
        """Wait between two readings; false once nobody wants any more."""
        return not self._closed.wait(seconds)

    def items(self, until: Callable[[], bool]) -> Iterator[T]:
        """What the sources put."""
        while not until():
            try:
                yield self._items.get(timeout=_MOMENT)
            except queue.Empty:
                if self._items.empty() and not any(thread.is_alive() for thread in self._threads):
                    return

    def close(self) -> None:
        """Let the sources end."""
        with self._lock:
            self._closed.set()
            hanging = list(self._on_close)
        for hang_up in hanging:
            hang_up()

    def _run(self, source: Callable[["Pump[T]"], None]) -> None:
        try:
            source(self)
        except XmodError as error:
            self.errors.append(error)
