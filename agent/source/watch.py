"""Hears that something may have changed; nobody decides anything from it.

Watched are exactly the folders that a scan listed, and of the way to them only the links and the end, each without what
lies below. So a new folder is heard in its parent and the next scan asks for another watch, whose failure is an error
and not silence; `.git` is never watched; and a folder that was replaced is another inode, for which this watch does not
count. What watches are deaf to (mounts, lost events) is found by looking at the way each second, and by the rescan.
"""

import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from watchfiles._rust_notify import RustNotify  # the documented low-level door: it alone tells when a watch stands

from agent.source.place import Inode, Way, inode_of
from agent.source.scan import Scan, readable

STEP = 20  # milliseconds between the looks of the waiting loop: heard after 1–2 of them; 10 doubles the idle CPU time
DEBOUNCE = 50  # milliseconds after which an event is told even if more keep coming


class Deaf(Exception):
    """No watch can be had, or it died; a scan now and then must do."""


class Until(Protocol):
    """Asked at each step whether to go on waiting."""

    def is_set(self) -> bool:
        """Stop waiting."""
        ...


class Notifier(Protocol):
    """What we use of watchfiles' RustNotify."""

    def watch(
        self, debounce_ms: int, step_ms: int, timeout_ms: int, stop_event: Until | None
    ) -> set[tuple[int, str]] | Literal["signal", "stop", "timeout"]:
        """Wait for changes."""
        ...

    def close(self) -> None:
        """Let go."""


Notify: TypeAlias = Callable[[Sequence[str]], Notifier]


def rust_notify(folders: Sequence[str]) -> Notifier:
    """Watch these folders by inotify, without what lies below them. Raises OSError or RuntimeError."""
    return RustNotify([*folders], False, False, 300, False, False)  # noqa: FBT003 it takes no keywords


@dataclass(frozen=True, slots=True)
class Grounds:
    """What a watch has to stand on. `folders`: of the source; `stations`: names on the way; `beside`: their folders."""

    folders: Mapping[str, Inode]
    stations: frozenset[str]
    beside: Mapping[str, Inode]


def grounds(way: Way, scan: Scan | None) -> Grounds:
    """What to watch after this scan, or, if there is none, until the folder can be read. Raises Deaf."""
    folders: dict[str, Inode] = {} if way.inode is None else {way.real: way.inode}
    if scan is not None:
        folders.update({real: folder.inode for real, folder in scan.folders.items()})
        folders.update(scan.aside)
    try:
        beside = {parent: inode_of(parent) for parent in {os.path.dirname(name) for name in way.stations}}  # noqa: PTH120 strings
    except OSError as error:
        raise Deaf(str(error)) from error
    return Grounds(folders, frozenset(way.stations), beside)


class Watch:
    """A watch that stands. It belongs to one thread."""

    def __init__(self, grounds: Grounds, notifier: Notifier) -> None:
        self.grounds = grounds
        self._notifier = notifier

    def heard(self, until: Until, seconds: float) -> bool:
        """Wait for a change that matters; False if none came in time, or the waiting is over. Raises Deaf."""
        try:
            changes = self._notifier.watch(DEBOUNCE, STEP, max(1, int(seconds * 1000)), until)
        except (OSError, RuntimeError) as error:
            raise Deaf(str(error)) from error
        if isinstance(changes, str):
            if changes == "signal":
                raise KeyboardInterrupt
            return False
        return any(self._matters(path) for _, path in changes)

    def close(self) -> None:
        """Let go."""
        self._notifier.close()

    def _matters(self, path: str) -> bool:
        """Whether a scan could see a difference. The kind of an event says nothing: an editor's set has no order."""
        if path in self.grounds.stations or path in self.grounds.folders:
            return True
        parent, _, name = path.rpartition("/")
        if (parent or "/") not in self.grounds.folders:
            return False
        if readable(name):
            return True
        try:
            return not stat.S_ISREG(os.lstat(path).st_mode)  # a folder, a link, or gone and maybe one of them
        except OSError:
            return True


def arm(grounds: Grounds, notify: Notify) -> Watch:
    """Set up a watch; what happens from now on is heard. Raises Deaf."""
    try:
        return Watch(grounds, notify([*{**grounds.beside, **grounds.folders}]))
    except UnicodeEncodeError as error:  # watchfiles takes no other names
        raise Deaf(f"the name of a folder is no UTF-8: {error.object!r}") from error
    except (OSError, RuntimeError) as error:
        raise Deaf(str(error)) from error
