"""Tells which services changed: each leader's end at once through its pidfd, our own doings through a bell.

A pidfd also tells of processes that are not our children. One that cannot be opened (too many files) costs promptness
only: a full look every five seconds misses nothing.
"""

import contextlib
import os
import selectors
import threading
import time
from collections.abc import Callable, Iterator, Mapping

from agent.contracts import ServiceName, Transient
from shimlets.process.finding import Found, Who
from shimlets.process.recording import Key

_LOOK = 5.0  # seconds between full looks
_TEND = 2.0  # seconds between looks at the logs
_STOP = 0.25  # seconds within which `stop` is seen


class Bell:
    """Names for everyone who listens. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: dict[int, list[ServiceName]] = {}

    def ring(self, name: ServiceName) -> None:
        """Tell all listeners."""
        with self._lock:
            for fd, names in self._listeners.items():
                names.append(name)
                os.eventfd_write(fd, 1)

    @contextlib.contextmanager
    def listening(self) -> Iterator[int]:
        """A descriptor that becomes readable when it rings."""
        fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        with self._lock:
            self._listeners[fd] = []
        try:
            yield fd
        finally:
            with self._lock:
                del self._listeners[fd]
            os.close(fd)

    def heard(self, fd: int) -> list[ServiceName]:
        """The names since last time, each once."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(fd)
        with self._lock:
            names, self._listeners[fd] = self._listeners[fd], []
        return list(dict.fromkeys(names))


def watching(
    stop: threading.Event,
    bell: Bell,
    leaders: Callable[[], Mapping[Key, Found]],
    tend: Callable[[Mapping[Key, Found]], None],
) -> Iterator[ServiceName]:
    """Yield names as they change, until `stop` or until nothing can be seen.

    `leaders` takes a full look, which settles what has ended and rings for it. `tend` gets its last answer every other second.
    """
    with bell.listening() as fd, selectors.DefaultSelector() as selector, _Leaders(selector) as known:
        selector.register(fd, selectors.EVENT_READ)
        look_at = tend_at = 0.0
        living: Mapping[Key, Found] = {}
        while not stop.is_set():
            try:
                if time.monotonic() >= look_at:
                    living = leaders()
                    yield from known.become(living)
                    look_at = time.monotonic() + _LOOK
                if time.monotonic() >= tend_at:
                    tend(living)
                    tend_at = time.monotonic() + _TEND
            except Transient:
                return
            if selector.select(_STOP):
                look_at = 0.0  # something began or ended
            yield from bell.heard(fd)


class _Leaders(contextlib.ExitStack):
    """The leaders that are known to live, and a descriptor of each."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        super().__init__()
        self._selector = selector
        self._known: dict[Who, tuple[ServiceName, int | None]] | None = None
        self.callback(lambda: self._forget(list(self._known or {})))

    def become(self, leaders: Mapping[Key, Found]) -> list[ServiceName]:
        """Take over what lives now; the names of what is new or gone, none at first."""
        now = {found.stat.who: key.name for key, found in leaders.items()}
        first = self._known is None
        known = self._known = self._known or {}
        gone = [who for who in known if who not in now]
        new = [who for who in now if who not in known]
        changed = [known[who][0] for who in gone] + [now[who] for who in new]
        self._forget(gone)
        for who in new:
            known[who] = (now[who], self._open(who))
        return [] if first else list(dict.fromkeys(changed))

    def _open(self, who: Who) -> int | None:
        try:
            fd = os.pidfd_open(who.pid)
        except OSError:  # it is gone already, or there are too many: the next look tells
            return None
        self._selector.register(fd, selectors.EVENT_READ)
        return fd

    def _forget(self, gone: list[Who]) -> None:
        for who in gone:
            fd = (self._known or {}).pop(who)[1]
            if fd is not None:
                self._selector.unregister(fd)
                os.close(fd)
