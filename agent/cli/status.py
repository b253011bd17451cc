"""`status`: all services as a table, one service as the steps of its goals; once, or again whenever it changes."""

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from agent.cli import show
from agent.cli.options import As, Instance, Output, Socket, client
from agent.surface.client import NoAgent

View = Mapping[str, Any]
_COLUMNS = ("NAME", "PHASE", "GOAL", "REASON", "AGE", "ENDPOINT", "REVISION")
_STEPS = {"achieved": ("✓", "green"), "pending": ("…", "cyan"), "failed": ("✗", "red"), "waiting": ("·", "dim")}
_PERIOD = 1.0  # seconds
_REASON = 32  # columns that a reason may ask for; a longer one wraps


def add_to(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("status")(status)


def status(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="One service, in detail.")] = None,
    *,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on, and show changes as they come.")] = False,
    output: As = Output.TABLE,
    instance: Instance = "default",
    socket: Socket = None,
) -> None:
    """Show what runs, what does not yet, and why."""
    agent = client(instance, socket)
    if watch:
        _watch(lambda: agent.status(name), name, output)
    else:
        _print(agent.status(name), name, output)


def _print(view: View, name: str | None, output: Output) -> None:
    if output is Output.JSON:
        show.as_json(view)
    elif output is Output.YAML:
        show.as_yaml(view)
    else:
        console = show.console()
        show.put(picture(view, name, console.width), console)


def _watch(ask: Callable[[], View], name: str | None, output: Output) -> None:
    console = show.console()
    try:
        if output is Output.TABLE and console.is_terminal:
            with Live(console=console, auto_refresh=False, screen=False) as live:
                while True:
                    live.update(_now(ask, name, console), refresh=True)
                    time.sleep(_PERIOD)
        last = ""
        while True:
            view = ask()
            if (seen := _gist(view)) != last:
                last = seen
                _print(view, name, output)
                console.file.flush()
            time.sleep(_PERIOD)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _now(ask: Callable[[], View], name: str | None, console: Console) -> RenderableType:
    """The picture of now; an agent that is being restarted is waited for."""
    try:
        return picture(ask(), name, console.width)
    except NoAgent as error:
        return Text(show.clean(str(error)), "red")


def _gist(view: View) -> str:
    """What must differ for a view to be news: anything but times that always move."""
    return repr({**view, "heartbeat": "", "source": {**view["source"], "read_at": ""}, "worlds": _world_errors(view)})


def _world_errors(view: View) -> list[tuple[str, str]]:
    return [(world["shimlet"], world["error"]) for world in view["worlds"]]


def picture(view: View, name: str | None, width: int) -> RenderableType:
    """The view as people read it: the table or the one service, then what needs attention."""
    now = datetime.fromisoformat(view["heartbeat"])
    services = view["services"]
    parts: list[RenderableType] = [Text(show.clean(line), "yellow") for line in _suspended(view)]
    if name is not None:
        parts += [_detail(service, now) for service in services]
    elif services:
        rows = [_row(service) for service in services]
        parts.append(show.table(*_fitting(rows, width), width=width, give=(3, 5)))
    else:
        parts.append(Text("no services"))
    parts += [Text(show.clean(line), "dim") for line in _place(view["source"])]
    parts += [Text(show.clean(line), style) for line, style in _attention(view)]
    return Group(*parts)


def _suspended(view: View) -> Iterator[str]:
    said = view["suspended"]
    if said is None:
        return
    but = f" but {', '.join(said['excepted'])}" if said["excepted"] else ""
    because = f" ({said['reason']})" if said["reason"] else ""
    age = show.age(said["since"]) or "0s"
    yield f"all services{but} are suspended by an operator for {age}{because}; end it with: xmod-agent resume --all"


def _place(source: View) -> Iterator[str]:
    """Which commit is in force; nothing for a folder."""
    if source["head"]:
        behind = source["behind"] if source["head"] == source["revision"] else source["behind"] or None
        yield f"{source['location']} at {_at(source['revision'], behind)}{_by(source['commit'])}"


def _at(revision: str, behind: int | None) -> str:
    """As in: a1b2c3d4e5 (2 behind). None: it is behind, and nobody knows by how much."""
    count = "" if behind is None else f"{behind} "
    return show.short(revision) + (f" ({count}behind)" if behind != 0 else "")


def _by(commit: View | None) -> str:
    """When, by whom, and what it said."""
    if commit is None:
        return ""
    return f", {show.age(commit['at']) or '0s'} old, by {commit['author']}: {commit['subject']}"


def _version(service: View) -> str:
    """The commit that what runs comes from, else the one that last changed the document, else when it was read."""
    if service["behind"] == 0:
        change = service["change"]
        return _at(change["commit"] if change else service["revision"], 0)
    runs = service["runs"]
    return _at(runs["commit"] if runs else service["revision"], service["behind"])


def _row(service: View) -> tuple[str, ...]:
    return (
        service["name"],
        service["phase"],
        service["goal"],
        _reason(service),
        show.age(service["since"]),
        " ".join(service["endpoints"]),
        _version(service),
    )


def _fitting(rows: list[tuple[str, ...]], width: int) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Leave out what matters least where there is no room for it: the revision, then the endpoint."""
    widths = [max(len(column), *(len(row[at]) for row in rows)) + 2 for at, column in enumerate(_COLUMNS)]
    widths[3] = min(widths[3], _REASON)
    keep = next((keep for keep in (7, 6) if sum(widths[:keep]) <= width), 5)
    return (_COLUMNS[:keep], [row[:keep] for row in rows]) if width >= show.NARROW else (_COLUMNS, rows)


def _reason(service: View) -> str:
    for truth in (service["converged"], service["serving"]):  # the first also says what it waits for
        if not truth["holds"]:
            return f"{truth['reason']}: {truth['message']}" if truth["message"] else str(truth["reason"])
    return ""


def _detail(service: View, now: datetime) -> Text:
    text = Text()
    text.append(show.clean(service["name"]), "bold")
    text.append("  ")
    text.append(service["phase"], show.STYLES.get(service["phase"], ""))
    text.append(f" for {show.age(service['since']) or '0s'}\n")
    for label, value in _facts(service, now):
        if value:
            text.append(f"  {label:<10} {show.clean(value)}\n")
    for goal in service["goals"]:
        sign, style = _STEPS.get(goal["verdict"], ("?", ""))
        words = ": ".join(part for part in (goal["reason"], goal["message"]) if part)
        text.append(f"  {sign} ", style)
        text.append(f"{show.clean(goal['name']):<15} {show.clean(words)}".rstrip() + "\n")
    for notice in service["notices"]:
        text.append(f"  ! {show.clean(notice)}\n", "yellow")
    text.rstrip()
    return text


def _facts(service: View, now: datetime) -> Iterator[tuple[str, str]]:
    yield "serving", _truth(service["serving"])
    yield "converged", _truth(service["converged"])
    yield "endpoint", " ".join(service["endpoints"])
    yield "replicas", f"{service['ready']} of {service['replicas']} ready"
    yield "shimlet", ", goalset ".join(part for part in (service["shimlet"], service["goalset"]) if part)
    yield "spec", ", revision ".join(part for part in (service["file"], show.short(service["revision"])) if part)
    if service["change"]:
        yield "changed", show.short(service["change"]["commit"]) + _by(service["change"])
    if service["behind"] != 0:
        yield "runs", _version(service) + _by(service["runs"])
    if service["wanted"] != service["routed"]:
        yield "wanted", f"{service['wanted'][:10]}, serving is {service['routed'][:10] or 'nothing'}"
    if service["wanted_since"]:
        yield "lag", f"{show.age(service['wanted_since'])}, blocked: {service['blocked']}"
    if service["next_try"]:
        seconds = (datetime.fromisoformat(service["next_try"]) - now).total_seconds()
        soon = f"in {max(0, round(seconds))}s"
        tried = service["attempts"]
        yield ("next try", f"{soon}, after {tried} failed") if tried else ("next look", soon)


def _truth(truth: View) -> str:
    words = ": ".join(part for part in (truth["reason"], truth["message"]) if part)
    return f"{'yes' if truth['holds'] else 'no'}{f' ({words})' if words else ''}"


def _attention(view: View) -> Iterator[tuple[str, str]]:
    source = view["source"]
    if source["elsewhere"]:
        yield f"{source['elsewhere']} for other hosts; this is {view['host']}", "dim"
    if source["error"]:
        yield f"source {source['location']}: {source['error']}", "red"
    for world in view["worlds"]:
        if world["error"]:
            yield f"{world['shimlet']} cannot be seen: {world['error']}", "red"
    for file in source["invalid"]:
        for error in file["errors"]:
            yield f"{file['path']}:{error}", "red"
    together: dict[tuple[str, str], list[str]] = {}
    for held in view["held"]:
        together.setdefault((held["reason"], held["message"]), []).append(held["name"])
    for (reason, message), names in together.items():
        yield f"removal of {', '.join(names)} is held ({reason}): {message}", "yellow"
    reasons = {held["reason"] for held in view["held"]}
    if reasons - show.UNAPPROVABLE:
        yield "release with: xmod-agent approve-prune", "yellow"
    if view["memory_is_new"]:
        yield "the agent's memory is new: approvals and history from before are gone", "yellow"
    for notice in view["notices"]:
        yield notice, "yellow"
