"""What is wrong at one moment, read off the agent's view; pure. Whether and when it is told is for notice.py to decide.

Each subject (a service, a held removal, a file, the source, a world) is well, in trouble, or neither: what is on its way
is no news, so a first start is quiet. A trouble counts once it lasted for its `patience`, so that what heals by itself
within seconds is no news either.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from agent.control.board import CALM, Change, Phase, Status
from agent.control.reconciler import REFUSED
from agent.surface.operations import AgentView

Subject: TypeAlias = tuple[str, str]
"""("service", its name), ("prune", the service's name), ("file", its path), ("source", ""), ("world", the shimlet)."""

_BLIP = 5.0  # seconds in which a service may heal without a word
_SOON = 15.0  # the same for a source or a world
_STUCK = 60.0  # seconds for which something may stand in the way of a service that comes up


class State(StrEnum):
    """WELL and GONE end a trouble, UNSETTLED leaves it open."""

    WELL = "well"
    UNSETTLED = "unsettled"
    TROUBLE = "trouble"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Facts:
    """What can be told of a subject. What does not apply is empty."""

    service: str = ""
    file: str = ""
    shimlet: str = ""
    phase: str = ""
    serving: bool | None = None
    reason: str = ""
    message: str = ""
    since: datetime | None = None
    revision: str = ""
    change: Change | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One subject now. `key`: same key, same trouble; `mild`: no news beside a trouble that was told already."""

    state: State
    event: str
    facts: Facts
    key: str = ""
    patience: float = 0.0
    mild: bool = False


def findings(view: AgentView, now: datetime, *, stale: float) -> Mapping[Subject, Finding]:
    """Every subject there is. `stale`: seconds after which a source counts as out of sync."""
    found: dict[Subject, Finding] = {("source", ""): _source(view, now, stale)}
    found |= {("service", status.name): _service(status) for status in view.services}
    found |= dict(_held(view))
    found |= dict(_files(view))
    for world in view.worlds:
        trouble = State.TROUBLE if world.error else State.WELL
        event = "world.lost" if world.error else "world.recovered"
        facts = Facts(shimlet=world.shimlet, reason="OutOfSight" if world.error else "", message=world.error)
        found["world", world.shimlet] = Finding(trouble, event, facts, patience=_SOON)
    return found


def _service(status: Status) -> Finding:
    facts = Facts(
        service=status.name,
        file=status.file,
        shimlet=status.shimlet,
        phase=status.phase,
        serving=status.serving.holds,
        reason=status.converged.reason,
        message=status.converged.message,
        since=status.since,
        revision=status.revision,
        change=status.change,
    )
    reason, calm = status.converged.reason, status.converged.reason in CALM
    match status.phase:
        case Phase.READY:
            return Finding(State.WELL, "service.recovered", facts)
        case Phase.FAILED:
            return Finding(State.TROUBLE, "service.failed", facts, f"failed {status.wanted}", _BLIP)
        case Phase.DEGRADED:
            return Finding(State.TROUBLE, "service.degraded", facts, f"{reason} {status.wanted}", _BLIP, mild=calm)
        case Phase.PROGRESSING if not calm or status.stalled:
            return Finding(State.TROUBLE, "service.stuck", facts, reason, _STUCK)
        case Phase.KEPT if reason == REFUSED:
            return Finding(State.TROUBLE, "service.refused", facts, reason, _BLIP)
        case Phase.SUSPENDED:
            return Finding(State.GONE, "service.dropped", facts)
    return Finding(State.UNSETTLED, "", facts)


def _held(view: AgentView) -> Iterator[tuple[Subject, Finding]]:
    for held in view.held:
        facts = Facts(
            service=held.name,
            reason=held.reason,
            message=held.message,
            since=held.since,
            revision=view.source.revision,
        )
        yield ("prune", held.name), Finding(State.TROUBLE, "prune.held", facts, held.reason)


def _files(view: AgentView) -> Iterator[tuple[Subject, Finding]]:
    for file in view.source.invalid:
        errors = "; ".join(file.errors)
        facts = Facts(file=file.path, reason="SpecInvalid", message=errors, revision=view.source.revision)
        yield ("file", file.path), Finding(State.TROUBLE, "file.invalid", facts, errors)


def _source(view: AgentView, now: datetime, stale: float) -> Finding:
    source = view.source
    if source.unverified:
        said = source.error or "; ".join(view.notices)
        facts = Facts(reason=source.unverified, message=said, revision=source.revision)
        return Finding(State.TROUBLE, "source.unverified", facts, source.unverified)
    if source.error:
        facts = Facts(reason="SourceUnreadable", message=source.error, revision=source.revision)
        return Finding(State.TROUBLE, "source.unreadable", facts, patience=_SOON)
    if source.read_at is None:
        return Finding(State.UNSETTLED, "", Facts())
    if (now - source.read_at).total_seconds() > stale:
        facts = Facts(reason="NotInSync", since=source.read_at, revision=source.revision)
        return Finding(State.TROUBLE, "source.stale", facts, "stale", _SOON)
    return Finding(State.WELL, "source.recovered", Facts(revision=source.revision))
