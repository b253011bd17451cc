"""What a spec says on one host: its body with the overrides for that host merged in, in order. Pure.

Mappings are merged, lists replaced, and null takes a field away; the body that comes of it must be a whole spec. What is
wrong with it is said at the override that brought it, or at the field of the body that no longer fits.
"""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from agent.spec.complaint import Fault, empty_fields
from agent.spec.document import NOT_OVERRIDDEN, Override
from agent.spec.hosts import HostId, selects
from agent.spec.reading import Path

Choice: TypeAlias = tuple[int, ...]
"""Which overrides apply, by their place in the list."""

_SPEC, _OVERRIDES = "spec", "overrides"


def chosen(overrides: Sequence[Override], host: HostId) -> Choice:
    """The overrides that are for this host."""
    return tuple(index for index, override in enumerate(overrides) if selects(override.hosts, host))


def choices(overrides: Sequence[Override], host: HostId | None) -> tuple[Choice, ...]:
    """What is checked against all rules: what this host sees; without a host, the body alone and with each override."""
    if host is not None:
        return (chosen(overrides, host),)
    return ((), *((index,) for index in range(len(overrides))))


def merged(body: Mapping[str, Any], overrides: Sequence[Override], choice: Choice) -> dict[str, Any]:
    """The body as these overrides make it, without any override."""
    made = {key: value for key, value in body.items() if key != _OVERRIDES}
    for index in choice:
        made = _merge(made, overrides[index].spec)
    return made


def refused(overrides: Sequence[Override]) -> Iterator[Fault]:
    """What no override may say."""
    for index, override in enumerate(overrides):
        path: Path = (_SPEC, _OVERRIDES, index, _SPEC)
        for key in NOT_OVERRIDDEN:
            if key in override.spec:
                yield Fault((*path, key), "cannot be overridden: it is said once, for the whole document", key=True)
        if not override.spec:
            yield Fault(path, "says nothing; give the fields that are otherwise on these hosts, or remove it")


def empty(data: Mapping[str, Any]) -> Iterator[Fault]:
    """Fields without a value, but for those that an override takes away."""
    return (fault for fault in empty_fields(data) if not _takes_away(fault.path))


def placed(
    faults: Iterable[Fault], data: Mapping[str, Any], choice: Choice, *, without: Container[Fault] = ()
) -> Iterator[Fault]:
    """The faults of a merged body, each where the document says what is wrong. `without`: those of the body alone."""
    for fault in faults:
        origin = _origin(fault.path, data, choice)
        if origin is not None:
            path = (_SPEC, _OVERRIDES, origin, *fault.path)
            yield Fault(path, fault.message, fault.key)
        elif choice and fault not in without:
            with_them = " and ".join(f"overrides[{index}]" for index in choice)
            yield Fault(fault.path, f"{fault.message} (with {with_them})", fault.key)
        else:
            yield fault


def _merge(base: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    made = dict(base)
    for key, value in patch.items():
        if value is None:
            made.pop(key, None)
        elif isinstance(value, dict):
            before = made.get(key)
            made[key] = _merge(before if isinstance(before, dict) else {}, value)
        else:
            made[key] = value
    return made


def _takes_away(path: Path) -> bool:
    in_override = path[:2] == (_SPEC, _OVERRIDES) and path[3:4] == (_SPEC,) and len(path) > 4
    return in_override and all(isinstance(step, str) for step in path[4:])


def _origin(path: Path, data: Mapping[str, Any], choice: Choice) -> int | None:
    """The override that says most of this path, the last of several; None: the body does."""
    origin, most = None, _known(path, data)[0]
    for index in choice:
        steps, replaces = _known(path, data[_SPEC][_OVERRIDES][index])
        if replaces or 1 < steps >= most:
            origin, most = index, steps
    return origin


def _known(path: Path, node: Any) -> tuple[int, bool]:
    """How many steps of a path there are, and whether they lead through a list."""
    in_list = False
    for depth, step in enumerate(path):
        if isinstance(node, dict) and step in node:
            node = node[step]
        elif isinstance(node, list) and isinstance(step, int) and step < len(node):
            in_list, node = True, node[step]
        else:
            return depth, in_list or isinstance(node, list)
    return len(path), in_list
