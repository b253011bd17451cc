"""The past of a repository, below one path: its log, what commits did to spec files, and old content by its id.

One `git log` tells all commits with what each did to which file, one `git cat-file` the content that is asked for. In
the log a merge is compared with its first parent; what it has of the others is asked for where that matters. Nothing is
fetched but by `fetch`, and where history is cut off (a shallow clone) that is said, so that nobody takes the cut for
the beginning.
"""

import subprocess
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.contracts import Transient
from agent.source.git.command import GitFailed, Repository, ask, kill, sentence, spawn
from agent.source.git.object import LINK, SUBMODULE, TREE, Missing, Objects, line_of, moment
from agent.source.git.tree import NoSuchPath, listed, root_of
from agent.source.scan import HIDDEN, Limits, readable
from agent.source.snapshot import Edit, LogEntry

_SECONDS = 30.0  # to count commits
_PIECE = 1 << 16  # bytes
_NONE = "0"  # all that the id of nothing consists of
_OTHERS = (0, LINK, SUBMODULE, TREE)  # modes of what is no file
_LOG = (
    *("--literal-pathspecs", "log", "--topo-order", "--full-history", "--parents", "--diff-merges=first-parent"),
    *("--raw", "--no-renames", "--no-abbrev", "--no-follow", "--no-relative", "--no-show-signature", "-z"),
    "--format=%H%x00%P%x00%an%x00%ct%x00%s",
)


@dataclass(frozen=True, slots=True)
class GitPast:
    """The past of `repository` below `path`. `git_dir`: of a repository that may be shallow; `bring`: gets blobs by id."""

    repository: Repository
    path: str
    limits: Limits
    git_dir: str = ""
    bring: Callable[[Collection[str]], None] | None = None

    @contextmanager
    def open(self, seconds: float) -> Iterator["OpenGitPast"]:
        """Begin to read. Raises Transient."""
        with Objects(self.repository, seconds=seconds) as objects:
            reading = OpenGitPast(self, objects, seconds)
            try:
                yield reading
            finally:
                reading.close()

    def fetch(self, contents: Collection[str]) -> None:
        """Get old content that was left out of a mirror. Raises Transient."""
        if self.bring is None:
            raise Transient("the repository lacks files of older commits", reason="SourceBroken")
        self.bring(contents)

    def ahead(self, revision: str, head: str) -> int:
        """How many commits `head` has that `revision` has not. Raises Transient."""
        try:
            return int(ask(self.repository, ["rev-list", "--count", head, f"^{revision}"], seconds=_SECONDS))
        except (GitFailed, ValueError) as error:
            raise Transient(f"commits cannot be counted: {error}", reason="SourceBroken") from error


class OpenGitPast:
    """A past that is being read, by one thread."""

    def __init__(self, past: GitPast, objects: Objects, seconds: float) -> None:
        self._past = past
        self._objects = objects
        self._seconds = seconds
        self._logs: list[subprocess.Popen[bytes]] = []
        self._shallow: frozenset[str] | None = None

    def close(self) -> None:
        """End what still runs."""
        for process in self._logs:
            kill(process)
        self._logs.clear()

    def log(self, revision: str, *, but: str = "") -> Iterator[LogEntry]:
        """Back from a revision, children before parents. Raises Transient."""
        past = self._past
        words = [*past.repository.words, *_LOG, revision, *((f"^{but}",) if but else ()), "--"]
        process = spawn([*words, *((past.path,) if past.path else ())], env=past.repository.env)
        self._logs.append(process)
        timer = threading.Timer(self._seconds, process.kill)
        timer.daemon = True
        timer.start()
        try:
            yield from _entries(_tokens(process), f"{past.path}/" if past.path else "")
        finally:
            timer.cancel()
            kill(process)

    def edits(self, parent: str, child: str) -> tuple[Edit, ...]:
        """What differs between two commits. Raises Transient."""
        before, after = self._files(parent), self._files(child)
        paths = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
        return tuple(Edit(path, before.get(path, ""), after.get(path, "")) for path in paths)

    def content(self, blob: str) -> bytes | None:
        """A file's content by its id. Raises Transient."""
        try:
            return self._objects.blob(blob, limit=self._past.limits.file_bytes)[1]
        except Missing:
            return None

    def cut(self, commit: str) -> bool:
        """History is cut off here."""
        if self._shallow is None:
            try:
                self._shallow = frozenset(Path(self._past.git_dir, "shallow").read_text().split())
            except (OSError, UnicodeDecodeError):
                self._shallow = frozenset()
        return commit in self._shallow

    def _files(self, commit: str) -> dict[str, str]:
        """The ids of all spec files of a commit, by path."""
        try:
            root = root_of(self._objects, self._objects.commit(commit), self._past.path)
            return listed(self._objects, root, self._past.limits)[0]
        except NoSuchPath:
            return {}
        except Missing as error:
            raise Transient(f"the repository lacks object {error}", reason="SourceBroken") from error


def _tokens(process: subprocess.Popen[bytes]) -> Iterator[bytes]:
    """What stands before each NUL. Raises Transient instead of an end that is none: half a commit is no commit."""
    rest = b""
    assert process.stdout is not None  # noqa: S101 for mypy
    while piece := process.stdout.read1(_PIECE):  # type: ignore[attr-defined]  # it is buffered
        *tokens, rest = (rest + piece).split(b"\0")
        yield from tokens
    said = process.stderr.read() if process.stderr is not None else b""
    if process.wait() != 0 or rest:
        raise Transient(f"the log cannot be read: {sentence(said) or 'it took too long'}", reason="SourceBroken")


def _entries(tokens: Iterator[bytes], prefix: str) -> Iterator[LogEntry]:
    """Five fields a commit, then for each file ":modes and ids" and its path."""
    token = next(tokens, None)
    while token is not None:
        while token == b"":
            token = next(tokens, None)
        if token is None:
            return
        parents, author, at, subject = (next(tokens).decode("utf-8", "replace") for _ in range(4))
        seconds = float(at) if at.isdecimal() else 0.0  # a commit may lack its time
        commit, edits = token.decode(), []
        while (token := next(tokens, None)) is not None and token.lstrip(b"\n").startswith(b":"):
            edit = _edit(token.lstrip(b"\n:"), next(tokens), prefix)
            if edit is not None:
                edits.append(edit)
        yield LogEntry(commit, tuple(parents.split()), line_of(author), moment(seconds), line_of(subject), tuple(edits))


def _edit(modes: bytes, path: bytes, prefix: str) -> Edit | None:
    """One file of a commit; None if it is no spec by its name and kind, before and after."""
    old_mode, new_mode, before, after = modes.decode().split()[:4]
    name = path.decode("utf-8", "backslashreplace").removeprefix(prefix)
    steps = name.split("/")
    if not readable(steps[-1]) or any(step[:1] in HIDDEN for step in steps[:-1]):
        return None
    before, after = _blob(old_mode, before), _blob(new_mode, after)
    return Edit(name, before, after) if before != after else None


def _blob(mode: str, oid: str) -> str:
    return "" if int(mode, 8) in _OTHERS or not oid.strip(_NONE) else oid
