"""What resolves differently stays as it was applied, and who may go: from the plan as it is made."""

from dataclasses import replace

import pytest

from agent.contracts import Digest, Fate, Service
from agent.control.intent import Remove, Run
from agent.control.plan import Inputs
from agent.control.unmarked import noted
from agent.control.words import Words
from tests.control.test_plan import EMPTY, HERE, NAME, NO_WORDS, NOW, WEB, generation, of_web, planned, sight, wants
from tests.fakes.agent import service


def upgraded(of: Service) -> Service:
    return replace(of, digest=Digest(f"new-{of.name}"))


def test_what_resolves_differently_runs_on_as_applied() -> None:
    new = upgraded(WEB)
    intent = of_web(wants(new), HERE)
    message = f"its spec resolves to {new.digest[:8]} now; xmod-agent rollout web"
    assert intent == Run(WEB, "ResolvesDifferently", message)


def test_what_resolves_differently_and_is_nowhere_starts_as_it_resolves() -> None:
    assert of_web(wants(upgraded(WEB)), EMPTY) == Run(upgraded(WEB))


def test_a_users_change_takes_it() -> None:
    changed = replace(upgraded(WEB), spec_digest=Digest("another spec"))
    assert of_web(wants(changed), HERE) == Run(changed)


def test_nobody_goes_back_to_a_failure_of_the_same_spec() -> None:
    new = upgraded(WEB)
    assert of_web(wants(new), {"memory": sight(generation(WEB, Fate.FAILED))}) == Run(new)


def test_a_rollout_that_began_goes_on() -> None:
    new = upgraded(WEB)
    both = {"memory": sight(generation(WEB), generation(new, Fate.NEW))}
    assert of_web(wants(new), both) == Run(new)
    assert of_web(wants(new), both, Words(rollouts=(NAME,))) == Run(new)


def test_rollouts_take_turns_in_the_order_in_which_they_were_asked_for() -> None:
    a, b, c = service("a"), service("b"), service("c")
    sights = {"memory": sight(*(generation(s) for s in (a, b, c)))}
    desired = wants(*(upgraded(s) for s in (a, b, c)))
    plan = planned(desired, sights, Words(rollouts=(b.name, a.name)))
    assert plan[b.name] == Run(upgraded(b))
    assert plan[a.name] == Run(a, "RolloutWaits", "after b, which is not through yet")
    waiting = plan[c.name]
    assert isinstance(waiting, Run)
    assert waiting.note == "ResolvesDifferently"


@pytest.mark.parametrize("fate", [Fate.NEW, Fate.FAILED])
def test_one_that_is_not_through_halts_the_rest(fate: Fate) -> None:
    a, b = service("a"), service("b")
    sights = {"memory": sight(generation(a), generation(upgraded(a), fate), generation(b))}
    plan = planned(wants(upgraded(a), upgraded(b)), sights, Words(rollouts=(a.name, b.name)))
    assert plan[a.name] == Run(upgraded(a))
    assert plan[b.name] == Run(b, "RolloutWaits", "after a, which is not through yet")


def test_one_that_is_through_lets_the_next_go() -> None:
    a, b = service("a"), service("b")
    sights = {"memory": sight(generation(upgraded(a)), generation(b))}
    plan = planned(wants(upgraded(a), upgraded(b)), sights, Words(rollouts=(a.name, b.name)))
    assert plan[b.name] == Run(upgraded(b))


def test_a_changed_default_shimlet_moves_nothing_until_its_rollout() -> None:
    elsewhere = replace(WEB, shimlet="other")
    sights = {**HERE, "other": sight()}
    message = "its spec resolves to shimlet other now; xmod-agent rollout web"
    assert of_web(wants(elsewhere), sights) == Run(WEB, "ResolvesDifferently", message)
    asked = of_web(wants(elsewhere), sights, Words(restarts={NAME: NOW}))
    assert asked == Run(WEB, "ResolvesDifferently", message, NOW, retry=NOW)
    assert of_web(wants(elsewhere), sights, Words(rollouts=(NAME,))) == Remove("memory", elsewhere)
    edited = replace(elsewhere, spec_digest=Digest("edited"))
    words = noted(Inputs(wants(replace(edited, shimlet="memory")), HERE, NO_WORDS))
    assert noted(Inputs(wants(edited), sights, words)) == words
    assert of_web(wants(edited), sights, words) == Run(
        replace(edited, shimlet="memory"), "ResolvesDifferently", message
    )


def test_what_failed_with_nothing_to_go_back_to_halts_the_rest_too() -> None:
    a, b = service("a"), service("b")
    for left in ((generation(upgraded(a), Fate.FAILED),), ()):
        sights = {"memory": sight(*left, generation(b))}
        plan = planned(wants(upgraded(a), upgraded(b)), sights, Words(rollouts=(a.name, b.name)))
        assert plan[b.name] == Run(b, "RolloutWaits", "after a, which is not through yet")


def test_moves_take_turns_too() -> None:
    a, b = service("a"), service("b")
    sights = {"memory": sight(generation(a), generation(b)), "other": sight()}
    elsewhere = [replace(each, shimlet="other") for each in (a, b)]
    plan = planned(wants(*elsewhere), sights, Words(rollouts=(b.name, a.name)))
    assert plan == {
        b.name: Remove("memory", elsewhere[1]),
        a.name: Run(a, "RolloutWaits", "after b, which is not through yet"),
    }
