"""What a process cannot carry itself: records in the state folder, one JSON a replica, and the fate of a generation.

They remember what is kept, counted and failed. What runs is found without them (finding.py); a record alone proves
nothing but what was wished. A record is written whole beside its place and renamed into it; not synced, because it need
survive us and not the machine. What cannot be written is kept in memory as long as the file stays what it was, and
tried again. A file that is no record is set aside with a log line.
"""

import dataclasses
import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import quote

from agent.contracts import Digest, Fate, Placement, Service, ServiceName, Transient, decode
from shimlets.process.finding import Who

_log = logging.getLogger("xmod.process")
_LOST = (FileNotFoundError, NotADirectoryError)


@dataclass(frozen=True, slots=True)
class Key:
    """A replica."""

    name: ServiceName
    digest: Digest
    index: int

    def __str__(self) -> str:
        return f"{self.name}/{self.digest[:12]}#{self.index}"


class Wish(StrEnum):
    """What was asked last of a replica: RUN → STOP (and keep) → RUN …; REMOVE is the end."""

    RUN = "run"
    STOP = "stop"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class Record:
    """One replica's newest run. Times in seconds since the epoch.

    `pid` 0: it did not come so far, or we did not live to write it. `wished_at`: since when `wish` is RUN, STOP or REMOVE.
    """

    mark: str
    run: str
    started: float
    seal: str = ""
    wish: Wish = Wish.RUN
    wished_at: float = 0.0
    pid: int = 0
    ticks: int = 0
    boot: str = ""
    finished: float | None = None
    code: int | None = None
    restarts: int = 0
    message: str = ""

    @property
    def who(self) -> Who:
        """The process that was started."""
        return Who(self.pid, self.ticks)


@dataclass(frozen=True, slots=True)
class Kept:
    """A record, read: the mark's service and placement too."""

    record: Record
    service: Service
    placement: Placement

    @property
    def key(self) -> Key:
        """Whose it is."""
        return Key(self.service.name, self.service.digest, self.placement.index)


class Records:
    """The folder of one owner. Not thread-safe: the shimlet's lock is around it. `steady`: looking may write files."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folders: dict[tuple[ServiceName, Digest], Path] = {}
        self._read: dict[Path, tuple[tuple[int, int, int], Kept]] = {}
        self._unwritten: dict[Key, tuple[Record | None, Kept]] = {}
        self._presumed: set[tuple[ServiceName, Digest]] = set()

    def all(self, name: ServiceName | None = None) -> dict[Key, Kept]:
        """Every record, of one service if a name is given."""
        found = {}
        for path in self._files(name):
            kept = self._load(path)
            if kept is not None:
                found[kept.key] = kept
        for key, (base, kept) in list(self._unwritten.items()):
            there = found.get(key)
            if (there.record if there else None) != base:
                del self._unwritten[key]  # another hand wrote it since
                self._presumed.discard((key.name, key.digest))
            elif name is None or key.name == name:
                found[key] = kept
        return found

    def write(self, kept: Kept) -> None:
        """Write a record. Transient if that cannot be done."""
        path = self._path(kept.key)
        text = json.dumps(dataclasses.asdict(kept.record), indent=1)
        try:
            _replace(path, text)
        except OSError as error:
            raise Transient(f"{path}: {error.strerror}: cannot record {kept.key}", reason="StateUnwritable") from error
        self._unwritten.pop(kept.key, None)

    def note(self, kept: Kept, *, write: bool) -> None:
        """Remember a record, in the file if we may and can."""
        if write:
            try:
                self.write(kept)
            except Transient as error:
                _log.warning("a record cannot be written", extra={"shimlet": "process", "error": str(error)})
            else:
                return
        there = self._load(self._path(kept.key))
        self._unwritten[kept.key] = (there.record if there else None, kept)

    def write_again(self) -> None:
        """Try to write what could not be written."""
        for name, digest in list(self._presumed):
            self.presume(name, digest, write=True)
        for _, kept in list(self._unwritten.values()):
            self.note(kept, write=True)

    def delete(self, key: Key) -> None:
        """Forget a replica and its log; with the last one, its generation. Transient if that cannot be done."""
        self._unwritten.pop(key, None)
        self._folders.pop((key.name, key.digest), None)
        path = self._path(key)
        log = self.log(key)
        try:
            for file in (path, log, log.with_suffix(".log.1")):
                file.unlink(missing_ok=True)
            if not any(path.parent.glob("[0-9]*.json")):
                self._presumed.discard((key.name, key.digest))
                if path.parent.exists():
                    shutil.rmtree(path.parent)
                    if not any(path.parent.parent.iterdir()):
                        path.parent.parent.rmdir()
        except OSError as error:
            raise Transient(
                f"{path.parent}: {error.strerror}: cannot remove {key}", reason="StateUnwritable"
            ) from error

    def log(self, key: Key) -> Path:
        """Where the replica's output goes."""
        return self._folder(key.name, key.digest) / f"{key.index}.log"

    def fate(self, name: ServiceName, digest: Digest) -> Fate:
        """What became of a generation."""
        presumed = Fate.SERVED if (name, digest) in self._presumed else Fate.NEW
        return self.decided(name, digest) or presumed

    def decided(self, name: ServiceName, digest: Digest) -> Fate | None:
        """What was written about it, None if nothing was."""
        try:
            return Fate(json.loads((self._folder(name, digest) / "fate.json").read_bytes())["fate"])
        except _LOST:
            return None
        except OSError as error:
            raise Transient(f"{error.filename}: {error.strerror}: cannot read the fate of {name}") from error
        except (ValueError, KeyError, TypeError):
            _set_aside(self._folder(name, digest) / "fate.json")
            return None

    def presume(self, name: ServiceName, digest: Digest, *, write: bool) -> None:
        """A generation that runs and of which nothing is recorded served: records come before starts, so they were lost.

        Else a short silence of a service that has served for months would burn it.
        """
        self._presumed.add((name, digest))
        if not write:
            return
        try:
            if self.decided(name, digest) is None:
                self.decide(name, digest, Fate.SERVED)
            self._presumed.discard((name, digest))
        except Transient as error:
            _log.warning("a fate cannot be written", extra={"shimlet": "process", "service": name, "error": str(error)})

    def decide(self, name: ServiceName, digest: Digest, fate: Fate) -> None:
        """Write what became of a generation. Transient if that cannot be done."""
        path = self._folder(name, digest) / "fate.json"
        try:
            _replace(path, json.dumps({"fate": fate}))
        except OSError as error:
            raise Transient(f"{path}: {error.strerror}: cannot record {fate}", reason="StateUnwritable") from error
        self._presumed.discard((name, digest))

    def _folder(self, name: ServiceName, digest: Digest) -> Path:
        folder = self._folders.get((name, digest))
        if folder is None:
            folder = self._folders[(name, digest)] = self._root / _safe(name) / _safe(digest[:32])
        return folder

    def _path(self, key: Key) -> Path:
        return self._folder(key.name, key.digest) / f"{key.index}.json"

    def _files(self, name: ServiceName | None) -> Iterator[Path]:
        try:
            services = [self._root / _safe(name)] if name is not None else list(self._root.iterdir())
            for service in services:
                for generation in list(service.iterdir()) if service.is_dir() else ():
                    yield from (file for file in generation.iterdir() if _is_record(file.name))
        except _LOST:
            return
        except OSError as error:
            raise Transient(f"{error.filename}: {error.strerror}: cannot read the records") from error

    def _load(self, path: Path) -> Kept | None:
        try:
            stat = path.stat()
            version = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            before = self._read.get(path)
            if before is None or before[0] != version:
                before = self._read[path] = (version, _kept(json.loads(path.read_bytes())))
            return before[1]
        except _LOST:
            self._read.pop(path, None)
            return None
        except OSError as error:
            raise Transient(f"{path}: {error.strerror}: cannot read a record") from error
        except (ValueError, TypeError, KeyError):
            _set_aside(path)
            return None


def _kept(data: Any) -> Kept:
    if not isinstance(data, dict):
        raise ValueError("a record is an object")
    fields = {field.name for field in dataclasses.fields(Record)}
    record = Record(**{key: value for key, value in data.items() if key in fields})
    service, placement = decode(record.mark)
    return Kept(dataclasses.replace(record, wish=Wish(record.wish)), service, placement)


def _is_record(name: str) -> bool:
    return name.endswith(".json") and name[0].isdigit()


def _safe(name: str) -> str:
    return quote(name, safe="").replace(".", "%2E")  # neither .. nor a separator gets through


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    beside.write_text(text)
    beside.replace(path)


def _set_aside(path: Path) -> None:
    _log.error("a record is corrupt and was set aside", extra={"shimlet": "process", "file": f"{path}.corrupt"})
    try:
        path.replace(f"{path}.corrupt")
    except OSError as error:
        _log.warning("it cannot be set aside", extra={"shimlet": "process", "file": str(path), "error": str(error)})
