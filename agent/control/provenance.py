"""Who last changed each service's document, and how far behind the newest commit we are: told to people, never decided by.

The ordinary step, from a commit to its child, is answered at once from what was read anyway. After a jump and at a start
a thread walks back through history, when what was taken is under way already; so it costs the way from a commit to the
runtime nothing. The same walk finds the last good words of invalid files, which the reader then recalls. Without commits
there is nothing to tell. What could not be found out is left out, and asked again later if that may help.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from agent.clock import Clock
from agent.contracts import ServiceName, Transient
from agent.control.board import Board, Change, Status, Version
from agent.control.desired import DesiredState
from agent.control.lineage import Document, Invalid, LastWord, Walk, change_of
from agent.source.snapshot import Past, Snapshot
from agent.spec.resolve import FileReading
from agent.spec.said import Said

log = logging.getLogger("xmod.provenance")

_SECONDS = 60.0  # for one walk
_BREATH = 0.3  # seconds
_ROUNDS = 4  # walks with a fetch between them
_FETCHED = 5000  # contents that are fetched at once
_AGAIN, _REST = 60.0, 20.0  # seconds until what could not be read is asked again, and in shares of what asking took
_VERSIONS = 20  # of a document that are remembered

Trails = Mapping[ServiceName, tuple[Version, ...]]
ReadFile = Callable[[str, bytes], FileReading]


@dataclass(frozen=True, slots=True)
class Place:
    """Where we are. `head`: the newest commit that is known; `behind`: how many it is ahead, None if nobody knows."""

    head: str = ""
    behind: int | None = 0
    commit: Change | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What a walk found. `at_base`: documents that say what they said at the revision left out. `trouble`: why not all."""

    trails: Trails
    words: tuple[LastWord, ...]
    at_base: frozenset[ServiceName] = frozenset()
    files_at_base: frozenset[str] = frozenset()
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class _Moment:
    """One revision that was taken."""

    snapshot: Snapshot
    past: Past
    commit: Change
    parents: tuple[str, ...]
    documents: Mapping[ServiceName, tuple[str, Said, str]]  # path, what it says, the digest that it resolves to
    doubts: frozenset[ServiceName]
    invalid: Mapping[str, bytes | None]
    unexplained: frozenset[str]


@dataclass(slots=True)
class _Open:
    """What is not known yet. `base`: the revision up to which all was, "" for none."""

    names: set[ServiceName] = field(default_factory=set)
    files: set[str] = field(default_factory=set)
    deeper: dict[ServiceName, str] = field(default_factory=dict)
    base: str = ""

    def __bool__(self) -> bool:
        return bool(self.names or self.files or self.deeper)


class Provenance:
    """Knows what is known of history. `take` is for the source's thread, `run` has its own, the rest any.

    `breath`: seconds that what was taken has for itself before history is looked into.
    """

    def __init__(
        self,
        *,
        board: Board,
        read_file: ReadFile,
        recall: Callable[[str, Sequence[LastWord]], None],
        clock: Clock,
        breath: float = _BREATH,
    ) -> None:
        self._board = board
        self._read_file = read_file
        self._recall = recall
        self._clock = clock
        self._breath = breath
        self._lock = threading.Lock()
        self._news = threading.Event()
        self._now: _Moment | None = None
        self._trails: dict[ServiceName, tuple[Version, ...]] = {}
        self._open = _Open()
        self._tried: set[tuple[ServiceName, str]] = set()
        self._again_at = 0.0
        self._head = ""
        self._counted = ("", "", 0)
        self.trouble = ""

    # what people ask

    @property
    def place(self) -> Place:
        """Where we are in the history of the source."""
        now, head = self._now, self._head
        if now is None:
            return Place()
        revision = now.snapshot.revision
        if head in ("", revision):
            return Place(head, 0, now.commit)
        return Place(head, self._counted[2] if self._counted[:2] == (revision, head) else None, now.commit)

    @property
    def busy(self) -> bool:
        """Last good words are still looked for."""
        return bool(self._open.files) and not self.trouble

    # what the source's thread tells

    def take(self, snapshot: Snapshot, desired: DesiredState, head: str) -> None:
        """This is read, and will be in force in a moment."""
        now = _moment(snapshot, desired)
        with self._lock:
            before, self._now, self._head = self._now, now, head
            if now is None:
                if before is None:
                    return
                self._trails, self._open = {}, _Open()
            elif before is None or before.snapshot.revision != now.snapshot.revision:
                self._tried.clear()
                if before is not None and now.parents == (before.snapshot.revision,):
                    self._stepped(before, now)
                else:
                    self._jumped(before, now)
            else:
                self._open.names |= now.documents.keys() - before.documents.keys() - self._trails.keys()
            trails = dict(self._trails)
        self._board.changed(trails)
        self._news.set()

    def see(self, head: str) -> None:
        """The newest commit that is known, though it may be unreadable."""
        if head != self._head:
            self._head = head
            self._news.set()

    def heard(self, _: Status | None, after: Status | None) -> None:
        """A status for which history has to be looked into further back."""
        if after is None or after.behind is not None:
            return
        with self._lock:
            if (after.name, after.routed_spec) not in self._tried:
                self._tried.add((after.name, after.routed_spec))
                self._open.deeper[after.name] = after.routed_spec
        self._news.set()

    def _stepped(self, before: _Moment, now: _Moment) -> None:
        """From a commit to its child: what is other than before, this commit changed."""
        for name, (_, says, digest) in now.documents.items():
            old = before.documents.get(name)
            if old is not None and old[1].words == says.words:
                continue
            if old is None and name in before.doubts:
                self._trails.pop(name, None)  # its file may only have been mended
                self._open.names.add(name)
                continue
            self._begun(name, Version(says.spec, now.commit, digest))
        for name in before.documents.keys() - now.documents.keys() - now.doubts:
            self._begun(name, Version("", now.commit))
        gone = self._trails.keys() - now.documents.keys() - now.doubts - before.documents.keys()
        for name in [name for name in gone if self._board.get(name) is None]:
            del self._trails[name]
        self._open.files = (self._open.files | now.unexplained) & now.invalid.keys()

    def _begun(self, name: ServiceName, version: Version) -> None:
        self._trails[name] = (version, *self._trails.get(name, ()))[:_VERSIONS]
        self._open.names.discard(name)
        self._open.deeper.pop(name, None)

    def _jumped(self, before: _Moment | None, now: _Moment) -> None:
        """To any other commit: what says the same is probably as old as it was, the rest has to be found."""
        base = before.snapshot.revision if before is not None and not self._open else ""
        if before is not None:
            same = {n for n, (_, says, _) in now.documents.items() if _words(before, n) == says.words}
            self._trails = {n: trail for n, trail in self._trails.items() if n in same or n in now.doubts}
        self._open = _Open(set(now.documents), set(now.invalid), base=base)
        self._again_at = 0.0

    # what its own thread does

    def run(self, stop: threading.Event) -> None:
        """Look into history whenever there is a question."""
        while not stop.is_set():
            self._news.wait(1.0)
            if self._news.is_set() or (self._open and self._clock.monotonic() >= self._again_at > 0.0):
                self._news.clear()
                self.step(stop)

    def step(self, stop: threading.Event) -> None:
        """Answer what is asked now."""
        now, head = self._now, self._head
        if now is None:
            return
        revision = now.snapshot.revision
        if head not in ("", revision) and self._counted[:2] != (revision, head):
            behind = _ahead(now.past, revision, head)
            if behind is not None:
                self._counted = (revision, head, behind)
        if self._open and self._clock.monotonic() >= self._again_at and not stop.wait(self._breath):
            self._answer(now, stop)

    def _answer(self, now: _Moment, stop: threading.Event) -> None:
        with self._lock:
            asking, known = self._open, frozenset(self._trails)
            asked = _Open(set(asking.names), set(asking.files), dict(asking.deeper), asking.base)
        began = self._clock.monotonic()
        found = self._found(now, asked, known, stop)
        if stop.is_set():
            return
        ended = self._clock.monotonic()
        with self._lock:
            if self._open is not asking or self._now is None:
                return  # a jump asks all of it anew
            self._keep(now, self._now, asked, found, again_at=ended + max(_AGAIN, _REST * (ended - began)))
            trails = dict(self._trails)
        self._board.changed(trails)
        if found.words:
            self._recall(now.snapshot.revision, found.words)

    def _found(self, now: _Moment, asked: _Open, known: frozenset[ServiceName], stop: threading.Event) -> Found:
        """First among the commits since the base, then, for what is left, in all of history."""
        revision, base = now.snapshot.revision, asked.base
        documents = [
            Document(name, path, says, asked.deeper.get(name, ""))
            for name, (path, says, _) in now.documents.items()
            if name in asked.names or name in asked.deeper
        ]
        invalid = [Invalid(path, content) for path, content in now.invalid.items() if path in asked.files]
        first = Found({}, ())
        if base and _ahead(now.past, revision, base) == 0:
            plain = [replace(document, until="") for document in documents]
            first = find(now.past, revision, plain, invalid, read_file=self._read_file, stop=stop, but=base)
            if first.trouble:
                return first
            same = first.at_base & known
            documents = [d for d in documents if d.name not in same and (d.until or d.name not in first.trails)]
            told = {word.path for word in first.words} | (first.files_at_base - now.unexplained)
            invalid = [file for file in invalid if file.path not in told]
        if not documents and not invalid:
            return first
        found = find(now.past, revision, documents, invalid, read_file=self._read_file, stop=stop)
        return replace(found, trails={**first.trails, **found.trails}, words=first.words + found.words)

    def _keep(self, now: _Moment, latest: _Moment, asked: _Open, found: Found, *, again_at: float) -> None:
        """Note what was found, where nothing newer is known by now."""
        still = self._open.names | self._open.deeper.keys()
        for name, trail in found.trails.items():
            document = now.documents.get(name)
            if document is None:
                if name not in latest.documents:  # the last good word of an invalid file
                    self._trails[name] = trail
            elif name in still and _words(latest, name) == document[1].words:
                self._trails[name] = (replace(trail[0], digest=document[2]), *trail[1:])
        if found.trouble:
            self._open.names -= found.trails.keys()
            self._again_at = again_at
            if found.trouble != self.trouble:
                log.warning("history is not known", extra={"error": found.trouble})
        else:
            self._open.names -= asked.names
            self._open.deeper = {n: s for n, s in self._open.deeper.items() if asked.deeper.get(n) != s}
            if latest.snapshot.revision == now.snapshot.revision:
                self._open.files -= asked.files
            self._open.base, self._again_at = "", 0.0
        self.trouble = found.trouble


def find(
    past: Past,
    revision: str,
    documents: Iterable[Document],
    invalid: Sequence[Invalid],
    *,
    read_file: ReadFile,
    stop: threading.Event,
    but: str = "",
) -> Found:
    """Walk, and fetch what is lacking, and walk again, until all is known or nothing helps."""
    documents, trouble = tuple(documents), ""
    for round_ in range(_ROUNDS):
        walk: Walk | None = None
        try:
            with past.open(_SECONDS) as reading:
                walk = Walk(reading, read_file, stop=stop)
                walk.run(revision, documents, invalid, but=but)
            lacking = sorted(walk.lacking)[:_FETCHED]
            if not lacking or stop.is_set():
                break
            trouble = "files of older commits are not here"
            if round_ + 1 < _ROUNDS:
                past.fetch(lacking)
                trouble = ""
        except Transient as error:
            trouble = str(error)
            break
    if walk is None:
        return Found({}, (), trouble=trouble)
    names, files = walk.left(but)
    return Found(walk.trails(), walk.words(), names if but else frozenset(), files if but else frozenset(), trouble)


def questions(desired: DesiredState) -> list[Invalid]:
    """The files whose last good words history may know; not of those that wait for a key."""
    return [Invalid(bad.path, bad.content) for bad in desired.invalid if not bad.quarrel and not bad.passing]


def _moment(snapshot: Snapshot, desired: DesiredState) -> _Moment | None:
    commit, past = snapshot.commit, snapshot.past
    if commit is None or past is None:
        return None
    documents = {
        name: (w.service.file, says, str(w.service.digest))
        for name, w in desired.wanted.items()
        if (says := desired.said.get(w.service.file, {}).get(name)) is not None
    }
    return _Moment(
        snapshot,
        past,
        change_of(commit),
        commit.parents,
        documents,
        frozenset(desired.doubts),
        {file.path: file.content for file in questions(desired)},
        frozenset(desired.unexplained),
    )


def _words(moment: _Moment, name: ServiceName) -> str:
    document = moment.documents.get(name)
    return document[1].words if document is not None else ""


def _ahead(past: Past, revision: str, head: str) -> int | None:
    try:
        return past.ahead(revision, head)
    except Transient:
        return None
