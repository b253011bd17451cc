"""Which hosts a document is for: names, globs and label selectors, any one of which is enough.

* Names are compared without regard to case. A pattern without a dot means the first part of a host's name, so that
  "edge-01" selects edge-01.example.com, too; one with a dot means the whole name.
* Label selectors have Kubernetes' words and meaning: all that one says must hold, and NotIn holds where the label lacks.
* A list or selector that is empty is refused: it does not tell whether every host is meant or none.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from agent.spec.part import Part
from agent.spec.quantity import HostPattern, Text

_MOST = 1000  # entries of a list


@dataclass(frozen=True, slots=True)
class HostId:
    """A host as documents see it: its name and its labels."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        labels = ", ".join(f"{key}={value}" for key, value in sorted(self.labels.items()))
        return f"{self.name.lower()} ({labels})" if labels else self.name.lower()


def _said(sentence: str) -> PydanticCustomError:
    return PydanticCustomError("refused", "{sentence}", {"sentence": sentence})


class Expression(Part):
    """A condition on one label."""

    key: Text = Field(description="the label's name")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = Field(
        description="In, NotIn: its value is (not) one of values; Exists, DoesNotExist: the label is (not) there"
    )
    values: tuple[str, ...] = Field(default=(), max_length=_MOST, description="for In and NotIn")

    @model_validator(mode="after")
    def _values_if_asked_for(self) -> Self:
        if bool(self.values) != (self.operator in ("In", "NotIn")):
            raise _said(f"{self.operator} needs {'no values' if self.values else 'values'}")
        return self

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether these labels fulfil it."""
        match self.operator:
            case "In":
                return labels.get(self.key) in self.values
            case "NotIn":
                return labels.get(self.key) not in self.values
            case "Exists":
                return self.key in labels
            case "DoesNotExist":
                return self.key not in labels


class LabelSelector(Part):
    """Hosts by their labels (agent.labels): all that it says must hold."""

    match_labels: dict[str, str] = Field(
        default_factory=dict, max_length=_MOST, description="labels that the host has, with these values"
    )
    match_expressions: tuple[Expression, ...] = Field(
        default=(), max_length=_MOST, description="conditions that the host's labels fulfil"
    )

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.match_labels and not self.match_expressions:
            raise _said("says nothing: give matchLabels or matchExpressions, or leave hosts out to mean every host")
        return self

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether these labels fulfil it."""
        exact = all(labels.get(key) == value for key, value in self.match_labels.items())
        return exact and all(expression.holds(labels) for expression in self.match_expressions)


def _form(value: object) -> str:
    return "<labels>" if isinstance(value, (dict, LabelSelector)) else "<pattern>"


HOST_FORMS = frozenset({"<labels>", "<pattern>"})
"""Steps in pydantic's error paths that stand for no key of a document."""


def _some(hosts: tuple[str | LabelSelector, ...]) -> tuple[str | LabelSelector, ...]:
    if not hosts:
        raise _said('names no host; "*" means every host')
    return hosts


_Entry: TypeAlias = Annotated[
    Annotated[HostPattern, Tag("<pattern>")] | Annotated[LabelSelector, Tag("<labels>")],
    Discriminator(_form),
]
Hosts: TypeAlias = Annotated[tuple[_Entry, ...], Field(max_length=_MOST), AfterValidator(_some)]
Selection: TypeAlias = Sequence[str | LabelSelector] | None
"""What a document says of its hosts; None: every host."""


def selects(hosts: Selection, host: HostId) -> bool:
    """Whether a document with these hosts is for this one."""
    return hosts is None or any(_entry_selects(entry, host) for entry in hosts)


def meeting(one: Selection, other: Selection) -> HostId | None:
    """A host that could be and that both select; None if none comes to mind, which is no proof that there is none."""
    return next((host for host in witnesses(one, other) if selects(one, host) and selects(other, host)), None)


def witnesses(*selections: Selection) -> Iterator[HostId]:
    """For each thing that is said of hosts, a host of which it is true; and one of which nothing is said."""
    yield HostId("")
    for entry in (entry for hosts in selections if hosts is not None for entry in hosts):
        if isinstance(entry, str):
            yield HostId(entry.replace("*", "x").replace("?", "x"))
        else:
            asked = (each for each in entry.match_expressions if each.operator in ("In", "Exists"))
            yield HostId("", {**{e.key: e.values[0] if e.values else "x" for e in asked}, **entry.match_labels})


def _entry_selects(entry: str | LabelSelector, host: HostId) -> bool:
    if not isinstance(entry, str):
        return entry.holds(host.labels)
    name, pattern = host.name.lower(), entry.lower()
    return fnmatchcase(name if "." in pattern else name.partition(".")[0], pattern)
