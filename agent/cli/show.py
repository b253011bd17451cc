"""How things look on a terminal and elsewhere: tables, ages, JSON and YAML.

On a terminal a table fits its width; elsewhere it is as wide as its content, so that grep finds whole words. YAML is
only printed here, never read: reading has its doors in spec/reading and settings.
"""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import typer
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

STYLES: Mapping[str, str] = {
    "Ready": "green",
    "Progressing": "cyan",
    "Degraded": "yellow",
    "Kept": "yellow",
    "Suspended": "yellow",
    "Removing": "cyan",
    "Failed": "red",
    "create": "green",
    "replace": "cyan",
    "remove": "red",
    "held": "yellow",
    "keep": "yellow",
    "invalid": "red",
    "conflict": "red",
}
_WIDE = 2000  # columns, where nobody looks
NARROW = 60  # columns, below which a table is a list


def console() -> Console:
    """Where people read. Colour only on a terminal, and not with NO_COLOR."""
    return Console(width=None if sys.stdout.isatty() else _WIDE, highlight=False, soft_wrap=False)


def put(drawn: RenderableType, on: Console) -> None:
    """Print it; away from a terminal without the blanks that only fill a line."""
    if on.is_terminal:
        on.print(drawn)
        return
    with on.capture() as shown:
        on.print(drawn)
    typer.echo("\n".join(line.rstrip() for line in shown.get().rstrip("\n").split("\n")))


def count(number: int, thing: str) -> str:
    """A number of things: 1 file, 2 files."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, width: int, give: Sequence[int] = ()
) -> RenderableType:
    """A table without lines; the columns `give` wrap where there is no room. A list where it is narrow."""
    rows = [[clean(cell) or "-" for cell in row] for row in rows]
    if width < NARROW:
        return _list(columns, rows)
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for index, column in enumerate(columns):
        shown.add_column(column, no_wrap=index not in give, overflow="fold")
    for row in rows:
        shown.add_row(*(Text(cell, STYLES.get(cell, "")) for cell in row))
    return shown


def _list(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Text:
    text = Text()
    for row in rows:
        text.append(f"{row[0]}\n", "bold")
        for column, cell in zip(columns[1:], row[1:], strict=True):
            if cell != "-":
                text.append(f"  {column.lower()}: ")
                text.append(f"{cell}\n", STYLES.get(cell, ""))
    text.rstrip()
    return text


def clean(words: str) -> str:
    """Strangers' words (a log's last lines, a file's name) on one line, and without power over the terminal."""
    if words.isprintable():
        return words
    flat = " ".join(words.split())
    return "".join(sign if sign.isprintable() else f"\\x{ord(sign):02x}" for sign in flat)


def as_json(value: Any) -> None:
    """Print JSON."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def as_yaml(value: Any) -> None:
    """Print YAML."""
    import yaml  # only needed here

    typer.echo(yaml.safe_dump(value, sort_keys=False, allow_unicode=True).rstrip("\n"))


def age(since: str | None, now: datetime | None = None) -> str:
    """How long ago an ISO time was: "42s", "5m", "3h", "2d"; "" for none."""
    if not since:
        return ""
    seconds = max(0, int(((now or datetime.now(UTC)) - datetime.fromisoformat(since)).total_seconds()))
    for unit, size, upto in (("s", 1, 120), ("m", 60, 7200), ("h", 3600, 172_800)):
        if seconds < upto:
            return f"{seconds // size}{unit}"
    return f"{seconds // 86400}d"


def short(revision: str) -> str:
    """A revision as people write it."""
    kind, colon, digest = revision.rpartition(":")
    return f"{kind}{colon}{digest[:10]}" if colon else revision[:10]
