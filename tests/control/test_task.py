"""TaskPool: one task a key, interest keeps it alive, its end wakes who asked, and bugs do not take threads along."""

import logging
import threading
import time

import pytest

from agent.contracts import Cancelled, Permanent, ServiceName, Task, TaskState
from agent.control.task import TaskPool
from tests.fakes.clock import VirtualClock

A, B = ServiceName("a"), ServiceName("b")
SOON = 10.0


class Wakes:
    """Records who was woken; a test waits on it instead of sleeping."""

    def __init__(self):
        self.names = []
        self._came = threading.Condition()

    def __call__(self, name):
        with self._came:
            self.names.append(name)
            self._came.notify_all()

    def until(self, *names):
        with self._came:
            assert self._came.wait_for(lambda: sorted(self.names) == sorted(names), SOON), self.names


class Gate:
    """Work that has begun when `begun` is set, and goes on, reporting, until `go` is set."""

    def __init__(self, report=True):
        self.begun, self.go, self.cancelled = threading.Event(), threading.Event(), threading.Event()
        self.runs = 0
        self._report = report

    def __call__(self, task: Task) -> None:
        self.runs += 1
        self.begun.set()
        try:
            while not self.go.wait(0.005):
                if self._report:
                    task.report(0.5, "half")
        except Cancelled:
            self.cancelled.set()
            raise

    def wait_begun(self):
        assert self.begun.wait(SOON)


@pytest.fixture
def wakes():
    return Wakes()


@pytest.fixture
def pool(wakes):
    pool = TaskPool(2, wakes, clock=VirtualClock())
    yield pool
    assert pool.close(SOON)


def until(claim):
    end = time.monotonic() + SOON
    while not claim():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_a_key_begins_once_however_many_services_ask_and_its_end_wakes_them_all(pool, wakes):
    gate = Gate()
    for name in (A, B, A):
        pool.of(name).start("pull", gate)
    gate.wait_begun()
    gate.go.set()
    wakes.until(A, B)
    assert gate.runs == 1


def test_asking_for_the_state_is_interest_too(pool, wakes):
    gate = Gate()
    pool.of(A).start("pull", gate)
    assert pool.of(B).state("pull").running
    gate.go.set()
    wakes.until(A, B)


def test_a_key_never_begun_has_no_state(pool):
    assert pool.of(A).state("pull") is None


def test_progress_is_seen_while_it_runs_and_the_end_is_dated(pool, wakes):
    gate = Gate()
    pool.of(A).start("pull", gate)
    until(lambda: pool.of(A).state("pull") == TaskState(running=True, done=0.5, message="half"))
    gate.go.set()
    wakes.until(A)
    ended_at = VirtualClock().now().timestamp()
    assert pool.of(A).state("pull") == TaskState(running=False, done=1.0, message="half", ended_at=ended_at)


def test_a_refusal_is_kept_as_the_error_and_not_logged(pool, wakes, caplog):
    refusal = Permanent("no such image", reason="ImageNotFound")

    def work(task):
        task.report(0.25, "pulling")
        raise refusal

    pool.of(A).start("pull", work)
    wakes.until(A)
    state = pool.of(A).state("pull")
    assert (state.running, state.done, state.error) == (False, 0.25, refusal)
    assert not caplog.records


@pytest.mark.parametrize(("bug", "kind"), [(ZeroDivisionError("x"), ZeroDivisionError), (SystemExit(3), RuntimeError)])
def test_a_bug_in_the_work_is_logged_once_kept_as_the_error_and_costs_no_thread(pool, wakes, caplog, bug, kind):
    def work(task):
        raise bug

    with caplog.at_level(logging.ERROR, "xmod.task"):
        for _ in range(4):  # more often than there are threads
            pool.of(A).start("buggy", work)
            wakes.until(A)
            wakes.names.clear()
    assert isinstance(pool.of(A).state("buggy").error, kind)
    assert [record.task for record in caplog.records] == ["buggy"] * 4


def test_a_task_that_failed_can_be_started_again(pool, wakes):
    def fails(task):
        raise Permanent("no")

    pool.of(A).start("pull", fails)
    wakes.until(A)
    pool.of(A).start("pull", lambda task: None)
    wakes.until(A, A)
    assert pool.of(A).state("pull").error is None


def test_no_more_run_at_once_than_there_are_workers_and_the_rest_wait_their_turn(pool, wakes):
    gates = [Gate() for _ in range(5)]
    for number, gate in enumerate(gates):
        pool.of(A).start(f"pull-{number}", gate)
    gates[0].wait_begun()
    gates[1].wait_begun()
    waiting = pool.of(A).state("pull-4")
    assert waiting.running
    assert waiting.message == "waits for a free worker"
    assert not any(gate.begun.is_set() for gate in gates[2:])
    for gate in gates:
        gate.go.set()
    wakes.until(*[A] * 5)


def test_a_task_that_interests_nobody_is_cancelled_at_its_next_report_and_forgotten(pool, wakes):
    gate = Gate()
    pool.begin_look(A)
    pool.of(A).start("pull", gate)
    pool.end_look(A)
    gate.wait_begun()
    pool.begin_look(A)
    pool.end_look(A)
    assert gate.cancelled.wait(SOON)
    until(lambda: pool.of(B).state("pull") is None)
    assert wakes.names in ([], [B])  # B is told if it asked before the end: it may begin anew


def test_a_service_that_asks_in_each_look_keeps_its_task(pool, wakes):
    gate = Gate()
    for name in (A, B):
        pool.begin_look(name)
        pool.of(name).start("pull", gate)
        pool.end_look(name)
    for _ in range(3):
        pool.begin_look(A)
        pool.of(A).state("pull")
        pool.end_look(A)
        pool.begin_look(B)
        pool.end_look(B)
    gate.wait_begun()
    gate.go.set()
    wakes.until(A)
    assert not gate.cancelled.is_set()


def test_interest_that_comes_back_before_the_next_report_keeps_the_task(pool, wakes):
    gate = Gate(report=False)
    pool.of(A).start("pull", gate)
    gate.wait_begun()
    pool.forget(A)
    pool.of(B).state("pull")
    gate.go.set()
    wakes.until(B)
    assert pool.of(B).state("pull").error is None


def test_a_queued_task_that_interests_nobody_never_begins(pool, wakes):
    running = [Gate(), Gate()]
    for number, gate in enumerate(running):
        pool.of(A).start(f"pull-{number}", gate)
    queued = Gate()
    pool.of(B).start("unwanted", queued)
    pool.forget(B)
    for gate in running:
        gate.go.set()
    wakes.until(A, A)
    until(lambda: pool.of(A).state("unwanted") is None)
    assert queued.runs == 0


def test_one_that_was_cancelled_can_begin_again_once_it_ended(pool, wakes):
    first = Gate()
    pool.of(A).start("pull", first)
    first.wait_begun()
    pool.forget(A)
    assert first.cancelled.wait(SOON)
    second = Gate()
    second.go.set()

    def again():
        pool.of(B).start("pull", second)
        return second.runs == 1

    until(again)


def test_ended_states_are_bounded_and_those_that_nobody_asks_for_go_first(wakes):
    pool = TaskPool(1, wakes, kept=3)
    for number in range(10):
        pool.of(B).start(f"pull-{number}", lambda task: None)
        wakes.until(*[B] * (number + 1))
        if number > 0:
            pool.forget(B)
            pool.of(A).state("pull-0")
    kept = [number for number in range(10) if pool.of(A).state(f"pull-{number}") is not None]
    assert kept == [0, 8, 9]
    assert pool.close(SOON)


def test_services_that_went_leave_nothing_behind(pool, wakes):
    for number in range(100):
        name = ServiceName(f"s{number}")
        pool.begin_look(name)
        pool.of(name).start("pull", lambda task: None)
        pool.end_look(name)
        pool.begin_look(name)
        pool.end_look(name)
    assert pool._interests == {}


def test_the_end_is_told_without_locks_held(wakes):
    pool = None
    seen = threading.Event()

    def wake(name):
        if pool.of(name).state("pull").error is None:
            seen.set()

    pool = TaskPool(1, wake)
    pool.of(A).start("pull", lambda task: None)
    assert seen.wait(SOON)
    assert pool.close(SOON)


def test_close_cancels_what_reports_and_drops_what_waits(wakes):
    pool = TaskPool(1, wakes)
    gate, queued = Gate(), Gate()
    pool.of(A).start("pull", gate)
    pool.of(A).start("later", queued)
    gate.wait_begun()
    assert pool.close(SOON)
    assert gate.cancelled.is_set()
    assert queued.runs == 0
    pool.of(A).start("too-late", queued)
    assert pool.of(A).state("too-late") is None
    assert wakes.names == []


def test_close_abandons_what_does_not_end_within_its_bound(wakes, caplog):
    pool = TaskPool(1, wakes)
    gate = Gate(report=False)
    pool.of(A).start("stuck", gate)
    gate.wait_begun()
    assert not pool.close(0.05)
    assert [record.tasks for record in caplog.records] == [["stuck"]]
    assert all(thread.daemon for thread in pool._threads)
    gate.go.set()
    assert pool.close(SOON)


def test_threads_begin_with_the_first_task(wakes):
    pool = TaskPool(8, wakes)
    assert pool._threads == []
    for _ in range(3):
        pool.of(A).start("pull", lambda task: None)
        wakes.until(A)
        until(lambda: pool._idle == 1)
        wakes.names.clear()
    assert len(pool._threads) == 1
    assert pool.close(SOON)


def test_many_services_over_few_keys_each_hear_of_every_end(wakes):
    pool = TaskPool(3, wakes)
    names = [ServiceName(f"s{number}") for number in range(20)]

    def ask(name):
        for _ in range(50):
            pool.begin_look(name)
            for key in ("x", "y", "z"):
                pool.of(name).start(key, lambda task: task.report(1.0, "there"))
            pool.end_look(name)

    threads = [threading.Thread(target=ask, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    until(lambda: not any(pool.of(names[0]).state(key).running for key in ("x", "y", "z")))
    until(lambda: set(wakes.names) == set(names))
    assert pool.close(SOON)
