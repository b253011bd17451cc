"""Options that several commands share."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from agent.settings import default_socket
from agent.surface.client import Client


class Output(StrEnum):
    """How an answer is printed."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", envvar="XMOD_CONFIG", help="Settings file (YAML).")
]
Instance = Annotated[
    str,
    typer.Option(
        "--instance", metavar="NAME", envvar="XMOD_AGENT__INSTANCE", help="Which agent, if several run on this host."
    ),
]
Socket = Annotated[
    Path | None,
    typer.Option("--socket", metavar="PATH", envvar="XMOD_AGENT__SOCKET", help="The agent's socket, if it was set."),
]
As = Annotated[Output, typer.Option("-o", "--output", help="How to print it.")]


def client(instance: str, socket: Path | None) -> Client:
    """Who speaks to the agent that is meant."""
    return Client(socket.expanduser() if socket else default_socket(instance, os.environ))


def refuse(sentence: str) -> typer.Exit:
    """Say why not, on stderr; raise what it returns."""
    typer.echo(f"xmod-agent: {sentence}", err=True)
    return typer.Exit(1)
