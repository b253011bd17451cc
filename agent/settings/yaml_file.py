"""Reads a settings file: YAML 1.2's plain words, duplicate keys refused, and the place of every key kept.

The agent's own file has a reader of its own because the layers forbid settings to know the spec's reader; it is read
once, at start, so positions are kept always.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

_LIMIT = 1 << 20  # bytes
_DEPTH = 40


class Place(NamedTuple):
    """Line and column, from 1."""

    line: int
    column: int


class Unreadable(Exception):
    """The file says nothing that can be used. The message begins with its place."""


class Node(NamedTuple):
    """A value and where it stands; `children` of a mapping, by key."""

    value: Any
    place: Place
    children: "dict[str, Node]"


class _Loader(yaml.CSafeLoader):
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 – PyYAML declares it so


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?[0-9]+$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)


def read(path: Path) -> Node:
    """Read the file. Raises Unreadable."""
    try:
        with path.open("rb") as file:
            content = file.read(_LIMIT + 1)
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror or error}") from error
    if len(content) > _LIMIT:
        raise Unreadable(f"{path}: larger than {_LIMIT >> 20} MiB; this is no settings file")
    try:
        text = content.decode()
        _bound_depth(path, text)
        root = yaml.compose(text, Loader=_Loader)
    except UnicodeDecodeError as error:
        raise Unreadable(f"{path}: not UTF-8 text, at byte {error.start}") from error
    except yaml.MarkedYAMLError as error:
        where = _at(path, error.problem_mark or error.context_mark)
        raise Unreadable(f"{where}: {error.problem or error}") from error
    except yaml.YAMLError as error:
        raise Unreadable(f"{path}: {error}") from error
    if root is None:
        return Node({}, Place(1, 1), {})
    node = _node(path, root)
    if not isinstance(node.value, dict):
        raise Unreadable(f"{path}:{node.place.line}:{node.place.column}: must be a mapping of settings")
    return node


def _bound_depth(path: Path, text: str) -> None:
    """Refuse what is nested too deep, before `compose` recurses over it in C and ends the process."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent):
            raise Unreadable(f"{_at(path, event.start_mark)}: aliases (*{event.anchor}) are not used in settings")
        if depth > _DEPTH:
            raise Unreadable(f"{_at(path, event.start_mark)}: nested deeper than {_DEPTH} levels")


def _at(path: Path, mark: Any) -> str:
    return f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)


def _node(path: Path, node: yaml.Node) -> Node:
    place = Place(node.start_mark.line + 1, node.start_mark.column + 1)
    if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
        return _mapping(path, node, place)
    if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
        return Node([_node(path, item).value for item in node.value], place, {})
    return Node(_scalar(path, node, place), place, {})


def _mapping(path: Path, node: yaml.MappingNode, place: Place) -> Node:
    children: dict[str, Node] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise Unreadable(f"{_at(path, key.start_mark)}: a key must be a word")
        name, at = str(key.value), Place(key.start_mark.line + 1, key.start_mark.column + 1)
        if name in children:
            first = children[name].place.line
            raise Unreadable(f"{path}:{at.line}:{at.column}: {name}: given twice, first on line {first}")
        children[name] = _node(path, value)._replace(place=at)
    return Node({name: child.value for name, child in children.items()}, place, children)


def _scalar(path: Path, node: yaml.Node, place: Place) -> Any:
    kind, text = node.tag.rpartition(":")[2], str(node.value)
    read_as: Mapping[str, Callable[[str], Any]] = {
        "str": str,
        "int": int,
        "float": float,
        "bool": lambda word: word.lower() == "true",
        "null": lambda _: None,
    }
    if not isinstance(node, yaml.ScalarNode) or kind not in read_as:
        raise Unreadable(f"{path}:{place.line}:{place.column}: the tag {node.tag} means nothing here")
    try:
        return read_as[kind](text)
    except ValueError as error:
        raise Unreadable(f"{path}:{place.line}:{place.column}: {text[:40]!r} is no {kind}") from error
