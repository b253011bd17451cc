"""`validate`: reads specs as the agent would, without one; `schema`: what editors want to know."""

import json
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli import show
from agent.cli.options import Config, Goalset, HostName, Labels, PluginDir, Shimlet, as_host
from agent.settings import load

if TYPE_CHECKING:
    from agent.cli.conflicts import Finding


class Format(StrEnum):
    """How problems are printed."""

    TEXT = "text"
    JSON = "json"
    GITHUB = "github"


def add_to(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command("validate")(validate)
    app.command("schema")(schema)


def validate(
    paths: Annotated[list[Path], typer.Argument(metavar="DIR-or-FILES", help="Folders and files to check.")],
    form: Annotated[
        Format, typer.Option("--format", help="text: file:line:column; github: annotations of a workflow.")
    ] = Format.TEXT,
    shimlet: Shimlet = None,
    goalset: Goalset = None,
    config: Config = None,
    plugin_dir: PluginDir = None,
    host: HostName = None,
    label: Labels = None,
    *,
    skip_encrypted: Annotated[
        bool,
        typer.Option("--skip-encrypted", help="Do not fail for encrypted files that no key here opens; name them."),
    ] = False,
) -> None:
    """Check specs as the agent would read them. Every error has file:line:column, the field, and what was expected.

    Exit code: 0 all are valid, 1 not. Say what the agent is told: its --shimlet, --goalset and --plugin-dir, and with
    --config its policy and engines. With --host or --label: as that host reads them; else for every host, each document
    by itself and with each of its overrides. A pipe is /dev/stdin.
    """
    from agent.cli.checking import check  # it brings in all that reads specs

    flags = {
        "plugins.defaultShimlet": shimlet,
        "plugins.defaultPipeline": goalset,
        "plugins.pluginDir": plugin_dir,
    }
    settings = as_host(load(directory=Path(), file=config, flags=flags), host, label)
    result = check(paths, settings, for_host=bool(host or label), skip_encrypted=skip_encrypted)
    _print(result.findings, form)
    for file, *_, message in result.locked:
        typer.echo(f"{file}: not checked: {message}", err=True)
    if form is not Format.JSON:
        counts = ((result.files, "file"), (result.services, "service"), (len(result.findings), "problem"))
        more = f" ({result.elsewhere} more for other hosts)" if result.elsewhere else ""
        typer.echo(", ".join(show.count(number, thing) for number, thing in counts) + more, err=True)
    raise typer.Exit(1 if result.findings else 0)


def schema() -> None:
    """Print the JSON Schema of a DeploySpec, for editors."""
    from agent.spec.document import schema as of_spec  # only needed here

    typer.echo(json.dumps(of_spec(), indent=2, ensure_ascii=False))


def _print(findings: "Sequence[Finding]", form: Format) -> None:
    if form is Format.JSON:
        show.as_json([finding._asdict() for finding in findings])
        return
    for file, line, column, field, message in findings:
        words = f"{field}: {message}" if field else message
        if form is Format.GITHUB:
            where = f"file={_escaped(file, ':,')},line={line},col={column}"
            show.say(f"::error {where}::{_escaped(words)}")
        else:
            show.say(f"{file}:{line}:{column}: {words}")


def _escaped(text: str, more: str = "") -> str:
    """As GitHub's workflow commands want it."""
    for sign in "%\r\n" + more:
        text = text.replace(sign, f"%{ord(sign):02X}")
    return text
