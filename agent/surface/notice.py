"""What is told, and when: a pure function of what is wrong now and what was told before.

A trouble is told once it lasted for its patience, another one of the same subject at once, the same one again after the
interval (an hour) at the earliest. Each subject of which trouble was told is told once more when it is well, for long enough
to be believed, or gone. The same trouble that comes back within the interval is believed to be over more and more slowly, so
that a service that comes and goes all day is told of a few times. Nothing of this is on disk: after a restart a trouble that
lasts is told once again.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import groupby
from typing import NamedTuple

from agent.surface.trouble import Facts, Finding, State, Subject

_BELIEVED = timedelta(seconds=5)  # for which a subject is well before that is told
_DOUBT = 4  # times as long for each relapse but the first, up to the interval
_OVER = timedelta(seconds=60)  # after which a trouble that was on its way to heal is a new one
_MOST = 16  # different troubles remembered of one subject
_ENDS: Mapping[str, str] = {
    "service": "service.dropped",
    "prune": "prune.released",
    "file": "file.recovered",
    "source": "source.recovered",
    "world": "world.recovered",
}
_GROUPED = ("prune.held", "prune.released")  # a batch is held as a whole, so it is told as one
_MANY = 10  # of a kind at one moment have one cause, and more are told as one


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to tell. `names`: the services it is about, or several files; `repeated`: it was told before."""

    event: str
    facts: Facts
    names: tuple[str, ...] = ()
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """One subject with trouble. `told`: when each trouble was told last; `rests`: its better state, and since when.

    `since` is None while it is well: then it is kept for what `known` troubles do, how many `relapses` there were, and
    `healed`, when its last end was told.
    """

    since: datetime | None
    facts: Facts
    told: Mapping[str, datetime] = field(default_factory=dict)
    rests: tuple[State, datetime] | None = None
    healed: datetime | None = None
    known: tuple[str, ...] = ()
    relapses: int = 0


Memory = Mapping[Subject, Case]


class Step(NamedTuple):
    """What is remembered from now on, and what is to be told."""

    memory: Memory
    notices: tuple[Notice, ...]


def step(memory: Memory, found: Mapping[Subject, Finding], now: datetime, *, interval: float) -> Step:
    """Compare what is with what was told. `interval`: seconds until the same trouble is told again."""
    left: dict[Subject, Case] = {}
    notices: list[Notice] = []
    again = timedelta(seconds=interval)
    for subject in sorted(memory.keys() | found.keys()):
        case, finding = memory.get(subject), found.get(subject)
        if finding is None or finding.state is State.GONE:
            if case is not None and case.told:
                notices.append(_end(subject, case, finding))
        elif finding.state is State.TROUBLE:
            case = case or Case(now, finding.facts)
            case = replace(case, since=case.since or now, facts=finding.facts, rests=None)
            left[subject], news = _told(case, finding, now, again)
            notices += news
        elif case is not None:
            rested = _rested(case, finding, now, again)
            if rested is None and case.told:
                notices.append(_notice(finding.event, finding.facts))
            rested = rested or _healed(case, now, again)
            if rested is not None:
                left[subject] = rested
    return Step(left, tuple(_grouped(notices)))


def _told(case: Case, finding: Finding, now: datetime, interval: timedelta) -> tuple[Case, tuple[Notice, ...]]:
    key = f"{finding.event} {finding.key}"
    at = case.told.get(key)
    early = now - (case.since or now) < timedelta(seconds=finding.patience)
    if (
        (early and at is None)
        or (at is not None and now - at < interval)
        or (finding.mild and case.told and at is None)
    ):
        return case, ()
    facts = finding.facts if finding.facts.since is not None else replace(finding.facts, since=case.since)
    kept = sorted(case.told.items(), key=lambda item: item[1])[-_MOST:]
    told = {**{k: t for k, t in kept if now - t < interval}, key: now}
    if case.healed is not None:
        case = replace(case, healed=None, relapses=case.relapses + 1 if key in case.known else 0)
    return replace(case, told=told), (_notice(finding.event, facts, repeated=at is not None),)


def _rested(case: Case, finding: Finding, now: datetime, interval: timedelta) -> Case | None:
    """The case while it is not over, None once it is."""
    if case.since is None:
        return None
    same = case.rests is not None and case.rests[0] is finding.state
    since = case.rests[1] if same and case.rests is not None else now
    well = finding.state is State.WELL
    believed = min(interval, _BELIEVED * _DOUBT ** min(10, max(0, case.relapses - 1)))
    over = now - since >= believed if well else now - since > _OVER and not case.told
    return None if over else replace(case, rests=(finding.state, since))


def _healed(case: Case, now: datetime, interval: timedelta) -> Case | None:
    """What is kept of a case that is over, as long as its trouble might come back."""
    healed = now if case.told else case.healed
    if healed is None or now - healed >= interval:
        return None
    known = tuple(dict.fromkeys((*case.known, *case.told)))[-_MOST:]
    return Case(None, case.facts, healed=healed, known=known, relapses=case.relapses)


def _end(subject: Subject, case: Case, finding: Finding | None) -> Notice:
    if finding is not None:
        return _notice(finding.event, finding.facts)
    reason = "Removed" if subject[0] == "service" else ""
    return _notice(
        _ENDS[subject[0]], replace(case.facts, phase="", serving=None, reason=reason, message="", since=None)
    )


def _notice(event: str, facts: Facts, *, repeated: bool = False) -> Notice:
    return Notice(event, facts, (facts.service,) if facts.service else (), repeated)


def _grouped(notices: Sequence[Notice]) -> Iterator[Notice]:
    """All removals held for one reason are one notice, and all that are released; so are many of any other kind."""

    def kind(notice: Notice) -> tuple[str, str, bool]:
        return notice.event, notice.facts.reason, notice.repeated

    count = Counter(map(kind, notices))
    together = {key for key, number in count.items() if number > (1 if key[0] in _GROUPED else _MANY)}
    for _, group in groupby(sorted((n for n in notices if kind(n) in together), key=kind), kind):
        batch = list(group)
        names = tuple(name for notice in batch for name in (notice.names or (notice.facts.file,)))
        facts = replace(batch[0].facts, service="", file="", serving=None, change=None)
        yield replace(batch[0], names=names, facts=facts)
    yield from (notice for notice in notices if kind(notice) not in together)
