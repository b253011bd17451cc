"""The output of a replica: a file that it appends to, bounded by copying it aside and truncating it.

The program keeps its descriptor, so the file cannot be renamed away; what is written between the copy and the
truncation is lost. When the copy does not fit on the disk, the bound goes before the history.
"""

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

_log = logging.getLogger("xmod.process")
_LAST = 4096  # bytes that last words are looked for in
_WORDS = 400  # characters of them that fit into a message


def tail(path: Path, lines: int, until: int | None = None) -> list[str]:
    """The last lines of a log (up to that byte), of the part set aside too; none if there is no log."""
    if lines <= 0:
        return []
    found = _last(path, lines, until)
    older = path.with_suffix(".log.1")
    if len(found) < lines and older.exists():
        found = _last(older, lines - len(found)) + found
    return found


def last_words(path: Path) -> str:
    """The end of a log on one line, "" if it is silent."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LAST))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " | ".join(lines[-3:])[-_WORDS:]


class Follower:
    """Reads what a log grows by, whole lines; begins anew when it is truncated or replaced."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0
        self._inode = 0
        self._rest = b""

    def skip(self) -> int:
        """Leave out the whole lines that are there; up to which byte."""
        try:
            with self._path.open("rb") as file:
                self._inode = os.fstat(file.fileno()).st_ino
                end = file.seek(0, os.SEEK_END)
                begin = file.seek(max(0, end - (1 << 16)))
                self._at = begin + file.read(end - begin).rfind(b"\n") + 1
        except OSError:
            self._at = 0
        return self._at

    def lines(self) -> Iterator[str]:
        """Yield the new lines."""
        try:
            with self._path.open("rb") as file:
                stat = os.fstat(file.fileno())
                if stat.st_ino != self._inode or stat.st_size < self._at:
                    self._inode, self._at, self._rest = stat.st_ino, 0, b""
                file.seek(self._at)
                new = file.read(1 << 20)
        except OSError:
            self._inode = 0  # what comes in its place is new, though it may get the same inode
            return
        self._at += len(new)
        *whole, self._rest = (self._rest + new).split(b"\n")
        for line in whole:
            yield line.decode(errors="replace").rstrip("\r")


def bound(path: Path, pid: int, limit: int) -> None:
    """Set the log aside and truncate it if it is larger than `limit` bytes. `pid`: who writes it.

    A log whose folder was deleted is still written; it is reached through the writer, and only truncated. Nothing is
    truncated but what that process was given as its log.
    """
    link = Path(f"/proc/{pid}/fd/1")
    try:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            if path.stat().st_size <= limit:
                return
        target = str(link.readlink())
        if target not in (str(path), f"{path} (deleted)") or link.stat().st_size <= limit:
            return
        if target == str(path):
            _copy_aside(path)
        os.truncate(link, 0)
    except OSError as error:
        if not isinstance(error, FileNotFoundError):
            _log.warning("a log cannot be bounded", extra={"file": str(path), "error": str(error)})


def _copy_aside(path: Path) -> None:
    beside = path.with_suffix(".log.new")
    try:
        shutil.copyfile(path, beside)
        beside.chmod(0o600)
        beside.replace(path.with_suffix(".log.1"))
    except OSError as error:
        beside.unlink(missing_ok=True)
        _log.warning("a log cannot be set aside", extra={"file": str(path), "error": str(error)})


def _last(path: Path, lines: int, until: int | None = None) -> list[str]:
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END) if until is None else until
            block = b""
            while end > 0 and block.count(b"\n") <= lines:
                begin = max(0, end - (1 << 16))
                file.seek(begin)
                block = file.read(end - begin) + block
                end = begin
    except OSError:
        return []
    return [line.rstrip("\r") for line in block.decode(errors="replace").split("\n") if line][-lines:]
