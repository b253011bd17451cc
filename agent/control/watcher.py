"""Keeps one world in sight: takes its lock, lists it, follows its events, and lists again when it lost sight.

A world that is down or hangs delays nothing but its own services. Between events it is listed at every interval, since
events are hints.
"""

import logging
import threading

from agent.contracts import Permanent, Shimlet, Transient
from agent.control.controller import Controller
from agent.control.world import World

log = logging.getLogger("xmod.watcher")

_FLURRY = 0.1  # seconds in which events of one service are one: a start alone makes four, and then a probe answers
_FIRST, _CAP = 0.5, 30.0  # seconds between tries to reach a world that is out of sight
_SETTLE = 1.0  # seconds after which a new stream of events is backed by a list: what happened in between is not lost


class Watcher:
    """The two threads of a world: `watch` follows events, `list` lists in between."""

    def __init__(self, *, name: str, shimlet: Shimlet, world: World, controller: Controller, interval: float) -> None:
        self._name = name
        self._shimlet = shimlet
        self._world = world
        self._controller = controller
        self._interval = interval
        self._soon = threading.Event()
        self._sighted = threading.Event()

    def watch(self, stop: threading.Event) -> None:
        """Keep it in sight until told to stop."""
        pause = _FIRST
        while not stop.is_set():
            if self.see(acquire=True):
                pause = _FIRST
                self._sighted.set()
                self._soon.set()
                self._follow(stop)
            self._sighted.clear()
            stop.wait(pause)
            pause = min(_CAP, pause * 2)

    def list(self, stop: threading.Event) -> None:
        """List it at every interval while it is in sight, and soon after its events began to flow."""
        while not stop.is_set():
            if not self._sighted.wait(timeout=1.0):
                continue
            if self._soon.is_set():
                self._soon.clear()
                stop.wait(_SETTLE)
            else:
                stop.wait(self._interval)
            if not stop.is_set() and self._sighted.is_set():
                self.see(acquire=False)

    def see(self, *, acquire: bool) -> bool:
        """List it once; whether that went well."""
        try:
            if acquire:
                self._shimlet.acquire()
            changed = self._world.relist(self._name)
        except (Transient, Permanent) as error:
            self._lost(str(error))
            return False
        except Exception as bug:  # noqa: BLE001 - the thread boundary: a shimlet may be a stranger's, and may mend itself
            self._lost(f"a bug in the shimlet: {bug!r}", bug)
            return False
        self._controller.saw(self._name, changed)
        return True

    def _follow(self, stop: threading.Event) -> None:
        try:
            for name in self._shimlet.watch(stop):
                self._world.touch(self._name, name)
                self._controller.hint((name,), delay=_FLURRY)
        except (Transient, Permanent) as error:
            log.warning("lost sight of a world", extra={"shimlet": self._name, "error": str(error)})
        except Exception as bug:
            log.warning("lost sight of a world", exc_info=bug, extra={"shimlet": self._name, "error": repr(bug)})

    def _lost(self, error: str, bug: Exception | None = None) -> None:
        sight = self._world.sights()[self._name]
        if sight.error != error:
            log.warning(
                "a world is out of sight, its services stay as they are",
                exc_info=bug,
                extra={"shimlet": self._name, "error": error},
            )
        self._controller.lost(self._name, error)
