"""The commit that a work tree stands on, as a source: what is committed counts, the checkout is never read.

So a checkout, reset or pull under way is never seen half done. What is edited and not committed is counted, and has no
effect. While a rebase, `git am` or bisection moves HEAD over commits that nobody means, the last word stays. Behind a
link (git-sync) the work tree is found anew at each look. No trouble with a repository is an empty snapshot: it is
Transient. An empty one needs a commit without our folder whose history knows it. Where signatures are asked for, the
commit that was trusted last is noted in the state folder, for HEAD may be at another.
"""

import contextlib
import hashlib
import logging
import os
import re
import threading
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event

from agent.clock import Clock
from agent.contracts import Transient
from agent.source.git.command import GitFailed, Repository, ask
from agent.source.git.history import History, knew
from agent.source.git.object import Commit, Missing, Objects
from agent.source.git.past import GitPast
from agent.source.git.place import Sight, WorkTree, locate, require, sight
from agent.source.git.refs import AnyOf, RefWatch
from agent.source.git.tree import NoSuchPath, NotAFolder, TreeReader, root_of
from agent.source.git.trust import Trust
from agent.source.place import absolute, inode_of
from agent.source.scan import SUFFIXES, Limits
from agent.source.snapshot import Snapshot, SourceFile
from agent.source.watch import Notify, rust_notify

_log = logging.getLogger("xmod.source")

_SECONDS = 30.0  # for all of a look
_EDITS_EVERY = 10.0  # seconds between counts of edits, and more where counting is slow
_EDITS_SHARE = 50  # counting takes at most this share of the time
_NAMED = 3  # edited files that a notice names


class WorkTreeSource:
    """Reads HEAD's tree at the folder `path`. One thread looks and waits.

    `trust`: which commits may be in force, None: any; `notes`: the folder where the last one is noted, None: nowhere.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Clock,
        trust: Trust | None = None,
        notes: Path | None = None,
        max_file_bytes: int = 1 << 20,
        max_total_bytes: int = 256 << 20,
        notify: Notify = rust_notify,
    ) -> None:
        self._path = absolute(path)
        self.id = f"git:{self._path}"
        self.location = f"git work tree {self._path}"
        self.head = ""
        self._edits = ""
        self._clock = clock
        self._trust = trust
        self._notes = notes
        self._trusted = ""
        self._limits = Limits(max_file_bytes, max_total_bytes)
        self._history = History()
        self._below: str | None = None  # our path in the repository; once it was read, it does not change
        self._tree: TreeReader | None = None
        self._snapshot: Snapshot | None = None
        self._seen: Sight | None = None
        self._edits_at = 0.0
        self._refs = RefWatch(lambda: sight(self._path), clock=clock, notify=notify, idle=self._count_edits)
        self._kicked = threading.Event()
        self._closed = threading.Event()
        self._waiting = threading.Lock()

    @property
    def notice(self) -> str:
        """See Source."""
        said = (self._trust.notice if self._trust is not None else "", self._edits)
        return "; ".join(part for part in said if part)

    @property
    def unverified(self) -> str:
        """See Source."""
        return self._trust.reason if self._trust is not None else ""

    def look(self) -> Snapshot:
        """HEAD's commit, as of now. Raises Transient."""
        self._seen = sight(self._path)  # before anything is read: what happens from here on is another sight
        tree = require(self._path)
        if self._below is not None and tree.path != self._below:
            raise Transient(
                f"{self._path}: is {tree.path or 'the root'} of {tree.top} now, and was {self._below or 'the root'} "
                "of its repository before; restart the agent if that is meant",
                reason="SourceReplaced",
            )
        try:
            found = self._read(tree)
        except Transient as error:
            raise explained(error, tree) from error
        self._below = tree.path
        self._snapshot = found
        return found

    def wait(self, stop: Event, timeout: float) -> None:
        """Return when HEAD or its ref may have moved, on `kick` or `stop`, or after `timeout` seconds."""
        with self._waiting:
            until = AnyOf(stop, self._kicked, self._closed)
            if not until.is_set() and self._seen is not None:
                self._refs.wait(self._seen, until, self._clock.monotonic() + timeout)
            self._kicked.clear()  # what it was for is seen by the look that follows
            if self._closed.is_set():
                self._refs.close()

    def kick(self) -> None:
        """Let the wait that runs, or else the next one, return at once."""
        self._kicked.set()

    def close(self) -> None:
        """Let go of the watch."""
        self._closed.set()
        with self._waiting:
            self._refs.close()

    def _read(self, tree: WorkTree) -> Snapshot:
        if tree.busy:
            raise Transient(f"{tree.top}: {tree.busy}; finish or abort it", reason="SourceChanging")
        with Objects(tree.repository, seconds=_SECONDS) as objects:
            try:
                commit = objects.commit("HEAD")
            except Missing as error:
                raise Transient(
                    f"{tree.top}: HEAD leads to no commit; commit something, or check out a branch that exists",
                    reason="SourceUnborn",
                ) from error
            self.head = commit.oid
            if tree.busy:  # it began while we looked
                raise Transient(f"{tree.top}: {tree.busy}; finish or abort it", reason="SourceChanging")
            if self._trust is not None:
                if wrong := self._trust.keys.misplaced(
                    tree.top
                ):  # asked at each look: a link may lead elsewhere by now
                    raise Transient(wrong, reason="SourceUnverified")
                commit = objects.commit(self._settled(self._trust, objects, commit.oid))
            before = self._snapshot
            ground = str(inode_of(tree.common_dir)) if tree.shallow else ""
            identity = self._history.identity(tree.repository, objects, commit, ground=ground)
            if before is not None and (before.revision, before.identity) == (commit.oid, identity):
                return replace(before, location=self._located(tree), read_at=self._clock.now())
            files = self._files(objects, tree, commit)
        here = Repository(tree.repository.words, {**tree.repository.env, "GIT_ALLOW_PROTOCOL": "none"})
        past = GitPast(here, tree.path, limits=self._limits, git_dir=tree.common_dir)
        location, now = self._located(tree), self._clock.now()
        return Snapshot(self.id, location, commit.oid, identity, files, now, commit.entry, past)

    def _settled(self, trust: Trust, objects: Objects, head: str) -> str:
        """The commit that may be in force; noted, so that it is after a restart."""
        key = hashlib.sha256("\0".join((str(self._path), *trust.terms)).encode()).hexdigest()[:16]
        note = self._notes / f"trusted-{key}" if self._notes is not None else None
        if not self._trusted and note is not None:
            with contextlib.suppress(OSError, UnicodeDecodeError):
                self._trusted = "".join(re.findall(r"\A[0-9a-f]{40,64}\Z", note.read_text().strip()))
        chosen = trust.settle(objects, head, in_force=self._trusted)
        if chosen != self._trusted and note is not None:
            _note(note, chosen)
        self._trusted = chosen
        return chosen

    def _files(self, objects: Objects, tree: WorkTree, commit: Commit) -> tuple[SourceFile, ...]:
        if self._tree is None:
            self._tree = TreeReader(tree.path, self._limits)
        try:
            return self._tree.read(objects, commit)
        except NotAFolder as error:
            raise Transient(f"commit {commit.oid[:12]}: {error}", reason="SourceMissing") from error
        except NoSuchPath as error:
            if not knew(tree.repository, commit, tree.path):
                raise Transient(
                    f"{tree.top}: commit {commit.oid[:12]} has no folder {tree.path}, and no commit before it had one; "
                    "commit a file there",
                    reason="SourceMissing",
                ) from error
            return ()

    def _located(self, tree: WorkTree) -> str:
        real = os.path.join(tree.top, tree.path).rstrip("/")  # noqa: PTH118 strings
        return self.location if real == self._path.rstrip("/") else f"{self.location} → {real}"

    def _count_edits(self) -> None:
        """What the checkout holds that HEAD does not, for people; asked when nothing else is to do."""
        now = self._clock.monotonic()
        if now < self._edits_at or self._snapshot is None or self._seen is None or self._seen.tree is None:
            return
        edited = _edited(self._seen.tree, self.head)
        took = self._clock.monotonic() - now
        self._edits_at = now + max(_EDITS_EVERY, _EDITS_SHARE * took)
        named = ", ".join(edited[:_NAMED]) + (" …" if len(edited) > _NAMED else "")
        edits = "1 uncommitted edit" if len(edited) == 1 else f"{len(edited)} uncommitted edits"
        self._edits = f"{edits} not in effect until committed: {named}" if edited else ""


def _note(file: Path, oid: str) -> None:
    """Write it down; without a note the commit is looked for again after a restart."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        beside = file.with_suffix(".new")
        beside.write_text(f"{oid}\n")
        beside.replace(file)
    except OSError as error:
        _log.warning("cannot note which commit is trusted", extra={"file": str(file), "error": str(error)})


def _edited(tree: WorkTree, head: str) -> list[str]:
    """The spec files that differ from HEAD, by `git status`: "XY path", and after a rename the old path on its own."""
    words = [
        "--literal-pathspecs",
        "status",
        "--porcelain=v1",
        "-z",
        "-uall",
        "--no-renames",
        "--ignore-submodules=all",
    ]
    try:
        with TemporaryDirectory(prefix="xmod-edits-") as place:
            printed = ask(_beside(tree, head, Path(place)), [*words, "--", tree.path or "."], seconds=_SECONDS)
    except (GitFailed, Transient, OSError) as error:
        _log.debug("cannot count edits", extra={"error": str(error)})
        return []
    paths = [entry[3:] for entry in printed.split("\0") if entry]
    return [ascii(path)[1:-1] for path in paths if path.endswith(SUFFIXES)]


def _beside(tree: WorkTree, head: str, place: Path) -> Repository:
    """The same work tree without its settings: `git status` would run, as us, what they call filters. Raises OSError."""
    for name in ("objects/info", "refs", "info"):
        (place / name).mkdir(parents=True)
    (place / "HEAD").write_text(f"{head}\n")
    (place / "objects/info/alternates").write_text(f"{tree.common_dir}/objects\n")
    (place / "info/exclude").symlink_to(Path(tree.common_dir, "info/exclude"))
    for file in Path(tree.git_dir).glob("*index*"):
        (place / file.name).symlink_to(file)
    form = "[core]\n\trepositoryformatversion = 1\n\tbare = false\n"
    (place / "config").write_text(form + ("[extensions]\n\tobjectformat = sha256\n" if len(head) > 40 else ""))
    return Repository(
        ("--git-dir", str(place), "--work-tree", tree.top, "-C", tree.top), {"GIT_ALLOW_PROTOCOL": "none"}
    )


def stands_on_specs(path: Path) -> bool:
    """Whether a folder lies in a work tree and is not empty at HEAD; also if git cannot tell: then its trouble must be seen."""
    _, tree = locate(absolute(path))
    if tree is None:
        return False
    try:
        with Objects(tree.repository, seconds=_SECONDS) as objects:
            try:
                commit = objects.commit("HEAD")
            except Missing:
                return bool(ask(tree.repository, ["for-each-ref", "--count=1"], seconds=_SECONDS))
            return bool(objects.tree(root_of(objects, commit, tree.path)))
    except NoSuchPath:
        return False
    except Transient as error:
        return error.reason != "NoGit"
    except (GitFailed, Missing):
        return True


def explained(error: Transient, tree: WorkTree) -> Transient:
    """The same with what to do about it."""
    if "dubious ownership" in str(error):
        scope = "--global" if os.environ.get("HOME") else "--system"
        cure = f"git config {scope} --add safe.directory {tree.top}"
        return Transient(
            f"{tree.top} belongs to another user, so git refuses to read it; if that is meant, say as the user that runs "
            f"the agent: {cure}",
            reason="SourceNotOurs",
        )
    said = str(error)
    return error if tree.top in said else Transient(f"{tree.top}: {said}", reason=error.reason)
