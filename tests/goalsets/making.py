"""One moment for a goal: what is observed, and facets that only answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from agent.contracts import (
    Digest,
    Fate,
    Generation,
    GoalContext,
    Health,
    Observed,
    Placement,
    Replica,
    Room,
    Route,
    SecretRef,
    Service,
    ServiceName,
    State,
    TaskState,
    Transient,
    Workload,
)
from tests.fakes.agent import service

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
V1, V2, V3 = service("web", "v1"), service("web", "v2"), service("web", "v3")


@dataclass
class Books:
    """A ledger that says what it is told."""

    says: Room = field(default_factory=Room)
    claims: list[Digest] = field(default_factory=list)

    def room(self, service: Service) -> Room:
        return self.says

    def claim(self, service: Service) -> None:
        self.claims.append(service.digest)

    def busy(self, name: ServiceName) -> str:
        return ""


@dataclass
class Signpost:
    """A router that remembers."""

    leads: Route | None = None
    routes: list[tuple[Digest, tuple[int, ...]]] = field(default_factory=list)

    def routed(self, name: ServiceName) -> Route | None:
        return self.leads

    def route(self, service: Service, replicas: Sequence[Replica]) -> None:
        self.routes.append((service.digest, tuple(r.placement.index for r in replicas)))


@dataclass
class Line:
    """A dial that says what it is told."""

    says: Health | None = None

    def health(self, service: Service, replica: Replica) -> Health | None:
        return self.says

    def ask(self, replica: Replica, method: str, path: str, body: bytes, timeout: float) -> tuple[int, bytes]:
        raise Transient("nobody asks")


@dataclass
class Vault:
    """Secrets that are there, changed, or unreadable."""

    values: Mapping[str, str] = field(default_factory=dict)
    is_changed: bool = False
    missing: bool = False

    def read(self, workload: Workload) -> Mapping[str, str]:
        if self.missing:
            raise Transient("TOKEN is missing", reason="SecretUnreadable")
        return self.values

    def reveal(self, ref: SecretRef, what: str) -> str:
        if ref.name not in self.values:
            raise Transient(f"{what}: {ref.name} is missing", reason="SecretUnreadable")
        return self.values[ref.name]

    def changed(self, workload: Workload, mark: str) -> bool:
        self.read(workload)
        return self.is_changed


@dataclass
class Scribe:
    """A shimlet that writes down what it is told."""

    calls: list[tuple[object, ...]] = field(default_factory=list)
    name: str = "scribe"
    local: bool = True

    def apply(self, service: Service, placements: Sequence[Placement], secrets: Mapping[str, str]) -> None:
        self.calls.append(("apply", service.digest, tuple(p.index for p in placements), dict(secrets)))

    def record(self, name: ServiceName, digest: Digest, fate: Fate) -> None:
        self.calls.append(("record", digest, fate))

    def remove(self, name: ServiceName, digest: Digest) -> None:
        self.calls.append(("remove", digest))


@dataclass
class NoTasks:
    """Remembers what was begun."""

    states: dict[str, TaskState] = field(default_factory=dict)
    begun: list[str] = field(default_factory=list)

    def start(self, key: str, work: object) -> None:
        self.begun.append(key)

    def state(self, key: str) -> TaskState | None:
        return self.states.get(key)


def replica(index: int = 0, state: State = State.RUNNING, **more: object) -> Replica:
    made = Replica(Placement(index, 18000 + index), state, started_at=NOW)
    return replace(made, **more)  # type: ignore[arg-type]


def generation(of: Service = V1, *replicas: Replica, fate: Fate = Fate.SERVED, **more: object) -> Generation:
    return replace(Generation(of, replicas or (replica(),), fate), **more)  # type: ignore[arg-type]


def moment(*generations: Generation, target: Service = V1, **more: object) -> GoalContext:
    made = GoalContext(
        target=target,
        observed=Observed(target.name, generations),
        shimlet=Scribe(),  # type: ignore[arg-type]
        tasks=NoTasks(),
        now=NOW,
        images=None,
        ledger=None,
        router=None,
        dial=None,
        secrets=Vault(),
    )
    return replace(made, **more)  # type: ignore[arg-type]


def calls(ctx: GoalContext) -> list[tuple[object, ...]]:
    """What the shimlet was told."""
    assert isinstance(ctx.shimlet, Scribe)
    return ctx.shimlet.calls
