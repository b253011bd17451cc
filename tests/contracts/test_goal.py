"""How goals are composed, and what a context tells of its moment."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest

from agent.contracts import Generation, GoalContext, GoalSet, Observed, Placement, Replica, State, Verdict, compose
from agent.host.secret import HostSecrets
from tests.fakes.agent import service
from tests.fakes.memory import MemoryShimlet, World

V1, V2, V3 = service("web", "v1"), service("web", "v2"), service("web", "v3")


@dataclass(frozen=True)
class Named:
    name: str

    def is_achieved(self, ctx: GoalContext) -> Verdict | bool:
        return True

    def ensure(self, ctx: GoalContext) -> None:
        """Nothing to do."""


A, B, C = Named("a"), Named("b"), Named("c")


def test_a_goalset_is_composed_in_order() -> None:
    built = compose("mine").then(A).then(B, C).removed_by("mine-delete").within(60).also_known_as("x", "y").build()
    assert built == GoalSet("mine", (A, B, C), "mine-delete", 60, ("x", "y"))


def test_what_is_not_said_has_a_default() -> None:
    assert compose("mine").then(A).build() == GoalSet("mine", (A,), "service-delete", 3600.0, ())


@pytest.mark.parametrize("goals", [(), (A, A), (A, B, Named("a"))])
def test_a_goalset_has_goals_of_different_names(goals: tuple[Named, ...]) -> None:
    with pytest.raises(ValueError, match="goalset mine: goals must be at least one and of different names"):
        compose("mine").then(*goals).build()


def test_a_context_tells_the_targets_generation_from_the_others() -> None:
    generations = tuple(Generation(each, (Replica(Placement(0), State.RUNNING),)) for each in (V1, V2))
    ctx = GoalContext(
        target=V2,
        observed=Observed(V2.name, generations),
        shimlet=MemoryShimlet(World()),
        tasks=None,  # type: ignore[arg-type]
        now=datetime(2026, 1, 1, tzinfo=UTC),
        images=None,
        ledger=None,
        router=None,
        dial=None,
        secrets=HostSecrets({}),
    )
    assert ctx.generation == generations[1]
    assert ctx.others == (generations[0],)
    elsewhere = replace(ctx, target=V3)
    assert elsewhere.generation is None
    assert elsewhere.others == generations
