"""The plan: desired × world × operator's words → one intent a name. Pure.

Create, change, move, drift and delete are not told apart here: a name that is wanted is Run, one that is not and may go is
Remove, and everything doubtful is Keep or runs on as it was. The gate judges the absent ones in between.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from agent.contracts import Fate, Observed, ServiceName
from agent.control import suspension
from agent.control.desired import DesiredState, Doubt
from agent.control.gate import Candidate, Judgement
from agent.control.intent import DIFFERS, WORLD_UNSEEN, Forget, Intent, Keep, Remove, Run, lane
from agent.control.rollout import as_it_runs, newest
from agent.control.suspension import SUSPENDED
from agent.control.turn import Waits, in_turn, stays_as
from agent.control.words import Words
from agent.control.world import Sight
from agent.spec.resolve import Wanted


@dataclass(frozen=True, slots=True)
class Inputs:
    """All that a plan is made of. `forgetting`: names that are being given up now; `unwell`: that did not answer lately."""

    desired: DesiredState | None
    sights: Mapping[str, Sight]
    words: Words
    forgetting: frozenset[ServiceName] = frozenset()
    unwell: frozenset[ServiceName] = frozenset()


def candidates(inputs: Inputs) -> list[Candidate]:
    """What runs, is seen now, and is neither wanted nor in doubt."""
    desired = inputs.desired
    if desired is None:
        return []
    found: dict[ServiceName, Candidate] = {}
    for sight in inputs.sights.values():
        if sight.error or sight.services is None:
            continue
        for name, observed in sight.services.items():
            marked = newest(observed)
            if marked is None or name in desired.wanted or desired.doubt(name, marked.service.file) is not None:
                continue
            protected = inputs.words.protected.get(name, marked.service.protected)
            host = inputs.words.hosts.get(name, marked.service.host)
            stays = suspension.why(inputs.words, name)
            found[name] = Candidate(name, marked.service.source, protected=protected, host=host, suspended=stays)
    return sorted(found.values(), key=lambda candidate: candidate.name)


def seen(sights: Mapping[str, Sight], name: ServiceName) -> list[tuple[str, Observed]]:
    """In which worlds something of it is, as last seen."""
    return _places(sights).get(name, [])


def doubt_of(desired: DesiredState, name: ServiceName, observed: Observed | None) -> Doubt | None:
    """Why a name that no valid file holds may be wanted all the same."""
    if name in desired.wanted:
        return None
    marked = newest(observed) if observed is not None else None
    return desired.doubt(name, marked.service.file if marked is not None else "")


def intents(
    inputs: Inputs, judgement: Judgement, *, waits: Waits = lambda _name, _plan: False
) -> dict[ServiceName, Intent]:
    """One intent for every name that is wanted or seen. `waits`: whether an intent of a plan waits for others."""
    desired = inputs.desired
    places = _places(inputs.sights)
    if desired is None:
        return {
            name: Keep(shimlets[0][0], "SourceUnread", "the source was not read yet")
            for name, shimlets in places.items()
        }
    plan: dict[ServiceName, Intent] = {}
    for name, wanted in desired.wanted.items():
        plan[name] = _wanted(wanted, places.get(name, ()), inputs)
    for name, found in places.items():
        if name not in plan:
            plan[name] = _unwanted(name, found, desired, judgement, inputs)
    for name, doubt in desired.doubts.items():
        if doubt.last is not None and _follows(doubt.last, doubt.older, places.get(name, ())):
            plan[name] = _noted(_wanted(doubt.last, places.get(name, ()), inputs), doubt)
    left_alone = {
        name: _suspended(name, intent, desired, places.get(name, ()), inputs) for name, intent in plan.items()
    }
    for name in inputs.forgetting & places.keys():
        intent = left_alone[name]
        if not isinstance(intent, Keep) or not intent.settle:  # else it serves first
            left_alone[name] = Forget(places[name][0][0])
    return in_turn(left_alone, desired.wanted, inputs.words, places, waits)


def _places(sights: Mapping[str, Sight]) -> dict[ServiceName, list[tuple[str, Observed]]]:
    places: dict[ServiceName, list[tuple[str, Observed]]] = {}
    for shimlet, sight in sights.items():
        for name, observed in (sight.services or {}).items():
            if observed.generations:
                places.setdefault(name, []).append((shimlet, observed))
    return places


def _suspended(
    name: ServiceName,
    intent: Intent,
    desired: DesiredState,
    found: Sequence[tuple[str, Observed]],
    inputs: Inputs,
) -> Intent:
    """Whatever was meant to happen to a suspended service does not."""
    spec = desired.spec(name)
    doubted = doubt_of(desired, name, found[0][1] if found else None) is not None
    why = suspension.why(inputs.words, name, spec, doubted=doubted)
    if not why:
        return intent
    since = intent.since if isinstance(intent, Keep) else None
    return Keep(
        found[0][0] if found else lane(intent),
        SUSPENDED,
        intent.message if isinstance(intent, Keep) and intent.reason == SUSPENDED else why,
        since,
        wanted=spec.service if spec is not None else None,
        settle=name not in inputs.words.still,
    )


def _wanted(wanted: Wanted, found: Sequence[tuple[str, Observed]], inputs: Inputs) -> Intent:
    service = wanted.service
    sight = inputs.sights.get(service.shimlet)
    asked, again = _asked(service.name, inputs.words)
    after = _latest(wanted.restarted_at, asked)
    if sight is None or sight.services is None or sight.error:
        why = sight.error if sight is not None else f"there is no shimlet {service.shimlet}"
        return Keep(service.shimlet, WORLD_UNSEEN, why)
    elsewhere = [shimlet for shimlet, _ in found if shimlet != service.shimlet]
    if elsewhere:
        other = inputs.sights[elsewhere[0]]
        if other.error:
            return Keep(service.shimlet, WORLD_UNSEEN, f"it still runs on {elsewhere[0]}: {other.error}")
        applied = newest(next(observed for shimlet, observed in found if shimlet == elsewhere[0]))
        kept = stays_as(service, applied, inputs.words) if applied is not None else None
        if kept is not None:
            message = f"its spec resolves to shimlet {service.shimlet} now; xmod-agent rollout {service.name}"
            kept = replace(kept, shimlet=elsewhere[0])
            return Run(kept, DIFFERS, message, after, again)
        return Remove(elsewhere[0], service)
    return Run(service, restart_after=after, retry=again)


def _follows(last: Wanted, older: frozenset[str] | None, found: Sequence[tuple[str, Observed]]) -> bool:
    """What runs is not newer than this word: history tells only what is valid by the policy and settings of today."""
    if older is None:
        return True
    running = [applied for applied in (newest(observed) for _, observed in found) if applied is not None]
    return all(g.service.digest == last.service.digest or g.service.spec_digest in older for g in running)


def _noted(intent: Intent, doubt: Doubt) -> Intent:
    """A last good word is walked to as ever, and it is said that git says something else by now."""
    return replace(intent, note=doubt.reason, message=doubt.message) if isinstance(intent, Run) else intent


def _unwanted(
    name: ServiceName,
    found: Sequence[tuple[str, Observed]],
    desired: DesiredState,
    judgement: Judgement,
    inputs: Inputs,
) -> Intent:
    """A name that no file holds for sure: it goes, is held, or runs on as it was applied."""
    shimlet, observed = found[0]
    error = inputs.sights[shimlet].error
    asked, again = _asked(name, inputs.words)
    if name in judgement.allowed:
        return Remove(shimlet)
    held = judgement.held.get(name)
    if held is not None:
        return Keep(shimlet, held.reason, held.message, held.since)
    marked = newest(observed)
    doubt = desired.doubt(name, marked.service.file if marked is not None else "")
    if doubt is None:
        return Keep(shimlet, WORLD_UNSEEN, error or "it is not seen now")
    if error or marked is None or marked.fate is Fate.FAILED:
        return Keep(shimlet, doubt.reason, doubt.message)
    return Run(as_it_runs(marked), doubt.reason, doubt.message, restart_after=asked, retry=again)


def _asked(name: ServiceName, words: Words) -> tuple[datetime | None, datetime | None]:
    """When an operator asked for a restart, and when for another try: each restart is one."""
    restart = words.restarts.get(name)
    return restart, _latest(restart, words.retries.get(name))


def _latest(*moments: datetime | None) -> datetime | None:
    return max((moment for moment in moments if moment is not None), default=None)
