"""An upgrade restarts nothing: what resolves differently runs on as applied, until a rollout lets it go, in turn. Pure.

The same holds for what only a change of this host's name or labels made a spec say. What failed in its rollout halts the
rest, and is tried again only by another one, once that one was cancelled.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from agent.contracts import Fate, Generation, Observed, Service, ServiceName
from agent.control.intent import DIFFERS, ROLLOUT_WAITS, Intent, Remove, Run
from agent.control.rollout import as_it_runs, newest
from agent.control.words import Words
from agent.spec.resolve import Wanted

Waits: TypeAlias = Callable[[ServiceName, Mapping[ServiceName, Intent]], bool]
"""Whether an intent of a plan waits for others."""


def in_turn(
    plan: dict[ServiceName, Intent],
    wanted: Mapping[ServiceName, Wanted],
    words: Words,
    places: Mapping[ServiceName, Sequence[tuple[str, Observed]]],
    waits: Waits,
) -> dict[ServiceName, Intent]:
    """The plan, in which all but the one whose turn it is run on as applied. A turn lasts until the new one serves alone."""
    busy = ""
    for name in [*sorted(plan.keys() - set(words.rollouts)), *words.rollouts]:
        intent = plan.get(name)
        if not isinstance(intent, Run):
            continue
        observed = places[name][0][1] if name in places else Observed(name)
        if not _asked(intent, words) or busy:
            plan[name] = _stays(intent, observed, words, after=busy)
            continue
        plan[name] = _goes(intent, wanted)
        if not _through(plan[name], observed, words) and not waits(name, plan):
            busy = name
    return plan


def stays_as(service: Service, applied: Generation, words: Words) -> Service | None:
    """As what a service runs on that its spec resolves to differently now; None: a user wants something else."""
    if _relabelled(service, words):
        was = as_it_runs(applied)  # in the number and at the address of now; a new mark of it says no more
        return replace(was, revision=service.revision, source=service.source, file=service.file)
    if not _same(service, applied, words):
        return None
    return replace(service, workload=applied.service.workload, digest=applied.service.digest)


def _asked(intent: Run, words: Words) -> bool:
    """Its rollout was, and its file is in no doubt."""
    return intent.service.name in words.rollouts and intent.note in ("", DIFFERS)


def _stays(intent: Run, observed: Observed, words: Words, *, after: str) -> Run:
    """Run what was applied, if the spec resolves differently now. `after`: whose turn it is."""
    service, asked = intent.service, _asked(intent, words)
    applied = _applied(service, observed, words, asked=asked)
    kept = stays_as(service, applied, words) if applied is not None else None
    if kept is not None:
        digest = f"resolves to {service.digest[:8]} now"
        why = "says otherwise since this host is called so" if _relabelled(service, words) else digest
        message = intent.message or f"its spec {why}; xmod-agent rollout {service.name}"
        intent = replace(intent, service=kept, note=intent.note or DIFFERS, message=message)
    if asked and intent.note:
        return replace(intent, note=ROLLOUT_WAITS, message=f"after {after}, which is not through yet")
    return intent


def _goes(intent: Run, wanted: Mapping[ServiceName, Wanted]) -> Intent:
    """What a rollout makes of it; what stays in another world moves."""
    spec = wanted.get(intent.service.name)
    return Remove(intent.service.shimlet, spec.service) if intent.note and spec is not None else intent


def _through(intent: Intent, observed: Observed, words: Words) -> bool:
    """The new one serves alone."""
    if not isinstance(intent, Run) or _relabelled(intent.service, words):
        return False
    served = [g.fate is Fate.SERVED and g.service.digest == intent.service.digest for g in observed.generations]
    return served == [True]


def _applied(service: Service, observed: Observed, words: Words, *, asked: bool) -> Generation | None:
    """The generation that the same spec was applied as, if it resolves differently now. `asked`: its rollout was."""
    if _relabelled(service, words):
        return newest(observed)
    own = observed.generation(service.digest)
    if own is not None and (asked or own.fate is not Fate.FAILED):
        return None
    alike = [generation for generation in observed.generations if _same(service, generation, words)]
    return next((generation for generation in reversed(alike) if generation.fate is not Fate.FAILED), None)


def _relabelled(service: Service, words: Words) -> bool:
    """What its spec says now, it says only because this host is called otherwise."""
    return words.relabelled.get(service.name) == service.spec_digest


def _same(service: Service, generation: Generation, words: Words) -> bool:
    """The spec is the one that this generation was applied for, or said later of it without changing what runs."""
    marked = generation.service
    agreed = words.agreed.get(service.name)
    return marked.spec_digest == service.spec_digest or agreed == (service.spec_digest, marked.digest)
