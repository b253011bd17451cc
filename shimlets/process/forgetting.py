"""What was given up: runs whose processes carry our mark and are not ours any more.

Nobody can change a process's environment, so its log is renamed: the kernel shows the new name, `RUN.forgotten`, on the
output that it has open, for as long as it lives and whatever becomes of the folder. The file itself says the same of those
who closed their output. A run's name is known to nobody but those who were born with it.
"""

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from agent.contracts import Transient
from shimlets.process.finding import Found, Sight

_SUFFIX = ".forgotten"
_FOLDER = "_forgotten"  # no service can be called that


class Forgotten:
    """The runs of one owner that were given up. `root`: the folder of the owner's records."""

    def __init__(self, root: Path) -> None:
        self._folder = root / _FOLDER

    def without(self, sight: Sight) -> Sight:
        """The same look, with what was given up among the strangers."""
        carrying = (*sight.ours, *sight.claimed)
        gone = self._told() | {found.carried.run for found in carrying if _says_so(found)}
        gone &= {found.carried.run for found in carrying if found.carried.run}
        if not gone:
            return sight
        return replace(sight, ours=_others(sight.ours, gone), claimed=_others(sight.claimed, gone))

    def add(self, run: str, log: Path) -> Path:
        """Give a run up, whose output goes to `log`; where that is now. Transient if that cannot be written."""
        place = self._folder / run / f"{run}{_SUFFIX}"  # two deep, as records are
        try:
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                log.rename(place)
            except FileNotFoundError:
                place.touch()  # its log was deleted: this file alone remembers
        except OSError as error:
            message = f"{place}: {error.strerror}: cannot give up run {run}"
            raise Transient(message, reason="StateUnwritable") from error
        return place

    def _told(self) -> frozenset[str]:
        try:
            return frozenset(os.listdir(self._folder))  # noqa: PTH208  # names are what is asked for
        except (FileNotFoundError, NotADirectoryError):
            return frozenset()
        except OSError as error:
            raise Transient(f"{self._folder}: {error.strerror}: cannot tell what was given up") from error


def _says_so(found: Found) -> bool:
    """Its output goes where that of its run goes since it was given up."""
    name = f"{found.carried.run}{_SUFFIX}"
    return any(_output(found.stat.who.pid, number) == name for number in (1, 2))


def _output(pid: int, number: int) -> str:
    """The name of what it has open there, "" if that cannot be told."""
    try:
        target = os.readlink(f"/proc/{pid}/fd/{number}")  # noqa: PTH115  # half the time of Path
    except OSError:  # it ended, closed it, or became another user
        return ""
    return target.rpartition("/")[2].removesuffix(" (deleted)")


def _others(found: Iterable[Found], gone: Iterable[str]) -> tuple[Found, ...]:
    runs = frozenset(gone)
    return tuple(one for one in found if one.carried.run not in runs)
