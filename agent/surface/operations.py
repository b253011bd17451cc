"""What the surface may ask of the running agent. The daemon hands in something that answers.

A word is checked before it is taken: UnknownName and Refused carry a sentence for the operator.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from agent.control.board import Change, Status
from agent.journal import Event


class Refused(Exception):
    """A word that cannot be taken, and why."""


class UnknownName(Refused):
    """There is no service of that name."""


@dataclass(frozen=True, slots=True)
class InvalidFile:
    """A file that is not in effect: its path below the source's root, and its errors as "line:column: field: sentence"."""

    path: str
    errors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HeldPrune:
    """A removal that waits for evidence or for an operator."""

    name: str
    reason: str
    message: str
    since: datetime


@dataclass(frozen=True, slots=True)
class SuspensionView:
    """All services are suspended by an operator, but for `excepted`. `reason`: "" if none was given."""

    since: datetime
    reason: str = ""
    excepted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Resumed:
    """`names`: services that follow git again. `by_spec`: those that their own spec suspends still, and where it says so."""

    names: tuple[str, ...]
    by_spec: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SourceView:
    """The source as last read. `revision`: "" until it was read once; `error`: why it cannot be read now, "" if it can.

    `elsewhere`: how many services it wants on other hosts.
    `unverified`: why the newest commit does not count (snapshot.UNVERIFIED), "" if it does.
    `head`: the newest commit that is known, "" for a folder; `behind`: how many commits it is ahead of the revision, None
    if nobody knows; `commit`: the revision, as people know it.
    """

    id: str
    location: str
    revision: str
    read_at: datetime | None
    services: int
    invalid: tuple[InvalidFile, ...]
    error: str = ""
    elsewhere: int = 0
    unverified: str = ""
    head: str = ""
    behind: int | None = 0
    commit: Change | None = None


@dataclass(frozen=True, slots=True)
class WorldView:
    """One shimlet: when it was last seen whole, and why it cannot be seen now ("" if it can)."""

    shimlet: str
    seen_at: datetime | None
    error: str = ""


@dataclass(frozen=True, slots=True)
class AgentView:
    """Everything at one moment. `memory_is_new`: the state folder held no memory of earlier words.

    `host`: which host this is to specs: its name and its labels. `suspended`: everything is.
    """

    version: str
    instance: str
    started_at: datetime
    heartbeat: datetime
    source: SourceView
    worlds: tuple[WorldView, ...]
    services: tuple[Status, ...]
    held: tuple[HeldPrune, ...]
    notices: tuple[str, ...] = ()
    memory_is_new: bool = False
    host: str = ""
    suspended: SuspensionView | None = None


@dataclass(frozen=True, slots=True)
class History:
    """Events, oldest first. `last`: the id to ask for what came after them; `notices`: what is amiss with the journal."""

    events: tuple[Event, ...]
    last: int
    notices: tuple[str, ...] = ()


class Operations(Protocol):
    """The running agent, as the surface sees it. All words raise Refused."""

    def view(self) -> AgentView:
        """Everything at one moment."""
        ...

    def alive(self) -> str:
        """Why the agent is not healthy ("source thread: no heartbeat for 95 s"); "" if it is."""
        ...

    def ready(self) -> str:
        """Why it does not do its work yet ("the source was not read yet"); "" if it does."""
        ...

    def events(self, name: str, since: datetime | None, after: int, limit: int) -> History:
        """The newest events, of one service if it is named; with an id `after`, the oldest of what came after it.

        UnknownName if there is no such service and there never was, as far back as the journal goes.
        """
        ...

    def logs(self, name: str, tail: int, follow: threading.Event | None) -> Iterator[str]:
        """A service's log lines."""
        ...

    def rescan(self) -> None:
        """Read the source now."""

    def approve_prune(self, names: Sequence[str]) -> tuple[str, ...]:
        """Release these held removals (none named: all); the names that were released."""
        ...

    def restart(self, name: str) -> None:
        """Start a service's replicas again, and try a burnt spec again."""

    def rollout(self, names: Sequence[str]) -> tuple[str, ...]:
        """Let these services (none named: all) take what their specs resolve to now, one at a time; which ones."""
        ...

    def cancel_rollout(self, names: Sequence[str]) -> tuple[str, ...]:
        """Take back rollouts (none named: all) that are not through; which ones."""
        ...

    def suspend(self, name: str | None, reason: str) -> None:
        """Leave a service (None: all, also those that come later) as it is until it is resumed."""

    def resume(self, name: str | None) -> Resumed:
        """Take back what was suspended by word (None: all of it)."""
        ...

    def retry(self, name: str) -> None:
        """Try again now what failed, waits or backs off; what is right runs on."""

    def forget(self, name: str) -> tuple[str, ...]:
        """Give a service up: it runs on and is not the agent's any more; a sentence on each replica that is left."""
        ...

    def adopt(self, source_id: str) -> int:
        """Treat services that carry another source's id as this source's; how many there are."""
        ...
