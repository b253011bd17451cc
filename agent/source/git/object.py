"""Reads objects of a repository through one `git cat-file --batch`: commits, trees and blobs, each checked by its hash.

What is asked for by object id never changes, so what one Objects returns is one moment whatever happens beside it.
"""

import contextlib
import hashlib
import re
import subprocess
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple, Self

from agent.contracts import Transient
from agent.source.git.command import Repository, kill, sentence, spawn
from agent.source.snapshot import LogEntry

TREE, LINK, SUBMODULE = 0o040000, 0o120000, 0o160000
_PIECE = 1 << 20  # bytes
_LINE = 200  # letters of a subject or a name
_LATEST = 253_402_300_799.0  # the last second that a calendar knows


class Missing(Exception):
    """The repository has no object of that name."""


class Node(NamedTuple):
    """An entry of a tree."""

    mode: int
    name: bytes
    oid: str


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit. `at`: the committer's time, seconds since the epoch. `author`, `subject`: for people."""

    oid: str
    tree: str
    parents: tuple[str, ...]
    at: float
    author: str = ""
    subject: str = ""

    @property
    def entry(self) -> LogEntry:
        """As people know it."""
        return LogEntry(self.oid, self.parents, self.author, moment(self.at), self.subject)


class Objects:
    """An open reader; a context manager. `seconds`: for all of it."""

    def __init__(self, repository: Repository, *, seconds: float) -> None:
        self._repository = repository
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._timer: threading.Timer | None = None
        self._late = False

    def __enter__(self) -> Self:
        self._process = spawn([*self._repository.words, "cat-file", "--batch"], env=self._repository.env)
        self._timer = threading.Timer(self._seconds, self._too_late, (self._process,))
        self._timer.daemon = True
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()
        if self._process is not None:
            kill(self._process)

    @property
    def repository(self) -> Repository:
        """Whose they are."""
        return self._repository

    def commit(self, name: str) -> Commit:
        """The commit that a name (HEAD, a ref, an id) leads to. Raises Missing, Transient."""
        oid, content = self._checked(f"{name}^{{commit}}", "commit", limit=None)
        head, _, message = content.decode("utf-8", "replace").partition("\n\n")
        tree = re.match(r"tree ([0-9a-f]+)", head)
        at = re.search(r"^committer .* (-?\d+) [-+]\d+$", head, re.MULTILINE)
        if tree is None:
            raise Transient(f"commit {oid} cannot be understood", reason="SourceBroken")
        author = re.search(r"^author (.*?) ?<", head, re.MULTILINE)
        return Commit(
            oid,
            tree[1],
            tuple(re.findall(r"^parent ([0-9a-f]+)$", head, re.MULTILINE)),
            float(at[1]) if at is not None else 0.0,
            line_of(author[1] if author is not None else ""),
            line_of(message.strip().partition("\n\n")[0]),
        )

    def content(self, oid: str, kind: str) -> bytes:
        """A commit or tag as it is. Raises Missing, Transient."""
        return self._checked(oid, kind, limit=None)[1]

    def tree(self, oid: str) -> list[Node]:
        """The entries of a tree. Raises Missing, Transient."""
        _, content = self._checked(oid, "tree", limit=None)
        nodes: list[Node] = []
        at, width = 0, len(oid) // 2
        try:
            while at < len(content):
                space, end = content.index(b" ", at), content.index(b"\0", at)
                nodes.append(
                    Node(int(content[at:space], 8), content[space + 1 : end], content[end + 1 :][:width].hex())
                )
                at = end + 1 + width
        except ValueError as error:
            raise Transient(f"tree {oid} cannot be understood", reason="SourceBroken") from error
        if not all(node.name for node in nodes):
            raise Transient(f"tree {oid} has an entry without a name", reason="SourceBroken")
        return nodes

    def blob(self, oid: str, *, limit: int) -> tuple[int, bytes]:
        """A blob's size and content; the content is left out (b"") if the size is over the limit. Raises Missing, Transient."""
        size, content = self._asked(oid, "blob", limit)[1:]
        if size <= limit:
            _verify(oid, "blob", content)
        return size, content

    def _checked(self, name: str, kind: str, *, limit: int | None) -> tuple[str, bytes]:
        oid, _, content = self._asked(name, kind, limit)
        _verify(oid, kind, content)
        return oid, content

    def _asked(self, name: str, kind: str, limit: int | None) -> tuple[str, int, bytes]:
        """One answer: "<oid> <kind> <size>", the content and a line end; or "<name> missing"."""
        assert self._process is not None and self._process.stdin is not None and self._process.stdout is not None  # noqa: S101, PT018 for mypy
        try:
            self._process.stdin.write(name.encode() + b"\n")
            self._process.stdin.flush()
            head = self._process.stdout.readline()
            if head.endswith((b" missing\n", b" ambiguous\n")):
                raise Missing(name)
            found = re.fullmatch(rb"([0-9a-f]{40,64}) (\w+) (\d+)\n", head)
            if found is None:
                raise self._broken()
            size = int(found[3])
            content = b""
            if limit is None or size <= limit:
                content = self._process.stdout.read(size)
                left = 1
            else:
                left = size + 1
            while left and (piece := self._process.stdout.read(min(left, _PIECE))):
                left -= len(piece)
        except (OSError, ValueError) as error:  # ValueError: the stream was closed by the timer
            raise self._broken() from error
        if left:
            raise self._broken()
        if found[2].decode() != kind:
            raise Transient(f"object {name} is a {found[2].decode()}, not a {kind}", reason="SourceBroken")
        return found[1].decode(), size, content

    def _broken(self) -> Transient:
        """Why git said nothing more."""
        if self._late:
            return Transient(f"git did not read its objects within {self._seconds:g} s", reason="SourceSlow")
        said = b""
        if self._process is not None and self._process.stderr is not None:
            if self._process.stdin is not None and not self._process.stdin.closed:
                with contextlib.suppress(OSError):  # it has ended already, that is why we are here
                    self._process.stdin.close()
            said = self._process.stderr.read()
        return Transient(sentence(said) or "git ended in the middle of an answer", reason="SourceBroken")

    def _too_late(self, process: subprocess.Popen[bytes]) -> None:
        self._late = True
        if process.poll() is None:
            process.kill()


def moment(seconds: float) -> datetime:
    """When that was; whoever commits may write any number."""
    return datetime.fromtimestamp(min(max(seconds, 0.0), _LATEST), UTC)


def line_of(words: str) -> str:
    """Strangers' words on one line of bounded length."""
    line = " ".join(words.split())
    return line if len(line) <= _LINE else f"{line[: _LINE - 1]}…"


def _verify(oid: str, kind: str, content: bytes) -> None:
    """Git trusts what a pack says; we do not start programs on a flipped bit."""
    algorithm = hashlib.sha1 if len(oid) == 40 else hashlib.sha256
    if algorithm(f"{kind} {len(content)}\0".encode() + content, usedforsecurity=False).hexdigest() != oid:
        raise Transient(f"{kind} {oid} is corrupt: its content has another hash", reason="SourceBroken")
