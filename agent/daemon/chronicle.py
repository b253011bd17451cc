"""What happens, as the journal is to have it: transitions of services, prunes, words, the source, and the agent's own life.

A service's event is written when its phase, one of its two truths, its goal, its reason, or what is wanted, routed or its
revision differs from its last event, also of an agent before: a restart that changes nothing writes nothing. Retries and
messages alone are no news. Of flickering (goal and reasons alone) a service has thirty, and one more every ten seconds;
the next event says how many were left out. Nobody decides from any of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from agent import __version__
from agent.clock import Clock
from agent.contracts import ServiceName
from agent.control.board import CALM, Phase, Status
from agent.control.desired import DesiredState
from agent.control.facts import PlanFacts, SourceFacts
from agent.control.intent import WORLD_UNSEEN
from agent.journal import Event, Kind
from agent.surface.speaker import SPEAKER

_SHORT = 12  # signs of a digest
_BURST = 30.0  # flickers that a service may have at once
_REFILL = 0.1  # flickers a second


class Keeps(Protocol):
    """Where events go, and come from after a restart."""

    def record(self, happened: Event) -> None:
        """Keep an event; never waits."""

    def newest(self, kind: Kind) -> Mapping[str, Event]:
        """The last event of that kind of each service."""
        ...


@dataclass(slots=True)
class _Told:
    """What was told of a service last, and how much it may flicker. `silent`: flickers left out since.

    `inherited`: an agent before told it, and this one is only finding the service again.
    """

    event: Event
    inherited: bool = False
    left: float = _BURST
    at: float = 0.0
    silent: int = 0


@dataclass(slots=True)
class Chronicle:
    """Writes events. The board calls `heard`, one at a time; the others may be called from any thread."""

    keeps: Keeps
    clock: Clock
    _told: dict[ServiceName, _Told] = field(default_factory=dict)
    _revision: str = ""
    _held: str = ""  # the newest commit, if its signature keeps it out of force

    # the agent's life

    def begin(self, message: str) -> None:
        """The agent starts: it goes on from what the journal has."""
        services = self.keeps.newest(Kind.SERVICE)
        self._told = {
            ServiceName(name): _Told(e, inherited=True) for name, e in services.items() if e.what != "Removed"
        }
        source = self.keeps.newest(Kind.SOURCE).get("")
        if source is not None:
            self._revision, self._held = source.revision, source.commit if source.what == "Held" else ""
        before = self.keeps.newest(Kind.AGENT).get("")
        unstopped = "; the one before ended without a word" if before is not None and before.what == "Started" else ""
        self._tell(Kind.AGENT, "Started", message=f"version {__version__}, {message}{unstopped}")

    def end(self) -> None:
        """The agent stops."""
        self._tell(Kind.AGENT, "Stopped", message="services go on running")

    # what it sees and does

    def heard(self, before: Status | None, after: Status | None) -> None:
        """A listener of the board."""
        if after is None:
            if before is not None:
                self._told.pop(before.name, None)
                message = "nothing of it is wanted or left"
                self._tell(Kind.SERVICE, "Removed", service=before.name, message=message, **_commit(before))
            return
        if before is None and after.converged.reason == WORLD_UNSEEN:
            return  # as at every start
        event = _event(after, self.clock)
        told = self._told.get(after.name)
        if told is None:
            told = self._told[after.name] = _Told(event)
        elif told.inherited and _is_being_found(told.event, event):
            return
        elif _gist(told.event) == _gist(event) or (told.inherited and _is_found(told.event, event)):
            told.event, told.inherited = event, False
            return
        elif _is_flicker(told.event, event) and not self._lets(told):
            told.silent += 1
            return
        told.event, told.inherited = event, False
        if told.silent:
            event = replace(event, message=f"{event.message} ({told.silent} flickers before it were left out)".strip())
            told.silent = 0
        self.keeps.record(event)

    def _lets(self, told: _Told) -> bool:
        now = self.clock.monotonic()
        told.left = min(_BURST, told.left + (now - told.at) * _REFILL)
        told.at = now
        if told.left < 1:
            return False
        told.left -= 1
        return True

    def pruned(self, result: str, name: ServiceName, reason: str, message: str) -> None:
        """A removal was held or approved; that it came to its end, the board says."""
        if result != "removed":
            self._tell(Kind.PRUNE, result.capitalize(), service=name, reason=reason, message=message)

    def unread(self, error: str) -> None:
        """The source cannot be read, or can be again."""
        self._tell(Kind.SOURCE, "Unreadable" if error else "Readable", message=error, revision=self._revision)

    def read(self, desired: DesiredState) -> None:
        """The source was read. A revision is told once."""
        if desired.revision == self._revision:
            return
        self._revision = desired.revision
        message = f"services: {len(desired.wanted)}"
        if desired.invalid:
            bad = desired.invalid[0]
            message += f", invalid files: {len(desired.invalid)}, {bad.path}:{bad.errors[0]}"
        self._tell(Kind.SOURCE, "Revision", message=message, revision=desired.revision)

    def judged(self, reason: str, *, head: str, message: str) -> None:
        """Why the newest commit is held because of its signature, "" if it is not. Each commit is told once."""
        held = head if reason else ""
        if held == self._held:
            return
        self._held = held
        self._tell(
            Kind.SOURCE,
            "Held" if held else "Verified",
            reason=reason,
            message=message if held else "",
            revision=self._revision,
            commit=held,
        )

    # what an operator says

    def said(self, word: str, names: Sequence[str] = (), message: str = "") -> None:
        """An operator said this, of these services (none: of the agent), and it was taken."""
        for name in names or ("",):
            self._tell(Kind.WORD, word, service=name, message=message, who=SPEAKER.get())

    def _tell(self, kind: Kind, what: str, **more: str) -> None:
        self.keeps.record(Event(at=self.clock.now(), kind=kind, what=what, **more))  # type: ignore[arg-type] # texts only


class Facts:
    """What reading and planning tell, for those who count and for the chronicle."""

    def __init__(self, counted: "Counts", chronicle: Chronicle) -> None:
        self._counted = counted
        self._chronicle = chronicle
        self.detected = counted.detected
        self.scanned = counted.scanned

    def unread(self, error: str) -> None:
        """The source cannot be read, or can be again."""
        self._counted.unread(error)
        self._chronicle.unread(error)

    def pruned(self, result: str, name: ServiceName, reason: str = "", message: str = "") -> None:
        """A removal was decided on."""
        self._counted.pruned(result, name, reason, message)
        self._chronicle.pruned(result, name, reason, message)


class Counts(SourceFacts, PlanFacts, Protocol):
    """Who counts."""


def _event(status: Status, clock: Clock) -> Event:
    truth = status.converged if not status.converged.holds or status.serving.holds else status.serving
    verdict = next((goal.verdict for goal in status.goals if goal.name == status.goal), "")
    told = Event(
        at=clock.now(),
        kind=Kind.SERVICE,
        what=str(status.phase),
        service=status.name,
        goal=status.goal,
        verdict=verdict or ("achieved" if status.converged.holds else ""),
        reason=truth.reason,
        message=truth.message,
        serving=status.serving.holds,
        converged=status.converged.holds,
        wanted=status.wanted[:_SHORT],
        routed=status.routed[:_SHORT],
        revision=status.revision,
    )
    return replace(told, **_commit(status))  # type: ignore[arg-type] # texts only


def _commit(status: Status) -> dict[str, str]:
    """The commit that its document's last change came with, be it that it went."""
    change = status.change
    return {"commit": change.commit, "author": change.author, "subject": change.subject} if change is not None else {}


def _gist(event: Event) -> tuple[object, ...]:
    """What makes an event of a service news, when it differs from the last."""
    return (*_weight(event), event.goal, event.reason)


def _weight(event: Event) -> tuple[object, ...]:
    """What is never left out."""
    return (event.what, event.serving, event.converged, event.wanted, event.routed, event.revision)


def _is_being_found(before: Event, after: Event) -> bool:
    """It is what it was, as far as it was looked at."""
    return after.what == Phase.PROGRESSING and after.reason in CALM and before.wanted == after.wanted


def _is_found(before: Event, after: Event) -> bool:
    """It is what it was; a folder's files are all of the revision at which an agent read them first."""
    return _gist(before) == _gist(replace(after, revision=before.revision))


def _is_flicker(before: Event, after: Event) -> bool:
    return _weight(before) == _weight(after)
