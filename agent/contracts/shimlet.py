"""The Shimlet: the adapter that sees and changes one kind of world; and the facets that goals may be handed.

A shimlet runs exactly what it is told for one generation; it never replaces, rolls, waits or judges. Every call is
idempotent and bounded (5 s): what takes longer is begun, and seen by `observe`. It raises only Transient, Permanent
and Conflict. What does not carry its owner's mark it never touches.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any, Protocol, TypeAlias, runtime_checkable

from agent.contracts.observed import Fate, Observed, Replica
from agent.contracts.workload import Digest, Placement, SecretRef, Service, ServiceName, Workload


class Shimlet(Protocol):
    """One world, as one owner (the agent's --instance) sees it.

    `local`: it shares this host's ports, devices and model store.
    """

    name: str
    local: bool

    def acquire(self) -> None:
        """Take this owner's lock on the world. Conflict if another agent holds it; taking one's own again is nothing."""

    def list(self) -> Mapping[ServiceName, Observed]:
        """See everything with our mark in one round trip; raises rather than be incomplete."""
        ...

    def observe(self, name: ServiceName) -> Observed:
        """The same for one name and more: exit codes, last words, drift, foreign things in our place."""
        ...

    def apply(self, service: Service, placements: Sequence[Placement], secrets: Mapping[str, str]) -> None:
        """Exactly these replicas of this digest run; its others are stopped and kept. No other generation is touched.

        A replica is its index: one whose port, devices, bind address or secrets are others now is replaced in its place,
        and one whose index is not below `service.replicas` is removed. `secrets`: values by environment key.
        Applying a FAILED digest starts it afresh, as NEW; with no placements it is only stopped.
        """

    def record(self, name: ServiceName, digest: Digest, fate: Fate) -> None:
        """Write in the world what became of a generation, where it survives the agent and its state folder if it can."""

    def remove(self, name: ServiceName, digest: Digest) -> None:
        """That generation is gone, kept replicas too; volumes and models stay. Nothing there: nothing to do."""

    def watch(self, stop: Event) -> Iterator[ServiceName]:
        """Names that changed, as they change. Ending means: I lost sight, list again."""
        ...

    def logs(self, name: ServiceName, tail: int, follow: Event | None = None) -> Iterator[str]:
        """The last `tail` lines of its newest live generation; with `follow`, new ones until it is set."""
        ...

    def close(self) -> None:
        """Let go of connections and the lock; what runs goes on running."""


ShimletFactory: TypeAlias = Callable[[str, Mapping[str, Any], Path], Shimlet]
"""factory(owner, options, state_dir): only assigns and checks its options (ValueError); opens nothing."""


class Task(Protocol):
    """The inside of work that outlives a look."""

    def report(self, done: float, message: str) -> None:
        """Say how far (0…1, or −1 when unknown); raises Cancelled once nobody wants it."""


@dataclass(frozen=True, slots=True)
class TaskState:
    """The outside of it. A task that ended keeps its state until someone starts it again; `error`: how it failed."""

    running: bool
    done: float = 0.0
    message: str = ""
    error: Exception | None = None
    ended_at: float | None = None  # seconds since the epoch


class Tasks(Protocol):
    """Where work outlives a look. One task a key, however many services ask; its end wakes them all."""

    def start(self, key: str, work: Callable[[Task], None]) -> None:
        """Begin it, unless it runs."""

    def state(self, key: str) -> TaskState | None:
        """What became of it; None if it was never begun."""
        ...


@dataclass(frozen=True, slots=True)
class Credentials:
    """What an image registry is shown."""

    username: str
    password: str = field(repr=False)


@runtime_checkable
class Images(Protocol):
    """A world that has an image store."""

    def has_image(self, ref: str) -> bool:
        """It is here, whole."""
        ...

    def pull_image(self, ref: str, task: Task, login: Credentials | None = None) -> None:
        """Bring it here. Permanent: it does not exist or we may not have it; Transient: try later.

        `login` is handed over only if the spec names one; else the world has its own. Errors do not quote it.
        """


@runtime_checkable
class Ownership(Protocol):
    """A world in which something can stop being ours and run on."""

    def release(self, name: ServiceName) -> tuple[str, ...]:
        """Give up all of a service: it runs on untouched, and neither `list` nor `observe` has it from now on.

        That holds for every later agent of this owner, with its state folder lost too, as far as a world can carry it.
        Returns a sentence on each replica that is left ("container NAME (ID), running at 127.0.0.1:18000"). Nothing there:
        nothing to say. Transient while something of it is being stopped. Asked again after a kill it gives up the rest.
        """
        ...


@dataclass(frozen=True, slots=True)
class Health:
    """What a probe last said of a replica. `failures`: unanswered in a row; `loading`: it says that it is not ready yet."""

    answered: bool
    failures: int = 0
    loading: bool = False
    message: str = ""


@runtime_checkable
class Dial(Protocol):
    """Reaches replicas over the network; never blocks a look."""

    def health(self, service: Service, replica: Replica) -> Health | None:
        """The newest answer to the service's check, None until there is one; probes in the background when it is due."""
        ...

    def ask(self, replica: Replica, method: str, path: str, body: bytes, timeout: float) -> tuple[int, bytes]:
        """One blocking request, for tasks. Transient if nothing answers."""
        ...


@dataclass(frozen=True, slots=True)
class Route:
    """Where a service's one address leads. `digest`: the last one proven to serve, also when drained."""

    digest: Digest
    replicas: frozenset[int] = frozenset()


@runtime_checkable
class Router(Protocol):
    """Leads a service's address to replicas."""

    def routed(self, name: ServiceName) -> Route | None:
        """Where it leads now."""
        ...

    def route(self, service: Service, replicas: Sequence[Replica]) -> None:
        """Lead it to these; none: drained."""


@dataclass(frozen=True, slots=True)
class Room:
    """What the ledger has for a service.

    `held`: placements it may use now. `more`: how many fit besides. `swap`: how many more would fit if its own older
    generations made way. `need`: the sentence that says what is lacking, "" if nothing is.
    """

    held: tuple[Placement, ...] = ()
    more: int = 0
    swap: int = 0
    need: str = ""

    @property
    def fits(self) -> bool:
        """There is a way to run at least one replica."""
        return bool(self.held or self.more or self.swap)


@runtime_checkable
class Ledger(Protocol):
    """Who has which port and device: marks of all local worlds, kept replicas too, plus claims not yet there. Atomic."""

    def room(self, service: Service) -> Room:
        """What is held and what would fit."""
        ...

    def claim(self, service: Service) -> None:
        """Take what `room` says fits, up to `replicas`."""

    def busy(self, name: ServiceName) -> str:
        """What of its is not free yet ("port 18080: pid 77"); "" when all is."""
        ...


class Secrets(Protocol):
    """Reads secret references; their values stay between here and the shimlet, or a task that needs one."""

    def read(self, workload: Workload) -> Mapping[str, str]:
        """Values by environment key. Transient if one cannot be read: the service stays as it was."""
        ...

    def reveal(self, ref: SecretRef, what: str) -> str:
        """One value that is for no environment, such as an image's password or a model's token. Transient as above.

        `what`: what it is for, to say when it cannot be read.
        """
        ...

    def changed(self, workload: Workload, mark: str) -> bool:
        """The values of now are not those that `mark` was made of. Transient if they cannot be read."""
        ...


__all__ = [
    "Credentials",
    "Dial",
    "Health",
    "Images",
    "Ledger",
    "Ownership",
    "Room",
    "Route",
    "Router",
    "Secrets",
    "Shimlet",
    "ShimletFactory",
    "Task",
    "TaskState",
    "Tasks",
]
