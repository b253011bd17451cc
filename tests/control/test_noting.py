"""A shimlet as goals are handed it."""

from typing import cast

from agent.contracts import Fate, Shimlet
from agent.control.noting import Noting
from tests.fakes.agent import MiniAgent, clock_at_noon, service
from tests.fakes.memory import MemoryShimlet, World

WEB = service("web")


def test_to_look_is_not_to_act() -> None:
    noting = Noting(MemoryShimlet(World()))
    shimlet = cast("Shimlet", noting)
    assert (shimlet.name, shimlet.local) == ("memory", True)
    assert shimlet.list() == {}
    assert shimlet.observe(WEB.name).generations == ()
    assert not noting.acted


def test_whatever_is_done_to_the_world_is_noted_and_passed_on() -> None:
    world = World()
    for act in (
        lambda shimlet: shimlet.apply(WEB, (), {}),
        lambda shimlet: shimlet.record(WEB.name, WEB.digest, Fate.SERVED),
        lambda shimlet: shimlet.remove(WEB.name, WEB.digest),
        lambda shimlet: shimlet.world,  # a stranger's own ability: nobody knows what it does
    ):
        noting = Noting(MemoryShimlet(world))
        act(noting)
        assert noting.acted


def test_a_goal_that_does_nothing_costs_no_second_look() -> None:
    """The whole of it: a claim and a wait see the world once, what is applied is seen anew."""
    clock = clock_at_noon()
    world = World(now=clock.now, probes=False)
    looks = []
    agent = MiniAgent(world, clock)
    seen = agent.world.observe
    agent.world.observe = lambda shimlet, name: (looks.append(name), seen(shimlet, name))[1]  # type: ignore[method-assign]
    agent.see()
    agent.want(WEB)
    agent.pump()
    assert len(looks) == 2, "before the first act, and after the apply"
