"""The built-in GoalSets are what the entry points name."""

from importlib.metadata import entry_points

import pytest

from agent.contracts import GoalSet
from goalsets.sets import LLM_DELETE, LLM_DEPLOY, SERVICE_DELETE, SERVICE_DEPLOY

ALL = {goalset.name: goalset for goalset in (SERVICE_DEPLOY, SERVICE_DELETE, LLM_DEPLOY, LLM_DELETE)}


@pytest.mark.parametrize("name", sorted(ALL))
def test_each_is_an_entry_point_under_its_name(name: str) -> None:
    found = {point.name: point for point in entry_points(group="xmod.goalsets")}
    assert found[name].load() is ALL[name]


def test_the_order_of_coming_and_going() -> None:
    coming = ["image_present", "placed", "restarted", "created", "healthy", "exposed", "retired"]
    for deploy in (SERVICE_DEPLOY, LLM_DEPLOY):
        assert [goal.name for goal in deploy.goals] == coming
    for delete in (SERVICE_DELETE, LLM_DELETE):
        assert [goal.name for goal in delete.goals] == ["drained", "stopped", "removed"]


@pytest.mark.parametrize("deploy", [SERVICE_DEPLOY, LLM_DEPLOY])
def test_what_comes_can_go(deploy: GoalSet) -> None:
    assert deploy.removal in ALL


def test_the_references_names_are_aliases() -> None:
    assert LLM_DEPLOY.aliases == ("opensource-llm-deploy",)
    assert LLM_DELETE.aliases == ("opensource-llm-delete",)
    assert LLM_DEPLOY.removal == "llm-delete"
