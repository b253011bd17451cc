"""What is wrong with a document, in plain sentences: pydantic's errors as Faults, with suggestions for unknown fields."""

import difflib
import json
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from agent.spec.document import FORMS, DeploySpec
from agent.spec.quantity import shown
from agent.spec.reading import Path

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\Z")
_HINTS = {"replicaCount": "; to stop a service, delete its document"}


class Fault(NamedTuple):
    """A sentence about a field. `key`: it is the field's name that is wrong, not its value."""

    path: Path
    message: str
    key: bool = False


def field(path: Path) -> str:
    """A path as people write it: spec.env[0].key."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif _WORD.match(step):
            text += f".{step}" if text else step
        else:
            text += f"[{json.dumps(step, ensure_ascii=False)}]"
    return text


def closest(word: str, known: Sequence[str], cutoff: float = 0.7) -> str:
    """The known word that was probably meant, "" if none is near."""
    lower = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word.lower().replace("_", ""), lower, n=1, cutoff=cutoff)
    return lower[found[0]] if found else ""


def instead(word: str, known: Sequence[str]) -> str:
    """The end of a sentence about an unknown word: what was meant, or what there is."""
    near = closest(word, known)
    return f'did you mean "{near}"?' if near else f"known are {', '.join(sorted(known))}"


def empty_fields(data: object, path: Path = ()) -> Iterator[Fault]:
    """Fields that have a name and no value: half-written, or meant as something that we cannot know."""
    if isinstance(data, dict):
        items: Iterator[tuple[str | int, Any]] = iter(data.items())
    elif isinstance(data, list):
        items = enumerate(data)
    else:
        return
    for step, value in items:
        if value is None:
            yield Fault((*path, step), "is empty; give it a value or remove it", key=isinstance(step, str))
        elif isinstance(value, (dict, list)):
            yield from empty_fields(value, (*path, step))


def faults(
    error: ValidationError, model: type[BaseModel] = DeploySpec, blocks: frozenset[str] = frozenset()
) -> Iterator[Fault]:
    """Every error as a Fault. `blocks`: further names that `spec` may hold."""
    for detail in error.errors(include_url=False):
        path = tuple(step for step in detail["loc"] if step not in FORMS)
        yield _fault(detail, path, model, blocks)


def _fault(detail: ErrorDetails, path: Path, model: type[BaseModel], blocks: frozenset[str]) -> Fault:
    kind, found = detail["type"], detail["input"]
    context: Mapping[str, Any] = detail.get("ctx", {})
    if kind == "missing":
        parent = _model_at(model, path[:-1])
        return Fault(path, f"is missing: {_description(parent, str(path[-1]))}")
    if kind == "extra_forbidden":
        return Fault(path, _unknown(path, model, blocks), key=True)
    if kind == "literal_error":
        return Fault(path, f"must be {str(context['expected']).replace(chr(39), chr(34))}, not {shown(found)}")
    if kind in _BOUNDS:
        words, bound = _BOUNDS[kind]
        return Fault(path, f"must be {words} {context[bound]}, not {shown(found)}{_HINTS.get(str(path[-1]), '')}")
    if kind == "too_long":
        return Fault(path, f"must have at most {context['max_length']} entries, not {context['actual_length']}")
    if kind in _KINDS:
        return Fault(path, f"must be {_KINDS[kind]}, not {shown(found)}{_quoting(kind, found)}")
    return Fault(path, str(context.get("sentence") or context.get("error") or detail["msg"]))


_BOUNDS = {
    "greater_than_equal": ("at least", "ge"),
    "less_than_equal": ("at most", "le"),
    "greater_than": ("more than", "gt"),
    "less_than": ("less than", "lt"),
}
_KINDS = {
    "string_type": "a text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}


def _quoting(kind: str, found: object) -> str:
    """What to write instead, where only the quotes are wrong."""
    if kind == "string_type" and isinstance(found, (int, float)):
        return f': write "{json.dumps(found)}", in quotes'
    if kind == "int_type" and isinstance(found, str) and found.isascii() and found.isdigit():
        return f": write {found}, without quotes"
    if kind == "bool_type" and isinstance(found, str) and found.lower() in ("true", "yes", "on", "false", "no", "off"):
        return f": write {'true' if found.lower() in ('true', 'yes', 'on') else 'false'}"
    if kind == "tuple_type" and isinstance(found, str):
        return f": write [{json.dumps(found, ensure_ascii=False)}]" if len(found) <= 60 else ""
    return ""


def _unknown(path: Path, model: type[BaseModel], blocks: frozenset[str]) -> str:
    word, parent = str(path[-1]), _model_at(model, path[:-1])
    known = [str(info.alias or name) for name, info in parent.model_fields.items()] if parent else []
    known += sorted(blocks) if path[:-1] == ("spec",) else []
    near = closest(word, known)
    if near:
        return f'is not a known field; did you mean "{near}"?'
    home = _homes(model).get(word)
    if home is not None:
        return f"does not belong here but to {home}"
    return f"is not a known field; known are {', '.join(known)}"


@cache
def _homes(model: type[BaseModel], prefix: str = "") -> dict[str, str]:
    """Where each field belongs, by its name; a name with several homes has the first."""
    homes: dict[str, str] = {}
    for name, info in model.model_fields.items():
        alias = str(info.alias or name)
        homes.setdefault(alias, prefix or "the top level")
        inner = _inner(info.annotation)
        if inner is not None:
            for word, home in _homes(inner, f"{prefix}.{alias}" if prefix else alias).items():
                homes.setdefault(word, home)
    return homes


def _model_at(model: type[BaseModel], path: Path) -> type[BaseModel] | None:
    found: type[BaseModel] | None = model
    for step in path:
        if isinstance(step, str) and found is not None:
            by_alias = {info.alias or name: info.annotation for name, info in found.model_fields.items()}
            found = _inner(by_alias.get(step))
    return found


def _inner(annotation: Any) -> type[BaseModel] | None:
    """The model inside a type such as `tuple[Volume, ...] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in typing.get_args(annotation) if (found := _inner(part))), None)


def _description(parent: type[BaseModel] | None, alias: str) -> str:
    fields = parent.model_fields.items() if parent else ()
    return next((str(info.description) for name, info in fields if (info.alias or name) == alias), "it must be given")
