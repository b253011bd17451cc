"""Where log records go: one readable line on a terminal, one JSON object a line elsewhere.

Promises: a record is one `write` to the descriptor, so lines of several threads never mix; a full disk or a closed pipe
loses lines and never an agent: the lines lost are counted and told as soon as writing works again; a log file that was
moved away (logrotate) is opened anew. Fields given as `extra` are kept, in a fixed order of keys.
"""

import contextlib
import json
import logging
import os
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

KEYS = ("service", "goalset", "goal", "shimlet", "revision", "reason", "error", "file")
_PLAIN = frozenset(logging.LogRecord("", 0, "", 0, "", (), None).__dict__) | {"message", "asctime", "taskName"}
_COLOURS = {
    logging.WARNING: "\x1b[33m",
    logging.ERROR: "\x1b[31m",
    logging.CRITICAL: "\x1b[31m",
    logging.DEBUG: "\x1b[2m",
}
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (0, 7))  # syslog's
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure(*, level: str = "info", format: str = "auto", output: str = "stdout") -> None:  # noqa: A002 – the setting's name
    """Send all that is logged from now on to `output`: stdout, stderr or a file's path. OSError if it cannot be opened."""
    handler = LineHandler(output)
    on_terminal = handler.on_terminal
    readable = format == "text" or (format == "auto" and on_terminal)
    plain = Readable(colour=on_terminal and "NO_COLOR" not in os.environ) if readable else Json()
    handler.setFormatter(Prefixed(plain) if handler.in_journal else plain)
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, LineHandler)]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(logging.WARNING)  # of libraries; our own level is that of "xmod"
    logging.getLogger("xmod").setLevel(_LEVELS[level])


class LineHandler(logging.Handler):
    """Writes lines straight to a descriptor. `lost`: how many could not be written since the last that could."""

    def __init__(self, output: str) -> None:
        super().__init__()
        self.lost = 0
        self._path = None if output in ("stdout", "stderr") else Path(output)
        self._fd = {"stdout": 1, "stderr": 2}.get(output, -1)
        self._torn = False
        self._key = (0, 0)
        if self._path is not None:
            self._open(self._path)

    @property
    def on_terminal(self) -> bool:
        """Somebody reads it as it comes."""
        return self._fd >= 0 and os.isatty(self._fd)

    @property
    def in_journal(self) -> bool:
        """It is the stream that systemd's journal reads."""
        if self._fd < 0 or self._path is not None:
            return False
        status = os.fstat(self._fd)
        return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, and what is to be said of lost ones."""
        try:
            text = self.format(record)
            if self.lost:
                note = logging.LogRecord("xmod.log", logging.WARNING, "", 0, "log lines were lost", (), None)
                note.lost = self.lost
                text = f"{self.format(note)}\n{text}"
            self._write(("\n" if self._torn else "") + text + "\n")
            self.lost = 0
        except OSError:
            self.lost += 1
        except (TypeError, ValueError, RecursionError) as error:  # a bad log call must not end the thread that made it
            self._complain(record, error)

    def _complain(self, record: logging.LogRecord, error: Exception) -> None:
        text = f"xmod.log: {record.pathname}, line {record.lineno}: {record.msg!r} cannot be logged: {error}\n"
        with contextlib.suppress(OSError):
            os.write(2, text.encode("utf-8", "backslashreplace"))

    def close(self) -> None:
        """Let go of the file."""
        if self._path is not None and self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        super().close()

    def _write(self, text: str) -> None:
        if self._path is not None:
            self._follow(self._path)
        data = text.encode("utf-8", "backslashreplace")
        while data:
            written = os.write(self._fd, data)
            data = data[written:]
            self._torn = bool(data)
        self._torn = False

    def _follow(self, path: Path) -> None:
        """Open the file anew if it is no longer the one at its path."""
        try:
            now = path.stat()
        except FileNotFoundError:
            self._open(path)
            return
        if (now.st_dev, now.st_ino) != self._key:
            self._open(path)

    def _open(self, path: Path) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        if self._fd >= 0:
            os.close(self._fd)
        status = os.fstat(fd)
        self._fd, self._key = fd, (status.st_dev, status.st_ino)


def fields(record: logging.LogRecord) -> Mapping[str, Any]:
    """What was given as `extra`: our keys first, in their order, then the others; empty ones are left out."""
    extra = {key: value for key, value in record.__dict__.items() if key not in _PLAIN and not key.startswith("_")}
    ordered = [*(key for key in KEYS if key in extra), *sorted(key for key in extra if key not in KEYS)]
    return {key: extra[key] for key in ordered if extra[key] is not None and extra[key] != ""}


class Readable(logging.Formatter):
    """`12:03:04 WARN  plan: removal held  service=x reason=Budget`; a traceback follows on lines of its own."""

    def __init__(self, *, colour: bool = False) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """One record as text."""
        when = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        area = record.name.removeprefix("xmod.")
        level = {"WARNING": "WARN", "CRITICAL": "FATAL"}.get(record.levelname, record.levelname)
        pairs = "".join(f"  {key}={_word(value)}" for key, value in fields(record).items())
        line = f"{when} {level:<5} {area}: {one_line(record.getMessage())}{pairs}"
        if self._colour and record.levelno in _COLOURS:
            line = f"{_COLOURS[record.levelno]}{line}\x1b[0m"
        trace = _traceback(self, record)
        return f"{line}\n{trace}" if trace else line


class Json(logging.Formatter):
    """One object a line: time (UTC), level, area, message, then the fields; `traceback` where there was an exception."""

    def format(self, record: logging.LogRecord) -> str:
        """One record as JSON."""
        out: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "area": record.name.removeprefix("xmod."),
            "message": record.getMessage(),
        }
        for key, value in fields(record).items():
            out.setdefault(key, value)
        trace = _traceback(self, record)
        if trace:
            out["traceback"] = trace
        return json.dumps(out, ensure_ascii=False, default=str)


class Prefixed(logging.Formatter):
    """Another's lines, each with the level's number before it, as systemd's journal takes it."""

    def __init__(self, lines: logging.Formatter) -> None:
        super().__init__()
        self._lines = lines

    def format(self, record: logging.LogRecord) -> str:
        """One record, whose further lines have its level too."""
        level = next(number for least, number in _PRIORITIES if record.levelno >= least)
        lines = self._lines.format(record).replace("\0", "\\0").split("\n")  # the journal ends a line at both
        return "\n".join(f"<{level}>{line}" for line in lines)


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    parts = [formatter.formatException(record.exc_info)] if record.exc_info else []
    if record.stack_info:
        parts.append(record.stack_info)
    return "\n".join(parts)


def _word(value: Any) -> str:
    """A value without blanks or control characters stands as it is, others are quoted."""
    text = value if isinstance(value, str) else str(value)
    return text if text.isprintable() and " " not in text and '"' not in text else json.dumps(text, ensure_ascii=False)


def one_line(text: str) -> str:
    """The text with what would break or move a line spelled out."""
    return text if text.isprintable() else json.dumps(text, ensure_ascii=False)[1:-1]


def watch_threads() -> None:
    """Log what ends a thread, so that no thread dies in silence."""

    def hook(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
            logging.getLogger("xmod.thread").critical(
                "a thread died",
                exc_info=(args.exc_type, args.exc_value, args.exc_traceback),
                extra={"thread_died": args.thread.name if args.thread else ""},
            )

    threading.excepthook = hook
