"""Options that several commands share."""

import os
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from agent.cli import show
from agent.settings import Settings, socket_to_ask, table
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


def of_setting(name: str, metavar: str) -> Any:
    """The flag of a setting, with its description and default."""
    setting = next(setting for setting in table() if setting.flag == name)
    default = f" [default: {setting.default}]" if setting.default else ""
    text = f"{setting.description[:1].upper()}{setting.description[1:]}.{default}"
    return typer.Option(name, metavar=metavar, help=text)


HostName = Annotated[str | None, of_setting("--host", "NAME")]
Labels = Annotated[list[str] | None, of_setting("--label", "KEY=VALUE")]
Shimlet = Annotated[str | None, of_setting("--shimlet", "docker|process|…")]
Goalset = Annotated[str | None, of_setting("--goalset", "NAME")]
PluginDir = Annotated[Path | None, of_setting("--plugin-dir", "DIR")]


def labels(given: Sequence[str] | None) -> Mapping[str, str] | None:
    """What --label says, each KEY=VALUE; None if it was not given."""
    if not given:
        return None
    pairs = [label.partition("=") for label in given]
    if wrong := [label for label, (key, equals, _) in zip(given, pairs, strict=True) if not (key and equals)]:
        raise refuse(f"--label {wrong[0]}: must be KEY=VALUE")
    return {key: value for key, _, value in pairs}


def as_host(settings: Settings, name: str | None, label: Sequence[str] | None) -> Settings:
    """The settings as a host of that name and these labels would have them. The labels set here are this host's own."""
    agent, given = settings.agent, labels(label)
    same = name is None or name.lower() == agent.host.lower()
    told = given if given is not None else agent.labels if same else {}
    block = agent.model_copy(update={"host": agent.host if name is None else name, "labels": told})
    return settings.model_copy(update={"agent": block})


def client(instance: str, socket: Path | None) -> Client:
    """Who speaks to the agent that is meant."""
    return Client(socket.expanduser() if socket else socket_to_ask(instance, os.environ))


def refuse(sentence: str) -> typer.Exit:
    """Say why not, on stderr; raise what it returns."""
    show.complain(sentence)
    return typer.Exit(1)
