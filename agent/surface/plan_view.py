"""What `plan` found: what a run would do, as data that the CLI prints."""

from dataclasses import dataclass
from enum import StrEnum


class Action(StrEnum):
    """What would happen to a name. NONE and KEEP leave nothing to do; RUN is for another host: it would run there."""

    CREATE = "create"
    REPLACE = "replace"
    REMOVE = "remove"
    HELD = "held"
    KEEP = "keep"
    INVALID = "invalid"
    CONFLICT = "conflict"
    NONE = "none"
    RUN = "run"


@dataclass(frozen=True, slots=True)
class PlanRow:
    """One name, or for INVALID one file. `message`: why."""

    action: Action
    name: str
    shimlet: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class PlanView:
    """The whole plan. `error`: why there is none (the source or a world cannot be read), "" if there is.

    `host`: the other host that it is for, "" if it is for this one; `elsewhere`: how many services are for further hosts.
    """

    rows: tuple[PlanRow, ...]
    error: str = ""
    host: str = ""
    elsewhere: int = 0

    @property
    def something(self) -> bool:
        """There is something that a run would do or that needs attention."""
        return any(row.action not in (Action.NONE, Action.KEEP, Action.RUN) for row in self.rows)
