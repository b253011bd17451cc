"""Where a folder is: the way to it through links, what it stands on, and whether git is at work there.

A path says little: the folder may be deleted and made again, renamed away, mounted over, or be reached through a link
that git-sync swaps. So each look begins and ends with a trace of the way. A folder is told by device, inode *and* time of
birth, because file systems hand the inode of a deleted folder to the next one. A folder that is reached through a link
is told by that link's place instead, and by the device that it leads to: swapping the link is how its owner publishes.
"""

import contextlib
import ctypes
import errno
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

_MAX_LINKS = 40  # as the kernel
_AT_FDCWD = -100
_STATX_BTIME = 0x800
_STATX_BYTES = 256

_statx = getattr(ctypes.CDLL(None, use_errno=True), "statx", None)


class Inode(NamedTuple):
    """One file system object. `born`: nanoseconds since the epoch, 0 where the file system does not tell."""

    device: int
    number: int
    born: int = 0

    def __str__(self) -> str:
        return f"{self.device}:{self.number}" + (f"@{self.born}" if self.born else "")


@dataclass(frozen=True, slots=True)
class Way:
    """How a path leads to a folder now.

    `real`: where it ends, without links. `inode`: what stands there, None if nothing does, and then `error` says so.
    `stations`: the links on the way and the end (or the first name that is missing), each without links before it: what
    happens to one of these names changes what the path means. `identity`: see Snapshot.
    """

    real: str
    inode: Inode | None
    stations: tuple[str, ...]
    identity: str = ""
    error: str = ""


def absolute(path: Path) -> str:
    """The path as its user means it: links are kept, because a swap must not change its name; ".." is resolved."""
    parts = Path.cwd().joinpath(path).parts
    if ".." in parts:
        last = len(parts) - parts[::-1].index("..")
        return os.path.join(os.path.realpath(os.path.join(*parts[:last])), *parts[last:])  # noqa: PTH118 strings, for speed and for "//"
    return os.path.join(*parts)  # noqa: PTH118 the same


def inode_of(path: str) -> Inode:
    """What stands at a path. Raises OSError."""
    status = os.stat(path)  # noqa: PTH116 strings: this runs for every folder of every scan
    return Inode(status.st_dev, status.st_ino, _born(path))


def trace(path: str) -> Way:
    """Follow an absolute path as the kernel does."""
    names = [name for name in path.split("/") if name]
    todo = [(name, "/".join(names[at:])) for at, name in enumerate(names)][::-1]
    here = step = "/"
    links: list[str] = []
    anchor = ""
    try:
        while todo:
            name, spelled = todo.pop()
            if name == "..":
                here = os.path.dirname(here)  # noqa: PTH120 strings, as everywhere here
                continue
            step = f"{here.rstrip('/')}/{name}"
            target = _target(step)
            if target is None:
                here = step
                continue
            links.append(step)
            if len(links) > _MAX_LINKS:
                return Way(step, None, (*links,), error="too many links, or a loop of them")
            if spelled:
                anchor = f"{inode_of(here)}/{spelled}"
            if target.startswith("/"):
                here = "/"
            todo.extend((part, "") for part in reversed(target.split("/")) if part not in ("", "."))
        inode = inode_of(here)
    except OSError as error:
        return Way(step, None, (*links, step), error=error.strerror or str(error))
    return Way(here, inode, (*links, here), f"{anchor} on {inode.device}" if anchor else str(inode))


def _born(path: str) -> int:
    """When it was made: Python's stat does not tell before 3.15, so the C library is asked."""
    if _statx is None:
        return 0
    answer = ctypes.create_string_buffer(_STATX_BYTES)
    if _statx(_AT_FDCWD, os.fsencode(path), 0, _STATX_BTIME, answer) != 0:
        return 0
    mask, seconds, nanoseconds = struct.unpack_from("=I76xqI", answer)
    return seconds * 1_000_000_000 + nanoseconds if mask & _STATX_BTIME else 0


def git_lock(real: str) -> str:
    """The lock that git holds while it changes the work tree that this folder lies in, "" if it holds none."""
    for folder in (Path(real), *Path(real).parents):
        git = folder / ".git"
        if git.is_file():  # a linked work tree: "gitdir: PATH"
            with contextlib.suppress(OSError, UnicodeDecodeError):
                git = folder / git.read_text().removeprefix("gitdir:").strip()
        if git.exists():
            lock = git / "index.lock"
            return str(lock) if lock.exists() else ""
    return ""


def _target(step: str) -> str | None:
    """Where a link leads, None if this is no link. Raises OSError if nothing is there."""
    try:
        return os.readlink(step)  # noqa: PTH115 strings
    except OSError as error:
        if error.errno == errno.EINVAL:
            return None
        raise
