"""Whoever listens hears; nothing stays open when he stops."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.contracts import ServiceName, Transient
from shimlets.process.watching import Bell, watching

A, B = ServiceName("a"), ServiceName("b")


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def nothing_lives() -> dict:
    return {}


def test_everyone_who_listens_hears_each_name_once():
    bell = Bell()
    bell.ring(A)
    with bell.listening() as one, bell.listening() as other:
        for name in (A, B, A):
            bell.ring(name)
        assert bell.heard(one) == [A, B]
        assert bell.heard(one) == []
        assert bell.heard(other) == [A, B]
    bell.ring(A)


def test_a_watch_that_ends_leaves_no_descriptor_open():
    before = descriptors()
    stop, bell = threading.Event(), Bell()
    names: Iterator[ServiceName] = watching(stop, bell, nothing_lives, lambda _: bell.ring(A))
    assert next(names) == A
    assert descriptors() > before
    stop.set()
    assert list(names) == []
    assert descriptors() == before


def test_a_watch_that_sees_nothing_any_more_ends():
    def blind() -> dict:
        raise Transient("no /proc")

    assert list(watching(threading.Event(), Bell(), blind, lambda _: None)) == []


def test_a_stopped_watch_does_not_begin():
    stop = threading.Event()
    stop.set()
    assert list(watching(stop, Bell(), lambda: pytest.fail("it looked"), lambda _: None)) == []
