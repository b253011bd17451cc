"""A control group for each run, within what systemd delegated: limits hold, and nothing gets away when it is ended.

Only a group that says of itself that it is delegated is used, and only if we were put into a leaf of it
(`Delegate=yes`, `DelegateSubgroup=`). We never move ourselves there: a group whose children have controllers takes no
processes, so systemd could not start an agent again whose programs outlived it. Without such a group, all is as it is
on a plain host: no limits, and the notice says so.
"""

import contextlib
import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

_log = logging.getLogger("xmod.process")
_PERIOD = 100_000  # microseconds, of which cpu.max gives a share
_WANTED = ("cpu", "memory")
_PAGE = os.sysconf("SC_PAGESIZE")


@dataclass(frozen=True, slots=True)
class Limits:
    """`cpu` in cores, `memory` in bytes; 0: none."""

    cpu: float = 0.0
    memory: int = 0


class Groups:
    """One owner's groups, named `OWNER.RUN`. `find` says which group holds them; None: there are none here."""

    def __init__(self, owner: str, find: Callable[[], Path | None]) -> None:
        self._owner = owner
        self._find = find

    @cached_property
    def _root(self) -> Path | None:
        return self._find()

    def path(self, run: str) -> Path | None:
        """Where the group of a run is, or would be."""
        return self._root / f"{self._owner}.{run}" if self._root is not None else None

    def make(self, run: str, limits: Limits) -> Path | None:
        """A group for a run, with these limits as far as they can be had; None if there can be none."""
        path = self.path(run)
        if self._root is None or path is None:
            return None
        for controller in _WANTED:
            with contextlib.suppress(OSError):  # it is not delegated, or processes are in the way
                (self._root / "cgroup.subtree_control").write_text(f"+{controller}")
        try:
            path.mkdir(exist_ok=True)
        except OSError as error:
            _log.warning("no control group can be made", extra={"shimlet": "process", "error": str(error)})
            return None
        for name, value in _files(limits):
            with contextlib.suppress(OSError):  # `holds` tells what came of it
                (path / name).write_text(value)
        return path

    def holds(self, run: str, pid: int, limits: Limits) -> bool:
        """Whether these limits are in force for that process of a run."""
        path = self.path(run)
        if path is None or pid not in self.pids(run):
            return False
        return all(_read(path / name).split() == value.split() for name, value in _files(limits))

    def pids(self, run: str) -> frozenset[int]:
        """What lives in a run's group, marked or not."""
        path = self.path(run)
        return frozenset(map(int, _read(path / "cgroup.procs").split())) if path is not None else frozenset()

    def kill(self, run: str) -> None:
        """End all that is in a run's group, at one stroke."""
        path = self.path(run)
        if path is not None:
            with contextlib.suppress(OSError):  # it is gone, or the kernel is older than 5.14: signals do it
                (path / "cgroup.kill").write_text("1")

    def out_of_memory(self, run: str) -> bool:
        """The kernel killed something of a run for want of memory."""
        path = self.path(run)
        events = dict(line.split() for line in _read(path / "memory.events").splitlines()) if path else {}
        return int(events.get("oom_kill", 0)) > 0

    def tidy(self, runs: Iterable[str]) -> None:
        """Remove the empty groups of all runs but these."""
        kept = {self.path(run) for run in runs}
        for path in self._root.glob(f"{self._owner}.*") if self._root is not None else ():
            if path not in kept:
                with contextlib.suppress(OSError):  # something lives in it
                    path.rmdir()


def delegated(process: str = "self") -> Path | None:
    """The group that a process of ours shares with groups to come; None if none was delegated."""
    lines = _read(Path(f"/proc/{process}/cgroup")).splitlines()
    own = next((line.removeprefix("0::") for line in lines if line.startswith("0::")), "/")
    mounted = _mounted()
    if mounted is None or own.count("/") < 2:
        return None
    root = (mounted / own.lstrip("/")).parent
    try:
        said = os.getxattr(root, "user.delegate")
    except OSError:  # an older systemd or kernel, or nobody's to give
        return None
    free = said == b"1" and os.access(root / "cgroup.subtree_control", os.W_OK) and not _read(root / "cgroup.procs")
    return root if free else None


def _mounted() -> Path | None:
    """Where the unified hierarchy is: all of /sys/fs/cgroup, or beside the old ones."""
    for line in _read(Path("/proc/self/mountinfo")).splitlines():
        before, _, after = line.partition(" - ")
        if after.startswith("cgroup2 "):
            return Path(before.split()[4])
    return None


def _files(limits: Limits) -> list[tuple[str, str]]:
    """What is written for limits. With `memory.oom.group` a replica ends whole, and not one of its workers."""
    files = [("cpu.max", f"{round(limits.cpu * _PERIOD)} {_PERIOD}")] if limits.cpu else []
    return files + (
        [("memory.max", str(limits.memory // _PAGE * _PAGE)), ("memory.oom.group", "1")] if limits.memory else []
    )


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
