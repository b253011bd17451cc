"""When --once gives up."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from agent.contracts import ServiceName
from agent.control.board import Phase, Status, Truth
from agent.daemon.once import on_its_way

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
WEB = Status(ServiceName("web"), Phase.PROGRESSING, Truth(False, "NotServing"), Truth(False, "Starting"), NOON)


@pytest.mark.parametrize(
    ("phase", "reason", "minutes", "going"),
    [
        (Phase.PROGRESSING, "Starting", 50, True),
        (Phase.PROGRESSING, "NoRoom", 0, True),
        (Phase.PROGRESSING, "NoRoom", 2, False),
        (Phase.PROGRESSING, "ImageRefused", 2, False),
        (Phase.DEGRADED, "Unhealthy", 0, True),
        (Phase.DEGRADED, "Unhealthy", 2, False),
        (Phase.REMOVING, "Stopping", 50, True),
        (Phase.READY, "Converged", 0, False),
        (Phase.FAILED, "Burnt", 0, False),
        (Phase.KEPT, "OverBudget", 0, False),
    ],
)
def test_once_waits_for_what_is_on_its_way_and_gives_up_on_what_waits_for_the_world(
    phase: Phase, reason: str, minutes: int, going: bool
) -> None:
    status = replace(WEB, phase=phase, converged=Truth(False, reason))
    assert on_its_way(status, NOON + timedelta(minutes=minutes)) is going
