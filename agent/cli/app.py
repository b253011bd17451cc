"""The program's commands, and what becomes of an error that a person is to read."""

import io
import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from agent import __version__
from agent.cli import events, installing, running, show, status, validating, words
from agent.contracts import XmodError
from agent.registry import PluginError
from agent.settings import SettingsError
from agent.surface.client import Declined, NoAgent
from agent.surface.socket_file import CannotListen

EXPECTED = (CannotListen, Declined, NoAgent, PluginError, SettingsError, XmodError)


class _Commands(TyperGroup):
    """Turns expected errors into a sentence and exit code 1."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except EXPECTED as error:
            show.complain(str(error))
            raise typer.Exit(1) from error


app = typer.Typer(
    cls=_Commands,
    name="xmod-agent",
    help="Makes this host run exactly the AI model services that a repository or folder of DeploySpecs describes.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)


def _version(value: bool) -> None:  # noqa: FBT001 – typer's callback
    if value:
        typer.echo(f"xmod-agent {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Makes this host run exactly the AI model services that a repository or folder of DeploySpecs describes."""


running.add_to(app)
validating.add_to(app)
status.add_to(app)
events.add_to(app)
words.add_to(app)
installing.add_to(app)


def main() -> None:
    """Run the program. A reader that left (`| head`) ends it quietly."""
    _print_anything()
    try:
        app(prog_name="xmod-agent")
    except BrokenPipeError:
        _forget_stdout()
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _print_anything() -> None:
    """A letter that the terminal's encoding lacks is spelled out; it must not end the program."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _forget_stdout() -> None:
    """Lead stdout nowhere, so that Python's last flush does not complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
