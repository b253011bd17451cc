"""A bare mirror of a remote: the whole history, and of the files those that were needed.

What is in force is a ref of our own, `refs/xmod/current`, moved only when all of its commit is here and, where signatures
are asked for, trusted; so an error, a deleted branch or a killed fetch leaves it as it was. Nothing is repaired in place:
where the mirror is not sound, another is cloned beside it and the link `current` swapped. One process at a time works on
it, by a lock that dies with it.
"""

import fcntl
import hashlib
import logging
import shutil
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from agent.contracts import Transient
from agent.source.git.command import GitFailed, Repository, ask, run
from agent.source.git.object import Objects
from agent.source.git.origin import NotSynced, Origin, bare, leads
from agent.source.git.remote import Remote
from agent.source.git.trust import Trust, Unverified

_log = logging.getLogger("xmod.source")

IN_FORCE = "refs/xmod/current"
_TIP = "refs/xmod/tip"  # where the ref led after the last fetch that was whole
_PATIENT = 120.0  # seconds until another process is done with the mirror
_CLONE = 900.0
_LOCAL = 60.0
_RETIRED = 30 * 86400.0  # seconds without a sync after which a mirror belongs to nobody
_PARTS = {"clone-", "current", "lock", "synced"}  # what a mirror's folder holds, and nothing else
_PATIENCE = 3  # fetches that may fail in a row before the mirror is suspected


class Mirror:
    """The mirror of one remote below `root`; another ref, path or trust has its own, as a `plan` may ask for it meanwhile.

    `trust`: what may be in force; None: whatever is fetched. `tip`: the newest commit that was fetched, "" if not known.
    `stop` cuts every command short.
    """

    def __init__(self, root: Path, remote: Remote, *, stop: threading.Event, trust: Trust | None = None) -> None:
        key = "\0".join((remote.url, remote.ref, remote.path, *(trust.terms if trust is not None else ())))
        self.tip = ""
        self._trust = trust
        self._folder = root / hashlib.sha256(key.encode()).hexdigest()[:16]
        self._link = self._folder / "current"
        self._remote = remote
        self._origin = Origin(remote, stop=stop, tags_first=trust is not None and trust.mode == "tag")
        self._stop = stop
        self._failures = 0  # fetches in a row

    @property
    def repository(self) -> Repository:
        """For reading, as it is now; what is not here is not fetched."""
        return bare(self._link.resolve())

    @property
    def plain(self) -> Repository:
        """For reading where something may be missing: git asks nobody for it, and does not end. Raises GitFailed, Transient."""
        beside = self._link.resolve() / "plain"
        alternates = beside / "objects" / "info" / "alternates"
        if not alternates.exists():  # made last, and whole: an agent may have been killed while it made this
            run(["init", "--quiet", "--bare", "--template=", str(beside)], seconds=_LOCAL)
            alternates.parent.mkdir(exist_ok=True)
            new = alternates.with_suffix(".new")
            new.write_text("../../objects\n")
            new.replace(alternates)
        return bare(beside)

    @property
    def synced_at(self) -> float:
        """When it was last known to be what the remote is, in seconds since the epoch; 0: never."""
        try:
            return (self._folder / "synced").stat().st_mtime
        except OSError:
            return 0.0

    @property
    def there(self) -> bool:
        """It was cloned."""
        return self._link.exists()

    def sync(self, *, anew: bool = False) -> str:
        """Make it what the remote is; the commit that is in force then. Raises NotSynced, Transient; Unverified if none is.

        `anew`: it is known to be broken.
        """
        trouble = self._remote.trouble()
        if trouble:
            raise NotSynced(trouble)
        try:
            with self._alone():
                try:
                    oid = self._cloned() if anew or not self._sound() else self._fetched_or_cloned()
                except Unverified:
                    self._synced()
                    raise
                self._synced()
                return oid
        except OSError as error:
            raise NotSynced(f"{error.filename or self._folder}: {error.strerror}") from error
        except GitFailed as error:
            raise NotSynced(f"{self._remote.url}: {error}") from error

    def retire(self) -> None:
        """Remove the mirrors beside this one that nobody synced for a month: of refs, paths and URLs that were set once."""
        for folder in self._folder.parent.glob("[0-9a-f]" * 16):
            try:
                if folder != self._folder and _retired(folder):
                    with (folder / "lock").open("r+") as lock:
                        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        shutil.rmtree(folder)
                    _log.info("a mirror that nobody used for a month is removed", extra={"file": str(folder)})
            except OSError as error:  # also BlockingIOError: somebody is at work on it
                _log.debug("a mirror stays", extra={"file": str(folder), "error": str(error)})

    def _synced(self) -> None:
        self._failures = 0
        (self._folder / "synced").touch()

    def _fetched_or_cloned(self) -> str:
        try:
            return self._fetched()
        except GitFailed:
            self._failures += 1
            ours = not self._whole() or (self._failures >= _PATIENCE and self._answers())
            if self._stop.is_set() or not ours:
                raise
            _log.warning("the mirror is broken and cloned anew", extra={"reason": "MirrorBroken"})
            return self._cloned()

    def _answers(self) -> bool:
        """The remote answers: then it is not the remote because of which a fetch fails again and again."""
        try:
            self._origin.asked()
        except GitFailed:
            return False
        return True

    def _whole(self) -> bool:
        """Whether every commit and folder of what is in force is here; slow, for when something failed."""
        words = ["rev-list", "--objects", "--missing=allow-promisor", "--quiet", self._known() or IN_FORCE]
        try:
            ask(self.repository, words, seconds=_LOCAL, stop=self._stop)
        except GitFailed:
            return self._stop.is_set()
        return True

    # by fetching

    def _sound(self) -> bool:
        """It is a repository with something to be in force, and no git that was killed left a lock in it."""
        if not self.there or any(self._locks()):
            return False
        return bool(leads(self._link, f"{self._known() or IN_FORCE}^{{tree}}"))

    def _known(self) -> str:
        """The commit that is in force, or else the one that waits for a signature; "" if none."""
        return leads(self._link, IN_FORCE) or leads(self._link, _TIP)

    def _locks(self) -> Iterator[Path]:
        yield from self._link.resolve().glob("*.lock")
        yield from (self._link / "refs").resolve().rglob("*.lock")

    def _fetched(self) -> str:
        tip = leads(self._link, _TIP)
        try:
            if tip and self._current(tip):
                return self._taken(self._link, tip)
            self._origin.fetch(self._link)
        except GitFailed:
            with suppress(Unverified, NotSynced):
                if tip and self._trust is not None:  # keys may have changed, though nothing is heard of the remote
                    self._taken(self._link, tip, self._origin.resolved(self._link)[1])
            raise
        return self._taken(self._link, *self._origin.resolved(self._link))

    def _current(self, tip: str) -> bool:
        """Whether there is nothing to fetch, as far as that is known cheaply. A tag may come later than what it vouches for."""
        if self._trust is not None and self._trust.mode == "tag":
            return False
        if self._remote.pinned:
            return tip == self._remote.ref
        return self._remote.asked_cheaply and self._origin.asked() == tip

    def _taken(self, place: Path, tip: str, tag: str = "", *, before: str | None = None) -> str:
        """Put in force what may be; its id. Raises Unverified, GitFailed, Transient."""
        self.tip = tip
        if tip != leads(place, _TIP):
            ask(bare(place), ["update-ref", _TIP, tip], seconds=_LOCAL)
        here = leads(place, IN_FORCE)
        oid = tip
        if self._trust is not None:
            try:
                with Objects(bare(place), seconds=_LOCAL) as objects:
                    oid = self._trust.settle(objects, tip, in_force=here if before is None else before, tag=tag)
            except Transient as error:
                if error.reason == "SourceBroken":
                    raise GitFailed(str(error)) from error
                raise
        self._origin.fill(place, oid)
        if oid != here:
            ask(bare(place), ["update-ref", IN_FORCE, oid], seconds=_LOCAL)
        return oid

    def bring(self, objects: Collection[str]) -> None:
        """Get files of older commits, where the server left them out; beside a sync. Raises NotSynced, GitFailed, Transient."""
        trouble = self._remote.trouble()
        if trouble:
            raise NotSynced(trouble)
        self._origin.bring(self._link.resolve(), objects)

    # by cloning

    def _cloned(self) -> str:
        """Clone beside what there is, and swap."""
        for left in self._folder.glob("clone-*"):
            if left != self._link.resolve():
                shutil.rmtree(left, ignore_errors=True)
        old = self._link.resolve() if self._link.is_symlink() else None
        before = leads(self._link, IN_FORCE)
        fresh = self._folder / f"clone-{time.time_ns():x}"
        try:
            self._origin.init(fresh)
            self._origin.fetch(fresh, seconds=_CLONE)
            try:
                oid = self._taken(fresh, *self._origin.resolved(fresh), before=before)
            except Unverified as error:
                if before:
                    raise NotSynced(str(error)) from error
                self._swap(fresh)  # it is whole, and need not be cloned again until there is a signature
                raise
            self._swap(fresh)
        except (GitFailed, NotSynced, OSError, Transient):
            if self._link.resolve() != fresh.resolve():
                shutil.rmtree(fresh, ignore_errors=True)
            raise
        if old is not None and old != fresh:
            shutil.rmtree(old, ignore_errors=True)
        return oid

    def _swap(self, fresh: Path) -> None:
        beside = self._folder / "current.new"
        beside.unlink(missing_ok=True)
        beside.symlink_to(fresh.name)
        beside.rename(self._link)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process works on this mirror: an agent and a `plan` share the state folder."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self._folder / "lock").open("w") as lock:
            deadline = time.monotonic() + _PATIENT
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if self._stop.wait(0.1) or time.monotonic() > deadline:
                        raise NotSynced(f"{self._folder}: another process is at work on the mirror") from None
            yield


def _retired(folder: Path) -> bool:
    """It is a mirror, all of it, and was not synced for long. Raises OSError."""
    if folder.is_symlink() or not (folder / "current").is_symlink():
        return False
    names = {"clone-" if path.name.startswith("clone-") else path.name for path in folder.iterdir()}
    return names <= _PARTS and time.time() - (folder / "synced").stat().st_mtime > _RETIRED
