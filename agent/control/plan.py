"""The plan: desired × world × operator's words → one intent a name. Pure.

Create, change, move, drift and delete are not told apart here: a name that is wanted is Run, one that is not and may go is
Remove, and everything doubtful is Keep or runs on as it was. The gate judges the absent ones in between.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeAlias

from agent.contracts import Digest, Fate, Generation, Observed, Service, ServiceName
from agent.control.desired import DesiredState, Doubt
from agent.control.gate import Candidate, Judgement
from agent.control.rollout import as_it_runs
from agent.control.words import Words
from agent.control.world import Sight
from agent.spec.resolve import Wanted


@dataclass(frozen=True, slots=True)
class Run:
    """Walk towards this service.

    `note`, `message`: why it is not simply what git says ("" if it is). `restart_after`: replicas that started earlier are
    started again. `retry`: somebody asked for another try of what failed.
    """

    service: Service
    note: str = ""
    message: str = ""
    restart_after: datetime | None = None
    retry: bool = False


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
    """Hands off. `shimlet`: where it is, "" if nothing of it is seen. `since`: of the reason, if it is known."""

    shimlet: str
    reason: str
    message: str = ""
    since: datetime | None = None


Intent: TypeAlias = Run | Remove | Keep


@dataclass(frozen=True, slots=True)
class Inputs:
    """All that a plan is made of."""

    desired: DesiredState | None
    sights: Mapping[str, Sight]
    words: Words


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
            marked = _newest(observed)
            if marked is None or name in desired.wanted or desired.doubt(name, marked.service.file) is not None:
                continue
            protected = inputs.words.protected.get(name, marked.service.protected)
            host = inputs.words.hosts.get(name, marked.service.host)
            found[name] = Candidate(name, marked.service.source, protected=protected, host=host)
    return sorted(found.values(), key=lambda candidate: candidate.name)


def noted(inputs: Inputs) -> Words:
    """The words, and with them what specs say by now and marks do not: a mark is never written again."""
    desired, words = inputs.desired, inputs.words
    if desired is None:
        return words
    lost = any(sight.error or sight.services is None for sight in inputs.sights.values())
    here = {name: seen for sight in inputs.sights.values() for name, seen in (sight.services or {}).items()}
    known_of = words.protected.keys() | words.agreed.keys() | words.hosts.keys()
    stay = {n for n in known_of if lost or (n in here and n not in desired.wanted)}
    protected = {name: said for name, said in words.protected.items() if name in stay}
    agreed = {name: digests for name, digests in words.agreed.items() if name in stay}
    hosts = {name: host for name, host in words.hosts.items() if name in stay}
    for name, wanted in desired.wanted.items():
        service, observed = wanted.service, here.get(name)
        marked = _newest(observed) if observed is not None else None
        if observed is None or marked is None:
            continue
        protected.pop(name, None)
        agreed.pop(name, None)
        if marked.service.protected != service.protected:
            protected[name] = service.protected
        hosts.pop(name, None)
        read_for = words.hosts.get(name, marked.service.host)
        if service.host not in ("", marked.service.host):
            hosts[name] = service.host
        own, known = observed.generation(service.digest), words.agreed.get(name)
        in_effect = own is not None and own.service.shimlet == service.shimlet
        if in_effect and own is not None and own.service.spec_digest != service.spec_digest:
            agreed[name] = (service.spec_digest, service.digest)
        elif not in_effect and "" != read_for != service.host != "":
            agreed[name] = (service.spec_digest, marked.service.digest)  # a setting changed what the spec says, no user
        elif not in_effect and known is not None and known[0] == service.spec_digest:
            agreed[name] = known
    if (protected, agreed, hosts) == (words.protected, words.agreed, words.hosts):
        return words
    return replace(words, protected=protected, agreed=agreed, hosts=hosts)


def intents(inputs: Inputs, judgement: Judgement) -> dict[ServiceName, Intent]:
    """One intent for every name that is wanted or seen."""
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
        if doubt.last is not None:
            plan[name] = _noted(_wanted(doubt.last, places.get(name, ()), inputs), doubt)
    return _in_turn(plan, inputs, places)


def _places(sights: Mapping[str, Sight]) -> dict[ServiceName, list[tuple[str, Observed]]]:
    places: dict[ServiceName, list[tuple[str, Observed]]] = {}
    for shimlet, sight in sights.items():
        for name, observed in (sight.services or {}).items():
            if observed.generations:
                places.setdefault(name, []).append((shimlet, observed))
    return places


def _wanted(wanted: Wanted, found: Sequence[tuple[str, Observed]], inputs: Inputs) -> Intent:
    service = wanted.service
    sight = inputs.sights.get(service.shimlet)
    asked = inputs.words.restarts.get(service.name)
    after = _latest(wanted.restarted_at, asked)
    if wanted.suspended:
        return Keep(service.shimlet, "Suspended", "its spec says xmod.dev/suspend")
    if sight is None or sight.services is None or sight.error:
        why = sight.error if sight is not None else f"there is no shimlet {service.shimlet}"
        return Keep(service.shimlet, "WorldUnseen", why)
    elsewhere = [shimlet for shimlet, _ in found if shimlet != service.shimlet]
    if elsewhere:
        other = inputs.sights[elsewhere[0]]
        if other.error:
            return Keep(service.shimlet, "WorldUnseen", f"it still runs on {elsewhere[0]}: {other.error}")
        applied = _newest(next(observed for shimlet, observed in found if shimlet == elsewhere[0]))
        same = applied is not None and _same(service, applied, inputs.words.agreed.get(service.name))
        if same and applied is not None and service.name not in inputs.words.rollouts:
            message = f"its spec resolves to shimlet {service.shimlet} now; xmod-agent rollout {service.name}"
            kept = replace(_as_applied(service, applied), shimlet=applied.service.shimlet)
            return Run(kept, "ResolvesDifferently", message, after, asked is not None)
        return Remove(elsewhere[0], service)
    return Run(service, restart_after=after, retry=asked is not None)


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
    error, asked = inputs.sights[shimlet].error, inputs.words.restarts.get(name)
    if name in judgement.allowed:
        return Remove(shimlet)
    held = judgement.held.get(name)
    if held is not None:
        return Keep(shimlet, held.reason, held.message, held.since)
    marked = _newest(observed)
    doubt = desired.doubt(name, marked.service.file if marked is not None else "")
    if doubt is None:
        return Keep(shimlet, "WorldUnseen", error or "it is not seen now")
    if error or marked is None or marked.fate is Fate.FAILED:
        return Keep(shimlet, doubt.reason, doubt.message)
    return Run(as_it_runs(marked), doubt.reason, doubt.message, restart_after=asked, retry=asked is not None)


def _in_turn(
    plan: dict[ServiceName, Intent],
    inputs: Inputs,
    places: Mapping[ServiceName, Sequence[tuple[str, Observed]]],
) -> dict[ServiceName, Intent]:
    """An upgrade restarts nothing: what resolves differently runs on as applied, until a rollout lets it go, in turn."""
    busy = ""
    for name in [*inputs.words.rollouts, *sorted(plan.keys() - set(inputs.words.rollouts))]:
        intent = plan.get(name)
        if not isinstance(intent, Run) or intent.note or name not in places:
            continue
        observed = places[name][0][1]
        applied = _applied(intent.service, observed, inputs.words.agreed.get(name))
        if name in inputs.words.rollouts and not busy:
            if applied is not None or len(observed.generations) > 1:
                busy = name  # its turn lasts until the new one serves alone; a failed one halts the rest
            continue
        if applied is not None:
            message = f"its spec resolves to {intent.service.digest[:8]} now; xmod-agent rollout {name}"
            note = "ResolvesDifferently"
            if name in inputs.words.rollouts:
                note, message = "RolloutWaits", f"after {busy}, which is not through yet"
            plan[name] = replace(intent, service=_as_applied(intent.service, applied), note=note, message=message)
    return plan


def _applied(service: Service, observed: Observed, agreed: tuple[Digest, Digest] | None) -> Generation | None:
    """The generation that the same spec was applied as, if it resolves differently now."""
    if observed.generation(service.digest) is not None:
        return None
    same = [g for g in observed.generations if _same(service, g, agreed)]
    return next((g for g in reversed(same) if g.fate is not Fate.FAILED), None)


def _as_applied(service: Service, applied: Generation) -> Service:
    """What the spec says of counts and ports, with what it resolved to when it was applied."""
    return replace(service, workload=applied.service.workload, digest=applied.service.digest)


def _same(service: Service, generation: Generation, agreed: tuple[Digest, Digest] | None) -> bool:
    """The spec is the one that this generation was applied for, or said later of it without changing what runs."""
    marked = generation.service
    return marked.spec_digest == service.spec_digest or agreed == (service.spec_digest, marked.digest)


def _newest(observed: Observed) -> Generation | None:
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
