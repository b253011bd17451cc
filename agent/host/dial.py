"""The dial: asks replicas whether they answer, in the background, and wakes whoever wants to know when that changes.

No look waits here. A replica that does not answer yet is asked again soon while it is young (50 ms, growing with its age
up to the check's interval), so that a fast service is seen at once and a slow one is not pestered; one that answers is
asked only when somebody looks, and believed until it is silent three times. Nobody asked for a minute: the probing ends.
The threads are daemons: one that waits for an answer does not hold up the agent's end.
"""

import http.client
import queue
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from agent.clock import Clock
from agent.contracts import Check, Digest, Health, Replica, Service, ServiceName, Transient

_SOONEST = 0.05  # seconds between probes of something that just started
_INTEREST = 60.0  # seconds after the last question
_STEADY = 10.0  # seconds that a good answer stands
_BELIEVED = 3  # unanswered probes in a row before something that answered counts as silent: a busy engine is not dead

Key: TypeAlias = tuple[ServiceName, Digest, int, str]


@dataclass(slots=True)
class _Line:
    """What is known of one replica. All times monotonic seconds."""

    check: Check
    address: str
    started_at: datetime | None  # of the replica that answered; None: not told yet
    first: float
    asked: float
    health: Health | None = None
    answered_at: float = 0.0
    due: float | None = None


class Dialer:
    """Implements Dial over HTTP and TCP. One timer thread, `workers` probe threads. Thread-safe."""

    def __init__(self, *, clock: Clock, wake: Callable[[ServiceName], None], workers: int = 8) -> None:
        self._clock = clock
        self._wake = wake
        self._workers = workers
        self._probing: list[threading.Thread] = []
        self._todo: queue.SimpleQueue[tuple[Key, _Line] | None] = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._lines: dict[Key, _Line] = {}
        self._timer: threading.Thread | None = None
        self._closed = False

    def health(self, service: Service, replica: Replica) -> Health | None:
        """The newest answer to the service's check; asks again in the background when that is due."""
        now = self._clock.monotonic()
        key = _key(service, replica)
        with self._changed:
            line = self._lines.get(key)
            if line is None or line.check != service.workload.check or _started_anew(line, replica):
                line = _Line(service.workload.check, replica.address, replica.started_at, now, now, due=now)
                self._lines[key] = line
                self._kick()
            line.asked = now
            line.started_at = replica.started_at or line.started_at
            if line.due is None and now >= line.answered_at + max(_STEADY, line.check.interval):
                line.due = now
                self._kick()
            return line.health

    def known(self, service: Service, replica: Replica) -> Health | None:
        """The newest answer, without asking."""
        with self._changed:
            line = self._lines.get(_key(service, replica))
            return None if line is None or _started_anew(line, replica) else line.health

    def ask(self, replica: Replica, method: str, path: str, body: bytes, timeout: float) -> tuple[int, bytes]:
        """One blocking HTTP request."""
        try:
            return _http(replica.address, method, path, body, timeout)
        except (OSError, http.client.HTTPException) as error:
            raise Transient(f"{replica.address}{path}: {_words(error)}") from error

    def forget(self, name: ServiceName, keep: Digest | None = None) -> None:
        """Nobody wants to know about this service's replicas any more, but those of `keep`."""
        with self._changed:
            for key in [key for key in self._lines if key[0] == name and key[1] != keep]:
                del self._lines[key]

    def close(self) -> None:
        """End the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            for _ in self._probing:
                self._todo.put(None)

    def _kick(self) -> None:
        if self._timer is None:
            self._timer = threading.Thread(target=self._run, name="dial", daemon=True)
            self._timer.start()
        self._changed.notify_all()

    def _run(self) -> None:
        with self._changed:
            while not self._closed:
                now = self._clock.monotonic()
                dues = [line.due for line in self._lines.values() if line.due is not None]
                for key, line in list(self._lines.items()):
                    if line.due is not None and line.due <= now:
                        line.due = None
                        line.answered_at = now  # a probe is on its way: not due again until it is back
                        self._begin(key, line)
                later = [due for due in dues if due > now]
                self._changed.wait(min(later) - now if later else None)

    def _begin(self, key: Key, line: _Line) -> None:
        self._todo.put((key, line))
        self._probing = [thread for thread in self._probing if thread.is_alive()]
        if len(self._probing) < self._workers:
            thread = threading.Thread(target=self._work, name="probe", daemon=True)
            thread.start()
            self._probing.append(thread)

    def _work(self) -> None:
        while (todo := self._todo.get()) is not None and not self._closed:
            self._probe(*todo)

    def _probe(self, key: Key, line: _Line) -> None:
        answered, loading, message = _asked(line.check, line.address)
        now = self._clock.monotonic()
        with self._changed:
            before = line.health
            failures = 0 if answered else 1 + (before.failures if before is not None else 0)
            trusted = before is not None and before.answered and failures < _BELIEVED
            line.health = Health(answered or trusted, failures, loading, message)
            line.answered_at = now
            if self._lines.get(key) is not line or self._closed:
                return
            if not answered and now - line.asked < _INTEREST:
                line.due = now + min(line.check.interval, max(_SOONEST, (now - line.first) / 10))
                self._kick()
        news = before is None or before.answered != line.health.answered or before.message != message
        if news:
            self._wake(key[0])


def _key(service: Service, replica: Replica) -> Key:
    return service.name, service.digest, replica.placement.index, replica.address


def _started_anew(line: _Line, replica: Replica) -> bool:
    return None not in (line.started_at, replica.started_at) and line.started_at != replica.started_at


def _asked(check: Check, address: str) -> tuple[bool, bool, str]:
    """(answered, loading, message) of one probe."""
    try:
        if not check.path:
            host, _, port = address.rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), check.timeout).close()
            return True, False, ""
        status, _ = _http(address, "GET", check.path, b"", check.timeout, most=0)  # a body may never end
    except ConnectionRefusedError:
        return False, True, f"{address} refuses connections"
    except (OSError, ValueError, http.client.HTTPException) as error:
        return False, False, f"{address}{check.path}: {_words(error)}"
    if 200 <= status < 400:
        return True, False, ""
    if status in check.loading:
        return False, True, f"{check.path} says {status}: loading"
    return False, False, f"{check.path} says {status}"


def _http(
    address: str, method: str, path: str, body: bytes, timeout: float, *, most: int = 1 << 20
) -> tuple[int, bytes]:
    """One request; of the answer's body at most so many bytes."""
    connection = http.client.HTTPConnection(address, timeout=timeout)
    try:
        connection.request(method, path, body or None, {"User-Agent": "xmod-agent", "Connection": "close"})
        response = connection.getresponse()
        return response.status, response.read(most) if most else b""
    finally:
        connection.close()


def _words(error: Exception) -> str:
    return "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
