"""What waits for what: a service is created or replaced only while all that it depends on serves. Pure.

* What runs is never stopped for a dependency's sake: it runs on as applied, its drift is repaired; only what it is to
  become waits.
* A dependency serves when what is wanted of it now is proven, runs and answers. One that is meant to stay as it is
  (suspended, invalid, held back by an upgrade) serves as it is; one that failed, or is wanted by nobody here, does not.
* A rollout that waits does not hold up the next one.
* Of services that are removed together, those that depend on others go first.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain

from agent.contracts import Fate, Generation, Observed, Service, ServiceName
from agent.control import plan as planning
from agent.control.dependency import free_to_go, in_order
from agent.control.desired import DesiredState
from agent.control.gate import Judgement
from agent.control.intent import Intent, Keep, Remove, Run, lane
from agent.control.plan import Inputs
from agent.control.rollout import as_it_runs, routed

WAITING, MISSING = "Waiting", "DependencyMissing"

_Plan = Mapping[ServiceName, Intent]


def intents(inputs: Inputs, judgement: Judgement) -> dict[ServiceName, Intent]:
    """The plan, in which everything waits for what must come before it."""

    def waits(name: ServiceName, plan: _Plan) -> bool:
        return _held_back(name, plan, inputs) is not plan[name]

    plan = planning.intents(inputs, judgement, waits=waits)
    names = [service.name for service in _dependents(inputs.desired)] if inputs.desired is not None else []
    held = {name: _held_back(name, plan, inputs) for name in names if name in plan}
    return {**plan, **held, **_in_reverse(plan, inputs)}


def needed(desired: DesiredState) -> frozenset[ServiceName]:
    """Every name that some service depends on."""
    return frozenset(name for service in _dependents(desired) for name in service.depends_on)


def _dependents(desired: DesiredState) -> list[Service]:
    """Those that depend on others."""
    known = chain(desired.wanted.values(), (doubt.last for doubt in desired.doubts.values() if doubt.last is not None))
    return [wanted.service for wanted in known if wanted.service.depends_on]


def start_order(desired: DesiredState, names: Iterable[ServiceName]) -> list[ServiceName]:
    """These names, each after those that it depends on, else by name."""
    return in_order(names, {name: wanted.service.depends_on for name, wanted in desired.wanted.items()})


def _held_back(name: ServiceName, plan: _Plan, inputs: Inputs) -> Intent:
    """The intent, or what is done while it waits."""
    intent = plan[name]
    match intent:
        case Run(service=service):
            pass
        case Remove(wanted=Service() as service):
            pass  # a move to another shimlet is a replacement
        case _:
            return intent
    if not service.depends_on:
        return intent
    observed = _seen(lane(intent), name, inputs)
    if isinstance(intent, Run) and _begun(service, observed):
        return intent
    reason, message = _unmet(service, plan, inputs)
    if not reason:
        return intent
    applied = routed(observed, None) or next((g for g in observed.generations if g.live), None)
    if applied is None:
        return Keep(lane(intent), reason, message, wanted=service)
    if isinstance(intent, Run):
        return replace(intent, service=as_it_runs(applied), note=reason, message=message)
    return Run(as_it_runs(applied), reason, message)


def _begun(service: Service, observed: Observed) -> bool:
    """This generation is there already, and is not one that was left behind for another."""
    own = observed.generation(service.digest)
    if own is None:
        return False
    others = any(g.live for g in observed.generations if g is not own)
    return own.fate is Fate.FAILED or bool(own.live) or not others


def _unmet(service: Service, plan: _Plan, inputs: Inputs) -> tuple[str, str]:
    """Reason and sentence of what it waits for, "" if all serve."""
    missing = [f"for {name}, {why}" for name in service.depends_on if (why := _missing(name, plan, inputs))]
    if missing:
        return MISSING, "; ".join(missing)
    waits = [f"for {name}, which {why}" for name in service.depends_on if (why := _not_serving(name, plan, inputs))]
    return (WAITING, "; ".join(waits)) if waits else ("", "")


def _missing(name: ServiceName, plan: _Plan, inputs: Inputs) -> str:
    """Why nobody wants it on this host, "" if somebody does or may."""
    desired, intent = inputs.desired, plan.get(name)
    if desired is None or name in desired.wanted or isinstance(intent, Run) or desired.doubt(name, "") is not None:
        return ""
    if isinstance(intent, Keep) and intent.since is None:
        return ""  # nobody knows yet
    return "which is for other hosts" if name in desired.elsewhere else "which no document describes"


def _not_serving(name: ServiceName, plan: _Plan, inputs: Inputs) -> str:
    """Why it does not serve, "" if it does."""
    intent = plan.get(name)
    match intent:
        case Run(service=service):
            own = _seen(service.shimlet, name, inputs).generation(service.digest)
            if own is not None and own.fate is Fate.FAILED:
                return "failed"
        case Keep(shimlet=shimlet, reason=reason):
            own = routed(_seen(shimlet, name, inputs), None)
            if not _serves(own) or name in inputs.unwell:
                return "is suspended" if reason == "Suspended" else f"stays as it is ({reason})"
        case Remove():
            return "moves to another shimlet"
        case _:
            return "is in a file that is not in effect" if intent is None else "is being given up"
    if not _serves(own):
        return "does not serve yet"
    return "does not answer" if name in inputs.unwell else ""


def _serves(generation: Generation | None) -> bool:
    return generation is not None and generation.fate is Fate.SERVED and bool(generation.live)


def _in_reverse(plan: _Plan, inputs: Inputs) -> dict[ServiceName, Intent]:
    """Removals that wait for the removal of what depends on them, by what the marks say."""
    going = {name: intent for name, intent in plan.items() if isinstance(intent, Remove) and not intent.moved}
    if len(going) < 2:
        return {}
    edges = {name: _marked_needs(name, intent.shimlet, inputs) for name, intent in going.items()}
    free = free_to_go(going, edges)
    held: dict[ServiceName, Intent] = {}
    for name, intent in going.items():
        if name not in free:
            first = ", ".join(sorted(other for other, needs in edges.items() if name in needs))
            held[name] = Keep(intent.shimlet, WAITING, f"to be removed after {first}")
    return held


def _marked_needs(name: ServiceName, shimlet: str, inputs: Inputs) -> Sequence[ServiceName]:
    generations = _seen(shimlet, name, inputs).generations
    return generations[-1].service.depends_on if generations else ()


def _seen(shimlet: str, name: ServiceName, inputs: Inputs) -> Observed:
    sight = inputs.sights.get(shimlet)
    return ((sight.services if sight is not None else None) or {}).get(name, Observed(name))
