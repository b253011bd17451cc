"""The gate, by table."""

from datetime import UTC, datetime, timedelta

import pytest

from agent.contracts import ServiceName
from agent.control.gate import Budget, Candidate, Evidence, Held, Judgement, judge

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
EARLIER = NOW - timedelta(hours=5)
OURS = Evidence("folder:/specs")


def names(text: str) -> frozenset[ServiceName]:
    return frozenset(ServiceName(name) for name in text.split())


def candidate(name: str, source: str = "folder:/specs", *, protected: bool = False) -> Candidate:
    return Candidate(ServiceName(name), source, protected)


def pruned(*ages: float) -> tuple[tuple[ServiceName, datetime], ...]:
    return tuple((ServiceName(f"gone{n}"), NOW - timedelta(minutes=age)) for n, age in enumerate(ages))


def judged(
    gone: str,
    *,
    evidence: Evidence = OURS,
    budget: Budget | None = None,
    approved: str = "",
    removing: str = "",
    before: dict[str, str] | None = None,
    **more: str,
) -> Judgement:
    return judge(
        [candidate(name, more.get("source", "folder:/specs")) for name in gone.split()],
        evidence,
        budget or Budget(4),
        approved=names(approved),
        removing=names(removing),
        before={ServiceName(n): Held(reason, "as before", EARLIER) for n, reason in (before or {}).items()},
        now=NOW,
    )


def reasons(judgement: Judgement) -> dict[str, str]:
    return {name: held.reason for name, held in judgement.held.items()}


def test_nothing_absent_is_nothing_to_judge() -> None:
    assert judged("") == Judgement()


def test_a_removal_within_the_budget_is_allowed_and_counts() -> None:
    assert judged("a") == Judgement(names("a"), names("a"), {})


@pytest.mark.parametrize(
    ("services", "size"), [(0, 1), (1, 1), (4, 1), (7, 1), (8, 2), (11, 2), (12, 3), (100, 25), (10000, 2500)]
)
def test_the_budget_is_a_quarter_and_at_least_one(services: int, size: int) -> None:
    assert Budget(services).size == size


def test_removals_count_for_the_whole_window_and_not_longer() -> None:
    assert Budget(8, pruned(1, 9)).left(NOW) == 0
    assert Budget(8, pruned(1, 10)).left(NOW) == 1
    assert Budget(8, pruned(10, 600)).left(NOW) == 2


def test_a_batch_that_does_not_fit_is_held_whole() -> None:
    judgement = judged("a b c", budget=Budget(8))
    assert (judgement.allowed, judgement.fresh) == (frozenset(), frozenset())
    assert reasons(judgement) == {"a": "OverBudget", "b": "OverBudget", "c": "OverBudget"}
    assert "3 removals at once, and 2 of 2 left" in judgement.held[ServiceName("a")].message
    assert "approve-prune" in judgement.held[ServiceName("a")].message


def test_what_is_left_of_the_budget_counts() -> None:
    assert reasons(judged("a b", budget=Budget(8, pruned(1)))) == {"a": "OverBudget", "b": "OverBudget"}
    assert judged("a", budget=Budget(8, pruned(1))).allowed == names("a")


@pytest.mark.parametrize("reason", ["OverBudget", "SourceEmpty", "SourceReplaced"])
def test_what_was_held_stays_held_although_it_would_fit_by_now(reason: str) -> None:
    judgement = judged("a b", budget=Budget(100), before={"a": reason})
    assert reasons(judgement) == {"a": reason}
    assert judgement.held[ServiceName("a")].since == EARLIER
    assert judgement.allowed == names("b")


def test_approval_releases_just_what_it_names_and_costs_no_budget() -> None:
    before = dict.fromkeys("abc", "OverBudget")
    judgement = judged("a b c", before=before, approved="b")
    assert judgement.allowed == names("b")
    assert judgement.fresh == frozenset()
    assert set(judgement.held) == names("a c")


def test_a_removal_that_began_goes_on() -> None:
    judgement = judged("a b c", budget=Budget(4, pruned(1)), removing="a")
    assert judgement.allowed == names("a")
    assert set(judgement.held) == names("b c")


@pytest.mark.parametrize(
    ("evidence", "reason"),
    [
        (Evidence("folder:/specs", alive=False, empty=True), "SourceEmpty"),
        (Evidence("folder:/specs", replaced=True), "SourceReplaced"),
    ],
)
def test_doubt_holds_and_approval_overrides_it(evidence: Evidence, reason: str) -> None:
    assert reasons(judged("a", evidence=evidence)) == {"a": reason}
    assert judged("a", evidence=evidence, approved="a").allowed == names("a")


@pytest.mark.parametrize(
    ("evidence", "source", "reason"),
    [
        (Evidence("folder:/other"), "folder:/specs", "OtherSource"),
        (Evidence("folder:/specs", unread=("x.yaml",)), "folder:/specs", "SourceUnread"),
    ],
)
def test_what_nobody_may_override(evidence: Evidence, source: str, reason: str) -> None:
    for words in ({"approved": "a"}, {"removing": "a"}, {}):
        assert reasons(judged("a", evidence=evidence, source=source, **words)) == {"a": reason}


def test_a_protected_service_is_never_removed() -> None:
    judgement = judge(
        [candidate("a", protected=True)],
        OURS,
        Budget(100),
        approved=names("a"),
        removing=names("a"),
        before={},
        now=NOW,
    )
    assert reasons(judgement) == {"a": "Protected"}


@pytest.mark.parametrize(
    "evidence",
    [
        Evidence("folder:/other", adopted=frozenset({"folder:/specs"})),
        Evidence("folder:/other", seen=names("a")),
        Evidence("folder:/specs", replaced=True, seen=names("a")),
        Evidence("folder:/specs", alive=True, empty=True),
    ],
)
def test_what_is_evidence_enough(evidence: Evidence) -> None:
    assert judged("a", evidence=evidence).allowed == names("a")


def test_a_removal_that_is_held_does_not_use_the_budget_of_the_others() -> None:
    judgement = judged("a b", before={"a": "OverBudget"})
    assert (judgement.allowed, set(judgement.held)) == (names("b"), names("a"))


MOVED = Evidence("folder:/specs", elsewhere=frozenset({ServiceName("a"), ServiceName("b")}), host="here")


@pytest.mark.parametrize(
    ("name", "host", "reason"),
    [
        ("a", "here", None),  # a commit moved it
        ("a", "", None),  # nobody knows, so the budget guards
        ("a", "there", "HostChanged"),  # the host's name or labels changed, not the document
        ("c", "there", None),  # its document is gone, whatever this host is called
    ],
)
def test_a_document_for_other_hosts_is_evidence_unless_the_host_changed(name: str, host: str, reason: str) -> None:
    judgement = judge(
        [Candidate(ServiceName(name), "folder:/specs", host=host)],
        MOVED,
        Budget(4),
        approved=names(""),
        removing=names(""),
        before={},
        now=NOW,
    )
    assert reasons(judgement) == ({name: reason} if reason else {})
    assert judgement.allowed == names("" if reason else name)


def test_what_a_changed_host_holds_is_released_by_approval() -> None:
    moved = Candidate(ServiceName("a"), "folder:/specs", host="there")
    judgement = judge([moved], MOVED, Budget(4), approved=names("a"), removing=names(""), before={}, now=NOW)
    assert judgement.allowed == names("a")
