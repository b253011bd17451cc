"""The notifier: payload, order, retries, a bounded queue, and nobody who waits for it. Over real sockets."""

import logging
import threading
import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.clock import SystemClock
from agent.control.board import Board, Change, Phase, Truth
from agent.surface import notify
from agent.surface.metrics import NOTIFICATIONS
from agent.surface.notice import Notice
from agent.surface.notify import SENTENCES, Notifier, Origin, payload
from agent.surface.operations import AgentView, HeldPrune
from agent.surface.post import Post, checked
from agent.surface.secret_file import SecretFile
from agent.surface.trouble import Facts
from tests.fakes.clock import VirtualClock
from tests.fakes.operations import NOW, a_status, eventually
from tests.fakes.receiver import Receiver, receiver
from tests.surface.test_trouble import WELL_VIEW

ORIGIN = Origin("gpu-7", "default")
FIELDS = (
    "version id time event repeated host instance text service names file shimlet phase serving reason message since "
    "revision change"
)


class Told:
    """A notifier over a view that a test changes, with time of its own."""

    def __init__(self, there: Receiver, tmp_path: Path) -> None:
        secret = tmp_path / "secret"
        secret.touch(0o600)
        secret.write_text("s3cr3t")
        self.clock = VirtualClock(now=NOW)
        self.view: AgentView = WELL_VIEW
        self.counts: Counter[str] = Counter()
        self.stop = threading.Event()
        self.notifier = Notifier(
            post=Post(
                url=checked(f"{there.url}/t0k3n", "notify.url"),
                secret=SecretFile(secret, "notify.secretFile"),
                setting="notify.url",
            ),
            origin=ORIGIN,
            view=lambda: replace(self.view, source=replace(self.view.source, read_at=self.clock.now())),
            count=lambda result: self.counts.update([result]),
            clock=self.clock,
            interval=3600.0,
            stale=900.0,
        )

    def goes_on(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.notifier.look()
        self.notifier.deliver(self.stop)

    def is_so(self, phase: Phase, *, names: tuple[str, ...] = ("web",)) -> None:
        """For long enough to be told."""
        well = phase is Phase.READY
        truth = Truth(well, "Converged" if well else "Exited", "" if well else "exit code 1")
        self.view = replace(self.view, services=tuple(a_status(name, phase, converged=truth) for name in names))
        self.goes_on(1)
        self.goes_on(6)


@pytest.fixture
def there():
    with receiver(secret="s3cr3t") as made:
        yield made


@pytest.fixture
def told(there, tmp_path):
    return Told(there, tmp_path)


def events(there: Receiver) -> list[str]:
    return [body["event"] for body in there.bodies]


def test_a_payload_has_all_fields_always():
    change = Change("a" * 40, "Ann", datetime(2026, 11, 1, tzinfo=UTC), "Use the new model")
    facts = Facts("web", "web.yaml", "docker", "Failed", serving=False, reason="Exited", since=NOW, change=change)
    full = payload(Notice("service.failed", replace(facts, message="code 1"), ("web",)), ORIGIN, number="1", now=NOW)
    bare = payload(Notice("source.recovered", Facts()), ORIGIN, number="2", now=NOW)
    assert list(full) == list(bare) == FIELDS.split()
    assert full["text"] == "gpu-7: web failed (Exited: code 1)"
    assert full["change"] == {
        "commit": "a" * 40,
        "author": "Ann",
        "at": "2026-11-01T00:00:00+00:00",
        "subject": "Use the new model",
    }
    assert bare["text"] == "gpu-7: the source is in order again"
    assert (bare["change"], bare["since"], bare["serving"], bare["service"]) == (None, None, None, "")


def test_many_files_are_named_together():
    told = Notice("file.invalid", Facts(reason="SpecInvalid"), ("a.yaml", "b.yaml"))
    said = payload(told, ORIGIN, number="1", now=NOW)
    assert said["text"] == "gpu-7: a.yaml, b.yaml is invalid, its services stay as they were (SpecInvalid)"
    assert (said["file"], said["names"]) == ("", ["a.yaml", "b.yaml"])


@pytest.mark.parametrize("event", SENTENCES)
def test_every_event_has_a_sentence(event):
    facts = Facts(service="web", file="a.yaml", shimlet="docker", reason="Why", message="x" * 5000)
    said = payload(Notice(event, facts, ("web",), repeated=True), ORIGIN, number="1", now=NOW)
    assert said["text"].startswith("gpu-7: still: ")
    assert "{" not in said["text"]
    assert len(said["message"]) <= 1000


def test_a_failure_is_one_post_and_its_end_another(told, there):
    told.is_so(Phase.FAILED)
    told.goes_on(3000)
    assert events(there) == ["service.failed"]
    told.is_so(Phase.READY)
    told.goes_on(3000)
    assert events(there) == ["service.failed", "service.recovered"]
    assert told.counts == {"sent": 2}
    assert there.wrong == 0
    headers = there.seen[0][1]
    assert (headers["X-Xmod-Event"], headers["X-Xmod-Delivery"]) == ("service.failed", there.bodies[0]["id"])


def test_a_lasting_failure_is_told_hourly(told, there):
    told.is_so(Phase.FAILED)
    for _ in range(10):
        told.goes_on(1200)
    assert [body["repeated"] for body in there.bodies] == [False, True, True, True]
    assert len({body["id"] for body in there.bodies}) == 4


def test_what_does_not_arrive_is_tried_again_in_order_and_with_the_same_id(told, there, caplog):
    there.answers = [500, 500]
    told.is_so(Phase.FAILED)
    told.is_so(Phase.READY)
    assert told.counts == {"failed": 1} or told.counts == {"failed": 2}
    assert "notifications do not arrive: http://127.0.0.1:" in told.notifier.trouble
    for _ in range(5):
        told.goes_on(60)
    assert events(there) == ["service.failed", "service.recovered"]
    assert len({headers["X-Xmod-Delivery"] for _, headers in there.seen}) == 2
    assert told.counts["sent"] == 2
    assert told.notifier.trouble == ""
    assert [record.levelno for record in caplog.records] == [logging.WARNING], "said once"
    assert "t0k3n" not in caplog.text


def test_the_other_end_says_when_to_come_back(told, there):
    there.answers = [(429, {"Retry-After": "120"})]
    told.is_so(Phase.FAILED)
    told.goes_on(110)
    assert len(there.seen) == 1
    told.goes_on(20)
    assert events(there) == ["service.failed"]


def test_what_is_refused_is_dropped_counted_and_said_and_the_next_is_sent(told, there, caplog):
    there.answers = [400]
    told.is_so(Phase.FAILED, names=("one", "two"))
    assert [body["service"] for body in there.bodies] == ["two"]
    assert told.counts == {"refused": 1, "sent": 1}
    assert [(record.service, record.message) for record in caplog.records] == [("one", "a notification is dropped")]


def test_the_queue_is_bounded_and_the_oldest_go_first(told, there, monkeypatch):
    monkeypatch.setattr(notify, "_WAITING", 3)
    there.answers = [500] * 100
    told.is_so(Phase.FAILED, names=tuple(f"s{number}" for number in range(9)))
    assert told.counts["dropped"] == 6
    there.answers = []
    for _ in range(5):
        told.goes_on(400)
    assert [body["service"] for body in there.bodies] == ["s6", "s7", "s8"]


def test_repeats_do_not_pile_up_behind_what_waits(told, there):
    there.answers = [500] * 1000
    told.is_so(Phase.FAILED)
    for _ in range(100):
        told.goes_on(400)
    there.answers = []
    told.goes_on(400)
    assert events(there) == ["service.failed"]


def test_what_is_held_is_told_with_its_names(told, there):
    told.view = replace(told.view, held=tuple(HeldPrune(name, "OverBudget", "too many", NOW) for name in ("a", "b")))
    told.goes_on(1)
    assert there.bodies[0]["names"] == ["a", "b"]
    assert there.bodies[0]["text"] == "gpu-7: removal held: a, b (OverBudget: too many)"


def test_every_outcome_is_counted(told):
    assert set(NOTIFICATIONS) == {"sent", "failed", "refused", "dropped"}


def test_a_receiver_that_stalls_delays_neither_the_board_nor_a_stop(there, tmp_path):
    told = Told(there, tmp_path)
    there.behaviour = "stall"
    told.notifier._clock = SystemClock()
    board = Board()
    board.listen(told.notifier.hear)
    thread = threading.Thread(target=told.notifier.run, args=(told.stop,), daemon=True)
    told.view = replace(told.view, held=(HeldPrune("a", "OverBudget", "", NOW),))
    thread.start()
    assert eventually(lambda: there.seen)
    began = time.monotonic()
    for number in range(1000):
        board.put(a_status("web", Phase.READY if number % 2 else Phase.FAILED))
    assert time.monotonic() - began < 1.0
    began = time.monotonic()
    told.stop.set()
    thread.join(5)
    assert not thread.is_alive()
    assert time.monotonic() - began < 1.5
    assert told.counts == {}


def test_news_are_sent_at_once_by_the_thread(there, tmp_path):
    told = Told(there, tmp_path)
    told.notifier._clock = SystemClock()
    thread = threading.Thread(target=told.notifier.run, args=(told.stop,), daemon=True)
    thread.start()
    told.view = replace(told.view, held=(HeldPrune("a", "OverBudget", "", NOW),))
    told.notifier.hear(None, None)
    assert eventually(lambda: there.bodies, 2)
    told.stop.set()
    thread.join(5)
    assert not thread.is_alive()
