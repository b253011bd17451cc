"""Hears that HEAD or its ref moved. Events only say when to compare; what decides is whether two sights differ.

Watched are the folders of HEAD, of its ref and of the links on the way, never the files of the checkout. Each second the
sight is compared anyway, so a lost event or a file system without events costs a second.
"""

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from threading import Event

from agent.clock import Clock
from agent.source.git.place import Sight
from agent.source.place import Inode
from agent.source.watch import DEBOUNCE, STEP, Notifier, Notify, Until

_log = logging.getLogger("xmod.source")

_GLANCE = 1.0  # seconds between two comparisons without an event
_RETRY = 30.0  # seconds until a watch that could not be had is tried again
_POLL_STEP = 0.05  # seconds


class AnyOf:
    """Set when one of these events is."""

    def __init__(self, *events: Event) -> None:
        self._events = events

    def is_set(self) -> bool:
        """Whether one is set."""
        return any(event.is_set() for event in self._events)


class RefWatch:
    """Waits until a sight changes. It belongs to one thread. `idle` is called after each quiet second."""

    def __init__(self, look: Callable[[], Sight], *, clock: Clock, notify: Notify, idle: Callable[[], None]) -> None:
        self._look = look
        self._clock = clock
        self._notify = notify
        self._idle = idle
        self._notifier: Notifier | None = None
        self._folders: frozenset[tuple[str, Inode]] = frozenset()
        self._retry_at = 0.0
        self._said = False

    def wait(self, seen: Sight, until: Until, deadline: float) -> None:
        """Return when what is in sight is not `seen` any more, or it is time."""
        self._arm(seen)
        while self._look() == seen and not until.is_set() and (left := deadline - self._clock.monotonic()) > 0:
            if not self._heard(until, min(left, _GLANCE)) and not until.is_set():
                self._idle()
                self._arm(seen)

    def close(self) -> None:
        """Let go."""
        notifier, self._notifier = self._notifier, None
        if notifier is not None:
            notifier.close()

    def _arm(self, seen: Sight) -> None:
        if self._notifier is not None and self._folders == seen.folders:
            return
        self.close()
        if self._clock.monotonic() < self._retry_at:
            return
        try:
            self._notifier = self._notify(sorted(folder for folder, _ in seen.folders if Path(folder).is_dir()))
            self._folders = seen.folders
        except (OSError, RuntimeError) as error:
            self._deaf(error)

    def _heard(self, until: Until, seconds: float) -> bool:
        """Whether there was an event; False after so many seconds without one."""
        if self._notifier is None:
            pause = threading.Event()
            end = self._clock.monotonic() + seconds
            while not until.is_set() and (left := end - self._clock.monotonic()) > 0:
                pause.wait(min(left, _POLL_STEP))
            return False
        try:
            changes = self._notifier.watch(DEBOUNCE, STEP, max(1, int(seconds * 1000)), until)
        except (OSError, RuntimeError) as error:
            self._deaf(error)
            return False
        if changes == "signal":
            raise KeyboardInterrupt
        return not isinstance(changes, str)

    def _deaf(self, error: Exception) -> None:
        self.close()
        self._retry_at = self._clock.monotonic() + _RETRY
        if not self._said:
            _log.warning(
                "cannot watch the repository; it is asked each second instead",
                extra={"reason": "NoWatch", "error": str(error)},
            )
        self._said = True
