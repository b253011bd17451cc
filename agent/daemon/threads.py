"""The agent's threads and the signals that end it.

Every thread here must live for the agent to be well; all obey one stop event.
"""

import queue
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self


@dataclass(slots=True)
class Threads:
    """Every thread that must live for the agent to be well."""

    stop: threading.Event = field(default_factory=threading.Event)
    all: list[threading.Thread] = field(default_factory=list)

    def start(self, name: str, work: Callable[[threading.Event], None]) -> None:
        """Let one go; `work` returns when its event is set."""
        thread = threading.Thread(target=work, args=(self.stop,), name=name, daemon=True)
        thread.start()
        self.all.append(thread)  # not before: until it runs it would count as dead

    def adopt(self, thread: threading.Thread) -> None:
        """One that another started, and that obeys another word."""
        self.all.append(thread)

    def dead(self) -> str:
        """The names of those that ended before they were told to."""
        return ", ".join(thread.name for thread in self.all if not thread.is_alive())

    def join(self, seconds: float) -> None:
        """Wait for all together, so many seconds at most."""
        end = time.monotonic() + seconds
        for thread in self.all:
            thread.join(max(0.0, end - time.monotonic()))


class Signals:
    """While entered, TERM, INT and HUP only queue up, for `wait` to hand out.

    A handler may interrupt any line of the main thread, also one that holds a lock: it does nothing but put into a queue
    that is made for that.
    """

    def __init__(self) -> None:
        self._came: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            self._before[number] = signal.signal(number, lambda number, _: self._came.put(number))
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type] # what signal() gave it takes

    def wait(self, seconds: float) -> int | None:
        """The next one, None if there is none in that time. Of several, those that end us come first, and HUPs are one."""
        found: set[int] = set()
        try:
            found.add(self._came.get(timeout=seconds))
            while True:
                found.add(self._came.get_nowait())
        except queue.Empty:
            return next(iter(sorted(found, key=lambda number: number == signal.SIGHUP)), None)
