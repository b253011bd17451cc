"""What a shimlet sees of one service: generations of replicas, each found by its mark."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from agent.contracts.workload import Digest, Placement, Service, ServiceName


class State(StrEnum):
    """A replica's life: STARTING → RUNNING → STOPPING → STOPPED (we asked) or EXITED (it left, or never started)."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    EXITED = "exited"


class Fate(StrEnum):
    """What became of a generation, as recorded in the world: NEW → SERVED or FAILED."""

    NEW = "new"
    SERVED = "served"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Replica:
    """One container, process or pod.

    Times are the world's own clock, so that deadlines survive the agent; None where a cheap look does not tell.
    `ready`: None where this world does not probe (then the dial is asked). `address`: host:port as the agent reaches it.
    `restarts`: how often it was started again in a row. `message`: exit code, last words, or the world's own reason.
    """

    placement: Placement
    state: State
    started_at: datetime | None = None
    finished_at: datetime | None = None
    exit_code: int | None = None
    restarts: int = 0
    ready: bool | None = None
    address: str = ""
    message: str = ""

    @property
    def live(self) -> bool:
        """It runs or is about to."""
        return self.state in (State.STARTING, State.RUNNING)

    @property
    def holds(self) -> bool:
        """It occupies its port and devices now."""
        return self.state in (State.STARTING, State.RUNNING, State.STOPPING)


@dataclass(frozen=True, slots=True)
class Generation:
    """All replicas of one digest of a service.

    `drift`: what no longer equals what was applied and `apply` would mend. `notice`: worth telling, not acted on.
    `secrets`: the salted hash of the secrets it was started with, "" when it has none.
    """

    service: Service
    replicas: tuple[Replica, ...]
    fate: Fate = Fate.NEW
    drift: str = ""
    notice: str = ""
    secrets: str = ""

    @property
    def live(self) -> tuple[Replica, ...]:
        """The replicas that run or are about to."""
        return tuple(replica for replica in self.replicas if replica.live)


@dataclass(frozen=True, slots=True)
class Observed:
    """All generations of one service, oldest first. `foreign`: what stands in our place without our mark, "" if nothing."""

    name: ServiceName
    generations: tuple[Generation, ...] = ()
    foreign: str = ""

    def generation(self, digest: Digest) -> Generation | None:
        """The generation of that digest, if there is one."""
        return next((g for g in self.generations if g.service.digest == digest), None)
