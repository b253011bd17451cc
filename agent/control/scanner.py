"""Reads the source whenever it may have changed, and at least every rescan interval: events are hints, scans the truth.

A source that cannot be read changes nothing: the last snapshot stays in force, the reason is shown.
"""

import logging
import threading
from collections.abc import Callable, Sequence

from agent.clock import Clock
from agent.contracts import Transient
from agent.control.desired import DesiredReader, DesiredState
from agent.control.facts import SourceFacts
from agent.control.lineage import LastWord
from agent.control.provenance import Provenance
from agent.source.snapshot import Snapshot, Source

log = logging.getLogger("xmod.scanner")

_AGAIN = 1.0  # seconds until a source that could not be read is read again, at first


class Scanner:
    """The source's thread.

    `beat`: monotonic time of the last pass, good or bad; `error`: why the last one was bad; `passed`: there was one.
    `after` is called in this thread when a pass is done.
    """

    def __init__(
        self,
        *,
        source: Source,
        reader: DesiredReader,
        take: Callable[[DesiredState], None],
        provenance: Provenance | None = None,
        facts: SourceFacts,
        clock: Clock,
        interval: float,
        after: Callable[[], None] = lambda: None,
    ) -> None:
        self._source = source
        self._reader = reader
        self._take = take
        self._provenance = provenance
        self._taking = threading.Lock()
        self._snapshot: Snapshot | None = None
        self._facts = facts
        self._clock = clock
        self._interval = interval
        self._after = after
        self._digests: dict[str, str] | None = None
        self._invalid: tuple[str, ...] = ()
        self.beat = clock.monotonic()
        self.error = ""
        self.passed = threading.Event()

    def run(self, stop: threading.Event) -> None:
        """Read and wait, until told to stop."""
        wait = _AGAIN
        while not stop.is_set():
            good = self.step()
            self.passed.set()
            self._after()
            wait = self._interval if good else min(self._interval, wait * 2)
            self._source.wait(stop, wait)
            wait = _AGAIN if good else wait

    def step(self) -> bool:
        """One pass; whether the source could be read."""
        try:
            snapshot = self._source.look()
        except Transient as error:
            if str(error) != self.error:
                log.warning("source cannot be read, the last word stays in force", extra={"error": str(error)})
                self._facts.unread(str(error))
            self.error = str(error)
            if self._provenance is not None:
                self._provenance.see(self._source.head)
            self.beat = self._clock.monotonic()
            return False
        if self.error:
            log.info("source can be read again", extra={"revision": snapshot.revision})
            self._facts.unread("")
        self.error = ""
        with self._taking:
            desired = self._reader.read(snapshot)
            self._tell(snapshot, desired)
            self._hand_on(snapshot, desired)
        self.beat = self._clock.monotonic()
        return True

    def recall(self, revision: str, words: Sequence[LastWord]) -> None:
        """History tells the last good words of invalid files; for any thread."""
        with self._taking:
            snapshot = self._snapshot
            if snapshot is not None and self._reader.recall(revision, words):
                self._hand_on(snapshot, self._reader.read(snapshot))

    def _hand_on(self, snapshot: Snapshot, desired: DesiredState) -> None:
        self._snapshot = snapshot
        if self._provenance is not None:
            self._provenance.take(snapshot, desired, self._source.head)
        self._take(desired)

    def _tell(self, snapshot: Snapshot, desired: DesiredState) -> None:
        digests = {file.path: file.digest for file in snapshot.files}
        if self._digests is not None and digests != self._digests:
            now = self._clock.now().timestamp()
            for file in snapshot.files:
                if file.digest != self._digests.get(file.path):
                    self._facts.detected(max(0.0, now - file.modified_at))
        self._digests = digests
        invalid = tuple(f"{bad.path}: {error}" for bad in desired.invalid for error in bad.errors)
        if invalid != self._invalid:
            for sentence in invalid:
                if sentence not in self._invalid:
                    log.warning("spec is invalid, its services stay as they were", extra={"error": sentence})
        self._invalid = invalid
