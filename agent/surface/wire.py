"""What the surface sends, as plain JSON: field names as in the dataclasses, times in ISO 8601, UTC."""

import dataclasses
import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import PurePath
from typing import Any

from agent.surface.operations import AgentView


def plain(value: Any) -> Any:
    """Turn dataclasses, times, paths and tuples into what JSON has."""
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list | set | frozenset):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, str | PurePath) else value


def status(view: AgentView, name: str | None = None) -> dict[str, Any] | None:
    """The answer of /api/v1/status; of one service only with `name`, None if nobody knows it."""
    if name is None:
        out: dict[str, Any] = plain(view)
        return out
    services = tuple(service for service in view.services if service.name == name)
    held = tuple(item for item in view.held if item.name == name)
    if not services and not held:
        return None
    one: dict[str, Any] = plain(dataclasses.replace(view, services=services, held=held))
    return one


def encoded(value: Any) -> bytes:
    """JSON as bytes."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
