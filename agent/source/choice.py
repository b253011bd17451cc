"""Which mode a folder is read in, decided at the first look that can see it: as a work tree's commit, or as plain files.

The choice holds until the agent ends, and its id is in every mark; so a folder that turns into a work tree, or back,
never turns one source into another under our feet. Only a folder in which nothing was seen yet may still become a work
tree: what is mounted or cloned there late. No mark names it, an empty folder deletes nothing, and to the gate what comes
then is a source that was replaced, which holds what it would remove.
"""

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from threading import Event

from agent.contracts import Transient
from agent.source.git.worktree import stands_on_specs
from agent.source.place import absolute, trace
from agent.source.snapshot import Snapshot, Source

_log = logging.getLogger("xmod.source")

_STEP = 0.2  # seconds between looks for a folder that is not there yet


class ChosenSource:
    """Reads the folder at `path` by `git` if it holds something at a work tree's HEAD, else by `folder`."""

    def __init__(self, path: Path, *, git: Callable[[], Source], folder: Callable[[], Source]) -> None:
        self._path = path
        self._git = git
        self._folder = folder
        self._source: Source | None = None
        self._certain = False
        self._kicked = threading.Event()
        self._closed = threading.Event()

    @property
    def id(self) -> str:
        """The id of what was chosen; "" before that."""
        return self._source.id if self._source is not None else ""

    @property
    def location(self) -> str:
        """Where it is."""
        return self._source.location if self._source is not None else str(self._path)

    @property
    def notice(self) -> str:
        """See Source."""
        return self._source.notice if self._source is not None else ""

    @property
    def head(self) -> str:
        """See Source."""
        return self._source.head if self._source is not None else ""

    @property
    def unverified(self) -> str:
        """See Source."""
        return self._source.unverified if self._source is not None else ""

    def look(self) -> Snapshot:
        """Everything, as of now. Raises Transient, also while there is no folder to choose by."""
        if self._source is None:
            self._choose()
        source = self._source
        assert source is not None  # noqa: S101 for mypy
        if self._certain:
            return source.look()
        found = None if stands_on_specs(self._path) else source.look()
        if found is not None and not found.files:
            return found
        self._certain = True
        if found is not None and not stands_on_specs(self._path):  # nor did it come to while it was read
            return found
        source.close()
        self._source = self._taken(self._git(), "git")
        return self._source.look()

    def wait(self, stop: Event, timeout: float) -> None:
        """See Source."""
        if self._source is not None:
            self._source.wait(stop, timeout)
            return
        for _ in range(max(1, int(timeout / _STEP))):
            if stop.is_set() or self._closed.is_set() or self._kicked.is_set() or self._there():
                break
            self._kicked.wait(_STEP)
        self._kicked.clear()

    def kick(self) -> None:
        """See Source."""
        self._kicked.set()
        if self._source is not None:
            self._source.kick()

    def close(self) -> None:
        """See Source."""
        self._closed.set()
        self._kicked.set()
        if self._source is not None:
            self._source.close()

    def _there(self) -> bool:
        return trace(absolute(self._path)).inode is not None

    def _choose(self) -> None:
        way = trace(absolute(self._path))
        if way.inode is None:
            raise Transient(
                f"{self._path}: no folder there ({way.stations[-1]}: {way.error}); create or mount it",
                reason="SourceMissing",
            )
        self._certain = stands_on_specs(self._path)
        self._source = self._taken(self._git(), "git") if self._certain else self._taken(self._folder(), "folder")

    def _taken(self, source: Source, mode: str) -> Source:
        said = (
            "reading commits; edits count once they are committed" if mode == "git" else "reading the folder as it is"
        )
        _log.info(said, extra={"source": source.location, "mode": mode})
        return source
