"""The board: the agent's opinion of every service; the only writer of Status, with listeners.

`put` alone compares with what stood there and tells the listeners (metrics, log, journal, stream). Nobody decides
anything from these events: they are what people see.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from agent.contracts import ServiceName


class Phase(StrEnum):
    """One word for people: what a service's two truths (serving, converged) and its intent amount to.

    PROGRESSING → READY; READY → DEGRADED (it ought to be what git says, and is not: drifted, unhealthy or rolled back)
    → READY; PROGRESSING → FAILED (the spec failed and nothing else serves) → PROGRESSING when the spec changes;
    anything → KEPT (held, invalid or waiting: it stays as it is), SUSPENDED, REMOVING.
    """

    PROGRESSING = "Progressing"
    READY = "Ready"
    DEGRADED = "Degraded"
    FAILED = "Failed"
    KEPT = "Kept"
    SUSPENDED = "Suspended"
    REMOVING = "Removing"


CALM = frozenset(
    [
        "Converged",
        "Creating",
        "Draining",
        "Drifted",
        "Exposing",
        "MakingWay",
        "Pulling",
        "Queued",
        "Removed",
        "Removing",
        "Restarting",
        "Retiring",
        "Starting",
        "Stopping",
        "Waiting",
    ]
)
"""Reasons of what is on its way; every other one is news for an operator, whatever the phase."""


@dataclass(frozen=True, slots=True)
class Truth:
    """A claim about a service, and why it holds or does not. `reason`: CamelCase; `message`: a sentence."""

    holds: bool
    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class GoalState:
    """How far one goal is: verdict "achieved", "pending", "failed" or "waiting" (its turn has not come)."""

    name: str
    verdict: str
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """The commit that last changed a service's document. `commit`: its whole id; `at`: when it was made."""

    commit: str
    author: str
    at: datetime
    subject: str


@dataclass(frozen=True, slots=True)
class Version:
    """What a document once said. `spec`: its spec digest; `digest`: what that resolves to, "" if nobody asked."""

    spec: str
    change: Change
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """The agent's opinion of one service.

    `wanted`: the digest that the spec resolves to ("" if none is known); `routed`: the digest that serves ("" if none).
    `wanted_since`: since when a wanted change is not in effect, None when it is. `blocked`: what stands in its way: none,
    held, suspended, failed or policy. `endpoints`: "http://host:port" of each routed replica. `since`: of this phase.
    `stalled`: on its way for longer than its goalset gives it.
    `change`: of the document as it is wanted now, None if no history is known. `routed_spec`: the spec digest of what
    serves; `runs`: the commit that its document comes from, None unless that is an older one; `behind`: how many commits
    changed the document since, None if it is older and nobody knows by how many.
    """

    name: ServiceName
    phase: Phase
    serving: Truth
    converged: Truth
    since: datetime
    shimlet: str = ""
    goalset: str = ""
    goal: str = ""
    wanted: str = ""
    routed: str = ""
    revision: str = ""
    file: str = ""
    replicas: int = 0
    ready: int = 0
    endpoints: tuple[str, ...] = ()
    goals: tuple[GoalState, ...] = ()
    notices: tuple[str, ...] = ()
    wanted_since: datetime | None = None
    next_try: datetime | None = None
    attempts: int = 0
    blocked: str = "none"
    change: Change | None = None
    stalled: bool = False
    routed_spec: str = ""
    runs: Change | None = None
    behind: int | None = 0


Listener: TypeAlias = Callable[[Status | None, Status | None], None]
"""listener(before, after): None before = new; None after = the service is gone and forgotten."""


class Board:
    """Holds the newest Status of every service. Thread-safe; listeners are called outside the lock, one put at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._telling = threading.Lock()
        self._statuses: dict[ServiceName, Status] = {}
        self._listeners: list[Listener] = []
        self._trails: Mapping[ServiceName, tuple[Version, ...]] = {}

    def listen(self, listener: Listener) -> None:
        """Call it at each change from now on."""
        self._listeners.append(listener)

    def changed(self, trails: Mapping[ServiceName, tuple[Version, ...]]) -> None:
        """What is known of the documents' pasts from now on, newest first; it is written into every status."""
        with self._telling:
            before, self._trails = self._trails, trails
        for status in self.all().values():
            if before.get(status.name) != trails.get(status.name):
                self.put(replace(status, change=None, runs=None, behind=0), only_if=status)

    def put(self, status: Status, *, only_if: Status | None = None) -> None:
        """Write a status; its `since` is kept while the phase stays the same. `only_if`: this one stands there."""
        with self._telling:
            before = self._statuses.get(status.name)
            if only_if is not None and before is not only_if:
                return
            status = traced(status, self._trails.get(status.name, ()))
            if before is not None and before.phase == status.phase:
                status = replace(status, since=before.since)
            if before == status:
                return
            with self._lock:
                self._statuses[status.name] = status
            for listener in self._listeners:
                listener(before, status)

    def forget(self, name: ServiceName) -> None:
        """Take a service off the board: nothing of it is wanted or left."""
        with self._telling:
            with self._lock:
                before = self._statuses.pop(name, None)
            if before is not None:
                for listener in self._listeners:
                    listener(before, None)

    def get(self, name: ServiceName) -> Status | None:
        """The newest status of a service."""
        with self._lock:
            return self._statuses.get(name)

    def all(self) -> Mapping[ServiceName, Status]:
        """All statuses, as of now, by name."""
        with self._lock:
            return dict(sorted(self._statuses.items()))


def traced(status: Status, trail: Sequence[Version]) -> Status:
    """The status with what is known of its document's past."""
    if not trail:
        return status
    change = trail[0].change
    if not status.routed or status.routed == status.wanted:
        return replace(status, change=change, runs=None, behind=0)
    for older, version in enumerate(trail):
        if status.routed == version.digest or status.routed_spec == version.spec:
            return replace(status, change=change, runs=version.change if older else None, behind=older)
    return replace(status, change=change, runs=None, behind=None)
