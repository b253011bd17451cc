"""The plan, by table: desired × world × words → one intent a name."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from agent.contracts import Digest, Fate, Generation, Observed, Placement, Replica, Service, ServiceName, State
from agent.control.desired import DesiredState, Doubt, InvalidFile
from agent.control.gate import Candidate, Held, Judgement
from agent.control.intent import Intent, Keep, Remove, Run, lane
from agent.control.plan import Inputs, candidates, intents
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


def test_the_lane_is_where_it_is_looked_at() -> None:
    assert lane(Run(replace(WEB, shimlet="x"))) == "x"
    assert lane(Remove("y")) == "y"
    assert lane(Keep("z", "Suspended")) == "z"
