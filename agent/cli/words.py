"""What an operator says to the running agent: from reading logs to suspending, retrying and forgetting services."""

import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from agent.cli import show
from agent.cli.options import Instance, Socket, client, refuse

Name = Annotated[str, typer.Argument(metavar="NAME", help="The service's name.")]
OneName = Annotated[str | None, typer.Argument(metavar="NAME", help="The service's name.")]
Everything = Annotated[bool, typer.Option("--all", help="Every service.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to the program."""
    for name, command in (
        ("logs", logs),
        ("sync", sync),
        ("approve-prune", approve_prune),
        ("suspend", suspend),
        ("resume", resume),
        ("retry", retry),
        ("restart", restart),
        ("rollout", rollout),
        ("adopt", adopt),
        ("forget", forget),
    ):
        app.command(name)(command)


def logs(
    name: Name,
    tail: Annotated[int, typer.Option("--tail", metavar="N", min=0, max=100_000, help="How many lines.")] = 100,
    *,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as new lines come.")] = False,
    instance: Instance = "default",
    socket: Socket = None,
) -> None:
    """Show the log of the service's newest replicas. On a terminal without colours and other escapes."""
    on_terminal = sys.stdout.isatty()
    try:
        for line in client(instance, socket).logs(name, tail, follow=follow):
            sys.stdout.write(show.logged(line, on_terminal=on_terminal) + "\n")
            if follow:
                sys.stdout.flush()
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def sync(instance: Instance = "default", socket: Socket = None) -> None:
    """Read the source now; a repository is fetched first."""
    client(instance, socket).rescan()
    typer.echo("the source is read now; see: xmod-agent status")


def approve_prune(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Which; all that can be if none.")] = None,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    instance: Instance = "default",
    socket: Socket = None,
) -> None:
    """Release removals that the agent holds back. Shows them and asks first; only what was shown is released."""
    agent = client(instance, socket)
    held = {item["name"]: item for item in agent.status()["held"]}
    chosen = names or [name for name, item in held.items() if item["reason"] not in show.UNAPPROVABLE]
    if unheld := [name for name in chosen if name not in held]:
        raise refuse(f"no removal of {', '.join(unheld)} is held (held: {', '.join(held) or 'none'})")
    if not chosen:
        show.say("nothing that is held can be approved; see: xmod-agent status" if held else "no removal is held")
        return
    _show_held([held[name] for name in chosen])
    if not yes:
        if not asked():
            raise refuse("this removes services and nobody can be asked here; say --yes if that is meant")
        typer.confirm(f"Remove {show.plain(_count(chosen))}?", abort=True)
    show.say("released: " + ", ".join(agent.approve_prune(chosen)))


def suspend(
    name: OneName = None,
    *,
    everything: Everything = False,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Shown with it, to whoever wonders.", show_default=False)
    ] = "",
    instance: Instance = "default",
    socket: Socket = None,
) -> None:
    """Leave a service as it is, whatever git says. No change, no restart, no removal, until it is resumed."""
    _check_one_or_all(name, everything=everything)
    client(instance, socket).suspend(name, reason)
    what = f"{name} is" if name else "all services, those too that come later, are"
    show.say(f"{what} suspended; end it with: xmod-agent resume {name or '--all'}")


def resume(
    name: OneName = None,
    *,
    everything: Everything = False,
    instance: Instance = "default",
    socket: Socket = None,
) -> None:
    """Take back what was suspended by word. With all suspended, NAME alone is excepted from that."""
    _check_one_or_all(name, everything=everything)
    answer = client(instance, socket).resume(name)
    show.say(f"resumed: {', '.join(answer['names'])}" if answer["names"] else "no service follows git again by that")
    for other, place in answer["by_spec"].items():
        show.say(f"{other} stays suspended by its spec: take xmod.dev/suspend out of {place}")


def retry(name: Name, instance: Instance = "default", socket: Socket = None) -> None:
    """Try again now what failed, waits or backs off. What is right already runs on."""
    client(instance, socket).retry(name)
    show.say(f"{name} is tried again; see: xmod-agent status {name}")


def restart(name: Name, instance: Instance = "default", socket: Socket = None) -> None:
    """Start the service's replicas again. What had failed is tried again, too."""
    client(instance, socket).restart(name)
    show.say(f"{name} will be restarted; see: xmod-agent status {name}")


def rollout(
    name: OneName = None,
    *,
    everything: Everything = False,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="Take back what is not through: of NAME, else of all.")
    ] = False,
    instance: Instance = "default",
    socket: Socket = None,
) -> None:
    """Let a service take what its spec resolves to now. For where an upgrade of the agent or its settings changed that."""
    if cancel and not (name and everything):
        gone = client(instance, socket).cancel_rollout([name] if name else [])
        show.say("cancelled: " + ", ".join(gone) if gone else "no rollout is under way")
        return
    _check_one_or_all(name, everything=everything)
    taken = client(instance, socket).rollout([name] if name else [])
    show.say("rolled out, one at a time: " + ", ".join(taken) if taken else "nothing resolves differently now")


def forget(
    name: Name,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    instance: Instance = "default",
    socket: Socket = None,
) -> None:
    """Give a service up; what runs of it runs on. The agent never touches it again. Prints what is left."""
    agent = client(instance, socket)
    if not yes:
        if not asked():
            raise refuse("this gives a service up and nobody can be asked here; say --yes if that is meant")
        typer.confirm(f"Give up {show.plain(name)}? It runs on, and the agent will never touch it again.", abort=True)
    left = agent.forget(name)
    show.say(f"{name} is forgotten" + ("; this is left:" if left else "; nothing of it is left"))
    for sentence in left:
        show.say(f"  {sentence}")


def adopt(
    source: Annotated[
        str,
        typer.Option("--from", metavar="SOURCE-ID", help="The id of the source they came from, as status shows it."),
    ],
    instance: Instance = "default",
    socket: Socket = None,
) -> None:
    """Treat services of another source as this source's. They may then be changed and removed."""
    count = client(instance, socket).adopt(source)
    show.say(f"adopted {show.count(count, 'service')} from {source}")


def _check_one_or_all(name: str | None, *, everything: bool) -> None:
    if (name is None) != everything:
        raise refuse("name one service, or say --all")


def asked() -> bool:
    """Whether a person can be asked."""
    return sys.stdin.isatty()


def _show_held(held: Sequence[Mapping[str, Any]]) -> None:
    console = show.console()
    rows = [(item["name"], show.age(item["since"]), item["reason"], item["message"]) for item in held]
    show.put(show.table(("NAME", "AGE", "REASON", "WHY"), rows, width=console.width, give=(3,)), console)


def _count(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"these {len(names)} services"
