"""Events for tests."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from agent.journal import Event, Kind

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def happened(what: str = "Ready", service: str = "web", *, seconds: float = 0.0, **more: object) -> Event:
    """An event of a service, so many seconds after noon."""
    event = Event(at=NOON + timedelta(seconds=seconds), kind=Kind.SERVICE, what=what, service=service)
    return replace(event, **more)  # type: ignore[arg-type]
