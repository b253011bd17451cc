"""Looks through /proc for processes that carry our mark.

A process is its pid and its start time, never its pid alone. One `stat` a process and look; an environment is read only
when the process is new or has become another program: exec changes neither pid nor start time, but always the place
of the environment in memory, so that is part of what a cached answer hangs on. Zombies are not alive. What is in
another pid namespace (an agent in a container) is not ours, whatever it carries.

Anybody can write our mark into an environment of his own. So whoever carries it must be our user now, in all four ids,
and must have been when it was given that environment: a set-uid program (sudo, say) is root with a stranger's. A program
of ours that became another user is merely `claimed`: only a record of its session makes it ours (observing.py).
"""

import logging
import os
import struct
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

from agent.contracts import Transient
from shimlets.process.environment import Carried, carried

_log = logging.getLogger("xmod.process")
_GONE = (FileNotFoundError, ProcessLookupError, PermissionError)  # or another user's, which cannot be ours


class Who(NamedTuple):
    """A process, for ever. `ticks`: its start, in clock ticks since boot."""

    pid: int
    ticks: int


@dataclass(frozen=True, slots=True)
class Stat:
    """The kernel's short word on a process. `place`: where its environment lies."""

    who: Who
    state: str
    parent: int
    group: int
    session: int
    place: tuple[str, str]

    @property
    def alive(self) -> bool:
        """It is no zombie."""
        return self.state not in ("Z", "X")


@dataclass(frozen=True, slots=True)
class Found:
    """A living process with our mark."""

    stat: Stat
    carried: Carried

    @property
    def leads(self) -> bool:
        """It is the program itself and not a descendant; while the shell has not said its pid it can only be that."""
        return self.carried.leader in (0, self.stat.who.pid)


@dataclass(frozen=True, slots=True)
class Sight:
    """One look: our processes, and every process by its pid. `claimed`: they carry our mark and are not our user."""

    ours: tuple[Found, ...]
    stats: Mapping[int, Stat]
    claimed: tuple[Found, ...] = ()

    def alive(self, who: Who) -> Stat | None:
        """The process, if it is still that one and no zombie."""
        stat = self.stats.get(who.pid)
        return stat if stat is not None and stat.who == who and stat.alive else None


_Answer: TypeAlias = tuple[tuple[str, str], Carried | None, bool]
"""Where the environment lay when it was read, the mark in it, and whether our user gave it."""

_AT_UID, _AT_EUID = 11, 12  # of getauxval(3): who called exec, and as whom


class Processes:
    """Looks; thread-safe."""

    def __init__(self, owner: str, uid: int) -> None:
        self._owner = owner
        self._uid = uid
        self._lock = threading.Lock()
        self._known: dict[Who, _Answer] = {}

    def look(self) -> Sight:
        """See all processes. Transient if /proc cannot be read."""
        with self._lock:
            stats = dict(_stats())
            known: dict[Who, _Answer] = {}
            ours: list[Found] = []
            claimed: list[Found] = []
            for stat in stats.values():
                if not stat.alive:
                    continue
                before = self._known.get(stat.who)
                if before is None or before[0] != stat.place:
                    before = self._read(stat, before)
                known[stat.who] = before
                if before[1] is not None:
                    (ours if before[2] else claimed).append(Found(stat, before[1]))
            self._known = known
            return Sight(tuple(ours), stats, tuple(claimed))

    def _read(self, stat: Stat, before: _Answer | None) -> _Answer:
        try:
            block = _whole(f"/proc/{stat.who.pid}/environ")
            if not block and before is not None:
                return before  # in the midst of an exec there is none
            mark = carried(block, owner=self._owner, uid=self._uid)
            if mark is None or _namespace(stat.who.pid) != _namespace(os.getpid()):
                return stat.place, None, False
            own = _is_user(stat.who.pid, self._uid)
        except _GONE:
            return stat.place, None, False
        except OSError as error:
            raise Transient(f"{error.filename}: {error.strerror}: a process cannot be seen") from error
        except ValueError as error:
            _log.warning(
                "a process carries a broken mark",
                extra={"shimlet": "process", "pid": stat.who.pid, "error": str(error)},
            )
            return stat.place, None, False
        if not own:
            _log.info("another user's process carries our mark", extra={"shimlet": "process", "pid": stat.who.pid})
        return stat.place, mark, own


def stat_of(pid: int) -> Stat | None:
    """The process with that pid; None if there is none. Transient if it cannot be known."""
    try:
        data = _whole(f"/proc/{pid}/stat")
    except _GONE:
        return None
    except OSError as error:  # too many open files, say: it may well live
        raise Transient(f"{error.filename}: {error.strerror}: a process cannot be seen") from error
    words = data[data.rindex(b")") + 2 :].split()  # a name may contain blanks and brackets
    return Stat(
        who=Who(pid, int(words[19])),
        state=words[0].decode(),
        parent=int(words[1]),
        group=int(words[2]),
        session=int(words[3]),
        place=(words[47].decode(), words[48].decode()),
    )


def _stats() -> Iterable[tuple[int, Stat]]:
    try:
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208  # half the time of Path
    except OSError as error:
        raise Transient(f"/proc: {error.strerror}: processes cannot be seen") from error
    for pid in pids:
        stat = stat_of(pid)
        if stat is not None:
            yield pid, stat


def _is_user(pid: int, uid: int) -> bool:
    """It is that user (real, effective, saved and file system id), and so was who gave it its environment."""
    lines = _whole(f"/proc/{pid}/status").split(b"\n")
    ids = next((line.split()[1:] for line in lines if line.startswith(b"Uid:")), [])
    return [int(word) for word in ids] == [uid] * 4 and _executed_by(_whole(f"/proc/{pid}/auxv")) == (uid, uid)


def _executed_by(block: bytes) -> tuple[int, int] | None:
    """The real and effective user at the last exec, which wrote this block and the environment together."""
    for pair in ("=QQ", "=II"):  # a 32-bit program's is of shorter words
        size = struct.calcsize(pair)
        words = dict(struct.iter_unpack(pair, block[: len(block) // size * size]))
        if _AT_UID in words and _AT_EUID in words:
            return words[_AT_UID], words[_AT_EUID]
    return None


def _namespace(pid: int) -> str:
    return str(Path(f"/proc/{pid}/ns/pid").readlink())


def _whole(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY)
    try:
        data = os.read(fd, 4096)
        if len(data) < 4096:
            return data
        parts = [data]
        while part := os.read(fd, 1 << 16):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(fd)


def boot_id() -> str:
    """This boot of the machine."""
    try:
        return _whole("/proc/sys/kernel/random/boot_id").decode().strip()
    except OSError as error:
        raise Transient(f"/proc/sys/kernel/random/boot_id: {error.strerror}") from error
