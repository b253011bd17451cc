"""The plan: desired × world × operator's words → one intent a name. Pure.

Create, change, move, drift and delete are not told apart here: a name that is wanted is Run, one that is not and may go is
Remove, and everything doubtful is Keep or runs on as it was. The gate judges the absent ones in between.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeAlias

from agent.contracts import Digest, Fate, Generation, Observed, Service, ServiceName
from agent.control import suspension
from agent.control.desired import DesiredState, Doubt
from agent.control.gate import Candidate, Judgement
from agent.control.rollout import as_it_runs
from agent.control.suspension import SUSPENDED
from agent.control.words import Words
from agent.control.world import Sight
from agent.spec.resolve import Wanted

WORLD_UNSEEN = "WorldUnseen"  # why a service is kept while what runs of it is not known


@dataclass(frozen=True, slots=True)
class Run:
    """Walk towards this service.

    `note`, `message`: why it is not simply what git says ("" if it is). `restart_after`: replicas that started earlier are
    started again. `retry`: when somebody asked for another try of what failed or waits.
    """

    service: Service
    note: str = ""
    message: str = ""
    restart_after: datetime | None = None
    retry: datetime | None = None


@dataclass(frozen=True, slots=True)
class Remove:
    """Take it away from this shimlet. `wanted`: as what it comes back elsewhere, so this is no prune."""

    shimlet: str
    wanted: Service | None = None

    @property
    def moved(self) -> bool:
        """It is wanted elsewhere."""
        return self.wanted is not None


@dataclass(frozen=True, slots=True)
class Keep:
    """Hands off. `shimlet`: where it is, "" if nothing of it is seen. `since`: of the reason, if it is known.

    `wanted`: what would run if it were not for that. `settle`: what served and was stopped for a change is brought up first.
    """

    shimlet: str
    reason: str
    message: str = ""
    since: datetime | None = None
    wanted: Service | None = None
    settle: bool = False


@dataclass(frozen=True, slots=True)
class Forget:
    """Give up what is there: it is not ours any more, and runs on."""

    shimlet: str


DIFFERS, ROLLOUT_WAITS = "ResolvesDifferently", "RolloutWaits"

Intent: TypeAlias = Run | Remove | Keep | Forget
Waits: TypeAlias = Callable[[ServiceName, Mapping[ServiceName, Intent]], bool]


@dataclass(frozen=True, slots=True)
class Inputs:
    """All that a plan is made of. `forgetting`: names that are being given up now; `unwell`: that did not answer lately."""

    desired: DesiredState | None
    sights: Mapping[str, Sight]
    words: Words
    forgetting: frozenset[ServiceName] = frozenset()
    unwell: frozenset[ServiceName] = frozenset()


def lane(intent: Intent) -> str:
    """The shimlet whose workers look at it."""
    return intent.service.shimlet if isinstance(intent, Run) else intent.shimlet


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
    return _in_turn(left_alone, inputs, places, waits)


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
        same = applied is not None and (
            _same(service, applied, inputs.words.agreed.get(service.name)) or _relabelled(service, inputs.words)
        )
        if same and applied is not None:
            message = f"its spec resolves to shimlet {service.shimlet} now; xmod-agent rollout {service.name}"
            kept = replace(_as_applied(service, applied), shimlet=applied.service.shimlet)
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


def _in_turn(
    plan: dict[ServiceName, Intent],
    inputs: Inputs,
    places: Mapping[ServiceName, Sequence[tuple[str, Observed]]],
    waits: Waits,
) -> dict[ServiceName, Intent]:
    """An upgrade restarts nothing: what resolves differently runs on as applied, until a rollout lets it go, in turn.

    What failed in its rollout is tried again only by another one, once that one was cancelled.
    """
    busy = ""
    for name in [*sorted(plan.keys() - set(inputs.words.rollouts)), *inputs.words.rollouts]:
        intent = plan.get(name)
        if not isinstance(intent, Run):
            continue
        observed = places[name][0][1] if name in places else Observed(name)
        asked = name in inputs.words.rollouts and intent.note in ("", DIFFERS)
        if not asked or busy:
            plan[name] = _stays(intent, observed, inputs.words, after=busy)
            continue
        plan[name] = _goes(intent, inputs)
        if not _through(plan[name], observed, inputs.words) and not waits(name, plan):
            busy = name
    return plan


def _stays(intent: Run, observed: Observed, words: Words, *, after: str) -> Run:
    """Run what was applied, if the spec resolves differently now. `after`: whose turn it is."""
    service, relabelled = intent.service, _relabelled(intent.service, words)
    asked = service.name in words.rollouts and intent.note in ("", DIFFERS)
    applied = (
        newest(observed) if relabelled else _applied(service, observed, words.agreed.get(service.name), asked=asked)
    )
    if applied is not None:
        kept = _as_it_was(service, applied) if relabelled else _as_applied(service, applied)
        why = "says otherwise since this host is called so" if relabelled else f"resolves to {service.digest[:8]} now"
        message = intent.message or f"its spec {why}; xmod-agent rollout {service.name}"
        intent = replace(intent, service=kept, note=intent.note or DIFFERS, message=message)
    if asked and intent.note:
        return replace(intent, note=ROLLOUT_WAITS, message=f"after {after}, which is not through yet")
    return intent


def _goes(intent: Run, inputs: Inputs) -> Intent:
    """What a rollout makes of it; what stays in another world moves."""
    wanted = inputs.desired.wanted.get(intent.service.name) if inputs.desired is not None else None
    if not intent.note or wanted is None:
        return intent
    return Remove(intent.service.shimlet, wanted.service)


def _through(intent: Intent, observed: Observed, words: Words) -> bool:
    """The new one serves alone."""
    if not isinstance(intent, Run) or _relabelled(intent.service, words):
        return False
    served = [g.fate is Fate.SERVED and g.service.digest == intent.service.digest for g in observed.generations]
    return served == [True]


def _applied(
    service: Service, observed: Observed, agreed: tuple[Digest, Digest] | None, *, asked: bool
) -> Generation | None:
    """The generation that the same spec was applied as, if it resolves differently now. `asked`: its rollout was."""
    own = observed.generation(service.digest)
    if own is not None and (asked or own.fate is not Fate.FAILED):
        return None
    same = [g for g in observed.generations if _same(service, g, agreed)]
    return next((g for g in reversed(same) if g.fate is not Fate.FAILED), None)


def _as_applied(service: Service, applied: Generation) -> Service:
    """What the spec says of counts and ports, with what it resolved to when it was applied."""
    return replace(service, workload=applied.service.workload, digest=applied.service.digest)


def _as_it_was(service: Service, applied: Generation) -> Service:
    """What runs, in the number and at the address of now, whatever its spec says; a new mark of it says no more."""
    return replace(as_it_runs(applied), revision=service.revision, source=service.source, file=service.file)


def _relabelled(service: Service, words: Words) -> bool:
    """What its spec says now, it says only because this host is called otherwise."""
    return words.relabelled.get(service.name) == service.spec_digest


def _same(service: Service, generation: Generation, agreed: tuple[Digest, Digest] | None) -> bool:
    """The spec is the one that this generation was applied for, or said later of it without changing what runs."""
    marked = generation.service
    return marked.spec_digest == service.spec_digest or agreed == (service.spec_digest, marked.digest)


def newest(observed: Observed) -> Generation | None:
    """The generation that speaks for a service without a spec: the last that served, else the last that did not fail."""
    if len(observed.generations) == 1:
        return observed.generations[0]
    newest = list(reversed(observed.generations))
    for fate in (Fate.SERVED, Fate.NEW, Fate.FAILED):
        for generation in newest:
            if generation.fate is fate:
                return generation
    return None


def _latest(*moments: datetime | None) -> datetime | None:
    return max((moment for moment in moments if moment is not None), default=None)
