"""Snapshot → what is wanted: each file is valid, invalid or absent, and an invalid one keeps its last good word.

No word is taken from a file that has any error, and none is lost by it: the services that it named last, or that its
bytes name, whose mark names it, or that disappeared when it became invalid, are vouched for. What was not seen by us may
be recalled from the source's history. A name in two files is in doubt in both, and so are those that wait for each other
in a ring. An unchanged file is not parsed again, unless what is wrong with it may have passed.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from agent.contracts import ServiceName
from agent.control.dependency import rings
from agent.control.dependency import told as ring_told
from agent.control.lineage import LastWord, named_in
from agent.source.snapshot import Snapshot, SourceFile
from agent.spec.resolve import FileReading, Wanted
from agent.spec.said import Said

ReadFile = Callable[[str, bytes], FileReading]
Begin = Callable[[Sequence[bytes]], None]
"""Told of files that will be read next."""


@dataclass(frozen=True, slots=True)
class InvalidFile:
    """A file that is not in effect. `content` is None if it could not be read at all.

    `quarrel`: it is valid, but another file holds one of its names, too. `passing`: it may become valid as it is.
    """

    path: str
    errors: tuple[str, ...]
    content: bytes | None = None
    quarrel: bool = False
    passing: bool = False


@dataclass(frozen=True, slots=True)
class Doubt:
    """A name whose file is invalid, or that stands in two files. `last`: its last good word, if one is remembered.

    `older`: the spec digests that it is known to follow, of a word that history told; what runs may be newer than that.
    """

    reason: str
    message: str
    last: Wanted | None = None
    older: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class DesiredState:
    """What one snapshot wants. `wanted` and `doubts` have no name in common.

    `unexplained`: invalid files that were never read whole since the agent started, so that nobody knows whom they name.
    `elsewhere`: names that valid files want on other hosts, and none here. `host`: for which host it was read.
    `said`: what the documents of each file say that can be parsed.
    """

    source: str
    revision: str
    identity: str
    location: str
    read_at: datetime
    wanted: Mapping[ServiceName, Wanted] = field(default_factory=dict)
    doubts: Mapping[ServiceName, Doubt] = field(default_factory=dict)
    invalid: tuple[InvalidFile, ...] = ()
    unexplained: tuple[str, ...] = ()
    elsewhere: frozenset[ServiceName] = frozenset()
    host: str = ""
    said: Mapping[str, Mapping[ServiceName, Said]] = field(default_factory=dict)

    @property
    def unread(self) -> tuple[str, ...]:
        """Files that could not be read at all: while there is one, nothing is confirmed absent."""
        return tuple(bad.path for bad in self.invalid if bad.content is None)

    @property
    def secrets(self) -> Mapping[ServiceName, Mapping[str, str]]:
        """What was encrypted in the newest good word of each service, by SecretRef.name."""
        last = {name: doubt.last.secrets for name, doubt in self.doubts.items() if doubt.last is not None}
        return last | {name: wanted.secrets for name, wanted in self.wanted.items()}

    def spec(self, name: ServiceName) -> Wanted | None:
        """What is wanted of it, or was by its last good word; None if no word of it is known."""
        doubt = self.doubts.get(name)
        return self.wanted.get(name) or (doubt.last if doubt is not None else None)

    def doubt(self, name: ServiceName, file: str) -> Doubt | None:
        """Why a name that no valid file holds may still be wanted; `file`: where its mark says that it came from."""
        known = self.doubts.get(name)
        if known is not None:
            return known
        for bad in self.invalid:
            if bad.path == file or bad.content is None or named_in(bad.content, name):
                why = "cannot be read" if bad.content is None else "is invalid and may name it"
                return Doubt("SpecInvalid", f"{bad.path} {why}: {bad.errors[0]}")
        return None


@dataclass(slots=True)
class _Read:
    digest: str
    reading: FileReading
    revision: str


class DesiredReader:
    """Reads snapshots one after the other, remembering readings and last good words. Not thread-safe.

    `host`: for which host `read_file` reads. `begin`: is told of files that will be read next.
    """

    def __init__(
        self,
        read_file: ReadFile,
        host: str = "",
        *,
        begin: Begin = lambda contents: None,  # noqa: ARG005 - who reads only what needs no preparing
    ) -> None:
        self._read_file = read_file
        self._host = host
        self._begin = begin
        self._reads: dict[str, _Read] = {}
        self._good: dict[str, tuple[Wanted, ...]] = {}  # by path, for files that are here
        self._last: dict[ServiceName, Wanted] = {}
        self._digests: dict[str, str] = {}
        self._whole: frozenset[str] = frozenset()  # paths that were valid since the agent started
        self._recalled: dict[str, LastWord] = {}  # by path, for files that are invalid
        self._state: DesiredState | None = None

    def recall(self, revision: str, words: Iterable[LastWord]) -> bool:
        """History tells the last good words of files that are invalid at this revision, newest first; False: that is over."""
        if self._state is None or self._state.revision != revision:
            return False
        bad = {file.path for file in self._state.invalid if not file.quarrel}
        held = {
            w.service.name for read in self._reads.values() for w in read.reading.wanted if not read.reading.problems
        }
        for word in reversed([word for word in words if word.path in bad]):
            self._recalled[word.path] = word
            self._whole |= {word.path}
            if word.wanted:
                good = tuple(_stands(w, self._state.source, word.path) for w in word.wanted)
                self._good[word.path] = good
                self._last |= {w.service.name: w for w in good if w.service.name not in held}
        self._state = None
        return True

    def read(self, snapshot: Snapshot) -> DesiredState:
        """What this snapshot wants, given what earlier ones said."""
        state = self._state
        same = state is not None and (state.revision, state.identity) == (snapshot.revision, snapshot.identity)
        if state is not None and same and not any(read.reading.passing for read in self._reads.values()):
            self._state = replace(state, read_at=snapshot.read_at)
            return self._state
        invalid: list[InvalidFile] = []
        holders: dict[ServiceName, list[tuple[str, Wanted]]] = {}
        doubts: dict[ServiceName, Doubt] = {}
        good: dict[str, tuple[Wanted, ...]] = {}
        reads: dict[str, _Read] = {}
        elsewhere: set[ServiceName] = set()
        self._begin([f.content for f in snapshot.files if f.content is not None and self._known(f) is None])
        for file in snapshot.files:
            errors = self._errors(file, snapshot, reads)
            if errors:
                passing = file.path in reads and reads[file.path].reading.passing
                invalid.append(InvalidFile(file.path, errors, file.content, passing=passing))
                good[file.path] = self._good.get(file.path, ())
                message = f"{file.path}: {errors[0]}"
                doubts.update({w.service.name: self._doubt(message, w) for w in good[file.path]})
            else:
                good[file.path] = reads[file.path].reading.wanted
                elsewhere.update(reads[file.path].reading.elsewhere)
                for wanted in good[file.path]:
                    holders.setdefault(wanted.service.name, []).append((file.path, wanted))
        wanted_now: dict[ServiceName, Wanted] = {}
        for name, found in holders.items():
            if len(found) == 1:
                wanted_now[name] = found[0][1]
                doubts.pop(name, None)
            else:
                where = " and ".join(f"{path}:{wanted.line}" for path, wanted in found)
                doubts[name] = Doubt("DuplicateName", f"{name} stands in {where}", self._last.get(name))
                told = tuple((path, f"{w.line}:1: metadata.name: {name} stands in {where}") for path, w in found)
                invalid.extend(InvalidFile(path, (error,), b"", quarrel=True) for path, error in dict(told).items())
        self._break_rings(invalid, wanted_now, doubts)
        self._blame(snapshot, invalid, wanted_now, doubts, good)
        self._vouch(invalid, wanted_now, doubts)
        self._whole |= reads.keys() - {bad.path for bad in invalid if not bad.quarrel}
        self._reads, self._good = reads, good
        self._last = {**{n: d.last for n, d in doubts.items() if d.last is not None}, **wanted_now}
        self._state = DesiredState(
            source=snapshot.source,
            revision=snapshot.revision,
            identity=snapshot.identity,
            location=snapshot.location,
            read_at=snapshot.read_at,
            wanted=wanted_now,
            doubts=doubts,
            invalid=tuple(invalid),
            unexplained=tuple(
                bad.path
                for bad in invalid
                if bad.content is not None and bad.path not in self._whole and not good[bad.path]
            ),
            elsewhere=frozenset(elsewhere - wanted_now.keys()),
            host=self._host,
            said={path: read.reading.said for path, read in reads.items()},
        )
        return self._state

    def _break_rings(
        self, invalid: list[InvalidFile], wanted: dict[ServiceName, Wanted], doubts: dict[ServiceName, Doubt]
    ) -> None:
        """Services that wait for each other would wait for ever: none of their documents is in effect."""
        edges = {name: w.service.depends_on for name, w in wanted.items() if w.service.depends_on}
        if not edges:
            return
        edges |= {n: d.last.service.depends_on for n, d in doubts.items() if d.last is not None}
        told: dict[str, str] = {}
        for name, ring in rings(edges).items():
            if name in wanted:
                bad = wanted.pop(name)
                file = bad.service.file
                doubts[name] = Doubt("DependencyCycle", f"{file}:{bad.line}: {ring_told(ring)}", self._last.get(name))
                told.setdefault(file, f"{bad.line}:1: spec.dependsOn: {ring_told(ring)}")
        invalid.extend(InvalidFile(path, (error,), b"", quarrel=True) for path, error in sorted(told.items()))

    def _doubt(self, message: str, wanted: Wanted) -> Doubt:
        """Another file, that is invalid or gone by now, may have said something newer of it."""
        last = self._last.get(wanted.service.name, wanted)
        recalled = self._recalled.get(last.service.file)
        return Doubt("SpecInvalid", message, last, recalled.older.get(last.service.name) if recalled else None)

    def _vouch(
        self, invalid: list[InvalidFile], wanted: dict[ServiceName, Wanted], doubts: dict[ServiceName, Doubt]
    ) -> None:
        """What disappeared, by history's word, in the moment in which a file became invalid may be in that file."""
        bad = {file.path: file.errors[0] for file in invalid if not file.quarrel}
        self._recalled = {path: word for path, word in self._recalled.items() if path in bad}
        for path, word in self._recalled.items():
            message = f"it disappeared when {path} became invalid: {bad[path]}"
            for name in word.lost - wanted.keys() - doubts.keys():
                doubts[name] = Doubt("SpecInvalid", message)

    def _blame(
        self,
        snapshot: Snapshot,
        invalid: list[InvalidFile],
        wanted: dict[ServiceName, Wanted],
        doubts: dict[ServiceName, Doubt],
        good: dict[str, tuple[Wanted, ...]],
    ) -> None:
        """What disappears in the moment in which a file becomes invalid may be in that file: it keeps their word."""
        lost = {name: last for name, last in self._last.items() if name not in wanted and name not in doubts}
        bad = {file.path: file.errors[0] for file in invalid if file.content is not None and not file.quarrel}
        news = [f.path for f in snapshot.files if f.path in bad and self._digests.get(f.path) != f.digest]
        self._digests = {file.path: file.digest for file in snapshot.files}
        if lost and news:
            path = news[0]
            good[path] += tuple(lost.values())
            message = f"it disappeared when {path} became invalid: {bad[path]}"
            doubts.update({name: Doubt("SpecInvalid", message, last) for name, last in lost.items()})

    def _errors(self, file: SourceFile, snapshot: Snapshot, reads: dict[str, _Read]) -> tuple[str, ...]:
        """Read a file unless it was read before; its errors."""
        if file.content is None:
            return (f"1:1: {file.error}",)
        read = self._known(file)
        if read is None:
            reading = self._read_file(file.path, file.content)
            stamped = tuple(
                replace(w, service=replace(w.service, revision=snapshot.revision, source=snapshot.source))
                for w in reading.wanted
            )
            read = _Read(file.digest, replace(reading, wanted=stamped), snapshot.revision)
        reads[file.path] = read
        return tuple(str(problem) for problem in read.reading.problems)

    def _known(self, file: SourceFile) -> _Read | None:
        """The file as it was read before, if it would be read so again."""
        read = self._reads.get(file.path)
        return read if read is not None and read.digest == file.digest and not read.reading.passing else None


def _stands(wanted: Wanted, source: str, file: str) -> Wanted:
    return replace(wanted, service=replace(wanted.service, source=source, file=file))
