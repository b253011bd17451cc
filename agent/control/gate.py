"""The gate: may this be deleted? Pure.

Deletion needs positive evidence from the source that the service came from, and fits a budget: max(1, 25 %) of the
services at the start of a sliding 10-minute window. What lacks either is held, shown, and stays held until it is wanted
again or an operator approves it: a held removal never happens by itself because time passed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from agent.contracts import ServiceName

HOST_CHANGED = "HostChanged"
OVER_BUDGET, SOURCE_EMPTY, SOURCE_REPLACED = "OverBudget", "SourceEmpty", "SourceReplaced"
STAYING = (OVER_BUDGET, SOURCE_EMPTY, SOURCE_REPLACED)  # once held for one of these, only a file or an operator ends it


@dataclass(frozen=True, slots=True)
class Candidate:
    """A service that runs and that no file wants here. `source`: the id in its mark.

    `host`: for which host its spec was last read when it was wanted, "" if unknown. `suspended`: why, "" if it is not.
    """

    name: ServiceName
    source: str
    protected: bool = False
    host: str = ""
    suspended: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the source's word is worth.

    `seen`: names that this source, as it is now, was seen to hold since the agent started. `alive`: it was seen to hold
    anything. `replaced`: it is another folder (device or inode) than the one first seen. `unread`: files of it that cannot
    be read; `unexplained`: invalid ones of which nobody knows whom they name. `adopted`: ids of sources whose services
    count as its own. `elsewhere`: names that it wants on other hosts only; `host`: which host this is to it.
    """

    source: str
    seen: frozenset[ServiceName] = frozenset()
    alive: bool = True
    empty: bool = False
    replaced: bool = False
    unread: tuple[str, ...] = ()
    unexplained: tuple[str, ...] = ()
    adopted: frozenset[str] = frozenset()
    elsewhere: frozenset[ServiceName] = frozenset()
    host: str = ""


@dataclass(frozen=True, slots=True)
class Budget:
    """`services`: how many there were when the window began. `pruned`: removals allowed lately, and when."""

    services: int
    pruned: Sequence[tuple[ServiceName, datetime]] = ()
    fraction: float = 0.25
    window: timedelta = timedelta(minutes=10)

    @property
    def size(self) -> int:
        """How many removals the whole window has room for."""
        return max(1, int(self.services * self.fraction))

    def left(self, now: datetime) -> int:
        """How many removals more fit now."""
        return self.size - sum(1 for _, at in self.pruned if now - at < self.window)


@dataclass(frozen=True, slots=True)
class Held:
    """A removal that does not happen. `reason`: CamelCase."""

    reason: str
    message: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Judgement:
    """`allowed`: to be removed; `fresh`: those of them that count against the budget from now on; `held`: the others."""

    allowed: frozenset[ServiceName] = frozenset()
    fresh: frozenset[ServiceName] = frozenset()
    held: Mapping[ServiceName, Held] = field(default_factory=dict)


def judge(
    candidates: Sequence[Candidate],
    evidence: Evidence,
    budget: Budget,
    *,
    approved: frozenset[ServiceName],
    removing: frozenset[ServiceName],
    before: Mapping[ServiceName, Held],
    now: datetime,
) -> Judgement:
    """Divide the candidates. `removing`: allowed before and still there; `before`: what was held until now."""
    going: set[ServiceName] = set()
    stopped: dict[ServiceName, tuple[str, str]] = {}
    batch: list[ServiceName] = []
    for candidate in candidates:
        name = candidate.name
        hard, soft = _never(candidate, evidence), _doubt(candidate, evidence)
        if hard is not None:
            stopped[name] = hard
        elif name in approved or name in removing:
            going.add(name)
        elif soft is not None:
            stopped[name] = soft
        elif name in before and before[name].reason in STAYING:
            stopped[name] = before[name].reason, before[name].message
        else:
            batch.append(name)
    left = max(0, budget.left(now))
    if len(batch) > left:
        minutes = budget.window.total_seconds() / 60
        message = (
            f"{len(batch)} removals at once, and {left} of {budget.size} left of the budget for {minutes:g} minutes; "
            "approve with: xmod-agent approve-prune"
        )
        stopped.update(dict.fromkeys(batch, (OVER_BUDGET, message)))
        batch = []
    held = {
        name: Held(reason, message, before[name].since if name in before else now)
        for name, (reason, message) in stopped.items()
    }
    return Judgement(frozenset(going | set(batch)), frozenset(batch), held)


def _never(candidate: Candidate, evidence: Evidence) -> tuple[str, str] | None:
    """What no approval overrides: it would delete on no word at all, or on somebody else's."""
    if candidate.suspended:
        return "Suspended", f"no file wants it any more, but {candidate.suspended}"
    if candidate.protected:
        return "Protected", "its spec said xmod.dev/prune: disabled; put it back without that to remove it"
    if evidence.unread:
        return "SourceUnread", f"{', '.join(evidence.unread[:3])} cannot be read, so nothing is known to be absent"
    ours = candidate.source == evidence.source or candidate.source in evidence.adopted
    if not ours and candidate.name not in evidence.seen:
        hint = f"if it is to follow this one: xmod-agent adopt --from {candidate.source}"
        return "OtherSource", f"it came from {candidate.source}, this is {evidence.source}; {hint}"
    return None


def _doubt(candidate: Candidate, evidence: Evidence) -> tuple[str, str] | None:
    """What an operator's approval overrides."""
    hint = "approve with: xmod-agent approve-prune"
    if candidate.name in evidence.elsewhere and candidate.host not in ("", evidence.host):
        now = f"its document is for other hosts, now that this is {evidence.host} and no longer {candidate.host}"
        return HOST_CHANGED, f"{now}; set agent.host and agent.labels right, or {hint}"
    if evidence.empty and not evidence.alive:
        return SOURCE_EMPTY, f"the source was empty when it was first read; {hint}"
    if evidence.unexplained:
        files = ", ".join(evidence.unexplained[:3])
        return (
            "SourceInvalid",
            f"{files} is invalid and was never read whole, it may name it; mend or delete it, or {hint}",
        )
    if evidence.replaced and candidate.name not in evidence.seen:
        return SOURCE_REPLACED, f"the folder is another one than before, and never held it; {hint}"
    return None
