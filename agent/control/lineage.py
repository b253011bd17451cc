"""Who last said it: a walk back through a source's past, for many documents and files at once.

A document is followed by its name through changes that leave what it says: a move, a split, a merge of files. At a merge
of branches it is followed into the first parent that says the same; only if none does, the merge changed it. So the
answer is whose commit it was, as `git log` and `git blame` say, not the merge that brought it. A file that could not be
parsed said nothing, and ends the run. What is not known (cut off, not fetched, out of time) is not guessed.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from agent.contracts import Digest, ServiceName
from agent.control.board import Change, Version
from agent.source.snapshot import Edit, LogEntry, OpenPast
from agent.spec.resolve import FileReading, Wanted
from agent.spec.said import Said, said

_VERSIONS = 20  # of one document that are told
_TRIES = 50  # versions of an invalid file that are read
_AHEAD = 8  # versions that are asked for at once where contents must be fetched


@dataclass(frozen=True, slots=True)
class Document:
    """Since when does a document say what it says? `until`: also the versions before, back to this spec digest."""

    name: ServiceName
    path: str
    says: Said
    until: str = ""


@dataclass(frozen=True, slots=True)
class Invalid:
    """When was this file last valid, and what did it say? `content`: as it is now, None if it cannot be read."""

    path: str
    content: bytes | None


@dataclass(frozen=True, slots=True)
class LastWord:
    """The last good word of an invalid file, nothing if it never had one.

    `older`: for each service, the spec digests that its document had until then; `lost`: names that disappeared from other
    files in the commits that changed this one since.
    """

    path: str
    wanted: tuple[Wanted, ...] = ()
    older: Mapping[ServiceName, frozenset[str]] = field(default_factory=dict)
    lost: frozenset[ServiceName] = frozenset()


@dataclass(slots=True)
class _Seeker:
    """Something that is followed. `path`: where it is in the commit that it has come to."""

    path: str
    content: bytes | None = None
    seen: int = 0
    lacks: bool = False


@dataclass(slots=True)
class _Traced(_Seeker):
    name: ServiceName = field(kw_only=True)
    says: Said = field(kw_only=True)
    until: str = ""
    versions: list[Version] = field(default_factory=list)

    @property
    def specs(self) -> set[str]:
        """Of all versions that it was followed to, that one included which it has come to."""
        return {version.spec for version in self.versions} | {self.says.spec}


@dataclass(slots=True)
class _Mourned(_Seeker):
    asked: str = ""
    wanted: tuple[Wanted, ...] = ()
    followed: tuple[_Traced, ...] = ()
    lost: set[ServiceName] = field(default_factory=set)


class _Lacks(Exception):
    """Contents that are not here."""

    def __init__(self, contents: Iterable[str]) -> None:
        super().__init__()
        self.contents = frozenset(contents)


class _Unsure(Exception):
    """It cannot be told now what this was."""


class Walk:
    """One walk through an open past. `lacking`: contents that would have been needed."""

    def __init__(
        self, past: OpenPast, read_file: Callable[[str, bytes], FileReading], *, stop: threading.Event
    ) -> None:
        self.lacking: set[str] = set()
        self._stop = stop
        self._past = past
        self._read_file = read_file
        self._said: dict[str, Mapping[ServiceName, Said]] = {}
        self._traced: list[_Traced] = []
        self._ended: list[_Mourned] = []
        self._at: dict[str, dict[str, list[_Seeker]]] = {}  # by commit and path

    def run(self, revision: str, documents: Iterable[Document], invalid: Iterable[Invalid], *, but: str = "") -> None:
        """Walk back until all is known or nothing is left. Raises Transient; what is known by then stays known."""
        begin: dict[str, list[_Seeker]] = {}
        for document in documents:
            traced = _Traced(document.path, name=document.name, says=document.says, until=document.until)
            self._traced.append(traced)
            begin.setdefault(traced.path, []).append(traced)
        for file in invalid:
            mourned = _Mourned(file.path, file.content, asked=file.path)
            begin.setdefault(mourned.path, []).append(mourned)
        first = True
        for entry in self._past.log(revision, but=but):
            if first:
                self._at[entry.id], first = begin, False
            group = self._at.pop(entry.id, None)
            if group:
                self._step(group, entry)
            if not self._at or self._stop.is_set():
                break
        if first:
            self._at[""] = begin

    def trails(self) -> dict[ServiceName, tuple[Version, ...]]:
        """What was found of documents, newest first; of a name in several files, where it stands or stood last."""
        return {traced.name: tuple(traced.versions) for traced in reversed(self._traced) if traced.versions}

    def words(self) -> tuple[LastWord, ...]:
        """What was found of invalid files, newest first."""
        return tuple(
            LastWord(
                mourned.asked,
                mourned.wanted,
                {w.service.name: frozenset([str(w.service.spec_digest)]) for w in mourned.wanted}
                | {traced.name: frozenset(traced.specs) for traced in mourned.followed},
                frozenset(mourned.lost),
            )
            for mourned in self._ended
        )

    def left(self, revision: str) -> tuple[frozenset[ServiceName], frozenset[str]]:
        """Documents and files that were followed to a revision that was left out of the log, and no further."""
        groups = (self._at.get(revision, {}), self._at.get("", {}))
        here = [seeker for group in groups for seekers in group.values() for seeker in seekers]
        names = frozenset(s.name for s in here if isinstance(s, _Traced) and not s.versions)
        return names, frozenset(s.asked for s in here if isinstance(s, _Mourned))

    # one commit

    def _step(self, group: dict[str, list[_Seeker]], entry: LogEntry) -> None:
        """Move on what this commit did not touch, look closer at what it did."""
        touched = entry.edits if entry.parents else tuple(Edit(path, "", "") for path in group)
        looked = [seeker for edit in touched for seeker in group.pop(edit.path, ())]
        if group and entry.parents:
            self._move(group, entry.parents[0])
        if not looked or (not entry.parents and self._past.cut(entry.id)):
            return
        edits = _Edits(self, entry.edits)
        befores = [edits, *(None for _ in entry.parents[1:])]

        def parents() -> Iterable[tuple[str, _Edits]]:
            for index, parent in enumerate(entry.parents):
                before = befores[index]
                if before is None:
                    before = befores[index] = _Edits(self, self._past.edits(parent, entry.id))
                yield parent, before

        for seeker in looked:
            if self._stop.is_set():
                return
            try:
                self._look(seeker, entry, edits, parents)
            except _Unsure:
                continue
            except _Lacks as lacks:
                self.lacking |= lacks.contents
                seeker.lacks, seeker.seen = True, 0
                self._look_ahead(seeker, entry, edits)

    def _look(self, seeker: _Seeker, entry: LogEntry, edits: "_Edits", parents: "_Parents") -> None:
        if seeker.lacks:
            self._look_ahead(seeker, entry, edits)
        elif isinstance(seeker, _Traced):
            self._trace(seeker, entry, parents)
        elif isinstance(seeker, _Mourned):
            self._mourn(seeker, parents)

    def _move(self, group: dict[str, list[_Seeker]], parent: str) -> None:
        there = self._at.get(parent)
        if there is None:
            self._at[parent] = group
            return
        if len(there) < len(group):
            there, group = group, there
            self._at[parent] = there
        for path, seekers in group.items():
            there.setdefault(path, []).extend(seekers)

    def _put(self, seeker: _Seeker, parent: str, path: str) -> None:
        seeker.path = path
        self._at.setdefault(parent, {}).setdefault(path, []).append(seeker)

    def _look_ahead(self, seeker: _Seeker, entry: LogEntry, edits: "_Edits") -> None:
        """Which older versions of the file will be needed, too."""
        before = edits.by_path[seeker.path].before if seeker.path in edits.by_path else ""
        seeker.seen += 1
        if before and seeker.seen <= _AHEAD:
            self.lacking.add(before)
            self._put(seeker, entry.parents[0], seeker.path)

    # a document

    def _trace(self, seeker: _Traced, entry: LogEntry, parents: "_Parents") -> None:
        older: tuple[str, str, Said] | None = None
        for parent, edits in parents():
            path, before = edits.before(seeker.name, seeker.path)
            if path and (before is None or before.words == seeker.says.words):
                self._put(seeker, parent, path)
                return
            if older is None and path and before is not None:
                older = parent, path, before
        seeker.versions.append(Version(seeker.says.spec, change_of(entry)))
        there = seeker.until not in ("", seeker.says.spec) and len(seeker.versions) < _VERSIONS
        if older is None or not there:
            return
        parent, path, seeker.says = older
        self._put(seeker, parent, path)

    # an invalid file

    def _mourn(self, seeker: _Mourned, parents: "_Parents") -> None:
        seeker.seen += 1
        if seeker.seen > _TRIES:
            return
        before: tuple[str, str] | None = None  # a parent, and where the file was in it
        good: tuple[str, str, FileReading] | None = None
        lost: set[ServiceName] = set()
        for parent, edits in parents():
            edit = edits.by_path.get(seeker.path)
            if edit is None:
                before = before or (parent, seeker.path)
                continue
            lost |= edits.lost(seeker.path)
            path, reading = self._valid(seeker, edits, edit)
            if reading is not None:
                good = good or (parent, path, reading)
            elif path:
                before = before or (parent, path)
        seeker.lost |= lost
        if good is not None:
            self._found(seeker, *good)
        elif before is not None:
            self._put(seeker, *before)
        else:
            self._ended.append(seeker)  # it was never valid

    def _valid(self, seeker: _Mourned, edits: "_Edits", edit: Edit) -> tuple[str, FileReading | None]:
        """Where the file was before, "" if nowhere, and what it said if it was valid."""
        if edit.before:
            reading = self._read(edit.path, edit.before)
            return edit.path, None if reading.problems else reading
        for gone in edits.gone():
            if gone.before == edit.after:
                return gone.path, None  # moved as it is, so invalid there, too
        for gone in edits.gone():
            reading = self._read(edit.path, gone.before)
            named = tuple(w for w in reading.wanted if seeker.content and named_in(seeker.content, w.service.name))
            if named:
                return gone.path, FileReading(named, (), said=reading.said)
        return "", None

    def _found(self, seeker: _Mourned, parent: str, path: str, reading: FileReading) -> None:
        self._ended.append(seeker)
        seeker.wanted = tuple(_at(wanted, parent) for wanted in reading.wanted)
        followed: list[_Traced] = []
        for wanted in reading.wanted:
            name = wanted.service.name
            if name in reading.said:
                followed.append(_Traced(path, name=name, says=reading.said[name], until="*"))
                self._put(followed[-1], parent, path)
        self._traced += followed
        seeker.followed = tuple(followed)

    # contents

    def _read(self, path: str, blob: str) -> FileReading:
        """An old file as it would be read today. Raises _Lacks, Transient, and _Unsure where a key is missing."""
        reading = self._read_file(path, self.content(blob))
        if reading.passing:
            raise _Unsure
        return reading

    def content(self, blob: str) -> bytes:
        """Raises _Lacks, Transient."""
        content = self._past.content(blob)
        if content is None:
            raise _Lacks([blob])
        return content

    def need(self, blobs: Iterable[str]) -> None:
        """Read them all, or say at once which of them are not here. Raises _Lacks, Transient."""
        lacking: set[str] = set()
        for blob in filter(None, blobs):
            try:
                self.said(blob)
            except _Lacks as lacks:
                lacking |= lacks.contents
        if lacking:
            raise _Lacks(lacking)

    def said(self, blob: str) -> Mapping[ServiceName, Said]:
        """What a file says. Raises _Lacks, Transient."""
        known = self._said.get(blob)
        if known is None:
            known = self._said[blob] = said(self.content(blob))
        return known


class _Edits:
    """What a commit did, against one of its parents."""

    def __init__(self, walk: Walk, edits: Sequence[Edit]) -> None:
        self.by_path = {edit.path: edit for edit in edits}
        self._walk = walk
        self._edits = edits
        self._blobs: dict[str, str] | None = None
        self._homes: dict[ServiceName, dict[Digest, tuple[str, Said]]] | None = None

    def before(self, name: ServiceName, path: str) -> tuple[str, Said | None]:
        """Where a document was before, "" if nowhere, and what it said there, None: the same."""
        edit = self.by_path.get(path)
        if edit is None:
            return path, None
        own = self._walk.said(edit.before).get(name) if edit.before else None
        if own is not None:
            return path, own
        if self._blobs is None:
            self._blobs = {gone.before: gone.path for gone in self.gone()}
        if edit.after in self._blobs:
            return self._blobs[edit.after], None
        return self._moved(name, edit)

    def gone(self) -> Sequence[Edit]:
        """Files that were deleted or moved."""
        return [edit for edit in self._edits if not edit.after]

    def lost(self, path: str) -> set[ServiceName]:
        """Names that other files than this one held before, and none of them now."""
        others = [edit for edit in self._edits if edit.path != path]
        self._walk.need(blob for edit in others for blob in (edit.before, edit.after))
        before = {name for edit in others if edit.before for name in self._walk.said(edit.before)}
        return before - {name for edit in others if edit.after for name in self._walk.said(edit.after)}

    def _moved(self, name: ServiceName, edit: Edit) -> tuple[str, Said | None]:
        """From another file: the one that said the same, else any that held the name."""
        if self._homes is None:
            self._walk.need(other.before for other in self._edits)
            self._homes = {}
            for other in self._edits:
                for held, says in self._walk.said(other.before).items() if other.before else ():
                    self._homes.setdefault(held, {}).setdefault(says.words, (other.path, says))
        known = self._homes.get(name, {})
        now = self._walk.said(edit.after).get(name) if edit.after else None
        same = known.get(now.words) if now is not None else None
        return same or next(iter(known.values()), ("", None))


_Parents: TypeAlias = Callable[[], Iterable[tuple[str, _Edits]]]


def change_of(entry: LogEntry) -> Change:
    """A commit as the one that changed something."""
    return Change(entry.id, entry.author, entry.at, entry.subject)


def named_in(content: bytes, name: ServiceName) -> bool:
    """The name stands in these bytes, in whatever Unicode an editor saved them."""
    return any(name.encode(encoding) in content for encoding in ("utf-8", "utf-16-le", "utf-16-be"))


def _at(wanted: Wanted, revision: str) -> Wanted:
    return replace(wanted, service=replace(wanted.service, revision=revision))
