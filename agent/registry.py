"""Which shimlets and goalsets there are, and where each comes from. The built-in ones come through the same doors.

Doors: entry points of installed packages (groups xmod.shimlets and xmod.goalsets), a folder of .py files that each
define register(plugins), and the settings' preload list. A plugin that cannot be loaded, and two of one kind and name,
are errors that name the file and line: an agent with half its plugins could only guess what its specs mean.
An entry point's shimlet is imported when it is first asked for: `--shimlet process` never imports docker.
"""

import difflib
import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, TypeVar, cast

from agent.contracts import GoalSet, ShimletFactory

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
T = TypeVar("T")


class PluginError(Exception):
    """A plugin that cannot be used, or a name that no plugin has. The message says where and what to do."""


class PluginRow(NamedTuple):
    """One plugin, for people. `kind`: shimlet or goalset; an alias is a row of its own that names its goalset."""

    kind: str
    name: str
    origin: str


@dataclass(frozen=True, slots=True)
class _Entry:
    """A plugin and where it comes from; `load` imports it."""

    origin: str
    load: Callable[[], Any]


class Registry:
    """All plugins by kind and name. Filled at start by one thread, then only read."""

    def __init__(self) -> None:
        self._shimlets: dict[str, _Entry] = {}
        self._goalsets: dict[str, tuple[str, GoalSet]] = {}  # aliases are keys too

    def door(self, origin: str) -> "Door":
        """Where a plugin of that origin registers what it brings."""
        return Door(self, origin)

    def load_entry_points(self) -> None:
        """Take what installed packages bring. Raises PluginError."""
        for point in entry_points(group="xmod.shimlets"):
            self._put_shimlet(point.name, _Entry(_origin(point), _loader(point)))
        for point in entry_points(group="xmod.goalsets"):
            goalset = _loader(point)()
            _check_goalset(goalset, _origin(point))
            if point.name not in (goalset.name, *goalset.aliases):
                raise PluginError(
                    f"{_origin(point)}: entry point {point.name} is the goalset {goalset.name}; name it so"
                )
            self._put_goalset(goalset, _origin(point))

    def load_folder(self, path: Path) -> None:
        """Take every .py file of a folder, by name; those that begin with _ or . are left alone. Raises PluginError."""
        if not path.is_dir():
            raise PluginError(f"{path}: no such folder of plugins (plugins.pluginDir, --plugin-dir)")
        for file in sorted(path.glob("*.py")):
            if not file.name.startswith(("_", ".")):
                self._load_file(file)

    def preload(self, items: Iterable[Any]) -> None:
        """Take the settings' preload list: objects with type, path and name. Raises PluginError."""
        for item in items:
            if str(item.path).endswith(".py"):
                self._load_file(Path(item.path))
            else:
                self._load_attribute(item.type, str(item.path), item.name)

    def shimlet_factory(self, name: str) -> ShimletFactory:
        """The factory of that name, imported now if it was not yet. Raises PluginError."""
        entry = self._shimlets.get(name)
        if entry is None:
            raise PluginError(_unknown("shimlet", name, self._shimlets))
        factory = entry.load()
        if not callable(factory):
            raise PluginError(_no_factory(entry.origin, name, factory))
        return cast("ShimletFactory", factory)

    def goalset(self, name: str) -> GoalSet:
        """The goalset of that name or alias. Raises PluginError, also if its removal goalset does not exist."""
        if name not in self._goalsets:
            raise PluginError(_unknown("goalset", name, self._goalsets))
        origin, goalset = self._goalsets[name]
        if goalset.removal not in self._goalsets:
            raise PluginError(
                f"{origin}: goalset {name!r}: {_unknown('removal goalset', goalset.removal, self._goalsets)}"
            )
        return goalset

    def check(self) -> None:
        """Raise PluginError if a goalset is undone by one that does not exist."""
        for name in self._goalsets:
            self.goalset(name)

    @property
    def shimlets(self) -> frozenset[str]:
        """The names of all shimlets."""
        return frozenset(self._shimlets)

    @property
    def goalsets(self) -> frozenset[str]:
        """The names and aliases of all goalsets."""
        return frozenset(self._goalsets)

    def rows(self) -> tuple[PluginRow, ...]:
        """Every plugin, for people."""
        rows = [PluginRow("shimlet", name, entry.origin) for name, entry in sorted(self._shimlets.items())]
        for name, (origin, goalset) in sorted(self._goalsets.items()):
            rows.append(PluginRow("goalset", name, origin if name == goalset.name else f"alias of {goalset.name}"))
        return tuple(rows)

    def _put_shimlet(self, name: str, entry: _Entry) -> None:
        _check_name("shimlet", name, entry.origin)
        if name in self._shimlets:
            raise PluginError(_twice("shimlet", name, self._shimlets[name].origin, entry.origin))
        self._shimlets[name] = entry

    def _put_goalset(self, goalset: GoalSet, origin: str) -> None:
        _check_goalset(goalset, origin)
        for name in (goalset.name, *goalset.aliases):
            _check_name("goalset", name, origin)
            if name in self._goalsets and self._goalsets[name] != (origin, goalset):
                raise PluginError(_twice("goalset", name, self._goalsets[name][0], origin))
        for name in (goalset.name, *goalset.aliases):
            self._goalsets[name] = (origin, goalset)

    def _load_file(self, file: Path) -> None:
        module = _imported(file)
        register = getattr(module, "register", None)
        if not callable(register):
            raise PluginError(f"{file}: a plugin file must define register(plugins: agent.contracts.Plugins)")
        _guarded(str(file), lambda: register(self.door(str(file))), file)

    def _load_attribute(self, kind: str, path: str, name: str) -> None:
        module, _, attribute = path.partition(":")
        if not module or not attribute:
            raise PluginError(f'plugins.preload: {path!r} must be a .py file or "module:attribute"')
        found = _guarded(path, lambda: getattr(importlib.import_module(module), attribute))
        if kind == "shimlet":
            self.door(path).shimlet(name or str(getattr(found, "name", "")) or attribute.lower(), found)
        else:
            self.door(path).goalset(found)


class Door:
    """What a plugin file's register() is given (contracts.Plugins): a registry that knows who is speaking."""

    def __init__(self, registry: Registry, origin: str) -> None:
        self._registry = registry
        self._origin = origin

    def shimlet(self, name: str, factory: ShimletFactory) -> None:
        """Register a ShimletFactory under a name."""
        if not callable(factory):
            raise PluginError(_no_factory(self._origin, name, factory))
        self._registry._put_shimlet(name, _Entry(self._origin, lambda: factory))  # noqa: SLF001 – its other half

    def goalset(self, goalset: GoalSet) -> None:
        """Register a GoalSet under its name and aliases."""
        self._registry._put_goalset(goalset, self._origin)  # noqa: SLF001 – its other half


def _origin(point: EntryPoint) -> str:
    return f"package {point.dist.name} {point.dist.version}" if point.dist else point.value


def _loader(point: EntryPoint) -> Callable[[], Any]:
    return lambda: _guarded(f"{_origin(point)}: entry point {point.name} = {point.value}", point.load)


def _imported(file: Path) -> ModuleType:
    name = f"xmod_plugin_{re.sub(r'[^0-9A-Za-z_]', '_', str(file.absolute()))}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise PluginError(f"{file}: not a Python file")
    module, loader = importlib.util.module_from_spec(spec), spec.loader
    sys.modules[name] = module  # dataclasses and pickling look their module up there
    try:
        _guarded(str(file), lambda: loader.exec_module(module), file)
    except PluginError:
        del sys.modules[name]
        raise
    return module


def _guarded(what: str, load: Callable[[], T], file: Path | None = None) -> T:
    """Run a stranger's code; whatever it raises becomes a PluginError that names the file and line."""
    try:
        return load()
    except PluginError:
        raise
    except (Exception, SystemExit) as error:  # a stranger's code may raise anything; it becomes one clear refusal
        raise PluginError(f"{what}: {_place(error, file)}{type(error).__name__}: {error}") from error


def _place(error: BaseException, file: Path | None) -> str:
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}: "
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if file is not None and frame.filename == str(file)]
    strangers = [f for f in frames if f.filename != __file__ and not f.filename.startswith("<frozen")]
    for found in (own or strangers)[-1:]:
        return f"{found.filename}, line {found.lineno}: "
    return ""


def _check_name(kind: str, name: str, origin: str) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise PluginError(f"{origin}: {kind} {name!r}: a name is lower-case letters, digits and -, at most 63")


def _check_goalset(goalset: object, origin: str) -> None:
    if not isinstance(goalset, GoalSet):
        raise PluginError(f"{origin}: a goalset must be an agent.contracts.GoalSet, got {type(goalset).__name__}")
    names = [getattr(goal, "name", None) for goal in goalset.goals]
    for goal, name in zip(goalset.goals, names, strict=True):
        if (
            not isinstance(name, str)
            or not callable(getattr(goal, "is_achieved", None))
            or not callable(getattr(goal, "ensure", None))
        ):
            raise PluginError(
                f"{origin}: goalset {goalset.name!r}: {goal!r} is no Goal: name, is_achieved(ctx), ensure(ctx)"
            )
    if not names or len(set(names)) != len(names):
        raise PluginError(
            f"{origin}: goalset {goalset.name!r}: needs at least one goal, and no two of one name: {names}"
        )


def _no_factory(origin: str, name: str, found: object) -> str:
    return f"{origin}: shimlet {name!r}: a factory must be callable, got {type(found).__name__}"


def _twice(kind: str, name: str, first: str, second: str) -> str:
    return f"{kind} {name!r} comes from two places: {first} and {second}; remove or rename one"


def _unknown(kind: str, name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    meant = f"; did you mean {close[0]}?" if close else ""
    names = ", ".join(sorted(known)) or "none: is the package installed?"
    return f"there is no {kind} {name!r}{meant} (known: {names})"
