"""The operator's words survive a restart as they were, and nothing else is taken for them."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from agent.contracts import Digest, ServiceName
from agent.control.gate import Held
from agent.control.words import Suspension, Words

NOW = datetime(2026, 1, 1, 12, 30, 15, 999, tzinfo=UTC)
A, B = ServiceName("a"), ServiceName("b")
ALL = Words(
    approved=frozenset({A, B}),
    adopted=frozenset({"folder:/old"}),
    restarts={A: NOW},
    rollouts=(B, A),
    pruned=((A, NOW), (A, NOW + timedelta(seconds=1))),
    held={A: Held("OverBudget", "too many", NOW)},
    shimlets=frozenset({"docker"}),
    protected={A: True, B: False},
    agreed={A: (Digest("spec"), Digest("digest"))},
    hosts={A: "edge-01 (gpu=h100)"},
    relabelled={A: Digest("spec")},
    suspended={A: Suspension(NOW, "why"), B: Suspension(NOW)},
    all_suspended=Suspension(NOW, "all"),
    excepted=frozenset({A, B}),
    still={A: True, B: False},
    retries={A: NOW},
)


@pytest.mark.parametrize("words", [Words(), ALL])
def test_words_are_read_as_they_were_written(words: Words) -> None:
    assert Words.from_plain(json.loads(json.dumps(words.to_plain()))) == words


def test_words_of_an_older_agent_are_read() -> None:
    assert Words.from_plain({}) == Words()
    assert Words.from_plain({"approved": ["a"], "something": "new"}) == Words(approved=frozenset({A}))


@pytest.mark.parametrize(
    "data",
    [
        {"approved": 5},
        {"restarts": ["a"]},
        {"restarts": {"a": "yesterday"}},
        {"pruned": [["a"]]},
        {"held": {"a": ["x"]}},
        {"agreed": {"a": 1}},
        {"suspended": {"a": "now"}},
        {"allSuspended": ["yesterday", ""]},
        {"still": ["a"]},
        {"retries": {"a": 5}},
    ],
)
def test_what_is_something_else_is_refused(data: dict[str, object]) -> None:
    with pytest.raises((ValueError, TypeError, KeyError, AttributeError)):
        Words.from_plain(data)


def test_what_was_said_of_a_service_that_is_gone_is_void_but_its_removal_counts() -> None:
    left = ALL.without(A)
    assert left == Words(
        approved=frozenset({B}),
        adopted=ALL.adopted,
        rollouts=(B,),
        pruned=ALL.pruned,
        shimlets=ALL.shimlets,
        protected={B: False},
        suspended={B: Suspension(NOW)},
        all_suspended=ALL.all_suspended,
        excepted=frozenset({B}),
        still={B: False},
    )
