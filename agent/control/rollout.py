"""Which generation to walk towards: the wanted one, or back to one that served. Pure.

Rollback is the same goals with an older target, read from its mark. The record of a failure stays in the world, stopped;
a digest that ever served is never burnt; and a wish that cannot be placed does not leave the proven one stopped.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from agent.contracts import Digest, Fate, Generation, Observed, Room, Service, State


@dataclass(frozen=True, slots=True)
class Target:
    """Where to walk. `service` None: nowhere, the wish is burnt and nothing else is left.

    `keep`: digests that stay, stopped, as the record that this wish failed. Why the wanted digest is not walked to:
    `burnt`, or `waits` for room.
    """

    service: Service | None
    keep: frozenset[Digest] = frozenset()
    burnt: str = ""
    waits: str = ""


def burnt_reason(wanted: Service, observed: Observed, remembered: Mapping[Digest, str]) -> str:
    """Why this wish is not tried again, "" if it may be.

    The same spec that failed under another digest (an upgrade resolves it differently) has failed too.
    """
    own = observed.generation(wanted.digest)
    if own is not None and own.fate is Fate.SERVED:
        return ""
    if wanted.digest in remembered:
        return remembered[wanted.digest]
    for generation in observed.generations:
        if _failure_of(wanted, generation):
            last = next((r.message for r in generation.replicas if r.message), "it failed before")
            return f"{generation.service.digest[:8]} failed: {last}"
    return ""


def target(wanted: Service, observed: Observed, *, burnt: str, route: Digest | None, room: Room | None) -> Target:
    """The wanted generation unless it is burnt, or has no place while a proven one has.

    `route`: the digest that this agent last proved to serve. `room`: what the ledger says of the wish, None without one.
    """
    back = [g for g in observed.generations if g.service.digest != wanted.digest and g.fate is not Fate.FAILED]
    proven = _proven(back, route)
    fits = room is None or room.fits
    own = observed.generation(wanted.digest)
    if not burnt and not fits and proven is None and own is not None and own.fate is Fate.SERVED:
        return Target(as_it_runs(own), waits=room.need if room is not None else "")  # another port or address, not free
    if not burnt and (fits or proven is None):
        return Target(wanted)
    if not burnt and proven is not None and room is not None:
        return Target(as_it_runs(proven), frozenset({wanted.digest}), waits=room.need)
    failed = frozenset(g.service.digest for g in observed.generations if _failure_of(wanted, g)) | {wanted.digest}
    older = proven or next(iter(back), None)
    if older is None:
        return Target(None, failed, burnt)
    return Target(replace(older.service, replicas=wanted.replicas), failed, burnt)


def beside(refused: Service, observed: Observed, *, route: Digest | None) -> Target | None:
    """Where to walk while the wish may not be started: to the proven generation as it runs. None if that would end anything.

    All others are kept: a refusal takes nothing away.
    """
    others = [g for g in observed.generations if g.service.digest != refused.digest and g.fate is not Fate.FAILED]
    proven = _proven(others, route)
    rest = [g for g in observed.generations if g is not proven]
    if proven is None or any(g.live for g in rest):
        return None
    return Target(as_it_runs(proven), frozenset(g.service.digest for g in rest) | {refused.digest})


def unfinished(observed: Observed, *, route: Digest | None) -> Target | None:
    """Where to walk before a service may be left alone. None: nothing that served was stopped for something else.

    What came in its place already is brought to its end; else the proven one is started again, and all others are kept.
    """
    served = [g for g in observed.generations if g.fate is Fate.SERVED]
    if not served or any(g.live for g in served):
        return None
    coming = next((g for g in reversed(observed.generations) if g.fate is Fate.NEW and g.live), None)
    if coming is not None:
        return Target(coming.service)
    proven = _proven(served, route)
    if proven is None or all(replica.state is State.EXITED for replica in proven.replicas):
        return None
    return Target(as_it_runs(proven), frozenset(g.service.digest for g in observed.generations if g is not proven))


def as_it_runs(generation: Generation) -> Service:
    """Its service with as many replicas as there are: a mark tells how many there were when its replica was made."""
    last = max((replica.placement.index for replica in generation.replicas), default=generation.service.replicas - 1)
    return replace(generation.service, replicas=last + 1)


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


def _failure_of(wanted: Service, generation: Generation) -> bool:
    """The record that this wish failed; those of earlier wishes are of no use any more."""
    marked = generation.service
    same = wanted.digest == marked.digest or wanted.spec_digest == marked.spec_digest
    return same and generation.fate is Fate.FAILED


def routed(observed: Observed, route: Digest | None) -> Generation | None:
    """The generation that serves: where the route leads, else the newest one recorded as SERVED."""
    return _proven(list(observed.generations), route)


def _proven(generations: list[Generation], route: Digest | None) -> Generation | None:
    exact = next((g for g in generations if g.service.digest == route), None)
    return exact or next((g for g in reversed(generations) if g.fate is Fate.SERVED), None)
