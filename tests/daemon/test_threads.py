"""Threads that end together, and signals in the order that matters."""

import os
import signal
import threading
import time

from agent.daemon.threads import Signals, Threads


def test_threads_that_hang_share_the_time_that_a_stop_waits_for_them() -> None:
    threads, hang = Threads(), threading.Event()
    for number in range(5):
        threads.start(f"worker-{number}", lambda _: hang.wait(20) and None)
    began = time.monotonic()
    threads.join(0.2)
    took = time.monotonic() - began
    hang.set()
    threads.join(5)
    assert took < 0.8


def test_a_thread_that_another_started_counts_as_ours() -> None:
    threads = Threads()
    other = threading.Thread(target=lambda: None, name="http", daemon=True)
    other.start()
    other.join(5)
    threads.adopt(other)
    assert threads.dead() == "http"


def test_a_stop_does_not_wait_behind_many_hangups() -> None:
    with Signals() as signals:
        for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM):
            os.kill(os.getpid(), number)
        assert signals.wait(1) == signal.SIGTERM
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGHUP)
        assert signals.wait(1) == signal.SIGHUP
        assert signals.wait(0) is None
