"""Every setting by all its names: in a file, in the environment, and as a flag of `xmod-agent run`."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pydantic.alias_generators import to_camel

from agent.settings.model import Block, FileSettings


class Setting(NamedTuple):
    """One setting, for people. `flag`: of `xmod-agent run`, "" if it has none."""

    name: str
    env: str
    default: str
    description: str
    flag: str


FLAGS: Mapping[str, str] = {
    "source.mode": "--source",
    "source.repo": "--repo",
    "source.ref": "--ref",
    "source.path": "--path",
    "source.interval": "--interval",
    "source.verify": "--verify",
    "notify.url": "--notify-url",
    "report.url": "--report-url",
    "plugins.defaultShimlet": "--shimlet",
    "plugins.defaultPipeline": "--goalset",
    "agent.stateDir": "--state-dir",
    "service.bind": "--bind",
    "service.port": "--port",
    "agent.instance": "--instance",
    "agent.host": "--host",
    "agent.labels": "--label",
    "plugins.pluginDir": "--plugin-dir",
    "logging.level": "--log-level",
}


def leaves() -> Iterator[tuple[str, str, Any]]:
    """Every setting: its dotted name, its name in the environment, and pydantic's FieldInfo."""
    for top, block in FileSettings.model_fields.items():
        if isinstance(block.annotation, type) and issubclass(block.annotation, Block):
            for key, field in block.annotation.model_fields.items():
                yield f"{top}.{to_camel(key)}", f"XMOD_{top}__{key}".upper(), field
        else:
            yield top, f"XMOD_{top}".upper(), block


def table() -> tuple[Setting, ...]:
    """Every setting, in the order of the file."""
    return tuple(
        Setting(name, env, _shown(field), field.description or "", FLAGS.get(name, "")) for name, env, field in leaves()
    )


def _shown(field: Any) -> str:
    extra = field.json_schema_extra
    if isinstance(extra, dict) and "shown" in extra:
        return str(extra["shown"])
    if isinstance(field.default, bool):
        return str(field.default).lower()
    if isinstance(field.default, float) and field.metadata and field.default >= 1:
        return f"{field.default:g}s"
    return "" if field.default in (None, (), {}) else str(field.default)
