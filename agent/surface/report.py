"""A heartbeat that leaves the host by itself, for hosts that nobody can reach: revision, source and the state of every service.

One is sent at each interval (give or take a tenth, so that a fleet does not come at once) and, about a second later, when
what it would say changed; but a service's message that counts on, as of a pull, hurries nobody. There is one at a time and
no queue: what fails is made anew at the next interval. Its size is bounded: of very many services those that are not well
come first, and how many there are is said.
"""

import hashlib
import logging
import random
import threading
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any

from agent.clock import Clock
from agent.control.board import Phase, Status
from agent.surface import wire
from agent.surface.notify import Origin
from agent.surface.operations import AgentView
from agent.surface.post import NotSent, Post

logger = logging.getLogger("xmod.report")

_MOST = 2000  # services, files and held removals in one report, each
_TEXT = 200  # characters of a message
_TOGETHER = 1.0  # seconds in which changes are one report
_GLANCE = 5.0  # seconds between two looks for what changes without a word, as the source does


def content(view: AgentView) -> dict[str, Any]:
    """What a report says but for its time; equal as long as nothing changed."""
    source = view.source
    worst = sorted(view.services, key=lambda status: (status.phase is Phase.READY, status.name))
    return {
        "agent": {"version": view.version, "started_at": view.started_at.isoformat()},
        "source": {
            "location": source.location,
            "revision": source.revision,
            "head": source.head,
            "behind": source.behind,
            "error": _cut(source.error),
            "unverified": source.unverified,
            "invalid": [file.path for file in source.invalid[:_MOST]],
        },
        "worlds": [{"shimlet": world.shimlet, "error": _cut(world.error)} for world in view.worlds],
        "held": [{"name": held.name, "reason": held.reason} for held in view.held[:_MOST]],
        "notices": [_cut(text) for text in view.notices],
        "total": {"services": len(view.services), "invalid": len(source.invalid), "held": len(view.held)},
        "services": [_service(status) for status in worst[:_MOST]],
    }


def report(view: AgentView, origin: Origin, *, number: str, now: datetime, interval: float) -> dict[str, Any]:
    """The whole report. `number`: its id; `interval`: seconds after which the next one comes at the latest."""
    read_at = view.source.read_at
    said = content(view)
    said["source"]["read_at"] = read_at.isoformat() if read_at is not None else None
    return {
        "version": 1,
        "id": number,
        "time": now.isoformat(),
        "host": origin.host,
        "instance": origin.instance,
        "interval": interval,
        **said,
    }


def _service(status: Status) -> dict[str, Any]:
    return {
        "name": status.name,
        "phase": status.phase,
        "serving": status.serving.holds,
        "converged": status.converged.holds,
        "reason": status.converged.reason,
        "message": _cut(status.converged.message),
        "revision": status.revision,
        "since": status.since.isoformat(),
    }


class Reporter:
    """The thread, called `name`. `count` hears sent and failed; `trouble`: why the last one did not arrive, "" if it did."""

    name = "report"

    def __init__(
        self,
        *,
        post: Post,
        origin: Origin,
        view: Callable[[], AgentView],
        count: Callable[[str], None],
        clock: Clock,
        interval: float,
    ) -> None:
        self.trouble = ""
        self._post = post
        self._origin = origin
        self._view = view
        self._count = count
        self._clock = clock
        self._interval = interval
        self._news = threading.Event()
        self._said = b""

    def hear(self, before: Status | None, after: Status | None) -> None:  # noqa: ARG002 – a listener's signature
        """Something changed on the board."""
        self._news.set()

    def run(self, stop: threading.Event) -> None:
        """Report, until told to stop."""
        due = glance = self._clock.monotonic() + random.uniform(0.0, min(5.0, self._interval / 10))  # noqa: S311 jitter
        while not stop.is_set():
            heard = self._news.wait(min(1.0, max(0.0, min(due, glance) - self._clock.monotonic())))
            if heard:
                stop.wait(_TOGETHER)
            now = self._clock.monotonic()
            if not heard and now < min(due, glance):
                continue
            self._news.clear()
            view = self._view()
            if now >= due or (not self.trouble and _digest(view) != self._said):
                due = self._clock.monotonic() + self.send(view, stop)
            glance = self._clock.monotonic() + _GLANCE

    def send(self, view: AgentView, stop: threading.Event) -> float:
        """Send one; seconds until the next."""
        pause = self._interval * random.uniform(0.9, 1.1)  # noqa: S311 jitter, no secret
        number, now = str(uuid.uuid4()), self._clock.now()
        body = wire.encoded(report(view, self._origin, number=number, now=now, interval=self._interval))
        try:
            self._post.send(body, event="report", delivery=number, stop=stop)
        except NotSent as error:
            if not stop.is_set():
                self._failed(error)
            return max(pause, error.after)
        self._count("sent")
        if self.trouble:
            logger.info("reports arrive again")
        self.trouble, self._said = "", _digest(view)
        return pause

    def _failed(self, error: NotSent) -> None:
        self._count("failed")
        trouble = f"reports do not arrive: {error}"
        if trouble != self.trouble:
            logger.warning("cannot send a report", extra={"error": str(error)})
        self.trouble = trouble


def _digest(view: AgentView) -> bytes:
    said = content(view)
    for service in said["services"]:
        service["message"] = ""
    return hashlib.sha256(wire.encoded(said)).digest()


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT else text[: _TEXT - 1] + "…"
