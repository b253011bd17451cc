"""What control tells of its work. Control emits facts; metrics listen."""

from typing import Protocol

from agent.contracts import ServiceName


class SourceFacts(Protocol):
    """What reading the source tells."""

    def detected(self, seconds: float) -> None:
        """A change was seen, this long after it was written or committed."""

    def unread(self, error: str) -> None:
        """The source cannot be read, and why; "": it can be again."""


class PlanFacts(Protocol):
    """What planning tells."""

    def scanned(self) -> None:
        """The source was read whole: the heartbeat."""

    def pruned(self, result: str, name: ServiceName, reason: str = "", message: str = "") -> None:
        """A removal was decided on: removed, held (and why) or approved."""


class Facts(SourceFacts, PlanFacts, Protocol):
    """One method a fact; seconds are wall-clock durations."""

    def reconciled(self, shimlet: str, result: str, seconds: float) -> None:
        """One look ended: achieved, pending, transient, failed, permanent, error or kept."""

    def ensured(self, goalset: str, goal: str, result: str) -> None:
        """A goal acted: ok, transient, permanent or error."""

    def goal_achieved(self, goalset: str, goal: str, seconds: float) -> None:
        """A goal holds, this long after its turn came."""

    def converged(self, shimlet: str, goalset: str, seconds: float) -> None:
        """A wanted change is in effect, this long after it was first seen."""

    def drifted(self, shimlet: str) -> None:
        """What was right no longer is, without a change of spec."""

    def task_ended(self, kind: str, result: str) -> None:
        """Work that outlives a look ended: kind "image" …; ok, transient, permanent, error or cancelled."""
