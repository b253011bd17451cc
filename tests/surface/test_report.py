"""Reports: what they say, how large they are, when they come, and that they never pile up. Over real sockets."""

import json
import threading
import time
from collections import Counter
from dataclasses import replace

import pytest

from agent.clock import SystemClock
from agent.control.board import Phase, Truth
from agent.surface import report, wire
from agent.surface.notify import Origin
from agent.surface.operations import AgentView
from agent.surface.post import Post, checked
from agent.surface.report import Reporter
from agent.surface.secret_file import SecretFile
from tests.fakes.operations import NOW, FakeOperations, a_status, eventually
from tests.fakes.receiver import Receiver, receiver

ORIGIN = Origin("gpu-7", "default")


class Reporting:
    """A reporter in its thread, over a view that a test changes."""

    def __init__(self, there: Receiver, tmp_path, *, interval: float) -> None:
        secret = tmp_path / "secret"
        secret.touch(0o600)
        secret.write_text("s3cr3t")
        self.view: AgentView = FakeOperations().agent
        self.counts: Counter[str] = Counter()
        self.stop = threading.Event()
        self.reporter = Reporter(
            post=Post(
                url=checked(there.url, "report.url"),
                secret=SecretFile(secret, "report.secretFile"),
                setting="report.url",
            ),
            origin=ORIGIN,
            view=lambda: self.view,
            count=lambda result: self.counts.update([result]),
            clock=SystemClock(),
            interval=interval,
        )
        self.thread = threading.Thread(target=self.reporter.run, args=(self.stop,), daemon=True)
        self.thread.start()

    def changes(self, *statuses) -> None:
        self.view = replace(self.view, services=statuses)
        self.reporter.hear(None, None)


@pytest.fixture
def there():
    with receiver(secret="s3cr3t") as made:
        yield made


@pytest.fixture
def reporting(there, tmp_path):
    made = []

    def make(interval: float) -> Reporting:
        made.append(Reporting(there, tmp_path, interval=interval))
        return made[-1]

    yield make
    for one in made:
        one.stop.set()
        one.thread.join(5)
        assert not one.thread.is_alive()


def test_a_report_says_how_everything_is():
    view = FakeOperations().agent
    view = replace(view, source=replace(view.source, head="0123456789abcdef0", behind=2))
    said = report.report(view, ORIGIN, number="1", now=NOW, interval=60.0)
    assert json.loads(wire.encoded(said)) == {
        "version": 1,
        "id": "1",
        "time": NOW.isoformat(),
        "host": "gpu-7",
        "instance": "default",
        "interval": 60.0,
        "agent": {"version": "0.1.0", "started_at": NOW.isoformat()},
        "source": {
            "location": "/srv/specs",
            "revision": "0123456789abcdef",
            "head": "0123456789abcdef0",
            "behind": 2,
            "error": "",
            "unverified": "",
            "invalid": ["bad.yaml"],
            "read_at": NOW.isoformat(),
        },
        "worlds": [{"shimlet": "process", "error": ""}],
        "held": [{"name": "old", "reason": "Budget"}],
        "notices": [],
        "total": {"services": 2, "invalid": 1, "held": 1},
        "services": [
            {
                "name": "slow",
                "phase": "Progressing",
                "serving": False,
                "converged": False,
                "reason": "Loading",
                "message": "the model is loading",
                "revision": "0123456789abcdef",
                "since": NOW.isoformat(),
            },
            {
                "name": "qwen",
                "phase": "Ready",
                "serving": True,
                "converged": True,
                "reason": "Achieved",
                "message": "",
                "revision": "0123456789abcdef",
                "since": NOW.isoformat(),
            },
        ],
    }


def test_its_size_is_bounded_and_what_is_not_well_comes_first():
    def sized(count: int) -> tuple[int, dict]:
        well = [a_status(f"service-{number:05}") for number in range(count)]
        bad = a_status("zzz", Phase.FAILED, converged=Truth(False, "Exited", "x" * 10_000))
        view = replace(FakeOperations().agent, services=(*well, bad))
        said = report.report(view, ORIGIN, number="1", now=NOW, interval=60.0)
        return len(wire.encoded(said)), said

    size, said = sized(1000)
    assert size < 300_000
    assert len(said["services"]) == 1001
    assert said["services"][0]["name"] == "zzz"
    size, said = sized(20_000)
    assert size < 600_000
    assert said["total"]["services"] == 20_001


def test_it_comes_at_each_interval(there, reporting):
    reporting(0.3)
    assert eventually(lambda: len(there.bodies) >= 4)
    pauses = [later - earlier for earlier, later in zip(there.times, there.times[1:4], strict=False)]
    assert all(0.25 < pause < 0.8 for pause in pauses), pauses
    assert there.wrong == 0


def test_a_change_is_reported_within_a_second_or_so_and_many_as_one(there, reporting):
    made = reporting(3600)
    made.reporter.hear(None, None)
    assert eventually(lambda: there.bodies, 8)
    for number in range(50):
        made.changes(a_status("web", Phase.PROGRESSING, replicas=number))
        made.changes(a_status("web", Phase.FAILED if number % 2 else Phase.READY))
    began = time.monotonic()
    assert eventually(lambda: len(there.bodies) == 2, 3)
    assert time.monotonic() - began < 2.5
    assert there.bodies[1]["services"][0]["phase"] == "Failed"


def test_what_changes_nothing_that_is_said_is_not_reported(there, reporting):
    made = reporting(3600)
    made.reporter.hear(None, None)
    assert eventually(lambda: there.bodies, 8)
    made.changes(*(replace(status, attempts=7, next_try=NOW) for status in made.view.services))
    assert eventually(lambda: not made.reporter._news.is_set(), 3)
    time.sleep(0.3)  # nothing may happen, which has no moment of its own
    assert len(there.seen) == 1


def test_a_pull_that_counts_on_is_no_change(there, reporting):
    made = reporting(3600)
    made.changes(a_status("web", Phase.PROGRESSING, converged=Truth(False, "Pulling", "1 of 9 MB")))
    assert eventually(lambda: there.bodies, 8)
    made.changes(a_status("web", Phase.PROGRESSING, converged=Truth(False, "Pulling", "2 of 9 MB")))
    assert eventually(lambda: not made.reporter._news.is_set(), 3)
    time.sleep(0.3)  # nothing may happen, which has no moment of its own
    assert len(there.seen) == 1
    made.changes(a_status("web", Phase.PROGRESSING, converged=Truth(False, "Starting", "2 of 9 MB")))
    assert eventually(lambda: len(there.bodies) == 2, 3)


def test_failures_are_said_once_counted_and_never_pile_up(there, reporting, caplog):
    there.answers = [500] * 3
    made = reporting(0.3)
    for number in range(100):
        made.changes(a_status("web", replicas=number))
    assert eventually(lambda: made.counts["sent"] >= 1)
    assert made.counts["failed"] == 3
    assert there.most_at_once == 1
    assert [record.getMessage() for record in caplog.records if record.name == "xmod.report"] == [
        "cannot send a report"
    ]
    assert made.reporter.trouble == ""


def test_a_change_does_not_hurry_a_receiver_that_fails(there, reporting):
    there.answers = [500] * 1000
    made = reporting(3600)
    made.reporter.hear(None, None)
    assert eventually(lambda: there.seen, 8)
    assert eventually(lambda: made.reporter.trouble)
    made.changes(a_status("web", Phase.FAILED))
    assert eventually(lambda: not made.reporter._news.is_set(), 3)
    time.sleep(0.3)  # nothing may happen, which has no moment of its own
    assert len(there.seen) == 1


def test_a_stalled_receiver_does_not_hold_up_a_stop(there, reporting):
    there.behaviour = "stall"
    made = reporting(1)
    assert eventually(lambda: there.seen)
    began = time.monotonic()
    made.stop.set()
    made.thread.join(5)
    assert time.monotonic() - began < 1.5
    assert made.counts == {}
