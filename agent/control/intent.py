"""What the plan says of one name: run it, take it away, leave it as it is, or give it up."""

from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from agent.contracts import Service

WORLD_UNSEEN = "WorldUnseen"  # why a service is kept while what runs of it is not known
DIFFERS, ROLLOUT_WAITS = "ResolvesDifferently", "RolloutWaits"  # why one runs on as it was applied, in no doubt


@dataclass(frozen=True, slots=True)
class Run:
    """Walk towards this service.

    `note`, `message`: why it is not simply what git says ("" if it is). `restart_after`: replicas that started earlier are
    started again. `retry`: when somebody asked for another try of what failed or waits.
    """

    service: Service
    note: str = ""
    message: str = ""
    restart_after: datetime | None = None
    retry: datetime | None = None


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
    """Hands off. `shimlet`: where it is, "" if nothing of it is seen. `since`: of the reason, if it is known.

    `wanted`: what would run if it were not for that. `settle`: what served and was stopped for a change is brought up first.
    """

    shimlet: str
    reason: str
    message: str = ""
    since: datetime | None = None
    wanted: Service | None = None
    settle: bool = False


@dataclass(frozen=True, slots=True)
class Forget:
    """Give up what is there: it is not ours any more, and runs on."""

    shimlet: str


Intent: TypeAlias = Run | Remove | Keep | Forget


def lane(intent: Intent) -> str:
    """The shimlet whose workers look at it."""
    return intent.service.shimlet if isinstance(intent, Run) else intent.shimlet
