"""The journal, as the agent has it: words are kept at once, events soon, and both are read again.

Words are one row of JSON with its digest, written whole and synced; they are in memory, too, so that whatever befalls
the file, they are in the next one. A folder that cannot be written costs memory, not service, and what it lost is written
again once it can be. Loading only reads: a dry run does it too. The words of a `words.json`, which agents before had,
are taken over once.
"""

import hashlib
import json
import logging
import sqlite3
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from agent.clock import Clock, SystemClock
from agent.journal import event
from agent.journal.event import Event, Kind
from agent.journal.recorder import Bounds, Recorder
from agent.journal.store import CannotRead, CannotWrite, Corrupt, Store

log = logging.getLogger("xmod.journal")

_BOUNDS = Bounds()
_CLOCK = SystemClock()


def _nobody(result: str, count: int) -> None:
    """Count nothing."""


class Journal:
    """The file `journal.db`. Safe from several threads. `trouble`: why words are not kept now, "" if they are.

    `told(result, count)` hears of events that were kept or lost.
    """

    def __init__(
        self,
        folder: Path,
        *,
        bounds: Bounds = _BOUNDS,
        clock: Clock = _CLOCK,
        told: Callable[[str, int], None] = _nobody,
    ) -> None:
        self._older = folder / "words.json"
        self._store = Store(folder, self._seed)
        self._recorder = Recorder(self._store, bounds=bounds, clock=clock, told=told)
        self._clock = clock
        self._last: Mapping[str, Any] | None = None
        self._take_over = False
        self.trouble = ""

    # the operator's words

    def load(self) -> Mapping[str, Any] | None:
        """What was kept; None if there is nothing that can be read. Raises ValueError if it is corrupt."""
        try:
            data = self._store.read(_words)
            if data is None:
                data = self._from_older()
        except (CannotRead, OSError) as error:
            log.warning("cannot read the state folder", extra={"file": str(self._store.path), "error": str(error)})
            return None
        self._last = data
        return data

    def set_aside(self, why: str) -> None:
        """Keep what cannot be read under another name, for a person to look at."""
        self._last = None
        if self._take_over:
            self._take_over = False
            _move_aside(self._older, why)
        else:
            self._store.set_aside(why)

    def save(self, data: Mapping[str, Any]) -> None:
        """Keep it. A failure is logged once and shown, never raised: nothing that runs depends on it.

        While there is trouble nobody waits for the file again: `keep` tries.
        """
        self._last = data
        if not self.trouble:
            self._write()

    def keep(self) -> None:
        """Write the last words again if their file is gone or could not be written. Cheap: ask for it often."""
        if self._last is None:
            return
        troubled = bool(self.trouble)
        if troubled or self._take_over or self._store.gone():
            self._write()
            if not self.trouble:
                why = "it could not be written" if troubled else "it was not there"
                log.warning(
                    "the operator's words are written again", extra={"file": str(self._store.path), "reason": why}
                )

    def _write(self) -> None:
        try:
            self._store.write(self._write_words, synced=True)
        except CannotWrite as error:
            if not self.trouble:
                log.error(
                    "cannot keep the operator's words", extra={"file": str(self._store.path), "error": str(error)}
                )
            self.trouble = f"the state folder cannot be written, words are lost at a restart: {error}"
            return
        self.trouble = ""
        if self._take_over:
            self._take_over = False
            _remove(self._older)

    def _write_words(self, connection: sqlite3.Connection) -> None:
        """The newest, whoever asked first."""
        plain = json.dumps(self._last)
        connection.execute("INSERT OR REPLACE INTO words VALUES (1, ?, ?)", (plain, _digest(plain)))

    def _seed(self, connection: sqlite3.Connection) -> None:
        if self._last is not None:
            self._write_words(connection)
        if self._store.renewed:
            why = f"a new journal was begun: {self._store.renewed}"
            event.insert(
                connection,
                [event.cleaned(Event(at=self._clock.now(), kind=Kind.JOURNAL, what="Renewed", message=why))],
            )

    def _from_older(self) -> Mapping[str, Any] | None:
        try:
            text = self._older.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        self._take_over = True
        return _object(text)

    # what happened

    @property
    def notices(self) -> tuple[str, ...]:
        """What an operator should know of the journal itself."""
        renewed, unwritten, lost = self._store.renewed, self._recorder.trouble, self._recorder.lost
        notices = (
            self.trouble,
            f"the journal cannot be written, what happens is kept in memory for now: {unwritten}" if unwritten else "",
            f"{lost} events are missing in the journal" if lost else "",
            f"the journal was begun anew, history is gone: {renewed}" if renewed else "",
        )
        return tuple(notice for notice in notices if notice)

    def record(self, happened: Event) -> None:
        """Keep an event, in its turn. Costs microseconds, never waits, never raises."""
        self._recorder.record(happened)

    def run(self, stop: threading.Event) -> None:
        """Write what is recorded, until told to stop: the journal's thread."""
        self._recorder.run(stop)

    def close(self) -> None:
        """Write what is left, and let go of the file."""
        if self.trouble:
            self.keep()
        self._recorder.flush()
        self._store.close()

    def events(
        self, *, service: str = "", since: datetime | None = None, after: int = 0, limit: int = 100
    ) -> tuple[Event, ...]:
        """The newest `limit`, oldest first; with an id `after`, the oldest of what came after it. Raises CannotRead."""
        return self._read(lambda at: event.select(at, service=service, since=since, after=after, limit=limit)) or ()

    def knows(self, service: str) -> bool:
        """There is an event of that service. Raises CannotRead."""
        return bool(self._read(lambda connection: event.knows(connection, service)))

    def newest(self, kind: Kind) -> Mapping[str, Event]:
        """The last event of that kind of each service; nothing if the journal cannot be read."""
        try:
            return self._store.read(lambda connection: {e.service: e for e in event.newest(connection, kind)}) or {}
        except (Corrupt, CannotRead) as error:
            log.warning("history cannot be read", extra={"file": str(self._store.path), "error": str(error)})
            return {}

    def _read(self, work: Callable[[sqlite3.Connection], Any]) -> Any:
        try:
            return self._store.read(work)
        except Corrupt:
            self._store.check()
        try:
            return self._store.read(work)
        except Corrupt as error:
            raise CannotRead(f"it is corrupt: {error}") from error


def _words(connection: sqlite3.Connection) -> Mapping[str, Any] | None:
    row = connection.execute("SELECT plain, digest FROM words").fetchone()
    if row is None:
        return None
    plain, digest = map(str, row)
    if digest != _digest(plain):
        raise Corrupt("the operator's words are torn")
    return _object(plain)


def _object(text: str | bytes) -> Mapping[str, Any]:
    try:
        data = json.loads(text)
    except RecursionError as error:
        raise ValueError("nested without end") from error
    if not isinstance(data, dict):
        raise ValueError("not a JSON object")
    return data


def _digest(plain: str) -> str:
    return hashlib.sha256(plain.encode()).hexdigest()


def _move_aside(path: Path, why: str) -> None:
    aside = path.with_suffix(".corrupt")
    log.warning("words.json is corrupt, set aside", extra={"file": str(aside), "error": why})
    try:
        path.replace(aside)
    except OSError as error:
        log.warning("cannot set words.json aside", extra={"file": str(aside), "error": str(error)})


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("words.json was taken over and cannot be removed", extra={"file": str(path), "error": str(error)})
