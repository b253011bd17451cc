"""What a source hands to control: one moment of all its files.

A Snapshot is always complete: a source that cannot be read whole raises Transient instead. A file in it is either read
(content and digest) or known to be there and unread (`content` is None and `error` says why); only a file that is
missing from a Snapshot is absent, and only such a file may count as evidence for a deletion. A source with commits also
hands in its past, which is slow to ask and never needed to decide that something goes.
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from threading import Event
from typing import NamedTuple, Protocol

UNVERIFIED = ("unsigned", "unknown", "expired", "revoked", "bad", "error")
"""Why a commit is held: nobody signed it; by a key that is not trusted, was not then, or is not any more; its signature
does not fit it, or could not be checked."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file as it was read; `content` is shared between snapshots while it stays the same.

    `path`: posix, below the source's root. `digest`: sha256 of the content as 64 hex digits, "" if unread.
    `error`: why it cannot be read, "" if it was. `modified_at`: when it came to be so, in seconds since the epoch.
    """

    path: str
    digest: str
    content: bytes | None = field(repr=False)
    error: str = ""
    modified_at: float = 0.0


class Edit(NamedTuple):
    """What a commit did to one file: the ids of its content before and after, "" where it was not there."""

    path: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A commit as a log tells of it. `parents`: those with something to tell; `edits`: against the first of them."""

    id: str
    parents: tuple[str, ...]
    author: str
    at: datetime
    subject: str
    edits: tuple[Edit, ...] = ()


class Past(Protocol):
    """The history of a source with commits. Slow: for a thread of its own. All of it raises Transient."""

    def open(self, seconds: float) -> "AbstractContextManager[OpenPast]":
        """Begin to read; within so many seconds it has to be done."""
        ...

    def fetch(self, contents: Collection[str]) -> None:
        """Bring here what is not: contents that were left where the repository came from."""

    def ahead(self, revision: str, head: str) -> int:
        """How many commits `head` has that `revision` has not."""
        ...


class OpenPast(Protocol):
    """A past that is being read."""

    def log(self, revision: str, *, but: str = "") -> Iterator[LogEntry]:
        """Back from a revision, children before parents; `but`: without what that commit has in its own past."""
        ...

    def edits(self, parent: str, child: str) -> tuple[Edit, ...]:
        """What differs between two commits."""
        ...

    def content(self, blob: str) -> bytes | None:
        """A file's content by its id: b"" if it is larger than a file may be, None if it is not here."""
        ...

    def cut(self, commit: str) -> bool:
        """History is cut off here: what the log calls its beginning is none."""
        ...


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All files of a source at one moment, sorted by path.

    `source`: the source's id. `revision`: a commit, or "content:" and a hash. `identity`: what the source stands on
    (device and inode, or history); when it differs from the last one, this is not the source that was seen before.
    `commit`: the revision, `past`: what came before it; None for a source without commits.
    """

    source: str
    location: str
    revision: str
    identity: str
    files: tuple[SourceFile, ...]
    read_at: datetime
    commit: LogEntry | None = field(default=None, compare=False)
    past: Past | None = field(default=None, compare=False, repr=False)


class Source(Protocol):
    """Where specs come from. One thread looks and waits; `kick` and `close` may come from any."""

    @property
    def id(self) -> str:
        """Which source this is, for marks: stable over restarts."""
        ...

    @property
    def location(self) -> str:
        """Where it is, for people."""
        ...

    @property
    def notice(self) -> str:
        """What an operator should know of it although it can be read; "" if there is nothing."""
        ...

    @property
    def head(self) -> str:
        """The newest commit that is known, also while an older one is in force; "" for a source without commits."""
        ...

    @property
    def unverified(self) -> str:
        """Why the newest commit does not count, as one of UNVERIFIED; "" if it does, or if no signatures are asked for."""
        ...

    def look(self) -> Snapshot:
        """Everything, as of now. Raises Transient if it is missing, not mounted, changing or not readable whole."""
        ...

    def wait(self, stop: Event, timeout: float) -> None:
        """Return when something may have changed, on `kick` or `stop`, or after `timeout` seconds. Only a hint."""

    def kick(self) -> None:
        """Let the wait that runs, or else the next one, return at once."""

    def close(self) -> None:
        """Let go of watches and threads. Afterwards `wait` returns at once."""


def revision_of(files: Iterable[SourceFile]) -> str:
    """The revision of a source without commits: a hash over each path and digest."""
    text = "\0".join(part for file in files for part in (file.path, file.digest))
    return f"content:{hashlib.sha256(text.encode()).hexdigest()[:16]}"
