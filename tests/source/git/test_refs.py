"""A move of HEAD or of its ref is heard, and what is not heard is seen within a second; nothing else ends a wait."""

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Literal

import pytest

from agent.clock import SystemClock
from agent.source.git.place import sight
from agent.source.git.refs import AnyOf, RefWatch
from agent.source.watch import Until, rust_notify

NEVER = threading.Event()


class Waiting:
    """A RefWatch on a work tree, with a count of its quiet seconds."""

    def __init__(self, root, notify) -> None:
        self.root = root
        self.quiet = 0
        self.watch = RefWatch(lambda: sight(str(root)), clock=SystemClock(), notify=notify, idle=self._idle)

    def _idle(self) -> None:
        self.quiet += 1

    def until_moved(self, act, *, seconds: float = 10.0) -> float:
        """Wait in this thread while another one acts; how long after that the wait ended."""
        seen = sight(str(self.root))
        done = []
        thread = threading.Timer(0.3, lambda: (act(), done.append(time.monotonic())))
        thread.start()
        self.watch.wait(seen, NEVER, time.monotonic() + seconds)
        ended = time.monotonic()
        thread.join()
        assert done, "it ended before anything happened"
        return ended - done[0]


@pytest.fixture
def waiting(repo) -> Iterator[Waiting]:
    made = Waiting(repo.root, rust_notify)
    yield made
    made.watch.close()


class Deaf:
    """A watch that hears nothing."""

    def __init__(self, folders: Sequence[str]) -> None:
        self.folders = folders

    def watch(self, debounce_ms: int, step_ms: int, timeout_ms: int, stop_event: Until | None) -> Literal["timeout"]:
        time.sleep(timeout_ms / 1000)
        return "timeout"

    def close(self) -> None:
        """Nothing to let go of."""


ACTS = {
    "a commit": lambda repo: repo.commit(a="a: 2\n"),
    "another branch": lambda repo: repo.git("checkout", "-q", "-b", "side"),
    "packed refs": lambda repo: repo.git("pack-refs", "--all"),
    "a reset": lambda repo: repo.git("reset", "-q", "--hard", "HEAD~1"),
}


@pytest.mark.parametrize("act", ACTS)
def test_a_move_ends_the_wait_at_once(repo, waiting, act):
    repo.commit(a="a: 1.5\n")
    assert waiting.until_moved(lambda: ACTS[act](repo)) < 0.5


def test_a_branch_in_a_folder_that_is_not_there_yet_is_heard(repo, waiting):
    repo.git("checkout", "-q", "-b", "team/side")
    repo.git("pack-refs", "--all")
    assert waiting.until_moved(lambda: repo.commit(a="a: 2\n")) < 1.5


def test_what_no_event_tells_is_seen_within_a_second_or_so(repo):
    waiting = Waiting(repo.root, Deaf)
    assert waiting.until_moved(lambda: repo.commit(a="a: 2\n")) < 2.0


def test_without_any_watch_it_is_said_once_and_looked_for_each_second(repo, told):
    def refused(folders: Sequence[str]):
        raise OSError("no more watches")

    waiting = Waiting(repo.root, refused)
    assert waiting.until_moved(lambda: repo.commit(a="a: 2\n")) < 2.0
    assert waiting.until_moved(lambda: repo.commit(a="a: 3\n")) < 2.0
    assert len({id(record) for record in told.records if "cannot watch the repository" in record.message}) == 1


def test_the_checkout_ends_no_wait_and_quiet_seconds_are_told(repo, waiting):
    seen = sight(str(repo.root))
    (repo.root / "specs" / "a.yaml").write_text("a: edited\n")
    began = time.monotonic()
    waiting.watch.wait(seen, NEVER, began + 2.5)
    assert time.monotonic() - began >= 2.5
    assert waiting.quiet >= 1


def test_a_stop_ends_a_wait_and_a_move_before_it_ends_it_before_it_begins(repo, waiting):
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    began = time.monotonic()
    waiting.watch.wait(sight(str(repo.root)), AnyOf(NEVER, stop), began + 30)
    assert time.monotonic() - began < 2
    seen = sight(str(repo.root))
    repo.commit(a="a: 2\n")
    waiting.watch.wait(seen, NEVER, time.monotonic() + 30)
    assert time.monotonic() - began < 4
