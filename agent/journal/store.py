"""The journal's file: one SQLite database (WAL) in the state folder.

Promises: what one `write` does is there whole or not at all, whenever the agent is killed; reading makes and changes
nothing, not even SQLite's companions, so that a dry run may; what is no journal of ours (torn, garbage, of a newer agent, a
folder) is set aside with its companions and a new one begun, at the start as well as while it runs; a file that was
deleted is made again. One connection writes, under a lock; each reading has its own. The file is never opened but by
SQLite while it is in use: closing it would let go of SQLite's locks.
"""

import contextlib
import logging
import shutil
import sqlite3
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from agent.journal import event

log = logging.getLogger("xmod.journal")

T = TypeVar("T")

VERSION = 1  # of the tables; another one is another program's
_OURS = 0x786D6F64  # application_id: "xmod"
_PATIENCE = 1.0  # seconds that a write waits for another program's lock; who plans may wait for it
_PAGES = 256  # 4 KiB pages that SQLite keeps in the -wal before it moves them into the file
_LEAST = 512  # bytes of a database; SQLite takes a shorter file for none, and writes over it
_ENDS = ("-wal", "-shm", "")  # the file last: while it is there, what lies beside it is its own
_CORRUPT = frozenset(
    {
        sqlite3.SQLITE_ERROR,  # tables of ours are missing
        sqlite3.SQLITE_CONSTRAINT,  # ids of ours are used twice
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_FORMAT,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_SCHEMA,
    }
)


class CannotWrite(Exception):
    """The state folder does not take it now."""


class CannotRead(Exception):
    """The state folder does not give it now."""


class Corrupt(ValueError):
    """What lies there is no journal of ours, or no longer."""


class Store:
    """The database, opened when it is first written to. Thread-safe.

    `seed` writes into each new one what must not be lost with the old. `renewed`: why a new one was begun although there
    had been one, "" if that did not happen since the agent started. `unchecked`: somebody meddled with its files.
    """

    def __init__(self, folder: Path, seed: Callable[[sqlite3.Connection], None]) -> None:
        self.path = folder / "journal.db"
        self.renewed = ""
        self.unchecked = True
        self._seed = seed
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._key: tuple[tuple[int, int], ...] = ()
        self._failed_to_move = ""

    def write(self, work: Callable[[sqlite3.Connection], T], *, synced: bool = False) -> T:
        """Do it in one transaction; `synced`: it survives a power cut, too. Raises CannotWrite."""
        with self._lock:
            try:
                return self._written(work, synced=synced)
            except Corrupt as error:
                self.set_aside(str(error))
                try:
                    return self._written(work, synced=synced)
                except Corrupt as again:
                    raise CannotWrite(f"{self._failed_to_move or again}") from again

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        """What `work` finds; None if there is no journal. Raises Corrupt and CannotRead."""
        try:
            if self._absent():
                return None
            with self._reading() as connection:
                if _is_empty(connection):
                    return None  # it is just being made
                _check_ours(connection)
                return work(connection)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise _sorted(error, CannotRead) from error
        except OSError as error:
            raise CannotRead(str(error)) from error

    def check(self) -> None:
        """Go through the whole file; set it aside if it is corrupt. Takes a while, and holds up no writer meanwhile."""
        self.unchecked = False
        try:
            self.read(_whole)
        except Corrupt:
            self._doubted()
        except CannotRead as error:
            log.warning("the journal cannot be checked", extra={"file": str(self.path), "error": str(error)})

    def set_aside(self, why: str) -> None:
        """Keep what lies there under another name, for a person to look at; what was set aside before is replaced."""
        aside = self.path.with_name(f"{self.path.name}.corrupt")
        with self._lock:
            try:
                if any(beside(aside, end).is_dir() for end in _ENDS):
                    aside = aside.with_name(f"{aside.name}.{time.time_ns()}")
                for end in _ENDS:
                    beside(aside, end).unlink(missing_ok=True)
                for end in _ENDS:
                    with contextlib.suppress(FileNotFoundError):
                        beside(self.path, end).rename(beside(aside, end))
            except OSError as error:
                if not self._failed_to_move:
                    log.error("cannot set the journal aside", extra={"file": str(self.path), "error": str(error)})
                self._failed_to_move = f"it is corrupt ({why}), and cannot be set aside: {error}"
            else:
                self._failed_to_move = ""
                self.renewed = f"it was corrupt ({why}) and lies in {aside}"
                log.error("the journal is corrupt, set aside", extra={"file": str(aside), "error": why})
            self._close()  # after the renames: SQLite removes its companions by their old names

    def gone(self) -> bool:
        """What was written is no longer in its place."""
        with self._lock:
            if self._connection is not None:
                return self._there() != self._key
            try:
                return self._absent()
            except OSError:
                return True

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._close()

    def _doubted(self) -> None:
        """Look again while nobody writes: what seemed corrupt may just have been made or moved."""
        with self._lock:
            try:
                self.read(_whole)
            except Corrupt as error:
                self.set_aside(str(error))
            except CannotRead:
                return

    def _written(self, work: Callable[[sqlite3.Connection], T], *, synced: bool) -> T:
        try:
            connection = self._opened()
            connection.execute(f"PRAGMA synchronous = {'FULL' if synced else 'NORMAL'}")
            connection.execute("BEGIN IMMEDIATE")
            with connection:  # commits, or rolls back
                return work(connection)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            sorted_ = _sorted(error, CannotWrite)
            if not isinstance(sorted_, Corrupt):
                self._close()  # a connection that was opened to read only, say, would stay so
            raise sorted_ from error
        except OSError as error:
            raise CannotWrite(str(error)) from error

    def _opened(self) -> sqlite3.Connection:
        connection, before = self._connection, self._key
        if connection is not None and self._there() == before:
            return connection
        if connection is not None:
            self.unchecked = True
        self._close()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._refuse_odd()
        connection = sqlite3.connect(self.path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
        self._connection = connection
        if _is_empty(connection):
            if before and not self.renewed:
                self.renewed = "it was deleted while the agent ran"
            self._make(connection)
        _check_ours(connection)
        connection.execute(f"PRAGMA wal_autocheckpoint = {_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit = {_PAGES * 4096}")
        self._key = self._there()
        return connection

    def _make(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")  # where that cannot be, it stays as it is, and works
        connection.execute("BEGIN IMMEDIATE")
        with connection:
            connection.execute("CREATE TABLE words (one INTEGER PRIMARY KEY CHECK (one = 1), plain TEXT, digest TEXT)")
            for statement in event.SCHEMA:
                connection.execute(statement)
            # ids go on where another journal's may have ended: they begin at the millisecond of now
            connection.execute("INSERT INTO sqlite_sequence VALUES ('events', ?)", (time.time_ns() // 1_000_000,))
            connection.execute(f"PRAGMA application_id = {_OURS}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
            self._seed(connection)

    def _close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
        self._connection = None

    def _there(self) -> tuple[tuple[int, int], ...]:
        """Which files are in the places of the database and its companions."""
        return tuple(_inode(beside(self.path, end)) for end in _ENDS)

    def _absent(self) -> bool:
        try:
            found = self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return True
        return stat.S_ISREG(found.st_mode) and found.st_size == 0  # an agent was killed in the file's first moment

    def _refuse_odd(self) -> None:
        for path in (beside(self.path, end) for end in _ENDS):
            if _is_odd(path):
                raise Corrupt(f"{path.name} is no file")
        if not self._absent() and self.path.stat().st_size < _LEAST:
            raise Corrupt("torn")

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that leaves no trace. Raises sqlite3.Error and OSError."""
        self._refuse_odd()
        wal, shm = (beside(self.path, end) for end in ("-wal", "-shm"))
        with contextlib.ExitStack() as stack:
            path, how = self.path, "readonly_shm=1"  # another process has it open, or was killed
            if self._connection is not None:
                how = "readonly_shm=0"  # all companions are there already
            elif not wal.exists():
                how = "immutable=1"  # it was closed: all is in the file
            elif not shm.exists():
                path = _copied(Path(stack.enter_context(tempfile.TemporaryDirectory())), self.path, wal)
                how = "readonly_shm=0"
            uri = f"file:{quote(str(path))}?mode=ro&{how}"
            connection = sqlite3.connect(uri, uri=True, timeout=_PATIENCE, isolation_level=None)
            stack.callback(connection.close)
            connection.text_factory = lambda data: data.decode("utf-8", "replace")
            yield connection


def beside(path: Path, end: str) -> Path:
    """SQLite's companion of a database."""
    return path.with_name(path.name + end)


def _copied(folder: Path, *paths: Path) -> Path:
    """The first of these, in another folder with the others."""
    for path in paths:
        shutil.copyfile(path, folder / path.name)
    return folder / paths[0].name


def _is_odd(path: Path) -> bool:
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _inode(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0)
    return (found.st_dev, found.st_ino)


def _is_empty(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_master").fetchone() is None and _marks(connection) == (0, 0)


def _check_ours(connection: sqlite3.Connection) -> None:
    ours, version = _marks(connection)
    if ours != _OURS:
        raise Corrupt("another program's database")
    if version != VERSION:
        raise Corrupt(f"its tables are of version {version}, this agent knows version {VERSION}")


def _marks(connection: sqlite3.Connection) -> tuple[int, int]:
    return tuple(connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))


def _whole(connection: sqlite3.Connection) -> None:
    (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise Corrupt(str(found))


def _sorted(error: sqlite3.Error | UnicodeDecodeError, otherwise: type[Exception]) -> Exception:
    """What an error of SQLite means for us, one too that quotes ruined bytes. A misuse of it is a bug, and raised as it is."""
    if isinstance(error, sqlite3.ProgrammingError | sqlite3.InterfaceError):
        raise error
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    return Corrupt(str(error)) if code in _CORRUPT else otherwise(str(error))
