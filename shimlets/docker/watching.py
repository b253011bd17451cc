"""Watches the engine: its events as names, a ping that notices when it hangs, and a slow audit of what sends no event.

Events are hints: the watch ends whenever it may have missed one, and its caller lists again. A stream of events ends
silently when the engine stops and stays silent for ever when it hangs, so a ping every few seconds tells the three apart:
the engine is gone, it hangs, or only the stream ended. The audit inspects one container per beat and tells it if it drifted.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from threading import Event
from typing import Any

from agent.contracts import Conflict, ServiceName, Transient
from shimlets.docker import naming
from shimlets.docker.container import Containers
from shimlets.docker.engine import Engine
from shimlets.docker.lock import Lock
from shimlets.docker.observing import HOLDING, Found, drift
from shimlets.docker.pump import Pump

_log = logging.getLogger("xmod.docker")
_BEAT = 5.0  # seconds between two pings
_PATIENCE = 3.0  # seconds for an answer to one
_ACTIONS = ("start", "die", "stop", "oom", "pause", "unpause", "restart", "destroy", "update")


class Watch:
    """One watch over one owner's containers. `audit`: looks at one container; the name, if it drifted."""

    def __init__(self, engine: Engine, owner: str, audit: Callable[[], ServiceName | None], *, interval: float) -> None:
        self._engine = engine
        self._owner = owner
        self._audit = audit
        self._interval = interval
        self._lost = Event()
        self._seen = False

    def names(self, stop: Event, since: float | None) -> Iterator[ServiceName]:
        """Names that changed, until `stop` or until sight is lost. `since`: events from then on, seconds since the epoch.

        Raises Transient if the engine could not be watched at all.
        """
        pump: Pump[ServiceName] = Pump()
        pump.add(lambda to: self._read(to, since), "docker-events")
        pump.add(self._guard, "docker-guard")
        try:
            yield from pump.items(lambda: stop.is_set() or self._lost.is_set())
        finally:
            pump.close()
        if stop.is_set():
            return
        error = next(iter(pump.errors), Transient("docker: the stream of events ended", reason="StreamEnded"))
        if not self._seen:
            raise error
        _log.warning("lost sight", extra={"shimlet": "docker", "reason": error.reason, "error": str(error)})

    def _read(self, to: Pump[ServiceName], since: float | None) -> None:
        try:
            self._engine.ping(_PATIENCE)
            self._events(to, since)
        finally:
            self._lost.set()

    def _events(self, to: Pump[ServiceName], since: float | None) -> None:
        filters = {"type": ["container"], "label": [f"{naming.INSTANCE}={self._owner}"], "event": list(_ACTIONS)}
        params: dict[str, Any] = {"filters": filters}
        if since is not None:
            params["since"] = f"{since:.6f}"
        with self._engine.stream("GET", "/events", "read the engine's events", params=params) as stream:
            to.on_close(stream.hang_up)
            self._seen = True
            for event in stream.objects():
                name = service_of(event)
                if name is not None and not to.put(name):
                    return

    def _guard(self, to: Pump[ServiceName]) -> None:
        """Ping, and audit, until nobody watches any more."""
        beat, audited = time.monotonic(), time.monotonic()
        while to.pause(min(self._interval / 2, 0.5)) and not self._lost.is_set():
            now = time.monotonic()
            if now - beat >= _BEAT:
                beat = now
                self._ping()
            if now - audited >= self._interval:
                audited = now
                name = self._audited()
                if name is not None:
                    to.put(name)

    def _ping(self) -> None:
        try:
            self._engine.ping(_PATIENCE)
        except Transient:
            self._lost.set()
            raise

    def _audited(self) -> ServiceName | None:
        try:
            return self._audit()
        except Transient:
            return None  # the ping judges the engine


class Audit:
    """Looks at one container after another for what was changed without an event, and now and then at the lock."""

    def __init__(self, engine: Engine, containers: Containers, owner: str, lock: Lock) -> None:
        self._engine = engine
        self._containers = containers
        self._owner = owner
        self._lock = lock
        self._left: list[Found] = []

    def look(self) -> ServiceName | None:
        """Look at the next one; its service, if it drifted."""
        if not self._left:
            self._left = list(self._containers.found())
            self._keep_lock()
        if not self._left:
            return None
        one = self._left.pop()
        seen = self._containers.inspected(one.id, words=False)
        if seen is None or seen.word not in HOLDING:
            return None
        drifted = drift(one, seen, owner=self._owner, engine=self._engine.known())
        return one.service.name if drifted.words else None

    def _keep_lock(self) -> None:
        """Somebody may have pruned the volume that is the lock."""
        try:
            if self._lock.held:
                self._lock.acquire()
        except Conflict as error:
            _log.error("lock lost", extra={"shimlet": "docker", "reason": error.reason, "error": str(error)})


def service_of(event: Mapping[str, Any]) -> ServiceName | None:
    """The service whose container an event is about."""
    attributes = (event.get("Actor") or {}).get("Attributes") or {}
    name = attributes.get(naming.SERVICE)
    return ServiceName(name) if name else None
