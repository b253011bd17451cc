"""What specs say by now and marks do not: a mark is never written again while nothing that runs has to change. Pure.

* A spec digest that says the same as the one in the mark is agreed to, so that an upgrade still knows the spec.
* What a change of this host's name or labels makes a spec say is no user's wish: it waits for a rollout, or for the user's
  next change. Only a document that may say otherwise on another host can be changed by that.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from agent.contracts import Digest, Fate, Observed, ServiceName
from agent.control import suspension
from agent.control.desired import DesiredState
from agent.control.plan import Inputs, doubt_of
from agent.control.rollout import newest
from agent.control.words import Words
from agent.spec.resolve import Wanted


@dataclass(slots=True)
class _Notes:
    """Words about marks, as they are made anew."""

    protected: dict[ServiceName, bool]
    agreed: dict[ServiceName, tuple[Digest, Digest]]
    hosts: dict[ServiceName, str]
    relabelled: dict[ServiceName, Digest]


def noted(inputs: Inputs) -> Words:
    """The words, and with them all of this that is true now."""
    desired, words = inputs.desired, inputs.words
    if desired is None:
        return words
    lost = any(sight.error or sight.services is None for sight in inputs.sights.values())
    here = {name: seen for sight in inputs.sights.values() for name, seen in (sight.services or {}).items()}
    known_of = words.protected.keys() | words.agreed.keys() | words.hosts.keys() | words.relabelled.keys()
    stay = {n for n in known_of if (lost and n not in here) or (n in here and n not in desired.wanted)}
    notes = _Notes(
        {name: said for name, said in words.protected.items() if name in stay},
        {name: digests for name, digests in words.agreed.items() if name in stay},
        {name: host for name, host in words.hosts.items() if name in stay},
        {name: digest for name, digest in words.relabelled.items() if name in stay},
    )
    for name, wanted in desired.wanted.items():
        if name in here:
            _note(notes, wanted, here[name], words)
    now = replace(words, protected=notes.protected, agreed=notes.agreed, hosts=notes.hosts, relabelled=notes.relabelled)
    now = _suspensions_noted(now, desired, here, lost=lost)
    return words if now == words else now


def _note(notes: _Notes, wanted: Wanted, observed: Observed, words: Words) -> None:
    """What differs between a spec and the mark that speaks for its service."""
    marked, service = newest(observed), wanted.service
    if marked is None:
        return
    name, spec = service.name, service.spec_digest
    if marked.service.protected != service.protected:
        notes.protected[name] = service.protected
    read_for, known = marked.service.host, words.agreed.get(name)
    if service.host not in ("", read_for):
        notes.hosts[name] = service.host
    read_for = words.hosts.get(name, read_for)
    by_setting = "" != read_for != service.host != "" and wanted.varies
    if (by_setting or words.relabelled.get(name) == spec) and not _told(spec, observed, known):
        notes.relabelled[name] = spec
        if known is not None:
            notes.agreed[name] = known
        return
    own = observed.generation(service.digest)
    if own is not None and own.service.shimlet == service.shimlet:
        if own.service.spec_digest != spec:
            notes.agreed[name] = (spec, service.digest)
    elif known is not None and known[0] == spec:
        notes.agreed[name] = known


def _told(spec: Digest, observed: Observed, known: tuple[Digest, Digest] | None) -> bool:
    """This was wanted before, or nothing else of it is worth keeping."""
    if known is not None and known[0] == spec:
        return True
    failed = all(generation.fate is Fate.FAILED for generation in observed.generations)
    return failed or any(generation.service.spec_digest == spec for generation in observed.generations)


def _suspensions_noted(
    words: Words, desired: DesiredState, here: Mapping[ServiceName, Observed], *, lost: bool
) -> Words:
    """What was said of a service that is gone is void. `here`: all that is seen; `lost`: something may be unseen."""
    spoken = words.suspended.keys() | words.excepted | words.retries.keys()
    if not lost and not desired.unread and not desired.unexplained:
        for name in spoken - here.keys() - desired.wanted.keys() - desired.doubts.keys():
            words = words.without(name)
    said = {name: spec.suspended for name in words.still if (spec := desired.spec(name)) is not None}
    still = {
        name: said.get(name, by_spec)
        for name, by_spec in words.still.items()
        if suspension.why(words, name, desired.spec(name), doubted=doubt_of(desired, name, here.get(name)) is not None)
    }
    return replace(words, still=still)
