"""Goals decide order and moment; a GoalSet is an ordered list of them.

`is_achieved` only looks. `ensure` only acts: it begins and never waits. A GoalContext is one moment of one service,
made anew after each `ensure`.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeAlias

from agent.contracts.observed import Generation, Observed
from agent.contracts.shimlet import Dial, Images, Ledger, Router, Secrets, Shimlet, ShimletFactory, Tasks
from agent.contracts.workload import Digest, Service


@dataclass(frozen=True, slots=True)
class Achieved:
    """It holds, as seen now."""


@dataclass(frozen=True, slots=True)
class Pending:
    """Not yet. `reason`: CamelCase from a closed set; `message`: a sentence; `retry_after`: seconds, None = the default."""

    reason: str
    message: str = ""
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The digest itself is at fault: it is burnt, and not tried again until it changes or someone asks."""

    reason: str
    message: str = ""


Verdict: TypeAlias = Achieved | Pending | Failed


@dataclass(frozen=True, slots=True)
class GoalContext:
    """One moment of one service.

    A facet (images, ledger, router, dial) is the shimlet's own, else this host's if the shimlet is local, else None,
    and then a goal about it holds. `keep`: digests that must stay, stopped, as the record of a failure.
    `restart_after`: replicas that started earlier are to be started again. `retry`: when somebody asked for another try;
    a pause that began before that is over.
    """

    target: Service
    observed: Observed
    shimlet: Shimlet
    tasks: Tasks
    now: datetime
    images: Images | None
    ledger: Ledger | None
    router: Router | None
    dial: Dial | None
    secrets: Secrets
    keep: frozenset[Digest] = frozenset()
    restart_after: datetime | None = None
    retry: datetime | None = None

    @property
    def generation(self) -> Generation | None:
        """The target's own generation, if anything of it exists."""
        return self.observed.generation(self.target.digest)

    @property
    def others(self) -> tuple[Generation, ...]:
        """Every other generation of the service, oldest first."""
        return tuple(g for g in self.observed.generations if g.service.digest != self.target.digest)


class Goal(Protocol):
    """One condition, and how to bring it about."""

    name: str

    def is_achieved(self, ctx: GoalContext) -> Verdict | bool:
        """Only looks. True means Achieved, False Pending."""
        ...

    def ensure(self, ctx: GoalContext) -> None:
        """Only acts: begins, never waits. Called while the verdict is Pending."""


@dataclass(frozen=True, slots=True)
class GoalSet:
    """An ordered list of goals. `removal`: the GoalSet that undoes it; `deadline`: seconds until Pending counts as stalled."""

    name: str
    goals: tuple[Goal, ...]
    removal: str = "service-delete"
    deadline: float = 3600.0
    aliases: tuple[str, ...] = ()


class GoalSetBuilder:
    """Composes a GoalSet step by step: `compose("mine").then(a).then(b).removed_by("service-delete").build()`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._goals: list[Goal] = []
        self._removal = "service-delete"
        self._deadline = 3600.0
        self._aliases: tuple[str, ...] = ()

    def then(self, *goals: Goal) -> "GoalSetBuilder":
        """Add the goals that come next."""
        self._goals.extend(goals)
        return self

    def removed_by(self, goalset: str) -> "GoalSetBuilder":
        """Name the GoalSet that undoes this one."""
        self._removal = goalset
        return self

    def within(self, seconds: float) -> "GoalSetBuilder":
        """Say after how long Pending counts as stalled."""
        self._deadline = seconds
        return self

    def also_known_as(self, *aliases: str) -> "GoalSetBuilder":
        """Give it further names."""
        self._aliases = aliases
        return self

    def build(self) -> GoalSet:
        """The finished GoalSet. Raises ValueError if it has no goals or two of one name."""
        names = [goal.name for goal in self._goals]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"goalset {self._name}: goals must be at least one and of different names, got {names}")
        return GoalSet(self._name, tuple(self._goals), self._removal, self._deadline, self._aliases)


def compose(name: str) -> GoalSetBuilder:
    """Begin a GoalSet."""
    return GoalSetBuilder(name)


class Plugins(Protocol):
    """Where a plugin file's `register(plugins)` puts what it brings."""

    def shimlet(self, name: str, factory: ShimletFactory) -> None:
        """Register a ShimletFactory under a name."""

    def goalset(self, goalset: GoalSet) -> None:
        """Register a GoalSet under its name and aliases."""
