"""How things look on a terminal and elsewhere: sentences, tables, ages, JSON and YAML.

Nothing that strangers wrote (a spec, a file's name, a log) has power over the terminal: what is printed passes through
here, and signs that cannot be printed are spelled out. JSON spells them so that it stays UTF-8 and means the same.
On a terminal a table fits its width; elsewhere it is as wide as its content, so that grep finds whole words. YAML is
only printed here, never read: reading has its doors in spec/reading and settings.
"""

import json
import re
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
UNAPPROVABLE = frozenset(
    {"Protected", "SourceUnread", "OtherSource", "Suspended"}
)  # why a removal is held whatever an operator says
_WIDE = 2000  # columns, where nobody looks
_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")
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
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, width: int, give: Sequence[int] = (), header: bool = True
) -> RenderableType:
    """A table without lines; the columns `give` wrap where there is no room. A list where it is narrow."""
    rows = [[clean(cell) or "-" for cell in row] for row in rows]
    if width < NARROW:
        return _list(columns, rows)
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_header=header)
    for index, column in enumerate(columns):
        shown.add_column(column, no_wrap=index not in give, overflow="fold")
    for row in rows:
        shown.add_row(*(Text(cell, STYLES.get(cell.rstrip(), "")) for cell in row))
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
    """Strangers' words on one line, and without power over the terminal."""
    return words if words.isprintable() else plain(" ".join(words.split()))


def plain(words: str) -> str:
    """Each sign as it is if it can be printed, else spelled out: a file's name keeps its blanks."""
    return words if words.isprintable() else "".join(sign if sign.isprintable() else _spelled(sign) for sign in words)


def logged(line: str, *, on_terminal: bool) -> str:
    """A line of a service's log. Colours are left out on a terminal, and all else that moves it; elsewhere all is as it was."""
    return "\t".join(plain(part) for part in _COLOUR.sub("", line).split("\t")) if on_terminal else line


def say(words: str, *, err: bool = False) -> None:
    """Print one line, whoever wrote what is in it."""
    typer.echo(plain(words), err=err)


def complain(sentence: str) -> None:
    """Say on stderr what is wrong, line by line."""
    for line in sentence.splitlines():
        say(f"xmod-agent: {line}", err=True)


def _spelled(sign: str) -> str:
    code = ord(sign)
    if _undecoded(sign):
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _undecoded(sign: str) -> bool:
    """A byte that is no text, as Python keeps it in a file's name."""
    return "\udc80" <= sign <= "\udcff"


def as_json(value: Any, *, indent: int | None = 2) -> None:
    """Print JSON: valid whatever bytes a name is made of, and whatever letters the reader's encoding lacks."""
    all_letters = "utf" in (sys.stdout.encoding or "").lower()
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    typer.echo("".join(sign if _stays(sign, all_letters) else _in_json(sign) for sign in text))


def _stays(sign: str, all_letters: bool) -> bool:  # noqa: FBT001 - asked of each sign
    return sign == "\n" or (sign.isprintable() and (all_letters or sign.isascii()))  # within a text "\n" is escaped


def _in_json(sign: str) -> str:
    return json.dumps(_spelled(sign) if _undecoded(sign) else sign)[1:-1]


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
