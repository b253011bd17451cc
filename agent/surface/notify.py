"""Tells a receiver of transitions: one thread looks at what is wrong, asks notice.py what is news, and delivers it in order.

The board's listener only wakes it, so nobody waits for a receiver. What is not delivered yet waits in a queue of bounded
length: while the other end fails, the first in it is tried again with back-off, and if the queue is full, the oldest is
dropped, counted and logged. Nothing is on disk.
"""

import logging
import random
import threading
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agent.clock import Clock
from agent.control.board import Status
from agent.surface import notice, wire
from agent.surface.notice import Memory, Notice
from agent.surface.operations import AgentView
from agent.surface.post import NotSent, Post
from agent.surface.trouble import findings

logger = logging.getLogger("xmod.notify")

_WAITING = 500  # notices
_LONGEST = 300.0  # seconds between two tries
_TOGETHER = 0.2  # seconds in which news are one look
_TICK = 2.0  # seconds between two looks that nobody asked for
_BUSY_TICK = 1.0  # the same while there is trouble
_TEXT = 1000  # characters of a message
SENTENCES: Mapping[str, str] = {
    "service.failed": "{names} failed",
    "service.degraded": "{names} is degraded",
    "service.stuck": "{names} does not come up",
    "service.refused": "{names} is refused by the policy",
    "service.recovered": "{names} is well again",
    "service.dropped": "{names} is not looked after any more",
    "prune.held": "removal held: {names}",
    "prune.released": "removal not held any more: {names}",
    "file.invalid": "{file} is invalid, its services stay as they were",
    "file.recovered": "{file} is in order again",
    "source.unreadable": "the source cannot be read",
    "source.stale": "the source is not in sync",
    "source.unverified": "the newest commit is held, the last good one stays in force",
    "source.recovered": "the source is in order again",
    "world.lost": "{shimlet} is out of sight",
    "world.recovered": "{shimlet} is in sight again",
}
"""Every event, and what it says."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Who tells: the host's name and the agent's instance."""

    host: str
    instance: str


def payload(told: Notice, origin: Origin, *, number: str, now: datetime) -> dict[str, Any]:
    """One notice as the receiver gets it: all fields, always; what does not apply is empty or null. `number`: its id."""
    facts = told.facts
    shown = _cut(", ".join(told.names))
    sentence = SENTENCES[told.event].format(names=shown, file=facts.file or shown, shimlet=facts.shimlet)
    why = ": ".join(part for part in (facts.reason, _cut(facts.message)) if part)
    again = "still: " if told.repeated else ""
    return {
        "version": 1,
        "id": number,
        "time": now.isoformat(),
        "event": told.event,
        "repeated": told.repeated,
        "host": origin.host,
        "instance": origin.instance,
        "text": f"{origin.host}: {again}{sentence}" + (f" ({why})" if why and facts.reason != "Converged" else ""),
        "service": facts.service,
        "names": list(told.names),
        "file": facts.file,
        "shimlet": facts.shimlet,
        "phase": facts.phase,
        "serving": facts.serving,
        "reason": facts.reason,
        "message": _cut(facts.message),
        "since": wire.plain(facts.since),
        "revision": facts.revision,
        "change": wire.plain(facts.change),
    }


class Notifier:
    """The thread and its queue. `count` hears sent, failed (a try that will be repeated), refused and dropped.

    `name`: of the thread. `trouble`: why nothing arrives now, "" if it does. `stale`: as in trouble.findings.
    """

    name = "notify"

    def __init__(
        self,
        *,
        post: Post,
        origin: Origin,
        view: Callable[[], AgentView],
        count: Callable[[str], None],
        clock: Clock,
        interval: float,
        stale: float,
    ) -> None:
        self.trouble = ""
        self._post = post
        self._origin = origin
        self._view = view
        self._count = count
        self._clock = clock
        self._interval = interval
        self._stale = stale
        self._news = threading.Event()
        self._memory: Memory = {}
        self._queue: deque[dict[str, Any]] = deque()
        self._failures = 0
        self._not_before = 0.0

    def hear(self, before: Status | None, after: Status | None) -> None:  # noqa: ARG002 – a listener's signature
        """Something changed on the board."""
        self._news.set()

    def run(self, stop: threading.Event) -> None:
        """Look and deliver, until told to stop."""
        due = self._clock.monotonic()
        while not stop.is_set():
            if self._news.wait(min(1.0, max(0.0, due - self._clock.monotonic()))):
                stop.wait(_TOGETHER)
            elif self._clock.monotonic() < due:
                continue
            self._news.clear()
            self.look()
            self.deliver(stop)
            busy = self._queue or any(case.since is not None for case in self._memory.values())
            due = self._clock.monotonic() + (_BUSY_TICK if busy else _TICK)

    def look(self) -> None:
        """Put into the queue what is news now."""
        now = self._clock.now()
        found = findings(self._view(), now, stale=self._stale)
        self._memory, told = notice.step(self._memory, found, now, interval=self._interval)
        for item in told:
            if item.repeated and self._queue:
                continue  # the receiver does not have what was told before
            self._queue.append(payload(item, self._origin, number=str(uuid.uuid4()), now=now))
        for _ in range(len(self._queue) - _WAITING):
            self._drop(self._queue.popleft(), "dropped", "too many wait")

    def deliver(self, stop: threading.Event) -> None:
        """Send what waits, in order, until one cannot be sent."""
        while self._queue and not stop.is_set() and self._clock.monotonic() >= self._not_before:
            first = self._queue[0]
            try:
                self._post.send(wire.encoded(first), event=first["event"], delivery=first["id"], stop=stop)
            except NotSent as error:
                if stop.is_set():
                    return
                if error.refused:
                    self._queue.popleft()
                    self._drop(first, "refused", str(error))
                else:
                    self._failed(error)
            else:
                self._queue.popleft()
                self._sent()

    def _sent(self) -> None:
        self._count("sent")
        if self.trouble:
            logger.info("notifications arrive again")
        self.trouble, self._failures = "", 0

    def _failed(self, error: NotSent) -> None:
        self._count("failed")
        self._failures += 1
        pause = min(_LONGEST, 2.0 ** min(self._failures, 10)) * random.uniform(0.5, 1.0)  # noqa: S311 jitter, no secret
        self._not_before = self._clock.monotonic() + max(error.after, pause)
        trouble = f"notifications do not arrive: {error}"
        if trouble != self.trouble:
            logger.warning("cannot send a notification, it is tried again", extra={"error": str(error)})
        self.trouble = trouble

    def _drop(self, item: Mapping[str, Any], result: str, why: str) -> None:
        self._count(result)
        extra = {"service": item["service"], "event": item["event"], "error": why}
        logger.warning("a notification is dropped", extra=extra)


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT else text[: _TEXT - 1] + "…"
