"""The work queue: names in, one worker a name out. A pure core (`Waiting`) in a thin blocking shell (`WorkQueue`).

Semantics are client-go's: a name is waiting at most once; while it is worked on an add waits for `done`; so no name is
handed out twice at once and no wish is lost. Beyond it: one queue with lanes (a lane = the workers of one shimlet; a
name moves to the newest lane that an add named), priorities that age, and back-off as a *floor*: while a name backs off
only CHANGE (or `forget`) brings its turn forward. Otherwise a replica that dies at each try, and whose death is an
event, would be tried as fast as it dies.
The core has no thread, lock or clock: every method takes `now`, monotonic seconds.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol


class Priority(IntEnum):
    """Why a name is to be looked at. A fresh commit goes before drift, drift before resync."""

    RESYNC = 0
    DRIFT = 1
    CHANGE = 2


@dataclass(frozen=True, slots=True)
class LaneView:
    """One lane at one moment, for gauges. Times in seconds.

    `depth`: names whose turn has come, those added again while they are worked on included. `delayed`: their turn is
    yet to come. `processing`: being worked on. `unfinished`: the sum of their ages; `longest`: the oldest of them.
    """

    lane: str
    depth: int = 0
    delayed: int = 0
    processing: int = 0
    unfinished: float = 0.0
    longest: float = 0.0


class QueueMetrics(Protocol):
    """Hears what client-go's counters and histograms need; `lane` is their label `name`. Gauges: `WorkQueue.snapshot`.

    Called under the queue's lock: must be quick and must not call the queue.
    """

    def added(self, lane: str) -> None:
        """A name came in that was not waiting already (workqueue_adds_total)."""

    def taken(self, lane: str, waited: float) -> None:
        """A worker took a name, this long after its turn had come (workqueue_queue_duration_seconds)."""

    def finished(self, lane: str, worked: float) -> None:
        """A worker is done with a name (workqueue_work_duration_seconds)."""

    def retried(self, lane: str) -> None:
        """A name was put back to be tried again after a back-off (workqueue_retries_total)."""


class NoQueueMetrics:
    """Listens to nothing."""

    def added(self, lane: str) -> None:
        """Nothing."""

    def taken(self, lane: str, waited: float) -> None:
        """Nothing."""

    def finished(self, lane: str, worked: float) -> None:
        """Nothing."""

    def retried(self, lane: str) -> None:
        """Nothing."""
