"""Bytes to documents: YAML 1.2 core at the speed of the C parser, with limits that hold before anything is expanded.

* Documents are built from the parser's events, in our own code: no node graph, no YAML 1.1 surprises (`no`, `0755`,
  `22:22`, dates stay what they look like), no recursion in C. (`yaml.compose` of 300,000 brackets ends the process.)
* A duplicate key, an unknown tag or a merge key is refused with its line; nothing wins silently.
* Positions of values are looked up only when something is wrong: see Positions.
* An empty file is invalid, not "no services": git and editors truncate a file before they write it.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import yaml
from yaml import AliasEvent, MappingEndEvent, MappingStartEvent, ScalarEvent, SequenceEndEvent
from yaml._yaml import CParser
from yaml.error import Mark, MarkedYAMLError

from agent.spec.scalar import CORE, KINDS_BY_TAG, TEXT_TAGS, plain

Path: TypeAlias = tuple[str | int, ...]
"""Where in a document: keys and list indices, from the root."""


class Problem(NamedTuple):
    """What is wrong, and where: line and column count from 1, `field` is "" where no field is to blame."""

    line: int
    column: int
    field: str
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in (f"{self.line}:{self.column}", self.field, self.message) if part)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a file may ask of us. `aliased`: nodes that its aliases stand for, all together."""

    size: int = 1 << 20
    documents: int = 100
    depth: int = 32
    aliased: int = 10_000


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a file: its number from 0 (empty ones count), the line of its content, and its content.

    `complete`: no value in it is null. `hidden`: values that were encrypted, by where they are; `secrets`: those that
    nobody may see, by what stands for them in `data`.
    """

    index: int
    line: int
    data: Any
    complete: bool
    hidden: Mapping[Path, Any] = field(default_factory=dict, repr=False)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Reading:
    """A file's documents without the empty ones; with any problem, they are not to be relied on."""

    documents: tuple[Document, ...]
    problems: tuple[Problem, ...]


DEFAULT_LIMITS = Limits()
_MOST_PROBLEMS = 100


def read(content: bytes, limits: Limits = DEFAULT_LIMITS) -> Reading:
    """Read a YAML or JSON file. Never raises: what is wrong is in `problems`, all of it up to the first that stops us."""
    problem = _unreadable(content, limits)
    if problem is not None:
        return Reading((), (problem,))
    builder = _Builder(content, limits)
    try:
        documents = tuple(builder.documents())
    except _Stop as stop:
        builder.problems.append(stop.problem)
        documents = ()
    except MarkedYAMLError as error:
        builder.problems.append(_syntax(error, content.decode()))
        documents = ()
    except yaml.YAMLError as error:
        builder.problems.append(Problem(1, 1, "", f"this is not YAML: {error}"))
        documents = ()
    if not documents and not builder.problems:
        builder.problems.append(Problem(1, 1, "", "the file is empty; delete it if its services are to go"))
    return Reading(documents, tuple(sorted(builder.problems)[:_MOST_PROBLEMS]))


def adornment(content: bytes) -> Problem | None:
    """The first tag, anchor or alias of a file that `read` accepted."""
    next_event: Callable[[], Any] = CParser(content).get_event
    while type(event := next_event()) is not yaml.StreamEndEvent:
        if getattr(event, "anchor", None) is not None or getattr(event, "tag", None) is not None:
            return _at(event.start_mark, "tags, anchors and aliases cannot be in an encrypted file")
    return None


class Positions:
    """Finds where a field stands in a file that `read` accepted. Costs a second parse: ask only when something is wrong."""

    def __init__(self, content: bytes) -> None:
        self._roots: list[Any] = list(yaml.compose_all(content, Loader=yaml.CSafeLoader))

    def of(self, index: int, path: Path, *, key: bool = False) -> tuple[int, int]:
        """Line and column of a field's value (or of its `key`); of what would hold it where it is missing."""
        node = self._roots[index]
        mark = node.start_mark
        for depth, step in enumerate(path):
            found = _child(node, step)
            if found is None:
                break
            last = depth == len(path) - 1
            mark = found[1].start_mark if last and not key else found[0].start_mark
            node = found[1]
        return mark.line + 1, mark.column + 1


def _child(node: Any, step: str | int) -> tuple[Any, Any] | None:
    if isinstance(node, yaml.MappingNode):
        return next(((k, v) for k, v in node.value if isinstance(k, yaml.ScalarNode) and k.value == str(step)), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step], node.value[step]
    return None


# ---- before parsing

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def _unreadable(content: bytes, limits: Limits) -> Problem | None:
    if len(content) > limits.size:
        size, limit = len(content) / (1 << 20), limits.size / (1 << 20)
        return Problem(1, 1, "", f"the file has {size:.1f} MiB; the limit is {limit:g} MiB")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line, column = _place(content[: error.start].decode())
        byte = content[error.start]
        return Problem(line, column, "", f"this is not UTF-8 text (byte 0x{byte:02x}); save the file as UTF-8")
    found = _CONTROL.search(text)
    if found is not None:
        line, column = _place(text[: found.start()])
        return Problem(line, column, "", f"character U+{ord(found[0]):04X} is not allowed; is this a binary file?")
    return None


def _place(before: str) -> tuple[int, int]:
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


# ---- collections


class _Stop(Exception):
    def __init__(self, problem: Problem) -> None:
        self.problem = problem


class _Builder:
    """Builds documents from events. An alias shares the value that it stands for; what it would expand to is counted."""

    def __init__(self, content: bytes, limits: Limits) -> None:
        self.problems: list[Problem] = []
        self._next: Callable[[], Any] = CParser(content).get_event
        self._limits = limits
        self._depth = 0
        self._nodes = 0
        self._aliased = 0
        self._nulls = 0
        self._anchors: dict[str, tuple[Any, int]] = {}

    def documents(self) -> Iterator[Document]:
        self._next()  # the stream's start
        index = 0
        while isinstance(self._next(), yaml.DocumentStartEvent):
            event = self._next()
            if index == self._limits.documents:
                raise self._stop(event, f"more than {index} documents in one file; split it")
            self._anchors = {}
            self._nulls = 0
            data = self._value(event)
            if data is not None:
                yield Document(index, event.start_mark.line + 1, data, complete=not self._nulls)
            index += 1
            self._next()  # the document's end

    def _value(self, event: Any) -> Any:
        kind = type(event)
        if kind is AliasEvent:
            return self._alias(event)
        before = self._nodes
        self._nodes += 1
        if kind is ScalarEvent:
            value = self._scalar(event)
        elif kind is MappingStartEvent:
            value = self._collection(event, "map", self._mapping)
        else:
            value = self._collection(event, "seq", self._sequence)
        if event.anchor is not None:
            self._anchors[event.anchor] = (
                value,
                self._nodes - before,
            )  # complete: an alias inside itself finds nothing
        return value

    def _scalar(self, event: Any) -> Any:
        text: str = event.value
        if event.implicit[0]:
            value = plain(text)
            self._nulls += value is None
            return value
        if "\0" in text:
            self._complain(event, 'a NUL character ("\\0") cannot be part of any field')
        tag = event.tag
        if tag is None or tag in TEXT_TAGS:
            return text
        value = plain(text)
        self._nulls += value is None
        if tag not in KINDS_BY_TAG:
            self._complain(event, f"the tag {_shown(tag)} is not known here; only YAML's core tags are")
        elif not isinstance(value, KINDS_BY_TAG[tag]):
            self._complain(event, f"{text!r} is not {_shown(tag)}")
        return value

    def _collection(self, event: Any, kind: str, build: Callable[[], Any]) -> Any:
        if event.tag not in (None, "!", CORE + kind):
            self._complain(event, f"the tag {_shown(event.tag)} is not known here; only YAML's core tags are")
        self._depth += 1
        if self._depth > self._limits.depth:
            raise self._stop(event, f"nested deeper than {self._limits.depth} levels")
        value = build()
        self._depth -= 1
        return value

    def _sequence(self) -> list[Any]:
        items: list[Any] = []
        while type(event := self._next()) is not SequenceEndEvent:
            items.append(self._value(event))
        return items

    def _mapping(self) -> dict[str, Any]:
        items: dict[str, Any] = {}
        firsts: dict[str, Any] = {}
        while type(event := self._next()) is not MappingEndEvent:
            key = self._key(event)
            if key in items:
                line = firsts[key].start_mark.line + 1
                self._complain(event, f"the key {key!r} is already on line {line}; one of them must go")
            firsts[key] = event
            items[key] = self._value(self._next())
        return items

    def _key(self, event: Any) -> str:
        """A key is its text as written: `1` is "1", `on` is "on"."""
        if type(event) is ScalarEvent and event.anchor is None and "\0" not in event.value:
            text: str = event.value
            if text == "<<" and event.implicit[0]:
                self._complain(event, "merge keys (<<) are not part of YAML 1.2; write the fields out")
            return text
        value = self._value(event)
        if isinstance(value, (dict, list)):
            self._complain(event, "a key must be a word, not a list or a mapping")
        return str(value)

    def _alias(self, event: Any) -> Any:
        if event.anchor not in self._anchors:
            raise self._stop(event, f"the alias *{event.anchor} stands for nothing that is complete before it")
        value, nodes = self._anchors[event.anchor]
        self._nodes += nodes
        self._aliased += nodes
        if self._aliased > self._limits.aliased:
            raise self._stop(event, f"aliases that stand for more than {self._limits.aliased} values; write them out")
        return value

    def _complain(self, event: Any, message: str) -> None:
        self.problems.append(_at(event.start_mark, message))

    def _stop(self, event: Any, message: str) -> _Stop:
        return _Stop(_at(event.start_mark, message))


def _at(mark: Mark, message: str) -> Problem:
    return Problem(mark.line + 1, mark.column + 1, "", message)


def _shown(tag: str) -> str:
    return tag.replace(CORE, "!!")


_MEANT = {
    "could not find expected ':'": "a key without ':', or a text of several lines that needs quotes",
    "mapping values are not allowed in this context": "a ':' where none can be; quote the value, or mend the indentation",
    "found unexpected end of stream": "the file ends in the middle of this; a closing quote is missing",
    "\t": "a tab cannot begin a line's content; indent with spaces",
    "@": "a value cannot begin with '@' unless it is in quotes",
    "`": "a value cannot begin with '`' unless it is in quotes",
    "%": "a value cannot begin with '%' unless it is in quotes",
}


def _syntax(error: MarkedYAMLError, text: str) -> Problem:
    """The parser's complaint as a sentence: what, where, and in what that began earlier."""
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return Problem(1, 1, "", f"this is not YAML: {error.problem}")
    what = str(error.problem)
    if "cannot start any token" in what:
        what = _MEANT.get(text[mark.index : mark.index + 1], what)
    message = f"this is not YAML: {_MEANT.get(what, what)}"
    since = error.context_mark
    if since is not None and (since.line, since.column) != (mark.line, mark.column):
        message += f" ({error.context}, begun on line {since.line + 1})"
    return _at(mark, message)
