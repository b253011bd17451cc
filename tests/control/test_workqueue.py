"""The work queue: tables and random histories on the core in virtual time; threads against the real shell."""

import random
import sys
import threading
import time
from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.clock import SystemClock
from agent.contracts import ServiceName
from agent.control.workqueue import AGEING, Backoff, LaneView, Priority, Waiting, WorkQueue
from tests.fakes.clock import VirtualClock

CHANGE, DRIFT, RESYNC = Priority.CHANGE, Priority.DRIFT, Priority.RESYNC
A, B, C = ServiceName("a"), ServiceName("b"), ServiceName("c")
SOON = 10.0


def longest(low, high):
    return high


class Ear:
    """QueueMetrics that writes down what it hears."""

    def __init__(self):
        self.heard = []

    def added(self, lane):
        self.heard.append(("added", lane))

    def taken(self, lane, waited):
        self.heard.append(("taken", lane, waited))

    def finished(self, lane, worked):
        self.heard.append(("finished", lane, worked))

    def retried(self, lane):
        self.heard.append(("retried", lane))


class Core:
    """The core with defaults for what a test does not care about; `now` moves by hand."""

    def __init__(self, **parts):
        self.waiting = Waiting(**{"backoff": Backoff(draw=longest), **parts})
        self.now = 0.0

    def add(self, name, priority=RESYNC, lane="x", delay=0.0):
        self.waiting.add(name, lane=lane, priority=priority, delay=delay, now=self.now)

    def retry(self, name, priority=RESYNC, lane="x"):
        return self.waiting.retry(name, lane=lane, priority=priority, now=self.now)

    def take(self, lane="x"):
        return self.waiting.take(lane, self.now)

    def done(self, name):
        return self.waiting.done(name, self.now)

    def all(self, lane="x"):
        names = []
        while (name := self.take(lane)) is not None:
            names.append(name)
        return names


@pytest.fixture
def core():
    return Core()


# ---- the dirty and the processing set


def test_a_name_added_twice_is_handed_out_once(core):
    core.add(A)
    core.add(A)
    assert core.all() == [A]


def test_a_name_added_while_it_is_worked_on_waits_for_done(core):
    core.add(A)
    core.take()
    core.add(A)
    assert core.take() is None
    assert core.done(A) == "x"
    assert core.take() == A


def test_many_adds_while_it_is_worked_on_are_one_more_look(core):
    core.add(A)
    core.take()
    for _ in range(5):
        core.add(A)
    core.done(A)
    core.take()
    assert core.done(A) is None
    assert core.take() is None


def test_done_of_a_name_that_nobody_took_is_nothing(core):
    assert core.done(A) is None
    core.add(A)
    assert core.done(A) is None
    assert core.take() == A


# ---- order


def test_equals_go_first_in_first_out(core):
    for name in (B, A, C):
        core.add(name)
    assert core.all() == [B, A, C]


def test_a_fresh_commit_goes_before_drift_and_drift_before_resync(core):
    core.add(A, RESYNC)
    core.add(B, DRIFT)
    core.add(C, CHANGE)
    assert core.all() == [C, B, A]


@pytest.mark.parametrize("adds", [(RESYNC, CHANGE), (CHANGE, RESYNC)])
def test_the_highest_priority_that_was_asked_for_counts(core, adds):
    core.add(B, DRIFT)
    for priority in adds:
        core.add(A, priority)
    assert core.all() == [A, B]


def test_a_raised_name_keeps_its_place_among_equals(core):
    core.add(A, RESYNC)
    core.now = 1.0
    core.add(B, CHANGE)
    core.add(A, CHANGE)
    assert core.all() == [A, B]


@pytest.mark.parametrize(("waited", "first"), [(2 * AGEING - 1, B), (2 * AGEING + 1, A)])
def test_waiting_lifts_a_resync_above_a_fresh_commit_after_two_steps(core, waited, first):
    core.add(A, RESYNC)
    core.now = waited
    core.add(B, CHANGE)
    assert core.take() == first


def test_a_resync_gets_through_a_flood_of_commits(core):
    core.add(A, RESYNC)
    for number in range(1000):
        core.add(ServiceName(f"flood-{number}"), CHANGE)
        core.now += 0.5  # one comes, one is taken, for ever: without ageing A would never be
        if core.take() == A:
            break
    assert core.now <= 2 * AGEING + 1


# ---- delays


def test_a_delayed_name_is_handed_out_when_its_time_has_come_and_not_before(core):
    core.add(A, delay=5.0)
    assert core.waiting.due("x", core.now) == 5.0
    core.now = 4.999
    assert core.take() is None
    core.now = 5.0
    assert core.take() == A


@pytest.mark.parametrize("delays", [(5.0, 2.0), (2.0, 5.0)])
def test_the_earliest_of_two_delays_counts(core, delays):
    for delay in delays:
        core.add(A, delay=delay)
    assert core.waiting.next_at(A) == 2.0
    core.now = 2.0
    assert core.all() == [A]
    core.now = 6.0
    assert core.take() is None


def test_an_add_without_delay_brings_a_delayed_name_forward(core):
    core.add(A, delay=60.0)
    core.add(A, RESYNC)
    assert core.take() == A


def test_a_delayed_add_while_it_is_worked_on_keeps_its_delay(core):
    core.add(A)
    core.take()
    core.add(A, delay=5.0)
    core.done(A)
    assert core.take() is None
    core.now = 5.0
    assert core.take() == A


def test_a_name_that_does_not_wait_has_no_next_time(core):
    assert core.waiting.next_at(A) is None
    core.add(A, delay=3.0)
    assert core.waiting.next_at(A) == 3.0
    core.now = 3.0
    core.take()
    assert core.waiting.next_at(A) is None


# ---- lanes


def test_a_lane_hands_out_its_own_names_only(core):
    core.add(A, lane="x")
    core.add(B, lane="y")
    assert core.all("y") == [B]
    assert core.all("x") == [A]


def test_a_waiting_name_moves_to_the_newest_lane(core):
    core.add(A, CHANGE, lane="x")
    core.add(A, RESYNC, lane="y")
    assert core.take("x") is None
    assert core.take("y") == A


def test_a_name_that_moves_there_and_back_is_handed_out_once(core):
    for lane in ("x", "y", "x", "y", "x"):
        core.add(A, lane=lane)
    assert (core.all("y"), core.all("x")) == ([], [A])


def test_a_name_worked_on_in_one_lane_is_not_handed_out_in_another(core):
    core.add(A, lane="x")
    core.take("x")
    core.add(A, lane="y")
    assert core.take("y") is None
    assert core.done(A) == "y"
    assert core.take("y") == A


# ---- back-off


def fail(core, name, **how):
    """One failed look; the delay."""
    core.now = max(core.now, core.waiting.next_at(name))
    assert core.take() == name
    delay = core.retry(name, **how)
    core.done(name)
    return delay


def test_back_off_doubles_from_one_second_to_five_minutes(core):
    core.add(A)
    assert [fail(core, A) for _ in range(11)] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    assert core.waiting.attempts(A) == 11


def test_back_off_never_overflows():
    assert Backoff(draw=longest).delay(100_000) == 300.0


def test_jitter_is_full_and_reproducible():
    drawn = [Backoff(draw=random.Random(7).uniform).delay(10) for _ in range(3)]
    assert len(set(drawn)) == 1
    spread = random.Random(7).uniform
    many = [Backoff(draw=spread).delay(10) for _ in range(2000)]
    assert min(many) < 10
    assert max(many) > 290
    assert 135 < sum(many) / len(many) < 165


def test_forget_begins_the_back_off_anew(core):
    core.add(A)
    fail(core, A)
    fail(core, A)
    core.waiting.forget(A)
    assert core.waiting.attempts(A) == 0
    assert fail(core, A) == 1


def test_a_new_spec_resets_the_back_off_and_goes_at_once(core):
    core.add(A)
    for _ in range(6):
        fail(core, A)
    core.add(A, CHANGE)
    assert core.waiting.attempts(A) == 0
    assert core.take() == A


@pytest.mark.parametrize("priority", [RESYNC, DRIFT])
def test_events_do_not_hurry_a_name_that_backs_off(core, priority):
    core.add(A)
    for _ in range(3):
        fail(core, A)
    due = core.waiting.next_at(A)
    core.add(A, priority)
    assert core.take() is None
    assert core.waiting.next_at(A) == due


def test_after_forget_an_event_hurries_it(core):
    core.add(A)
    fail(core, A)
    core.waiting.forget(A)
    core.add(A, DRIFT)
    assert core.take() == A


def test_an_event_during_a_look_that_fails_waits_for_the_back_off_too(core):
    core.add(A)
    core.take()
    core.add(A, DRIFT)
    assert core.retry(A) == 1.0
    core.done(A)
    assert core.take() is None
    core.now = 1.0
    assert core.all() == [A]


def test_a_new_spec_during_a_look_that_fails_does_not_wait(core):
    core.add(A)
    core.take()
    core.add(A, CHANGE, lane="y")
    assert core.retry(A) == 0.0
    core.done(A)
    assert core.take("y") == A


def test_a_retried_commit_keeps_its_priority_and_its_back_off(core):
    core.add(A, CHANGE)
    assert fail(core, A, priority=CHANGE) == 1
    assert fail(core, A, priority=CHANGE) == 2
    core.now = 3.0
    core.add(B, DRIFT)
    assert core.all() == [A, B]


def test_a_pending_look_between_two_failures_does_not_reset_the_back_off(core):
    core.add(A)
    fail(core, A)
    core.now = 1.0
    core.take()
    core.add(A, delay=2.0)
    core.done(A)
    assert fail(core, A) == 2


def test_retry_is_a_word_of_the_worker_that_holds_the_name(core):
    core.add(A)
    with pytest.raises(ValueError, match="between take and done"):
        core.retry(A)


# ---- memory, metrics, shutdown


def test_names_leave_nothing_behind(core):
    for number in range(1000):
        name = ServiceName(f"s{number}")
        core.add(name, CHANGE)
        core.take()
        core.retry(name)
        core.done(name)
        core.now += 1.0
        core.take()
        core.done(name)
    waiting = core.waiting
    assert (waiting._wishes, waiting._jobs, waiting._failures) == ({}, {}, {})
    assert sum(len(heaps.ready) + len(heaps.delayed) for heaps in waiting._lanes.values()) == 0


def test_a_name_that_is_added_for_ever_costs_no_memory(core):
    for number in range(10_000):
        core.add(A, delay=20_000.0 - number, lane=f"lane-{number % 2}")
    heaps = core.waiting._lanes.values()
    assert sum(len(lane.ready) + len(lane.delayed) for lane in heaps) < 200
    core.now = 20_000.0
    assert core.all("lane-1") == [A]


def test_metrics_hear_adds_after_dedupe_and_durations_from_the_turn_on():
    ear = Ear()
    core = Core(metrics=ear)
    core.add(A)
    core.add(A)
    core.now = 2.0
    core.take()
    core.now = 5.0
    core.retry(A)
    core.done(A)
    core.now = 9.0
    core.take()
    assert ear.heard == [
        ("added", "x"),
        ("taken", "x", 2.0),
        ("retried", "x"),
        ("added", "x"),
        ("finished", "x", 3.0),
        ("taken", "x", 3.0),  # its turn was at 6
    ]


def test_the_snapshot_tells_depth_delays_and_ages_by_lane(core):
    core.add(A)
    core.add(B)
    core.take()
    core.now = 1.0
    core.take()
    core.add(A)
    core.add(C, delay=5.0)
    core.add(ServiceName("d"), lane="y")
    core.now = 4.0
    assert core.waiting.snapshot(core.now) == (
        LaneView("x", depth=1, delayed=1, processing=2, unfinished=7.0, longest=4.0),
        LaneView("y", depth=1),
    )


def test_the_snapshot_knows_a_lane_whose_only_name_is_still_worked_on_elsewhere(core):
    core.add(A, lane="x")
    core.take("x")
    core.add(A, lane="y")
    assert core.waiting.snapshot(0.0) == (LaneView("x", processing=1), LaneView("y", depth=1))


def test_after_the_close_nothing_is_handed_out_or_taken_in_but_work_ends(core):
    core.add(A)
    core.add(B)
    core.take()
    core.waiting.close()
    core.add(C)
    assert core.take() is None
    assert core.retry(A) == 1.0
    assert core.done(A) is None
    assert not core.waiting.busy


# ---- random histories of the core

NAMES = st.sampled_from([ServiceName(name) for name in "abcdef"])
LANES = st.sampled_from(["x", "y"])
DELAYS = st.sampled_from([0.0, 0.0, 1.0, 7.0])


class Histories(RuleBasedStateMachine):
    """Against a model that keeps, of each wish, the newest lane, the highest priority and the earliest time."""

    def __init__(self):
        super().__init__()
        self.now = 0.0
        self.core = Waiting(backoff=Backoff(draw=longest))
        self.wishes = {}
        self.working = set()
        self.failures = Counter()

    @rule(name=NAMES, lane=LANES, priority=st.sampled_from(Priority), delay=DELAYS)
    def add(self, name, lane, priority, delay):
        self.core.add(name, lane=lane, priority=priority, delay=delay, now=self.now)
        wish = self.wishes.setdefault(name, {"priority": priority, "due": self.now + delay, "floor": False})
        if priority is CHANGE:
            self.failures[name] = 0
            wish["floor"] = False
        if not wish["floor"]:
            wish["due"] = min(wish["due"], self.now + delay)
        wish["lane"] = lane
        wish["priority"] = max(wish["priority"], priority)

    @rule(lane=LANES)
    def take(self, lane):
        name = self.core.take(lane, self.now)
        mine = {n: w for n, w in self.wishes.items() if w["lane"] == lane and n not in self.working}
        turn = {n: w["due"] - AGEING * w["priority"] for n, w in mine.items() if w["due"] <= self.now}
        if name is None:
            assert turn == {}, "a name whose turn it is was not handed out"
            return
        assert name not in self.working, "handed out twice at once"
        assert turn[name] == min(turn.values()), "someone else had waited longer, or mattered more"
        del self.wishes[name]
        self.working.add(name)

    @precondition(lambda self: self.working)
    @rule(data=st.data(), how=st.sampled_from(["done", "retry", "forget"]))
    def end(self, data, how):
        name = data.draw(st.sampled_from(sorted(self.working)))
        if how == "retry":
            self.retry(name)
        if how == "forget":
            self.core.forget(name)
            self.failures[name] = 0
            if name in self.wishes:
                self.wishes[name]["floor"] = False
        self.core.done(name, self.now)
        self.working.discard(name)
        if name not in self.wishes:
            self.failures[name] = 0

    def retry(self, name):
        self.core.retry(name, lane="x", priority=RESYNC, now=self.now)
        self.failures[name] += 1
        due = self.now + min(300.0, 2.0 ** (self.failures[name] - 1))
        wish = self.wishes.setdefault(name, {"lane": "x", "priority": RESYNC, "due": due, "floor": True})
        if wish["priority"] is not CHANGE:
            wish.update(due=due, floor=True)

    @rule(seconds=st.sampled_from([0.5, 1.0, 3.0, 30.0]))
    def pass_time(self, seconds):
        self.now += seconds

    @invariant()
    def nothing_is_lost_and_nothing_is_left(self):
        for name in map(ServiceName, "abcdef"):
            wish = self.wishes.get(name)
            assert self.core.next_at(name) == (wish["due"] if wish else None)
            assert self.core.attempts(name) == self.failures[name]
        views = self.core.snapshot(self.now)
        assert sum(view.depth + view.delayed for view in views) == len(self.wishes)
        assert sum(view.processing for view in views) == len(self.working)

    def teardown(self):
        for name in tuple(self.working):
            self.core.done(name, self.now)
        left = set(self.wishes)
        self.now += 10_000.0
        for lane in ("x", "y"):
            while (name := self.core.take(lane, self.now)) is not None:
                assert self.wishes[name]["lane"] == lane, "lanes mixed"
                left.discard(name)
                self.core.done(name, self.now)
        assert left == set()
        assert self.core._wishes == {}
        assert self.core._failures == {}


Histories.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
TestHistories = Histories.TestCase


# ---- the shell


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
def queue(clock):
    queue = WorkQueue(clock=clock, backoff=Backoff(draw=longest))
    clock.on_advance(queue.recheck)
    yield queue
    queue.shut_down()


class Taker(threading.Thread):
    """One take on a thread of its own."""

    def __init__(self, queue, lane="x", timeout=None):
        super().__init__(daemon=True)
        self.queue, self.lane, self.timeout = queue, lane, timeout
        self.name_taken = "nothing yet"
        self.start()

    def run(self):
        self.name_taken = self.queue.take(self.lane, self.timeout)

    def result(self):
        self.join(SOON)
        assert not self.is_alive()
        return self.name_taken

    def until_waiting(self, waiters=1):
        end = time.monotonic() + SOON
        while len(self.queue._turn(self.lane)._waiters) < waiters:
            assert time.monotonic() < end
            time.sleep(0.001)


def test_take_waits_for_an_add(queue):
    taker = Taker(queue)
    taker.until_waiting()
    queue.add(A, lane="x", priority=CHANGE)
    assert taker.result() == A


def test_take_waits_for_a_delay_in_the_clocks_time(queue, clock):
    queue.add(A, lane="x", priority=CHANGE, delay=300.0)
    taker = Taker(queue)
    taker.until_waiting()
    clock.advance(299.0)
    taker.until_waiting()
    clock.advance(1.0)
    assert taker.result() == A


def test_take_wakes_for_what_a_colleague_put_back(queue):
    queue.add(A, lane="x", priority=CHANGE)
    assert queue.take("x") == A
    queue.add(A, lane="y", priority=CHANGE)
    taker = Taker(queue, "y")
    taker.until_waiting()
    queue.done(A)
    assert taker.result() == A


def test_take_gives_up_at_its_timeout(queue, clock):
    assert queue.take("x", 0) is None
    taker = Taker(queue, timeout=60.0)
    taker.until_waiting()
    clock.advance(60.0)
    assert taker.result() is None


def test_take_with_no_timeout_left_still_gets_what_is_there(queue):
    queue.add(A, lane="x", priority=CHANGE)
    assert queue.take("x", 0) == A


def test_shut_down_frees_everybody_at_once(queue):
    takers = [Taker(queue, lane) for lane in "xxy"]
    for taker in takers:
        taker.until_waiting()
    queue.shut_down()
    assert [taker.result() for taker in takers] == [None, None, None]
    assert queue.take("z") is None


def test_drain_waits_for_what_is_worked_on_and_says_when_it_gave_up(queue):
    queue.add(A, lane="x", priority=CHANGE)
    queue.take("x")
    assert not queue.drain(0.01)
    ender = threading.Timer(0.02, queue.done, [A])
    ender.start()
    assert queue.drain(SOON)
    ender.join()


def test_the_shell_says_what_the_core_knows(queue, clock):
    queue.add(A, lane="x", priority=CHANGE)
    queue.take("x")
    assert queue.retry(A, lane="x", priority=CHANGE) == 1.0
    queue.done(A)
    assert (queue.attempts(A), queue.next_at(A)) == (1, clock.monotonic() + 1.0)
    assert queue.snapshot() == (LaneView("x", delayed=1),)
    queue.forget(A)
    assert queue.attempts(A) == 0


def test_a_delayed_name_is_handed_out_promptly_on_the_real_clock():
    queue = WorkQueue(clock=SystemClock())
    queue.add(A, lane="x", priority=CHANGE, delay=0.05)
    began = time.monotonic()
    assert queue.take("x", SOON) == A
    assert time.monotonic() - began >= 0.05


def test_every_waiter_knows_the_next_turn_on_the_real_clock():
    queue = WorkQueue(clock=SystemClock())
    gives_up = Taker(queue, timeout=0.1)
    gives_up.until_waiting()
    stays = Taker(queue)
    stays.until_waiting(2)
    queue.add(A, lane="x", priority=CHANGE, delay=0.15)
    assert gives_up.result() is None
    assert stays.result() == A


class Crowd:
    """Many threads on one queue. Each wish is a ticket; a look serves all tickets of its name that were written before."""

    def __init__(self, queue):
        self.queue = queue
        self.names = [ServiceName(f"s{number}") for number in range(40)]
        self.lane_of = {name: "xyz"[number % 3] for number, name in enumerate(self.names)}
        self.guard = threading.Lock()
        self.written, self.served = Counter(), Counter()
        self.holding, self.faults = set(), []
        self.finished = threading.Event()

    def produce(self, seed):
        dice = random.Random(seed)
        for _ in range(400):
            name = dice.choice(self.names)
            with self.guard:
                self.written[name] += 1
            delay = dice.choice([0.0, 0.0, 0.0, 0.001, 0.01])
            self.queue.add(name, lane=self.lane_of[name], priority=dice.choice(list(Priority)), delay=delay)
            if dice.random() < 0.1:
                time.sleep(0.0005)

    def consume(self, lane, seed):
        dice = random.Random(seed)
        while not self.finished.is_set():
            name = self.queue.take(lane, dice.choice([None, 0.001, 0.01]))
            if name is not None:
                self.look(name, lane, dice)

    def look(self, name, lane, dice):
        with self.guard:
            if name in self.holding or self.lane_of[name] != lane:
                self.faults.append((name, lane))
            self.holding.add(name)
            seen = self.written[name]
        if dice.random() < 0.1:
            time.sleep(0.0005)
        failed = dice.random() < 0.1
        with self.guard:
            self.holding.discard(name)
            if not failed:
                self.served[name] = seen
        if failed:
            self.queue.retry(name, lane=lane, priority=RESYNC)
        self.queue.done(name)

    def idle(self):
        views = self.queue.snapshot()
        assert all(view.depth >= 0 and view.delayed >= 0 for view in views)
        return not any(view.depth + view.delayed + view.processing for view in views)


@pytest.fixture
def many_switches():
    """Let threads alternate every 20 µs, or they would hardly meet."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(20e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("many_switches")
def test_random_producers_and_consumers_never_share_a_name_and_lose_no_wish():
    ear = Ear()
    queue = WorkQueue(clock=SystemClock(), metrics=ear, backoff=Backoff(base=0.001, cap=0.01))
    crowd = Crowd(queue)
    producers = [threading.Thread(target=crowd.produce, args=(seed,), daemon=True) for seed in range(10)]
    consumers = [threading.Thread(target=crowd.consume, args=("xyz"[n % 3], n), daemon=True) for n in range(30)]
    for thread in [*consumers, *producers]:
        thread.start()
    for thread in producers:
        thread.join(30)
    end = time.monotonic() + 30
    while not crowd.idle() and time.monotonic() < end:
        time.sleep(0.005)
    crowd.finished.set()
    assert queue.drain(SOON)
    for thread in consumers:
        thread.join(SOON)
    assert not any(thread.is_alive() for thread in [*producers, *consumers])
    assert crowd.faults == []
    assert crowd.served == crowd.written
    heard = Counter(event[0] for event in ear.heard)
    assert heard["added"] == heard["taken"] == heard["finished"]
    assert heard["retried"] > 0
