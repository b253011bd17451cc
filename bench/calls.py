"""Reads what the pretend shimlet stamped."""

import time
from pathlib import Path
from typing import NamedTuple

from bench.agent_process import Failure


class Call(NamedTuple):
    """One call. `at`: seconds of CLOCK_MONOTONIC, which all processes of a machine share."""

    at: float
    what: str
    name: str


class Calls:
    """Follows the file; every call is handed out once."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._rest = b""

    def new(self) -> list[Call]:
        """What was stamped since the last time."""
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        return [_call(line.decode()) for line in lines]

    def wait_for(self, what: str, name: str, seconds: float = 30.0) -> Call:
        """The first such call from now on."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for call in self.new():
                if (call.what, call.name) == (what, name):
                    return call
            time.sleep(0.001)
        raise Failure(f"no {what} of {name} within {seconds:g} s")

    def close(self) -> None:
        self._file.close()


def _call(line: str) -> Call:
    at, what, name = line.split(" ")
    return Call(int(at) / 1e9, what, name)
