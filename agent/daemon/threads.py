"""The agent's threads and the signals that end it.

Every thread here must live for the agent to be well; all obey one stop event.
"""

import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType


@dataclass(slots=True)
class Threads:
    """Every thread that must live for the agent to be well."""

    stop: threading.Event = field(default_factory=threading.Event)
    all: list[threading.Thread] = field(default_factory=list)

    def start(self, name: str, work: Callable[[threading.Event], None]) -> None:
        """Let one go; `work` returns when its event is set."""
        thread = threading.Thread(target=work, args=(self.stop,), name=name, daemon=True)
        self.all.append(thread)
        thread.start()

    def dead(self) -> str:
        """The names of those that ended before they were told to."""
        return ", ".join(thread.name for thread in self.all if not thread.is_alive())

    def join(self, seconds: float) -> None:
        """Wait for each, so many seconds at most."""
        for thread in self.all:
            thread.join(seconds)


class Signals:
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
