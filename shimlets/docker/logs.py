"""What containers wrote: the engine's frames as lines, the last ones or as they come."""

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.contracts import Transient, XmodError
from shimlets.docker.engine import Engine, Missing
from shimlets.docker.pump import Pump

_HEADER = struct.Struct(">BxxxL")  # which of stdout and stderr, and how many bytes


@dataclass(slots=True)
class Lines:
    """Turns the engine's frames into lines; a frame need not hold a whole line, nor a chunk a whole frame."""

    _frames: bytes = b""
    _open: dict[int, bytes] = field(default_factory=dict)

    def after(self, chunk: bytes) -> list[str]:
        """Take in some bytes; the lines that are whole now."""
        self._frames += chunk
        lines: list[str] = []
        while len(self._frames) >= _HEADER.size:
            source, size = _HEADER.unpack_from(self._frames)
            end = _HEADER.size + size
            if len(self._frames) < end:
                break
            *whole, self._open[source] = (self._open.get(source, b"") + self._frames[_HEADER.size : end]).split(b"\n")
            self._frames = self._frames[end:]
            lines += [_text(line) for line in whole]
        return lines

    def rest(self) -> list[str]:
        """What ended without a line's end."""
        return [_text(line) for line in self._open.values() if line]


def last_lines(engine: Engine, container: str, tail: int, *, timestamps: bool = False) -> list[str]:
    """The last lines of one container; none if it is gone or its log cannot be read."""
    lines, params = Lines(), {"tail": str(tail), "timestamps": str(timestamps).lower()}
    try:
        with engine.stream("GET", *_logs(container), params=_OUT | params, timeout=5.0) as stream:
            told = [line for chunk in stream.chunks() for line in lines.after(chunk)]
    except Missing:
        return []
    except XmodError as error:
        if error.reason in ("Hung", "Unreachable"):
            raise
        return []  # a log driver that cannot be read; "created" containers have no log
    return [*told, *lines.rest()][-tail:]


def merged(engine: Engine, containers: Sequence[tuple[str, str]], tail: int) -> list[str]:
    """The last lines of several containers, each given with its prefix, in the order in which they were written."""
    if len(containers) == 1:
        return last_lines(engine, containers[0][0], tail)
    stamped = [
        (stamp, prefix + text)
        for container, prefix in containers
        for stamp, _, text in (line.partition(" ") for line in last_lines(engine, container, tail, timestamps=True))
    ]
    return [text for _, text in sorted(stamped, key=lambda line: line[0])][-tail:]


def followed(
    engine: Engine, containers: Iterable[tuple[str, str]], until: Callable[[], bool], *, since: float
) -> Iterator[str]:
    """New lines of several containers as they come, until `until` or until all of them ended."""
    pump: Pump[str] = Pump()
    for container, prefix in containers:
        pump.add(_follower(engine, container, prefix, since), f"logs-{container[:12]}")
    try:
        yield from pump.items(until)
    finally:
        pump.close()
    if pump.errors and not until():
        raise Transient(str(pump.errors[0]), reason=pump.errors[0].reason)


def _follower(engine: Engine, container: str, prefix: str, since: float) -> Callable[[Pump[str]], None]:
    params: dict[str, Any] = {"follow": "true", "since": f"{since:.6f}"}

    def read(to: Pump[str]) -> None:
        lines = Lines()
        try:
            with engine.stream("GET", *_logs(container), params=_OUT | params) as stream:
                to.on_close(stream.hang_up)
                for chunk in stream.chunks():
                    if not all(to.put(prefix + line) for line in lines.after(chunk)):
                        return
        except Missing:
            return

    return read


_OUT = {"stdout": "true", "stderr": "true"}


def _logs(container: str) -> tuple[str, str]:
    return f"/containers/{container}/logs", f"read the log of container {container[:12]}"


def _text(line: bytes) -> str:
    return line.decode(errors="replace").rstrip("\r")
