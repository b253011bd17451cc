"""When `run --once` is done: as soon as nothing is on its way any more, or what is will not come to be by waiting."""

import logging
from datetime import datetime, timedelta

from agent.clock import Clock
from agent.control.board import CALM, Board, Phase, Status
from agent.control.controller import Controller
from agent.control.provenance import Provenance
from agent.control.scanner import Scanner
from agent.control.waiting import WAITING
from agent.control.world import World

logger = logging.getLogger("xmod.daemon")

_UNREAD = 5.0  # seconds for a source that cannot be read
_PATIENCE = timedelta(minutes=1)  # for a service that is not well again
_NEWS = timedelta(seconds=5)  # in which what waits for others hears that they serve


class Once:
    """Looks at the agent's parts from outside."""

    def __init__(
        self,
        controller: Controller,
        *,
        world: World,
        board: Board,
        scanner: Scanner,
        provenance: Provenance,
        clock: Clock,
    ) -> None:
        self._controller = controller
        self._world = world
        self._board = board
        self._scanner = scanner
        self._provenance = provenance
        self._clock = clock

    def outcome(self, *, waited: float) -> int | None:
        """The exit code, None while it is too early. `waited`: seconds since the start."""
        desired = self._controller.desired()
        if desired is None and self._scanner.error and waited > _UNREAD:  # a first clone may take its time
            logger.error("the source cannot be read", extra={"error": self._scanner.error})
            return 1
        well = self._settled()
        if well is None or desired is None:
            return None
        return 0 if well and not desired.invalid else 1

    def _settled(self) -> bool | None:
        """Whether all services are as wanted; None while something is on its way."""
        sights = self._world.sights().values()
        unseen = any(sight.services is None and not sight.error for sight in sights)
        if self._controller.desired() is None or self._provenance.busy or unseen:
            return None
        statuses = [self._board.get(name) for name in self._controller.intents()]
        now = self._clock.now()
        if any(status is None or on_its_way(status, now) for status in statuses):
            return None
        known = [status for status in statuses if status is not None]
        if any(status.converged.reason == WAITING for status in known) and now - max(s.since for s in known) < _NEWS:
            return None  # what serves only now may be what they wait for
        return all(status.phase is Phase.READY for status in known)


def on_its_way(status: Status, now: datetime) -> bool:
    """It may yet come to be as wanted; what is not well, or waits for the world to mend, is given up on after a while."""
    if status.phase is Phase.DEGRADED:
        return status.blocked == "none" and now - status.since < _PATIENCE
    if status.phase is Phase.PROGRESSING and status.converged.reason not in CALM:
        return now - status.since < _PATIENCE
    return status.phase in (Phase.PROGRESSING, Phase.REMOVING)
