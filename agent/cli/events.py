"""`events`: what happened, as the agent's journal has it; once, or also what comes.

Following is asking again for what came after the last id, so an agent that is restarted meanwhile loses nothing.
"""

import re
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from agent.cli import show
from agent.cli.options import As, Instance, Output, Socket, client, refuse
from agent.surface.client import EVENTS, Client, NoAgent

Event = Mapping[str, Any]
_PERIOD = 0.5  # seconds
_TAIL = 50  # events shown unless told
_COLUMNS = ("TIME", "NAME", "WHAT", "WHY")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def add_to(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("events")(events)


def events(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Only of this service, also of one removed.")
    ] = None,
    *,
    since: Annotated[
        str | None, typer.Option("--since", metavar="AGO", help="How far back: 90s, 30m, 1h, 2d, or an ISO time.")
    ] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as new events come.")] = False,
    tail: Annotated[
        int | None,
        typer.Option(
            "-n", "--tail", metavar="N", min=1, max=EVENTS, help="The last N. [default: 50; all with --since]"
        ),
    ] = None,
    output: As = Output.TABLE,
    instance: Instance = "default",
    socket: Socket = None,
) -> None:
    """Show what happened, and why. Changes of services, removals, operators' words, revisions, starts and stops."""
    agent = client(instance, socket)
    began = _time(since, datetime.now(UTC)) if since else None
    limit = tail or (EVENTS if since else _TAIL)
    history = agent.events(name, since=began, limit=limit)
    for notice in history["notices"]:
        show.complain(notice)
    if since and not tail and len(history["events"]) == EVENTS:
        show.complain(f"older ones are left out: only the last {EVENTS} are shown")
    printer = _Printer(output, following=follow)
    printer.put(history["events"])
    if follow:
        try:
            _follow(agent, name, history["last"], printer)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None


def _follow(agent: Client, name: str | None, last: int, printer: "_Printer") -> None:
    """Print what comes. An agent that is being restarted is waited for."""
    away = False
    while True:
        time.sleep(_PERIOD)
        try:
            history = agent.events(name, after=last, limit=EVENTS) if last else agent.events(name, limit=EVENTS)
        except NoAgent as error:
            if not away:
                show.complain(str(error))
            away = True
            continue
        away = False
        last = history["last"]
        printer.put(history["events"])


def _time(words: str, now: datetime) -> datetime:
    parts = re.findall(r"(\d+)([smhdw])", words)
    if parts and "".join(number + unit for number, unit in parts) == words:
        try:
            return now - sum((timedelta(**{_UNITS[unit]: int(number)}) for number, unit in parts), timedelta())
        except OverflowError:
            return datetime.min.replace(tzinfo=UTC)
    try:
        return datetime.fromisoformat(words).astimezone(UTC)
    except (ValueError, OverflowError):
        raise refuse(f"--since {words}: must be a duration such as 90s, 30m, 1h or 2d, or an ISO time") from None


class _Printer:
    """Prints events as they come, in one form; the columns of a table keep their widths while it is followed."""

    def __init__(self, output: Output, *, following: bool) -> None:
        self._output = output
        self._following = following
        self._widths = [0, 0, 0]
        self._begun = False

    def put(self, found: Sequence[Event]) -> None:
        """Print these, if there are any."""
        match self._output:
            case Output.JSON:
                self._json(found)
            case Output.YAML:
                if found or not self._following:
                    show.as_yaml(list(found))
            case Output.TABLE:
                self._table(found)
        sys.stdout.flush()

    def _json(self, found: Sequence[Event]) -> None:
        if self._following:
            for event in found:
                show.as_json(event, indent=None)
        else:
            show.as_json(list(found))

    def _table(self, found: Sequence[Event]) -> None:
        if not found:
            if not self._following:
                typer.echo("nothing happened that the journal knows of")
            return
        console = show.console()
        rows = [_row(event) for event in found]
        self._widths = [
            max(width, *(len(show.clean(row[at])) for row in rows)) for at, width in enumerate(self._widths)
        ]
        padded = [
            (*(cell.ljust(width) for cell, width in zip(row, self._widths, strict=False)), row[3]) for row in rows
        ]
        drawn = show.table(
            _COLUMNS, padded if self._following else rows, width=console.width, give=(3,), header=not self._begun
        )
        show.put(drawn, console)
        self._begun = True


def _row(event: Event) -> tuple[str, str, str, str]:
    return _when(event["at"]), event["service"] or f"({event['kind']})", event["what"], why(event)


def _when(at: str) -> str:
    """The local time; the date only where it is not today's."""
    local = datetime.fromisoformat(at).astimezone()
    return local.strftime("%H:%M:%S" if local.date() == datetime.now().astimezone().date() else "%Y-%m-%d %H:%M:%S")


def why(event: Event) -> str:
    """Who said it, the reason in words, and the commit that it goes back to."""
    reason = event["reason"] if event["reason"] != event["what"] else ""
    said = f"by {event['who']}" if event["who"] else ""
    words = ": ".join(part for part in (said, event["goal"], reason, event["message"]) if part)
    return " ".join(part for part in (words, _commit(event)) if part)


def _commit(event: Event) -> str:
    if event["commit"]:
        parts: Iterable[str] = (show.short(event["commit"]), event["author"])
        subject = f": {event['subject']}" if event["subject"] else ""
        return f"[{' '.join(part for part in parts if part)}{subject}]"
    return f"[{show.short(event['revision'])}]" if event["revision"] and event["kind"] == "source" else ""
