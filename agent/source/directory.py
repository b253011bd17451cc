"""A quiet folder as a source: events are hints, scans are the truth.

A look that finds something new counts only when two passes agree, a quiet time apart; while the folder keeps changing,
what is not yet settled is reported as unread, never as absent. Nothing is said of a folder that is missing, replaced
under our hands or not listed whole: that is Transient. After a watch was set up, `wait` returns at once, so that
nothing that happened before it is missed; a change that no event announced discredits the watch.
Claimed for writers that rename into place. Of a writer in place a folder can tell only that it paused.
"""

import logging
import threading
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from threading import Event

from agent.clock import Clock
from agent.contracts import Transient
from agent.source.place import Way, absolute, git_lock, trace
from agent.source.scan import Entry, Limits, Scan, scan
from agent.source.settling import agree, doubtful, settled_in_part, unchanged
from agent.source.snapshot import Snapshot, revision_of
from agent.source.watch import Deaf, Notify, Watch, arm, grounds, rust_notify

_log = logging.getLogger("xmod.source")

_GLANCE = 1.0  # seconds between looks at the way while waiting: mounts send no events
_POLL_SHARE = 100  # without a watch, at most this share of the time goes into scanning
_POLL_STEP = 0.05  # seconds
_FIRST_RETRY, _LAST_RETRY = 1.0, 60.0  # seconds until a watch is tried again


class DirectorySource:
    """Reads the folder at `path`; `quiet` and `cap` in seconds. One thread looks and waits."""

    notice = ""
    head = ""
    unverified = ""

    def __init__(
        self,
        path: Path,
        *,
        clock: Clock,
        quiet: float = 0.05,
        cap: float = 1.0,
        max_file_bytes: int = 1 << 20,
        max_total_bytes: int = 256 << 20,
        notify: Notify = rust_notify,
    ) -> None:
        self._path = absolute(path)
        self.id = f"folder:{self._path}"
        self.location = f"folder {self._path}"
        self._clock = clock
        self._quiet = quiet
        self._cap = cap
        self._limits = Limits(max_file_bytes, max_total_bytes)
        self._notify = notify
        self._way: Way | None = None
        self._scan: Scan | None = None
        self._held: Scan | None = None
        self._snapshot: Snapshot | None = None
        self._said: frozenset[str] = frozenset()
        self._ignored: frozenset[tuple[str, str]] = frozenset()
        self._seconds = 0.0
        self._watch: Watch | None = None
        self._announced = True
        self._retry_at = 0.0
        self._retry_after = _FIRST_RETRY
        self._deaf = ""
        self._kicked = threading.Event()
        self._closed = threading.Event()
        self._waiting = threading.Lock()

    def look(self) -> Snapshot:
        """Everything, as of now. Raises Transient."""
        first = self._pass()
        if isinstance(first, Scan) and self._snapshot and self._held and unchanged(self._held, first):
            self._held = first
            self._snapshot = replace(self._snapshot, read_at=self._clock.now())
            return self._snapshot
        self._discredit()
        return self._settled(first)

    def wait(self, stop: Event, timeout: float) -> None:
        """Return when something may have changed, on `kick` or `stop`, or after `timeout` seconds."""
        with self._waiting:
            until = _AnyOf(stop, self._kicked, self._closed)
            if not until.is_set():
                self._announced = self._wait(until, self._clock.monotonic() + timeout)
            self._announced = self._announced or self._kicked.is_set()
            self._kicked.clear()  # what it was for is seen by the look that follows
            if self._closed.is_set():
                self._let_go()

    def kick(self) -> None:
        """Let the wait that runs, or else the next one, return at once."""
        self._kicked.set()

    def close(self) -> None:
        """Let go of the watch."""
        self._closed.set()
        with self._waiting:
            self._let_go()

    # -- looking

    def _pass(self) -> Scan | Transient:
        """One pass. That it could not be made is as much a finding as another."""
        began = self._clock.monotonic()
        self._way = trace(self._path)
        known = self._scan.entries if self._scan is not None else {}
        now = int(self._clock.now().timestamp() * 1e9)
        try:
            self._scan = scan(self._way, self._path, known=known, limits=self._limits, now=now)
        except Transient as error:
            return error
        self._seconds = self._clock.monotonic() - began
        for path, reason in self._scan.ignored - self._ignored:
            _log.warning("ignored in the folder", extra={"file": path, "reason": reason})
        self._ignored = self._scan.ignored
        return self._scan

    def _settled(self, first: Scan | Transient) -> Snapshot:
        deadline = self._clock.monotonic() + self._cap
        seen = set(self._said)
        before, after = first, first
        lock = ""
        pause = max(0.0, self._quiet - self._seconds)  # of two passes, each file is seen twice, a quiet time apart
        for _ in range(max(1, round(self._cap / self._quiet))):
            before = after
            if isinstance(before, Scan):
                seen.update(before.entries)
            self._closed.wait(pause)
            pause = max(self._quiet, self._seconds)  # as long as a pass takes: half of the time at most
            lock = self._git_at_work(before)  # between the two: a git that holds up both of them is seen here
            after = self._pass()
            if isinstance(before, Transient) and isinstance(after, Transient):
                raise after
            if not lock and isinstance(before, Scan) and isinstance(after, Scan) and agree(before, after):
                self._held = after
                self._snapshot = self._told(after, after.entries.values())
                self._said = frozenset(after.entries)
                return self._snapshot
            if self._clock.monotonic() >= deadline or self._closed.is_set():
                break
        return self._unsettled(before, after, seen=seen, lock=lock)

    def _unsettled(self, before: Scan | Transient, after: Scan | Transient, *, seen: set[str], lock: str) -> Snapshot:
        if isinstance(after, Transient):
            raise after
        if isinstance(before, Transient) or before.way != after.way:
            raise Transient(f"{self._path}: the folder does not come to rest", reason="SourceChanging")
        doubted = self._doubtful(after) if lock else set[str]()
        why = f"git holds {lock}" if lock else ""
        entries = settled_in_part(before, after, seen=seen, doubted=doubted, why=why)
        self._snapshot = None  # the next look must not take this one for settled
        self._said = frozenset(entries)
        return self._told(after, entries.values())

    def _told(self, scan: Scan, entries: Iterable[Entry]) -> Snapshot:
        files = tuple(sorted((entry.file for entry in entries), key=lambda file: file.path))
        location = self.location if scan.way.real == self._path else f"{self.location} → {scan.way.real}"
        return Snapshot(self.id, location, revision_of(files), scan.identity, files, self._clock.now())

    def _git_at_work(self, found: Scan | Transient) -> str:
        """The lock of a git at work, asked for only where its half-done work could be taken for a deletion."""
        if isinstance(found, Transient) or (self._held is not None and not self._doubtful(found)):
            return ""
        return git_lock(found.way.real)

    def _doubtful(self, found: Scan) -> set[str]:
        return doubtful(self._said, self._held.entries if self._held is not None else {}, found.entries)

    def _discredit(self) -> None:
        """Drop a watch that said nothing of a change: set up anew, it hears again."""
        if not self._announced:
            self._let_go()

    # -- waiting

    def _wait(self, until: "_AnyOf", deadline: float) -> bool:
        """Whether something was heard, or seen on the way."""
        way = trace(self._path)
        if way != self._way:
            return True
        if self._armed(way):
            return True
        while (left := deadline - self._clock.monotonic()) > 0 and not until.is_set():
            if self._watch is None:
                return self._poll(until, left)
            try:
                if self._watch.heard(until, min(left, _GLANCE)):
                    return True
            except Deaf as error:
                self._let_go()
                self._gone_deaf(error)
                return True
            if trace(self._path) != way:
                return True
        return False

    def _armed(self, way: Way) -> bool:
        """Whether a watch was set up just now: then a look must follow, for what happened before it stood."""
        scan = self._scan if self._scan is not None and self._scan.way == way else None
        try:
            wanted = grounds(way, scan)
            if self._watch is not None and self._watch.grounds == wanted:
                return False
            self._let_go()
            if self._clock.monotonic() < self._retry_at:
                return False
            self._watch = arm(wanted, self._notify)
        except Deaf as error:
            self._gone_deaf(error)
            return False
        if self._deaf:
            _log.info("the folder is watched again")
        self._deaf, self._retry_after = "", _FIRST_RETRY
        return True

    def _gone_deaf(self, error: Deaf) -> None:
        """Try again later; said from the second time on, since a folder may have vanished just now."""
        if self._retry_after > _FIRST_RETRY and str(error) != self._deaf:
            _log.warning(
                "cannot watch the folder; it is scanned instead", extra={"reason": "NoWatch", "error": str(error)}
            )
            self._deaf = str(error)
        self._retry_at = self._clock.monotonic() + self._retry_after
        self._retry_after = min(2 * self._retry_after, _LAST_RETRY)

    def _poll(self, until: "_AnyOf", left: float) -> bool:
        """Without a watch: return for a look as often as is cheap."""
        pause = threading.Event()
        end = self._clock.monotonic() + min(left, max(_GLANCE, _POLL_SHARE * self._seconds))
        while not until.is_set() and (rest := end - self._clock.monotonic()) > 0:
            pause.wait(min(rest, _POLL_STEP))
        return True

    def _let_go(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.close()


class _AnyOf:
    """Set when one of these events is."""

    def __init__(self, *events: Event) -> None:
        self._events = events

    def is_set(self) -> bool:
        for event in self._events:  # noqa: SIM110 asked 50 times a second: no generator
            if event.is_set():
                return True
        return False
