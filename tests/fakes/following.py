"""A follower: what the daemon's source thread does, with a record of what it saw; and words for folders and git."""

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from agent.contracts import Transient
from agent.source.directory import DirectorySource
from agent.source.snapshot import Snapshot

RESCAN = 30.0  # as in production: whatever is seen sooner was seen without the rescan


class Follower:
    """Looks and waits in a thread, as the daemon does."""

    def __init__(self, source: DirectorySource) -> None:
        self.source = source
        self.seen: list[Snapshot | Transient] = []
        self._news = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        self._thread.join(5)
        assert not self._thread.is_alive(), "the source did not obey stop"
        self.source.close()
        assert self._failure is None, self._failure

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                try:
                    found: Snapshot | Transient = self.source.look()
                except Transient as error:
                    found = error
                with self._news:
                    self.seen.append(found)
                    self._news.notify_all()
                self.source.wait(self._stop, RESCAN)
        except BaseException as error:  # noqa: BLE001 told by the test's own thread
            self._failure = error

    @property
    def last(self) -> Snapshot | Transient | None:
        return self.seen[-1] if self.seen else None

    def until(self, holds: Callable[[Snapshot], bool], *, within: float = 5.0) -> Snapshot:
        """The first snapshot, from now on, of which this holds."""
        found = self._await(lambda seen: isinstance(seen, Snapshot) and holds(seen), within)
        assert isinstance(found, Snapshot)
        return found

    def until_transient(self, *, within: float = 5.0) -> Transient:
        found = self._await(lambda seen: isinstance(seen, Transient), within)
        assert isinstance(found, Transient)
        return found

    def at_rest(self, *, within: float = 5.0) -> Snapshot | Transient:
        """What was seen last, once the follower waits and nothing more is on its way."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            with self._news:
                if self.seen and not self._news.wait(0.2):
                    return self.seen[-1]
        raise AssertionError("the source never came to rest")

    def _await(self, holds: Callable[[Snapshot | Transient], bool], within: float) -> Snapshot | Transient:
        deadline = time.monotonic() + within
        with self._news:
            while not (self.seen and holds(self.seen[-1])):
                left = deadline - time.monotonic()
                assert left > 0, f"not seen within {within} s; last: {described(self.last)}"
                self._news.wait(left)
            return self.seen[-1]


def described(found: Snapshot | Transient | None) -> object:
    if isinstance(found, Snapshot):
        return {file.path: file.error or (file.content or b"")[:40] for file in found.files}
    return repr(found)


def contents(snapshot: Snapshot) -> dict[str, bytes | None]:
    return {file.path: file.content for file in snapshot.files}


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Root may read everything: for a moment this process is somebody else."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def git(where: Path, *words: str, at: str = "") -> str:
    """Run git, without this machine's settings. `at`: the committer's time, unless it is now."""
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(where),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "t",
        "GIT_AUTHOR_EMAIL": "t@example.com",
        "GIT_COMMITTER_NAME": "t",
        "GIT_COMMITTER_EMAIL": "t@example.com",
        **({"GIT_COMMITTER_DATE": at} if at else {}),
    }
    return subprocess.run(["git", *words], cwd=where, env=env, check=True, capture_output=True, text=True).stdout
