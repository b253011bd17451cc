"""What the surface sends, as plain JSON: field names as in the dataclasses, times in ISO 8601, UTC."""

import dataclasses
import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import PurePath
from typing import Any

from agent.surface.operations import AgentView

_AS_THEY_ARE = frozenset({str, int, float, bool, type(None)})


def plain(value: Any) -> Any:
    """Turn dataclasses, times, paths and tuples into what JSON has."""
    kind = type(value)
    if kind in _AS_THEY_ARE:
        return value
    if kind is tuple or kind is list:
        return [plain(item) for item in value]
    if dataclasses.is_dataclass(value):
        return {name: plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return [plain(item) for item in sorted(value)]
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
    """JSON as bytes; of a path that is no UTF-8, what can be said."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
