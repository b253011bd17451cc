"""Commands that build an agent from the settings: run, plan, plugins."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from agent import log
from agent.cli import show
from agent.cli.options import (
    As,
    Config,
    Goalset,
    HostName,
    Labels,
    Output,
    PluginDir,
    Shimlet,
    as_host,
    labels,
    of_setting,
    refuse,
)
from agent.settings import Setting, Settings, load, table
from agent.surface.plan_view import PlanView

Directory = Annotated[
    Path | None, typer.Argument(metavar="DIR", help="Folder of DeploySpecs (*.yaml, *.yml, *.json), unless --repo.")
]
StateDir = Annotated[Path | None, of_setting("--state-dir", "DIR")]
InstanceFlag = Annotated[str | None, of_setting("--instance", "NAME")]
SourceMode = Annotated[str | None, of_setting("--source", "auto|git|folder")]
Repo = Annotated[str | None, of_setting("--repo", "URL")]
Ref = Annotated[str | None, of_setting("--ref", "REF")]
BelowPath = Annotated[str | None, of_setting("--path", "PATH")]
Verify = Annotated[str | None, of_setting("--verify", "none|commit|tag")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command("run", epilog=_all_settings(table()))(run)
    app.command("plan")(plan)
    app.command("plugins")(plugins)


def run(
    directory: Directory = None,
    source: SourceMode = None,
    repo: Repo = None,
    ref: Ref = None,
    path: BelowPath = None,
    interval: Annotated[str | None, of_setting("--interval", "30s")] = None,
    verify: Verify = None,
    shimlet: Shimlet = None,
    goalset: Goalset = None,
    config: Config = None,
    state_dir: StateDir = None,
    bind: Annotated[str | None, of_setting("--bind", "ADDR")] = None,
    port: Annotated[int | None, of_setting("--port", "N")] = None,
    instance: InstanceFlag = None,
    host: HostName = None,
    label: Labels = None,
    plugin_dir: PluginDir = None,
    notify_url: Annotated[str | None, of_setting("--notify-url", "URL")] = None,
    report_url: Annotated[str | None, of_setting("--report-url", "URL")] = None,
    log_level: Annotated[str | None, of_setting("--log-level", "debug|info|warning|error")] = None,
    *,
    once: Annotated[
        bool, typer.Option("--once", help="Converge once, then exit: 0 if all that is wanted runs.")
    ] = False,
) -> None:
    """Run the agent on DIR or a repository until it is stopped. What it started runs on; the next agent finds it again.

    SIGTERM and SIGINT stop it, SIGHUP reads the source now. Settings come from --config, the environment and flags.
    """
    settings = _loaded(
        directory,
        config,
        {
            "source.mode": source,
            "source.repo": repo,
            "source.ref": ref,
            "source.path": path,
            "source.verify": verify,
            "source.interval": interval,
            "plugins.defaultShimlet": shimlet,
            "plugins.defaultPipeline": goalset,
            "agent.stateDir": state_dir,
            "service.bind": bind,
            "service.port": port,
            "agent.instance": instance,
            "agent.host": host,
            "agent.labels": labels(label),
            "plugins.pluginDir": plugin_dir,
            "notify.url": notify_url,
            "report.url": report_url,
            "logging.level": log_level,
        },
    )
    from agent import daemon  # it brings the whole agent in, which no other command needs

    _log_as(settings)
    raise typer.Exit(daemon.run(settings, once=once))


def plan(
    directory: Directory = None,
    source: SourceMode = None,
    repo: Repo = None,
    ref: Ref = None,
    path: BelowPath = None,
    verify: Verify = None,
    shimlet: Shimlet = None,
    goalset: Goalset = None,
    config: Config = None,
    state_dir: StateDir = None,
    instance: InstanceFlag = None,
    host: HostName = None,
    label: Labels = None,
    plugin_dir: PluginDir = None,
    output: As = Output.TABLE,
) -> None:
    """Show what a run would change, and why. Of DIR or a repository: what is created, replaced, removed, held. Changes nothing.

    With --host it answers for another host: what would run there, but not what runs there now.
    Exit code: 0 nothing to do, 2 something, 1 error.
    """
    settings = _loaded(
        directory,
        config,
        {
            "source.mode": source,
            "source.repo": repo,
            "source.ref": ref,
            "source.path": path,
            "source.verify": verify,
            "plugins.defaultShimlet": shimlet,
            "plugins.defaultPipeline": goalset,
            "agent.stateDir": state_dir,
            "agent.instance": instance,
            "plugins.pluginDir": plugin_dir,
        },
    )
    from agent import daemon  # it brings the whole agent in, which no other command needs

    log.configure(level="warning", format="text", output="stderr")
    meant = as_host(settings, host, label)
    view = daemon.plan(meant, here=meant.agent.host.lower() == settings.agent.host.lower())
    _print_plan(view, output)
    if view.error:
        show.complain(view.error)
        raise typer.Exit(1)
    raise typer.Exit(2 if view.something else 0)


def plugins(config: Config = None, plugin_dir: PluginDir = None, output: As = Output.TABLE) -> None:
    """List the shimlets and goalsets, and their origin."""
    settings = load(directory=Path(), file=config, flags={"plugins.pluginDir": plugin_dir})
    from agent.daemon.parts import StartError, registry_of  # it brings the whole agent in

    try:
        rows = registry_of(settings).rows()
    except StartError as error:
        raise refuse(str(error)) from error
    if output is Output.TABLE:
        console = show.console()
        show.put(show.table(("KIND", "NAME", "FROM"), rows, width=console.width, give=(2,)), console)
    else:
        _emit([row._asdict() for row in rows], output)


def _loaded(directory: Path | None, config: Path | None, flags: Mapping[str, Any]) -> Settings:
    """The settings of an agent, which has one source."""
    settings = load(directory=directory, file=config, flags=flags)
    if directory is not None and settings.source.repo:
        raise refuse(f"DIR and a repository ({settings.source.repo}) are two sources; say which one is meant")
    return settings


def _log_as(settings: Settings) -> None:
    given = settings.logging
    try:
        log.configure(level=given.level, format=given.format, output=given.output)
    except OSError as error:
        raise refuse(f"logging.output: {given.output}: {error.strerror}") from error
    log.watch_threads()


def _print_plan(view: PlanView, output: Output) -> None:
    if output is not Output.TABLE:
        rows = [
            {"action": str(row.action), "name": row.name, "shimlet": row.shimlet, "message": row.message}
            for row in view.rows
        ]
        _emit({"rows": rows, "error": view.error, "host": view.host, "elsewhere": view.elsewhere}, output)
        return
    console = show.console()
    if view.rows:
        cells = [(str(row.action), row.name, row.shimlet, row.message) for row in view.rows]
        show.put(show.table(("ACTION", "NAME", "SHIMLET", "WHY"), cells, width=console.width, give=(3,)), console)
    if view.elsewhere:
        show.say(f"{view.elsewhere} for other hosts")
    if view.host and not view.error:
        show.say(f"this would run on {view.host}; what runs there now cannot be seen from here")
    elif not view.something and not view.error:
        typer.echo("nothing to do")


def _emit(value: Any, output: Output) -> None:
    (show.as_json if output is Output.JSON else show.as_yaml)(value)


def _all_settings(settings: tuple[Setting, ...]) -> str:
    """The settings as a block of text that click leaves as it is."""
    lines = [
        "\b",
        "Settings: `block.key` in the file, XMOD_BLOCK__KEY in the environment; flags win, then the environment.",
    ]
    for setting in settings:
        flag = f" ({setting.flag})" if setting.flag else ""
        default = f" [{setting.default}]" if setting.default else ""
        lines += [f"  {setting.name}{flag}{default}", f"      {setting.description}", f"      {setting.env}"]
    return "\n".join(lines)
