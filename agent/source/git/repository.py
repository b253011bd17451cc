"""A repository elsewhere as a source: synced by a thread of its own, read from the mirror.

Offline is normal: what was fetched last stays in force, also after a restart, and the notice says what is wrong; the
snapshot's time is when the remote was last known to say so. A look never waits long for a network, but for the first
clone. No error of a remote is an empty snapshot.
"""

import logging
import random
import threading
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from threading import Event

from agent.clock import Clock
from agent.contracts import Transient
from agent.source.git.command import GitFailed
from agent.source.git.history import History, knew
from agent.source.git.mirror import IN_FORCE, Mirror
from agent.source.git.object import Commit, Missing, Objects
from agent.source.git.origin import NotSynced
from agent.source.git.past import GitPast
from agent.source.git.remote import Remote
from agent.source.git.tree import NoSuchPath, NotAFolder, TreeReader
from agent.source.git.trust import Trust, Unverified
from agent.source.scan import Limits
from agent.source.snapshot import Snapshot, SourceFile

_log = logging.getLogger("xmod.source")

_SECONDS = 30.0  # for all of a look
_FIRST_SYNC = 5.0  # seconds that the first look gives the network
_FIRST_CLONE = 60.0  # the same while there is nothing to read yet; the heartbeat must not be missed meanwhile
_LONGEST = 300.0  # seconds between two tries
_STEP = 0.2  # seconds between looks at the stop while waiting


class RepositorySource:
    """Reads `remote` through a mirror below `state`; `interval`: seconds between two questions, give or take a tenth.

    `trust`: what may be in force, None: whatever the ref leads to; `tidy`: mirrors that nobody used for long are removed.
    """

    def __init__(
        self,
        remote: Remote,
        *,
        state: Path,
        clock: Clock,
        interval: float,
        trust: Trust | None = None,
        tidy: bool = False,
        max_file_bytes: int = 1 << 20,
        max_total_bytes: int = 256 << 20,
    ) -> None:
        self.id = remote.id
        self.location = remote.location
        self.head = ""
        self._notice = ""
        self._remote = remote
        self._clock = clock
        self._interval = interval
        self._closed = threading.Event()
        self._trust = trust
        self._tidy = tidy
        self._mirror = Mirror(state, remote, stop=self._closed, trust=trust)
        self._history = History()
        self._limits = Limits(max_file_bytes, max_total_bytes)
        self._tree = TreeReader(remote.path, self._limits)
        self._snapshot: Snapshot | None = None
        self._thread: threading.Thread | None = None
        self._error = ""
        self._tried = threading.Event()
        self._broken = threading.Event()  # the mirror, by what a look found
        self._wanted = threading.Event()  # a sync, now
        self._news = threading.Event()

    @property
    def notice(self) -> str:
        """See Source."""
        said = (self._notice, self._trust.notice if self._trust is not None else "")
        return "; ".join(part for part in said if part)

    @property
    def unverified(self) -> str:
        """See Source."""
        return self._trust.reason if self._trust is not None else ""

    def look(self) -> Snapshot:
        """The last commit that was fetched. Raises Transient."""
        self._begin()
        self._tried.wait(_FIRST_SYNC if self._mirror.there else _FIRST_CLONE)
        if not self._mirror.there:
            raise Transient(self._error or f"{self._remote.url}: is being cloned", reason="SourceMissing")
        self._news.clear()  # this look sees them
        repository = self._mirror.repository
        try:
            self._snapshot = self._read()
        except Transient as error:
            if self._mirror.repository == repository and error.reason == "SourceBroken":
                self._broken.set()
                self._wanted.set()
            said = f"{self._remote.url}: {error}" + (f"; {self._error}" if self._error else "")
            raise Transient(said, reason=error.reason) from error
        return self._snapshot

    def wait(self, stop: Event, timeout: float) -> None:
        """Return when another commit was fetched, after a `kick`'s sync, on `stop`, or after `timeout` seconds."""
        deadline = self._clock.monotonic() + timeout
        while not (stop.is_set() or self._closed.is_set()) and (left := deadline - self._clock.monotonic()) > 0:
            if self._news.wait(min(left, _STEP)):
                break

    def kick(self) -> None:
        """Sync now; a look follows when that is done."""
        self._wanted.set()

    def close(self) -> None:
        """Let go of the thread, and end what git is doing."""
        self._closed.set()
        self._wanted.set()
        self._tried.set()
        if self._thread is not None:
            self._thread.join(2.0)

    # reading

    def _read(self) -> Snapshot:
        repository = self._mirror.repository
        synced_at = datetime.fromtimestamp(self._mirror.synced_at, UTC)
        with Objects(repository, seconds=_SECONDS) as objects:
            try:
                commit = objects.commit(IN_FORCE)
            except Missing as error:
                if self._trust is not None:
                    raise Transient("no commit is in force", reason="SourceUnverified") from error
                raise Transient("the mirror has lost its commit", reason="SourceBroken") from error
            identity = self._history.identity(repository, objects, commit, ground="")
            before = self._snapshot
            if before is not None and (before.revision, before.identity) == (commit.oid, identity):
                files = before.files
            else:
                files = self._files(objects, commit)
        self.head = self.head or commit.oid  # what the remote is was not heard yet
        return Snapshot(self.id, self.location, commit.oid, identity, files, synced_at, commit.entry, self._past())

    def _past(self) -> GitPast | None:
        try:
            plain = self._mirror.plain
        except (GitFailed, OSError) as error:
            _log.warning("history cannot be read", extra={"error": str(error)})
            return None
        return GitPast(plain, self._remote.path, limits=self._limits, bring=self._bring)

    def _bring(self, contents: Collection[str]) -> None:
        try:
            self._mirror.bring(contents)
        except (GitFailed, NotSynced) as error:
            raise Transient(f"files of older commits cannot be fetched: {error}", reason="NotSynced") from error

    def _files(self, objects: Objects, commit: Commit) -> tuple[SourceFile, ...]:
        try:
            return self._tree.read(objects, commit)
        except NotAFolder as error:
            raise Transient(f"commit {commit.oid[:12]}: {error}", reason="SourceMissing") from error
        except NoSuchPath as error:
            if not knew(self._mirror.repository, commit, self._remote.path):
                raise Transient(
                    f"commit {commit.oid[:12]} has no folder {self._remote.path}, and no commit before it had one; "
                    "see source.path (--path)",
                    reason="SourceMissing",
                ) from error
            return ()

    # syncing, in a thread of its own

    def _begin(self) -> None:
        if self._closed.is_set() or (self._thread is not None and self._thread.is_alive()):
            return
        self._thread = threading.Thread(target=self._sync, name="source-sync", daemon=True)
        self._thread.start()

    def _sync(self) -> None:
        revision, failures = "", 0
        while not self._closed.is_set():
            asked = self._wanted.is_set()
            self._wanted.clear()
            anew = self._broken.is_set()
            self._broken.clear()
            try:
                found = self._mirror.sync(anew=anew)
            except Unverified as error:
                failures = 0
                self._failed(error, again=False)
                pause = self._interval * random.uniform(0.9, 1.1)  # noqa: S311 jitter, no secret
            except (NotSynced, Transient) as error:
                failures += 1
                self._failed(error, again=anew)
                pause = min(_LONGEST, 2.0**failures) * random.uniform(0.5, 1.0)  # noqa: S311 jitter, no secret
            else:
                asked = asked or found != revision or self._mirror.tip != self.head or bool(self._error)
                self._well(found)
                if self._tidy and not revision:
                    self._mirror.retire()
                revision, failures = found, 0
                pause = self._interval * random.uniform(0.9, 1.1)  # noqa: S311 the same
            self.head = self._mirror.tip or self.head
            self._tried.set()
            if asked:
                self._news.set()
            self._wanted.wait(pause)

    def _failed(self, error: NotSynced | Transient, *, again: bool) -> None:
        if self._closed.is_set():
            return
        said, reason = str(error), "Unverified" if isinstance(error, Unverified) else "NotSynced"
        if said != self._error:
            _log.warning("cannot sync the repository", extra={"reason": reason, "error": said})
        self._error = said
        self._notice = said if reason == "Unverified" else f"{said} (not in sync; what was fetched last stays in force)"
        if again:
            self._broken.set()

    def _well(self, revision: str) -> None:
        if self._error:
            _log.info("the repository is in sync again", extra={"revision": revision})
        self._error = self._notice = ""
