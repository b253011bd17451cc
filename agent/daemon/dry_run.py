"""What a run would do, without doing it: the same source, plan and gate over the worlds as they are listed now.

It only reads: not even a corrupt memory is set aside, that is told and left to the run.
"""

import logging
import threading
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

from agent.clock import Clock, SystemClock
from agent.contracts import Fate, Observed, Permanent, ServiceName, Transient
from agent.control import gate, unmarked, waiting
from agent.control import plan as planning
from agent.control.desired import DesiredReader, DesiredState
from agent.control.evidence import Sightings
from agent.control.intent import Forget, Intent, Keep, Remove, Run
from agent.control.plan import Inputs
from agent.control.provenance import find, questions
from agent.control.rollout import burnt_reason
from agent.control.words import Words
from agent.control.world import Sight
from agent.daemon import parts
from agent.daemon.parts import StartError
from agent.journal import Journal
from agent.registry import Registry
from agent.settings import Settings
from agent.source.snapshot import Snapshot
from agent.spec.resolve import Resolver
from agent.surface.plan_view import Action, PlanRow, PlanView

logger = logging.getLogger("xmod.plan")


def plan(settings: Settings, *, here: bool = True) -> PlanView:
    """Read the folder, list the worlds, and say what would be created, replaced, removed and held, and why.

    `here`: False if the settings are those of another host, whose worlds and memory are not to be seen from here.
    """
    clock = SystemClock()
    try:
        registry = parts.registry_of(settings)
        resolver = parts.resolver_of(settings, registry, parts.sops_of(settings))
        reader = DesiredReader(resolver.read_file, str(resolver.host), begin=resolver.begin)
        source = parts.source_of(settings, clock, dry=True)
        try:
            desired = _read(source.look(), reader, resolver)
        finally:
            source.close()
        words = _words(settings) if here else Words()
        named = {wanted.service.shimlet for wanted in desired.wanted.values()}
        sights = {
            name: _sight(settings, registry, name, clock) if here else Sight({}, clock.now())
            for name in sorted({settings.plugins.default_shimlet} | named | words.shimlets)
        }
    except (StartError, Transient) as error:
        return PlanView((), str(error))
    inputs = Inputs(desired, sights, words)
    inputs = replace(inputs, words=unmarked.noted(inputs))
    judgement = _judgement(inputs, desired, settings, clock)
    intents = waiting.intents(inputs, judgement)
    rows = [PlanRow(Action.INVALID, bad.path, "", bad.errors[0]) for bad in desired.invalid]
    for name in waiting.start_order(desired, intents):
        absence = "its document is for other hosts" if name in desired.elsewhere else "no file wants it any more"
        row = _row(name, intents[name], _seen(sights, name), absence, goes=name in judgement.allowed)
        rows.append(row if here or row.action is not Action.CREATE else replace(row, action=Action.RUN))
    unseen = [f"{name}: {sight.error}" for name, sight in sights.items() if sight.error]
    return PlanView(tuple(rows), "; ".join(unseen), "" if here else desired.host, len(desired.elsewhere))


def _read(snapshot: Snapshot, reader: DesiredReader, resolver: Resolver) -> DesiredState:
    """What it wants; history is asked for the last good words of what is invalid, as a run would."""
    desired = reader.read(snapshot)
    invalid = questions(desired)
    if snapshot.past is None or not invalid:
        return desired
    found = find(snapshot.past, snapshot.revision, (), invalid, read_file=resolver.read_file, stop=threading.Event())
    if found.trouble:
        logger.warning("history is not known", extra={"error": found.trouble})
    reader.recall(snapshot.revision, found.words)
    return reader.read(snapshot)


def _words(settings: Settings) -> Words:
    words, wrong = parts.words_read(Journal(settings.agent.state_dir))
    if wrong:
        folder = str(settings.agent.state_dir)
        logger.warning(
            "the agent's memory is corrupt, a run would set it aside", extra={"file": folder, "error": wrong}
        )
    return words or Words()


def _sight(settings: Settings, registry: Registry, name: str, clock: Clock) -> Sight:
    shimlet = parts.shimlet_of(settings, registry, name)
    try:
        return Sight(shimlet.list(), clock.now())
    except (Transient, Permanent) as error:
        return Sight(None, None, str(error))
    finally:
        shimlet.close()


def _judgement(inputs: Inputs, desired: DesiredState, settings: Settings, clock: Clock) -> gate.Judgement:
    """As an agent that starts now would judge."""
    services = {name for sight in inputs.sights.values() for name in (sight.services or {})}
    words: Words = inputs.words
    sightings = Sightings()
    sightings.note(desired, words.identities.get(desired.source, ""))
    return gate.judge(
        planning.candidates(inputs),
        sightings.evidence(desired, words.adopted),
        gate.Budget(len(services), words.pruned, settings.prune.fraction, timedelta(seconds=settings.prune.window)),
        approved=words.approved,
        removing=words.removing,
        before=words.held,
        now=clock.now(),
    )


def _seen(sights: Mapping[str, Sight], name: ServiceName) -> Observed:
    for sight in sights.values():
        observed = (sight.services or {}).get(name)
        if observed is not None:
            return observed
    return Observed(name)


def _row(name: ServiceName, intent: Intent, observed: Observed, absence: str, *, goes: bool) -> PlanRow:
    """`absence`: why nobody wants it, if so; `goes`: the gate lets it go."""
    match intent:
        case Keep(shimlet=shimlet, reason=waiting.WAITING, message=message) if goes:
            return PlanRow(Action.REMOVE, name, shimlet, f"{absence}; {message}")
        case Keep(shimlet=shimlet, reason=waiting.WAITING, message=message):
            return PlanRow(Action.CREATE, name, shimlet, f"waits {message}")
        case Keep(shimlet=shimlet, reason=reason, message=message, since=since):
            return PlanRow(Action.HELD if since is not None else Action.KEEP, name, shimlet, f"{reason}: {message}")
        case Remove(shimlet=shimlet, wanted=wanted):
            why = "it moves to another shimlet" if wanted is not None else absence
            return PlanRow(Action.REMOVE, name, shimlet, why)
        case Forget(shimlet=shimlet):
            return PlanRow(Action.KEEP, name, shimlet, "it is being given up")
        case Run():
            return _run_row(name, intent, observed)


def _run_row(name: ServiceName, run: Run, observed: Observed) -> PlanRow:
    service = run.service
    if run.note == waiting.WAITING:
        return PlanRow(Action.REPLACE, name, service.shimlet, f"waits {run.message}")
    if run.note and observed.generation(service.digest) is not None:
        return PlanRow(Action.KEEP, name, service.shimlet, f"{run.note}: {run.message}")
    burnt = burnt_reason(service, observed, {})
    if burnt:
        return PlanRow(Action.KEEP, name, service.shimlet, f"it is not tried again until its spec changes: {burnt}")
    own = observed.generation(service.digest)
    older = [g for g in observed.generations if g.service.digest != service.digest and g.fate is not Fate.FAILED]
    if own is None and not older:
        note = f", the last good word: {run.message}" if run.note else ""
        return PlanRow(Action.CREATE, name, service.shimlet, f"replicas: {service.replicas}{note}")
    if own is None:
        return PlanRow(Action.REPLACE, name, service.shimlet, _difference(older[-1].service.workload, service.workload))
    if older or len(own.live) != service.replicas or own.drift:
        return PlanRow(Action.REPLACE, name, service.shimlet, own.drift or "it is not whole, or an older one is left")
    return PlanRow(Action.NONE, name, service.shimlet)


def _difference(before: object, after: object) -> str:
    """Which fields of the workload differ; values stay out of it."""
    fields = [f for f in type(after).__dataclass_fields__ if getattr(before, f) != getattr(after, f)]  # type: ignore[attr-defined] # both are Workloads
    return f"changed: {', '.join(fields)}"
