"""`validate`: reads specs as the agent would, without one; `schema`: what editors want to know."""

import functools
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from agent.cli.options import Config
from agent.settings import Settings, SettingsError, load
from agent.source.place import trace
from agent.source.scan import Limits, scan
from agent.spec.engine import Engines
from agent.spec.policy import Policy
from agent.spec.resolve import Defaults, FileReading, Resolver

_MOST = (1 << 20) + 1  # bytes: one more than a file may have, so that the reader says so


class Format(StrEnum):
    """How problems are printed."""

    TEXT = "text"
    JSON = "json"
    GITHUB = "github"


class Finding(NamedTuple):
    """One problem of one file, as it is printed."""

    file: str
    line: int
    column: int
    field: str
    message: str


def add_to(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command("validate")(validate)
    app.command("schema")(schema)


def validate(
    paths: Annotated[list[Path], typer.Argument(metavar="DIR-or-FILES…", help="Folders and files to check.")],
    form: Annotated[
        Format, typer.Option("--format", help="text: file:line:column; github: annotations of a workflow.")
    ] = Format.TEXT,
    config: Config = None,
) -> None:
    """Check specs as the agent would read them: every error with file:line:column, the field, and what was expected.

    Exit code: 0 all are valid, 1 not. With --config, the policy and engines of those settings hold.
    """
    settings = load(directory=Path(), file=config)
    read = _reader(settings)
    files = 0
    findings: list[Finding] = []
    owners: dict[str, list[tuple[str, int]]] = {}
    for root, file, content, error in _contents(paths):
        files += 1
        if content is None:
            findings.append(Finding(file, 1, 1, "", error))
            continue
        reading = read(root, file, content)
        findings += [Finding(file, *problem) for problem in reading.problems]
        _note(owners, file, reading)
    findings += _twice(owners)
    findings.sort()
    _print(findings, form)
    services = sum(len(places) for places in owners.values())
    if form is not Format.JSON:
        typer.echo(f"{files} files, {services} services, {len(findings)} problems", err=True)
    raise typer.Exit(1 if findings else 0)


def schema() -> None:
    """Print the JSON Schema of a DeploySpec, for editors."""
    from agent.spec.document import schema as of_spec  # only needed here

    typer.echo(json.dumps(of_spec(), indent=2, ensure_ascii=False))


def _reader(settings: Settings) -> Callable[[Path, str, bytes], FileReading]:
    """What reads a file's bytes as an agent with these settings would; its first argument is the folder of the specs."""
    from agent.daemon.parts import registry_of  # it brings the whole agent in

    registry = registry_of(settings)
    defaults = Defaults(
        shimlet=settings.plugins.default_shimlet,
        goalset=settings.plugins.default_pipeline,
        port_range=settings.ports.range,
        shimlets=registry.shimlets,
        goalsets=registry.goalsets,
    )
    search, as_root = os.environ.get("PATH", ""), os.geteuid() == 0

    @functools.cache
    def resolver(root: Path) -> Resolver:
        try:
            policy = Policy.load(settings.policy, specs=root, search=search, as_root=as_root)
            return Resolver(policy, Engines.load(settings.engines), defaults)
        except ValueError as error:
            raise SettingsError(
                f"{settings.file or 'environment'}: {line}" for line in str(error).splitlines()
            ) from error

    return lambda root, file, content: resolver(root).read_file(file, content)


def _contents(paths: Sequence[Path]) -> Iterator[tuple[Path, str, bytes | None, str]]:
    """Each file: the folder of its specs, its path as it was spelled, its content, or why it cannot be read."""
    seen: set[str] = set()
    for path in paths:
        root = path if path.is_dir() else path.parent
        for file, content, error in _folder(path) if path.is_dir() else [_file(path)]:
            real = os.path.realpath(file)
            if real not in seen:
                seen.add(real)
                yield root.absolute(), file, content, error


def _folder(path: Path) -> Iterator[tuple[str, bytes | None, str]]:
    """A folder is walked as the agent does it."""
    spelled = str(path.absolute())
    found = scan(trace(spelled), spelled, known={}, limits=Limits(), now=time.time_ns())
    for below, entry in sorted(found.entries.items()):
        yield str(path / below), entry.file.content, entry.file.error


def _file(path: Path) -> tuple[str, bytes | None, str]:
    try:
        with path.open("rb") as opened:
            return str(path), opened.read(_MOST), ""
    except OSError as error:
        return str(path), None, f"cannot be read: {error.strerror}"


def _note(owners: dict[str, list[tuple[str, int]]], file: str, reading: FileReading) -> None:
    for wanted in reading.wanted:
        owners.setdefault(wanted.service.name, []).append((file, wanted.line))


def _twice(owners: dict[str, list[tuple[str, int]]]) -> Iterator[Finding]:
    for name, places in owners.items():
        for place in places if len(places) > 1 else ():
            others = ", ".join(f"{file}:{line}" for file, line in places if (file, line) != place)
            message = f"the name {name} is taken: it is also in {others}; a name is one service"
            yield Finding(place[0], place[1], 1, "metadata.name", message)


def _print(findings: Sequence[Finding], form: Format) -> None:
    if form is Format.JSON:
        typer.echo(json.dumps([finding._asdict() for finding in findings], indent=2, ensure_ascii=False))
        return
    for file, line, column, field, message in findings:
        words = f"{field}: {message}" if field else message
        if form is Format.GITHUB:
            where = f"file={_escaped(file, ':,')},line={line},col={column}"
            typer.echo(f"::error {where}::{_escaped(words)}")
        else:
            typer.echo(f"{file}:{line}:{column}: {words}")


def _escaped(text: str, more: str = "") -> str:
    """As GitHub's workflow commands want it."""
    for sign in "%\r\n" + more:
        text = text.replace(sign, f"%{ord(sign):02X}")
    return text
