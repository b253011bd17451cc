"""Merges the layers: default < file < environment < flag, setting by setting, and says of each error whose it is.

Paths in the file are relative to the file, all others to the working directory. An empty environment variable counts as
unset. Variables XMOD_…__… that are no setting are refused; other XMOD_… names are not ours to judge.
"""

import difflib
import json
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from agent.settings.listing import FLAGS, leaves
from agent.settings.model import Block, FileSettings, Settings
from agent.settings.places import default_socket, default_state_dir
from agent.settings.yaml_file import Node, Unreadable, read

_PATHS = (
    "agent.stateDir",
    "agent.socket",
    "plugins.pluginDir",
    "source.tokenFile",
    "source.sshKey",
    "source.knownHosts",
    "webhook.secretFile",
    "secrets.ageKeyFile",
    "notify.urlFile",
    "notify.secretFile",
    "report.urlFile",
    "report.secretFile",
)


class SettingsError(Exception):
    """What is wrong with the settings, one line a problem."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True, slots=True)
class _Given:
    """A value and who gave it: "config.yaml:3:5", "environment XMOD_SERVICE__PORT" or "--port"."""

    value: Any
    origin: str


def load(
    *,
    directory: Path | None,
    file: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    flags: Mapping[str, Any] | None = None,
) -> Settings:
    """Merge everything into one Settings. Raises SettingsError.

    `directory`: None if a repository is to be named instead; `flags`: by dotted name, None means not given.
    """
    known = {name: (env, field) for name, env, field in leaves()}
    problems: list[str] = []
    given: dict[str, _Given] = {}
    if file is not None:
        try:
            given |= _from_file(file, read(file), known, problems)
        except Unreadable as error:
            raise SettingsError([str(error)]) from error
    given |= _from_environment(environ, known, problems)
    given |= {name: _Given(value, FLAGS.get(name, name)) for name, value in (flags or {}).items() if value is not None}
    settings, wrong = _validated(given, directory, file)
    if problems or settings is None:
        raise SettingsError([*problems, *wrong])
    if directory is None and not settings.source.repo:
        raise SettingsError(["say where the specs are: DIR, or --repo URL (source.repo)"])
    return _placed(settings, given, environ)


def _validated(
    given: Mapping[str, _Given], directory: Path | None, file: Path | None
) -> tuple[Settings | None, tuple[str, ...]]:
    data: dict[str, Any] = {"directory": directory or Path(), "file": file}
    for name, item in given.items():
        block, _, key = name.partition(".")
        if key:
            data.setdefault(block, {})[key] = item.value
        else:
            data[block] = item.value
    try:
        return Settings.model_validate(data), ()
    except ValidationError as error:
        return None, tuple(_sentence(problem, given) for problem in error.errors(include_url=False))


def _sentence(problem: Any, given: Mapping[str, _Given]) -> str:
    parts = [str(part) for part in problem["loc"]]
    name = ".".join(parts[:2])
    if len(parts) == 1 and parts[0] == "service":
        name = "service.bind"  # the only rule over this whole block
    elif len(parts) == 1 and parts[0] == "source":
        return str(problem["msg"].removeprefix("Value error, "))  # it names its settings itself
    elif name not in given:
        name = parts[0] if parts else ""
    origin = given[name].origin + ": " if name in given else ""
    message = problem["msg"].removeprefix("Value error, ").replace("Input should", "must")
    if problem["type"] == "missing":
        message = "is missing"
    shown = "" if problem["type"] in ("value_error", "missing") and name == "service.bind" else _got(problem["input"])
    return f"{origin}{'.'.join(parts) if len(parts) > 1 else name}: {message}{shown}"


def _got(value: Any) -> str:
    return f", got {value!r}" if isinstance(value, str | int | float | bool) or value is None else ""


def _from_file(
    path: Path, root: Node, known: Mapping[str, tuple[str, FieldInfo]], problems: list[str]
) -> dict[str, _Given]:
    given: dict[str, _Given] = {}
    blocks = {name.partition(".")[0] for name in known if "." in name}
    for top, node in root.children.items():
        where = f"{path}:{node.place.line}:{node.place.column}"
        if top in known:
            if node.value is not None:
                given[top] = _Given(node.value, where)
        elif top not in blocks:
            problems.append(f"{where}: {top}: unknown key{_meant(top, known, FileSettings.model_fields)}")
        elif node.value is not None and not isinstance(node.value, dict):
            problems.append(f"{where}: {top}: must be a mapping, got {node.value!r}")
        for key, leaf in node.children.items() if top in blocks else ():
            name, at = f"{top}.{key}", f"{path}:{leaf.place.line}:{leaf.place.column}"
            if name not in known:
                problems.append(f"{at}: {name}: unknown key{_meant(name, known, ())}")
            elif leaf.value is not None:
                given[name] = _Given(_beside(path, name, leaf.value), at)
    return given


def _beside(file: Path, name: str, value: Any) -> Any:
    """Read a relative path in the file as relative to the file."""
    here = file.absolute().parent
    if name in _PATHS and isinstance(value, str):
        return here / Path(value).expanduser()
    if name == "logging.output" and isinstance(value, str) and value not in ("stdout", "stderr"):
        return str(here / value)
    if name == "plugins.preload" and isinstance(value, list):
        return [
            {**item, "path": str(here / item["path"])}
            if isinstance(item, dict) and str(item.get("path", "")).endswith(".py")
            else item
            for item in value
        ]
    return value


def _from_environment(
    environ: Mapping[str, str], known: Mapping[str, tuple[str, FieldInfo]], problems: list[str]
) -> dict[str, _Given]:
    given: dict[str, _Given] = {}
    names = {env: name for name, (env, _) in known.items()}
    for variable, text in sorted(environ.items()):
        if not variable.startswith("XMOD_") or not text:
            continue
        if variable in names:
            name = names[variable]
            try:
                given[name] = _Given(_parsed(text, known[name][1]), f"environment {variable}")
            except ValueError as error:
                problems.append(f"environment {variable}: {name}: must be JSON: {error}")
        elif "__" in variable:
            close = difflib.get_close_matches(variable, names, 1)
            problems.append(f"environment {variable}: no such setting{f'; did you mean {close[0]}?' if close else ''}")
    return given


def _parsed(text: str, field: FieldInfo) -> Any:
    if isinstance(field.default, dict) or text.lstrip().startswith("["):
        return json.loads(text)
    if isinstance(field.default, tuple) and not hasattr(field.default, "first"):
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _meant(name: str, known: Iterable[str], blocks: Iterable[str]) -> str:
    """Name the key that was probably meant: a similar one, or the same one of another block."""
    names = [*known, *blocks]
    key = name.rpartition(".")[2].lower()
    same = [other for other in names if other.rpartition(".")[2].lower() == key]
    folded = {other.lower(): other for other in names}
    close = same or [folded[found] for found in difflib.get_close_matches(name.lower(), folded, 1)]
    return f"; did you mean {close[0]}?" if close else ""


def _placed(settings: Settings, given: Mapping[str, _Given], environ: Mapping[str, str]) -> Settings:
    """Fill in the places that depend on who runs the agent and on its instance."""
    agent, uid = settings.agent, os.getuid()
    state = (
        agent.state_dir if "agent.stateDir" in given else default_state_dir(agent.instance, environ, uid)
    ).expanduser()
    socket = (agent.socket if "agent.socket" in given else default_socket(agent.instance, environ, uid)).expanduser()
    host = agent.host or platform.node().strip(".") or "localhost"
    placed = agent.model_copy(update={"state_dir": state.absolute(), "socket": socket.absolute(), "host": host})
    plugins = settings.plugins
    if plugins.plugin_dir is not None:
        plugins = plugins.model_copy(update={"plugin_dir": plugins.plugin_dir.expanduser().absolute()})
    update: dict[str, Any] = {
        "agent": placed,
        "plugins": plugins,
        "source": _files(settings.source, "token_file", "ssh_key", "known_hosts", "allowed_signers", "keyring"),
        "webhook": _files(settings.webhook, "secret_file"),
        "notify": _files(settings.notify, "url_file", "secret_file"),
        "report": _files(settings.report, "url_file", "secret_file"),
        "secrets": _files(settings.secrets, "age_key_file"),
    }
    if settings.source.repo:
        update["directory"] = placed.state_dir / "specs"
    return settings.model_copy(update=update)


def _files(block: Block, *names: str) -> Block:
    """Take these as files of this host, ~ and all."""
    given = {name: getattr(block, name) for name in names}
    return block.model_copy(update={name: file.expanduser().absolute() for name, file in given.items() if file})
