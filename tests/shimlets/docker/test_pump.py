"""What blocks is read elsewhere, and the reader obeys a stop within a moment."""

import threading
import time

from agent.contracts import Transient
from shimlets.docker.pump import Pump


def counting(to: Pump[int]) -> None:
    for number in range(5000):
        if not to.put(number):
            return


def test_it_ends_when_all_sources_ended_and_loses_nothing():
    pump: Pump[int] = Pump()
    pump.add(counting, "a")
    pump.add(counting, "b")
    assert sorted(pump.items(lambda: False)) == sorted([*range(5000), *range(5000)])


def test_a_source_that_blocks_does_not_keep_the_reader_from_stopping():
    pump: Pump[int] = Pump()
    release, stop = threading.Event(), threading.Event()
    pump.add(lambda to: release.wait(10) and None, "blocked")
    threading.Timer(0.1, stop.set).start()
    began = time.monotonic()
    assert list(pump.items(stop.is_set)) == []
    assert time.monotonic() - began < 1
    release.set()


def test_closing_ends_a_source_whose_reader_went_away():
    pump: Pump[int] = Pump()
    ended = threading.Event()

    def source(to: Pump[int]) -> None:
        counting(to)
        ended.set()

    pump.add(source, "a")
    assert next(iter(pump.items(lambda: False))) == 0
    pump.close()
    assert ended.wait(2)


def test_what_a_source_raises_of_ours_is_kept():
    pump: Pump[int] = Pump()

    def source(to: Pump[int]) -> None:
        raise Transient("gone")

    pump.add(source, "a")
    assert list(pump.items(lambda: False)) == []
    assert [str(error) for error in pump.errors] == ["gone"]


def test_who_asks_to_be_told_of_the_close_too_late_is_told_at_once():
    pump: Pump[int] = Pump()
    told: list[str] = []
    pump.on_close(lambda: told.append("early"))
    pump.close()
    pump.on_close(lambda: told.append("late"))
    assert told == ["early", "late"]
    assert not pump.put(1)
