"""What the journal tells of: events, and their rows.

Strangers wrote some of it (specs, commits, runtimes), so all text is made one bounded line of printable signs on its way
in, as the log does on its way out. Ids only grow, from one journal to the next, too: whoever asks for what came after an
id misses nothing.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from agent.log import one_line

_LONGEST = 2000  # signs of one text
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Kind(StrEnum):
    """What an event is about."""

    SERVICE = "service"
    PRUNE = "prune"
    WORD = "word"
    SOURCE = "source"
    AGENT = "agent"
    JOURNAL = "journal"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. `id`: 0 until it is written.

    `what`: a service's phase (Removed: nothing of it is left), a prune's decision (Held, Approved), an operator's word,
    else CamelCase. `verdict`: of the goal; `reason` and `message`: why it is not converged, else why it is not serving.
    `wanted`, `routed`: digests, shortened. `commit`, `author`, `subject`: of the commit that last changed the document.
    `who`: the user who said a word.
    """

    at: datetime
    kind: Kind
    what: str
    service: str = ""
    goal: str = ""
    verdict: str = ""
    reason: str = ""
    message: str = ""
    serving: bool = False
    converged: bool = False
    wanted: str = ""
    routed: str = ""
    revision: str = ""
    commit: str = ""
    author: str = ""
    subject: str = ""
    who: str = ""
    id: int = 0


_COLUMNS = tuple(field.name for field in fields(Event) if field.name != "id")
_TEXTS = tuple(field.name for field in fields(Event) if field.type in ("str", str) and field.name != "id")
_NAMES = ", ".join(f'"{name}"' for name in _COLUMNS)
_INSERT = f"INSERT INTO events ({_NAMES}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608 - names of our own fields
_SELECT = f"SELECT id, {_NAMES} FROM events"  # noqa: S608 - the same
SCHEMA = (
    f"CREATE TABLE events (id INTEGER PRIMARY KEY AUTOINCREMENT, {_NAMES})",
    "CREATE INDEX events_of ON events (service)",
)
"""Rows are untyped but for the id: `at` is in microseconds since the epoch, truths are 0 and 1, all else is text."""


def cleaned(event: Event) -> Event:
    """The same with all text on one line each, printable, bounded."""
    odd = {
        name: _clean(text)
        for name in _TEXTS
        if (text := getattr(event, name)) and (len(text) > _LONGEST or not text.isprintable())
    }
    return replace(event, **odd) if odd else event  # type: ignore[arg-type] # texts by their names


def _clean(text: str) -> str:
    line = one_line(text[: _LONGEST + 1]).encode("utf-8", "backslashreplace").decode()
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"


def insert(connection: sqlite3.Connection, events: Sequence[Event]) -> None:
    """Append them, in this order."""
    connection.executemany(_INSERT, (tuple(map(_stored, (getattr(e, name) for name in _COLUMNS))) for e in events))


def _stored(value: object) -> object:
    return micros(value) if isinstance(value, datetime) else value


def micros(at: datetime) -> int:
    """As the rows have it."""
    return (at - _EPOCH) // _MICROSECOND


def select(
    connection: sqlite3.Connection, *, service: str, since: datetime | None, after: int, limit: int
) -> tuple[Event, ...]:
    """The newest `limit` of what came at `since` or later; with an id `after`, the oldest of what came after it."""
    where, given = ("service = ? AND id > ?", (service, after)) if service else ("id > ?", (after,))
    order = "ASC" if after else "DESC"
    rows = connection.execute(f"{_SELECT} WHERE {where} ORDER BY id {order} LIMIT ?", (*given, limit))
    found = [event for event in _events(rows) if since is None or event.at >= since]  # clocks jump: any may be older
    return tuple(found if after else reversed(found))


def knows(connection: sqlite3.Connection, service: str) -> bool:
    """There is an event of that service."""
    return connection.execute("SELECT 1 FROM events WHERE service = ? LIMIT 1", (service,)).fetchone() is not None


def newest(connection: sqlite3.Connection, kind: Kind) -> Iterator[Event]:
    """The last event of that kind, for each service that has one ("" counts as one)."""
    names = [name for (name,) in connection.execute("SELECT DISTINCT service FROM events")]
    for name in names:
        rows = connection.execute(
            f"{_SELECT} WHERE service = ? AND kind = ? ORDER BY id DESC LIMIT 1",
            (name, kind),
        )
        yield from _events(rows)


def _events(rows: Iterable[Sequence[object]]) -> Iterator[Event]:
    """What can be understood of them: a flipped bit in one row does not hide the others."""
    for row in rows:
        try:
            yield _event(row)
        except (ValueError, OverflowError):
            continue


def _event(row: Sequence[object]) -> Event:
    number, at, kind, *rest = row
    values = dict(zip(_COLUMNS[2:], rest, strict=True))
    truths = {name: bool(values.pop(name)) for name in ("serving", "converged")}
    texts = {name: str(text) for name, text in values.items()}
    when = _EPOCH + timedelta(microseconds=int(str(at)))
    return Event(at=when, kind=Kind(str(kind)), id=int(str(number)), **texts, **truths)  # type: ignore[arg-type] # by their names
