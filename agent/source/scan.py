"""One pass over a folder: which files it holds now, reading only those that may have changed.

Read are visible *.yaml, *.yml and *.json, each once, under its own name where it has a visible one. Links are followed as
long as they stay inside. What stat cannot tell apart is told by hash: a file whose ctime is younger than two seconds
may change again without its stat changing. A folder that cannot be listed makes the whole pass Transient, because absence
must never come from not having looked.
"""

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from agent.contracts import Transient
from agent.source.place import Inode, Way, inode_of, trace
from agent.source.snapshot import SourceFile

SUFFIXES = (".yaml", ".yml", ".json")
BEING_WRITTEN = "is still being written"
HIDDEN = ".#~"  # dotfiles, and what editors leave beside a file
_RACY = 2_000_000_000  # nanoseconds: coarser than any file system's timestamps
_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a fifo in its place must not block us

Stamp: TypeAlias = tuple[int, ...]


class Entry(NamedTuple):
    """What a pass knows of one file.

    `stamp`: its stat. `sure`: it did not change while it was read. `trusted`: an equal stamp means equal content.
    """

    stamp: Stamp
    file: SourceFile
    sure: bool = True
    trusted: bool = False


class Folder(NamedTuple):
    """A folder that was listed, and its ctime from before that."""

    inode: Inode
    changed_at: int


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is read. `entries`: of everything in the folder, so that a mistyped "/" ends soon."""

    file_bytes: int = 1 << 20
    total_bytes: int = 256 << 20
    entries: int = 200_000


@dataclass(frozen=True, slots=True)
class Scan:
    """The outcome of one pass.

    `folders`: all that were listed, by real path. `aside`: those that were not, but hold what a link leads to.
    `ignored`: path and why, for people.
    """

    way: Way
    entries: Mapping[str, Entry]
    folders: Mapping[str, Folder]
    aside: Mapping[str, Inode]
    identity: str
    ignored: frozenset[tuple[str, str]]


def readable(name: str) -> bool:
    """Whether a file of this name is read."""
    return name.endswith(SUFFIXES) and name[0] not in HIDDEN


def scan(way: Way, spelled: str, *, known: Mapping[str, Entry], limits: Limits, now: int) -> Scan:
    """Look at everything below `way` once. `now`: nanoseconds since the epoch. Raises Transient."""
    if way.inode is None:
        raise Transient(
            f"{_shown(spelled)}: no folder there ({_shown(way.stations[-1])}: {way.error}); create or mount it",
            reason="SourceMissing",
        )
    walk = _Walk(way, spelled, known, limits, now)
    walk.folder("", way.real)
    walk.links()
    if trace(spelled) != way:
        raise Transient(f"{_shown(spelled)}: the folder was replaced while it was read", reason="SourceReplaced")
    return Scan(way, walk.entries, walk.folders, walk.aside, walk.identity(), frozenset(walk.ignored))


class _Walk:
    """The state of one pass."""

    def __init__(self, way: Way, spelled: str, known: Mapping[str, Entry], limits: Limits, now: int) -> None:
        self.entries: dict[str, Entry] = {}
        self.folders: dict[str, Folder] = {}
        self.aside: dict[str, Inode] = {}
        self.ignored: set[tuple[str, str]] = set()
        self._way = way
        self._spelled = spelled
        self._known = known
        self._limits = limits
        self._now = now
        self._links: list[tuple[str, str]] = []
        self._linked: set[str] = set()
        self._mounts: list[str] = []
        self._inside = way.real.rstrip("/") + "/"
        self._count = 0
        self._total = 0

    def identity(self) -> str:
        """What the folder stands on, other devices mounted inside it included: they may vanish too."""
        return " ".join((self._way.identity, *sorted(self._mounts)))

    def folder(self, below: str, real: str) -> None:
        """Walk a folder and all real folders in it; links are kept for later, so that a real name wins."""
        todo = [(below, real)]
        while todo:
            below, real = todo.pop()
            if real in self.folders:
                continue
            try:
                todo.extend(self._listed(below, real))
            except NotADirectoryError as error:
                raise Transient(f"{_shown(real)}: is not a folder", reason="SourceNotAFolder") from error
            except OSError as error:
                message = (
                    f"{_shown(real)}: cannot be listed ({error.strerror}); nothing is concluded from a part of a folder"
                )
                raise Transient(message, reason="SourceUnlistable") from error

    def links(self) -> None:
        """Follow what the walk found, in order of their names."""
        while self._links:
            links, self._links = sorted(self._links), []
            for path, step in links:
                self._link(path, step)

    def _listed(self, below: str, real: str) -> list[tuple[str, str]]:
        self._note(below, real)
        entries, known = self.entries, self._known
        inner: list[tuple[str, str]] = []
        with os.scandir(real) as listing:
            for item in listing:
                self._count += 1
                name = item.name
                if name[0] in HIDDEN:
                    continue
                path = below + name
                if item.is_symlink():
                    self._links.append((path, item.path))
                elif item.is_dir(follow_symlinks=False):
                    inner.append((path + "/", item.path))
                elif name.endswith(SUFFIXES):
                    try:
                        status = item.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        entries[path] = changing(path)
                        continue
                    stamp = _stamp(status)
                    before = known.get(path)
                    if before is not None and before.trusted and before.stamp == stamp:
                        entries[path] = before
                        self._total += stamp[1]
                    elif stat.S_ISREG(status.st_mode):
                        self._read(path, item.path, stamp)
                    else:
                        self.ignored.add((_shown(path), "is not a regular file"))
        if self._count > self._limits.entries:
            most = self._limits.entries
            message = f"{_shown(self._spelled)}: holds more than {most} entries; is it the folder that is meant?"
            raise Transient(message, reason="SourceTooLarge")
        return inner

    def _note(self, below: str, real: str) -> None:
        """Remember a folder, as it was before it is listed."""
        inode = inode_of(real)
        self.folders[real] = Folder(inode, os.stat(real).st_ctime_ns)  # noqa: PTH116 strings, for speed
        if self._way.inode is not None and inode.device != self._way.inode.device:
            self._mounts.append(f"{below}={inode.device}")

    def _link(self, path: str, step: str) -> None:
        target = os.path.realpath(step)
        if not target.startswith(self._inside):
            if target != self._way.real:
                self.ignored.add((_shown(path), "is a link that leaves the folder"))
            return
        try:
            status = os.stat(target)  # noqa: PTH116 strings, for speed
            parent = target.rpartition("/")[0]
            if parent not in self.folders and parent not in self.aside:
                self.aside[parent] = inode_of(parent)
        except OSError as error:
            # What it hides cannot be known, be it a file or a folder of files: unread, and so not absent.
            self.entries[path] = _unread(path, (), f"is a link that leads nowhere: {_shown(target)} ({error.strerror})")
            return
        if stat.S_ISDIR(status.st_mode):
            self.folder(path + "/", target)
        elif path.endswith(SUFFIXES) and stat.S_ISREG(status.st_mode) and not self._visited(target):
            self._linked.add(target)
            self._read(path, target, _stamp(status))

    def _visited(self, target: str) -> bool:
        """It was or will be read under its own name, or was read through another link."""
        parent, _, name = target.rpartition("/")
        return target in self._linked or (readable(name) and parent in self.folders)

    def _read(self, path: str, real: str, stamp: Stamp) -> None:
        before = self._known.get(path)
        if before is not None and before.trusted and before.stamp == stamp:
            self.entries[path] = before
        elif stamp[1] > self._limits.file_bytes:
            error = f"has {stamp[1]} bytes, more than the {self._limits.file_bytes} that a file may have; split it"
            self.entries[path] = _unread(path, stamp, error)
            return
        elif self._total + stamp[1] > self._limits.total_bytes:
            error = f"is not read: the folder's files have more than {self._limits.total_bytes} bytes in all"
            self.entries[path] = _unread(path, stamp, error)
            return
        else:
            self.entries[path] = _entry(path, real, stamp, before, self._now)
        self._total += stamp[1]


def _entry(path: str, real: str, stamp: Stamp, before: Entry | None, now: int) -> Entry:
    """Read one file. Its bytes are shared with the entry before if they are the same."""
    try:
        file = os.open(real, _OPEN)
    except FileNotFoundError:
        return changing(path)
    except OSError as error:
        return _unread(path, stamp, f"cannot be read: {error.strerror}")
    try:
        content = _content(file, stamp)
    except OSError as error:
        return _unread(path, stamp, f"cannot be read: {error.strerror}")
    finally:
        os.close(file)
    if content is None:
        return changing(path)
    digest = hashlib.sha256(content).hexdigest()
    trusted = now - stamp[3] > _RACY
    if before is not None and before.file.digest == digest:
        return Entry(stamp, before.file, trusted=trusted)
    return Entry(stamp, SourceFile(_shown(path), digest, content, modified_at=stamp[3] / 1e9), trusted=trusted)


def _content(file: int, stamp: Stamp) -> bytes | None:
    """All bytes of an open file, None if it is not, or not any more, what the stamp says."""
    if _stamp(os.fstat(file)) != stamp:
        return None
    parts: list[bytes] = []
    left = stamp[1] + 1  # one more, to see that it has grown
    while left and (part := os.read(file, left)):
        parts.append(part)
        left -= len(part)
    return b"".join(parts) if left == 1 and _stamp(os.fstat(file)) == stamp else None


def _stamp(status: os.stat_result) -> Stamp:
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_mode)


def changing(path: str, *, why: str = "") -> Entry:
    """A file that is there, or was a moment ago, and is not yet what it will be."""
    error = f"{BEING_WRITTEN} ({why})" if why else BEING_WRITTEN
    return Entry((), SourceFile(_shown(path), "", None, error), sure=False)


def _unread(path: str, stamp: Stamp, error: str) -> Entry:
    return Entry(stamp, SourceFile(_shown(path), "", None, error))


def _shown(path: str) -> str:
    """A path that can be printed and encoded, whatever bytes its name is made of, and that no other path is shown as."""
    if path.isprintable() and "\\" not in path:
        return path
    return "".join(sign if sign.isprintable() and sign != "\\" else _escaped(sign) for sign in path)


def _escaped(sign: str) -> str:
    if "\udc80" <= sign <= "\udcff":  # a byte that is no text, as os.fsdecode leaves it
        return f"\\x{ord(sign) - 0xDC00:02x}"
    return f"\\u{ord(sign):04x}" if sign >= "\x80" else sign.encode("unicode_escape").decode("ascii")
