"""The plan, by table: desired × world × words → one intent a name."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from agent.contracts import Digest, Fate, Generation, Observed, Placement, Replica, Service, ServiceName, State
from agent.control.desired import DesiredState, Doubt, InvalidFile
from agent.control.gate import Candidate, Held, Judgement
from agent.control.plan import Inputs, Intent, Keep, Remove, Run, candidates, intents, lane
from agent.control.unmarked import noted
from agent.control.words import Words
from agent.control.world import Sight
from agent.spec.resolve import Wanted
from tests.fakes.agent import service

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
WEB = service("web")
NAME = WEB.name
NO_WORDS, NOTHING = Words(), Judgement()


def generation(of: Service, fate: Fate = Fate.SERVED) -> Generation:
    return Generation(of, (Replica(Placement(0, 18000), State.RUNNING),), fate)


def sight(*generations: Generation, error: str = "") -> Sight:
    services: dict[ServiceName, list[Generation]] = {}
    for each in generations:
        services.setdefault(each.service.name, []).append(each)
    return Sight({name: Observed(name, tuple(found)) for name, found in services.items()}, NOW, error)


def wants(*services: Service | Wanted, **changes: object) -> DesiredState:
    wanted = [s if isinstance(s, Wanted) else Wanted(s, suspended=False, restarted_at=None, line=1) for s in services]
    state = DesiredState("folder:/specs", "r1", "1:1", "/specs", NOW, wanted={w.service.name: w for w in wanted})
    return replace(state, **changes)  # type: ignore[arg-type]


def planned(
    desired: DesiredState | None,
    sights: Mapping[str, Sight],
    words: Words = NO_WORDS,
    judgement: Judgement = NOTHING,
) -> dict[ServiceName, Intent]:
    return intents(Inputs(desired, sights, words), judgement)


def of_web(*args: object, **more: object) -> Intent | None:
    return planned(*args, **more).get(NAME)  # type: ignore[arg-type]


EMPTY = {"memory": sight()}
HERE = {"memory": sight(generation(WEB))}
UNSEEN = {"memory": Sight(None, None, "it is down")}
LOST = {"memory": sight(generation(WEB), error="it is down")}
HELD = Held("OverBudget", "too many", NOW)


@pytest.mark.parametrize("sights", [EMPTY, HERE])
def test_what_is_wanted_runs(sights: Mapping[str, Sight]) -> None:
    assert of_web(wants(WEB), sights) == Run(WEB)


def test_nothing_wanted_and_nothing_seen_is_no_intent() -> None:
    assert planned(wants(), EMPTY) == {}


def test_before_the_source_was_read_all_is_kept() -> None:
    assert of_web(None, HERE) == Keep("memory", "SourceUnread", "the source was not read yet")


@pytest.mark.parametrize("sights", [UNSEEN, LOST])
def test_in_a_world_that_is_not_seen_nothing_is_done(sights: Mapping[str, Sight]) -> None:
    assert of_web(wants(WEB), sights) == Keep("memory", "WorldUnseen", "it is down")


def test_what_is_unwanted_in_a_world_that_is_not_seen_is_kept_and_no_candidate() -> None:
    assert of_web(wants(), LOST) == Keep("memory", "WorldUnseen", "it is down")
    assert candidates(Inputs(wants(), LOST, Words())) == []


def test_a_shimlet_that_does_not_exist_is_told() -> None:
    gone = replace(WEB, shimlet="kubernetes")
    assert of_web(wants(gone), EMPTY) == Keep("kubernetes", "WorldUnseen", "there is no shimlet kubernetes")


def test_suspended_is_kept_and_goes_before_anything_else() -> None:
    suspended = Wanted(WEB, suspended=True, restarted_at=NOW, line=1)
    for sights in (EMPTY, HERE, LOST):
        intent = of_web(wants(suspended), sights)
        assert isinstance(intent, Keep)
        assert intent.reason == "Suspended"


def test_what_is_absent_goes_only_if_the_gate_says_so() -> None:
    assert candidates(Inputs(wants(), HERE, Words())) == [Candidate(NAME, "folder:/specs")]
    assert of_web(wants(), HERE, judgement=Judgement(frozenset({NAME}))) == Remove("memory")
    held = Judgement(held={NAME: HELD})
    assert of_web(wants(), HERE, judgement=held) == Keep("memory", "OverBudget", "too many", NOW)


def test_a_doubt_runs_on_as_it_was_applied() -> None:
    invalid = (InvalidFile("web.yaml", ("3:1: no",), b"]: {"),)
    intent = of_web(wants(invalid=invalid), HERE)
    assert intent == Run(WEB, "SpecInvalid", "web.yaml is invalid and may name it: 3:1: no")
    assert candidates(Inputs(wants(invalid=invalid), HERE, Words())) == []


def test_a_doubt_with_a_last_good_word_walks_to_that() -> None:
    last = Wanted(service("web", "v2"), suspended=False, restarted_at=None, line=1)
    doubts = {NAME: Doubt("SpecInvalid", "web.yaml: 1:1: no", last)}
    assert of_web(wants(doubts=doubts), HERE) == Run(last.service, "SpecInvalid", "web.yaml: 1:1: no")
    assert of_web(wants(doubts=doubts), EMPTY) == Run(last.service, "SpecInvalid", "web.yaml: 1:1: no")


def test_a_doubt_about_what_only_failed_is_kept() -> None:
    doubts = {NAME: Doubt("DuplicateName", "twice")}
    failed = {"memory": sight(generation(WEB, Fate.FAILED))}
    assert of_web(wants(doubts=doubts), failed) == Keep("memory", "DuplicateName", "twice")


def test_a_doubt_speaks_for_what_served_last() -> None:
    v2 = service("web", "v2")
    both = {"memory": sight(generation(WEB), generation(v2, Fate.NEW))}
    doubts = {NAME: Doubt("DuplicateName", "twice")}
    assert of_web(wants(doubts=doubts), both) == Run(WEB, "DuplicateName", "twice")


def test_a_restart_reaches_what_is_in_doubt_too() -> None:
    doubts = {NAME: Doubt("DuplicateName", "twice")}
    words = Words(restarts={NAME: NOW})
    assert of_web(wants(doubts=doubts), HERE, words) == Run(WEB, "DuplicateName", "twice", NOW, retry=NOW)


def test_a_changed_shimlet_is_removal_there_and_no_candidate() -> None:
    moved = replace(WEB, shimlet="other", spec_digest=Digest("moved"))
    sights = {**HERE, "other": sight()}
    assert of_web(wants(moved), sights) == Remove("memory", moved)
    assert candidates(Inputs(wants(moved), sights, Words())) == []
    assert of_web(wants(moved), {"memory": sight(), "other": sight()}) == Run(moved)


def test_a_changed_shimlet_waits_for_both_worlds() -> None:
    moved = replace(WEB, shimlet="other", spec_digest=Digest("moved"))
    assert of_web(wants(moved), {**HERE, "other": Sight(None, None, "down")}) == Keep("other", "WorldUnseen", "down")
    intent = of_web(wants(moved), {**LOST, "other": sight()})
    assert intent == Keep("other", "WorldUnseen", "it still runs on memory: it is down")


@pytest.mark.parametrize(
    ("annotation", "word", "after", "retry"),
    [
        (None, None, None, None),
        (NOW, None, NOW, None),
        (None, NOW, NOW, NOW),
        (NOW, NOW - timedelta(1), NOW, NOW - timedelta(1)),
        (NOW - timedelta(1), NOW, NOW, NOW),
    ],
)
def test_the_later_of_word_and_annotation_counts(
    annotation: datetime | None, word: datetime | None, after: datetime | None, retry: datetime | None
) -> None:
    wanted = Wanted(WEB, suspended=False, restarted_at=annotation, line=1)
    words = Words(restarts={NAME: word} if word is not None else {})
    assert of_web(wants(wanted), HERE, words) == Run(WEB, restart_after=after, retry=retry)


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


def test_the_lane_is_where_it_is_looked_at() -> None:
    assert lane(Run(replace(WEB, shimlet="x"))) == "x"
    assert lane(Remove("y")) == "y"
    assert lane(Keep("z", "Suspended")) == "z"


# An upgrade restarts nothing.


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
