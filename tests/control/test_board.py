"""The board: one writer, listeners that hear each change once and in order."""

import itertools
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from agent.contracts import ServiceName
from agent.control.board import Board, Phase, Status, Truth

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
WEB = Status(ServiceName("web"), Phase.READY, Truth(True, "Serving"), Truth(True, "Converged"), NOW)


def heard(board: Board) -> list[tuple[Status | None, Status | None]]:
    told: list[tuple[Status | None, Status | None]] = []
    board.listen(lambda before, after: told.append((before, after)))
    return told


def test_listeners_hear_what_is_new_what_changed_and_what_is_gone() -> None:
    board = Board()
    told = heard(board)
    failed = replace(WEB, phase=Phase.FAILED, since=NOW + timedelta(1))
    board.put(WEB)
    board.put(failed)
    board.forget(WEB.name)
    assert told == [(None, WEB), (WEB, failed), (failed, None)]
    assert board.get(WEB.name) is None


def test_what_did_not_change_is_not_told() -> None:
    board = Board()
    board.put(WEB)
    told = heard(board)
    board.put(WEB)
    board.put(replace(WEB, since=NOW + timedelta(1)))
    board.forget(ServiceName("nobody"))
    assert told == []


def test_since_is_of_the_phase() -> None:
    board = Board()
    board.put(WEB)
    board.put(replace(WEB, since=NOW + timedelta(1), attempts=3))
    found = board.get(WEB.name)
    assert found == replace(WEB, attempts=3)
    board.put(replace(WEB, phase=Phase.DEGRADED, since=NOW + timedelta(2)))
    found = board.get(WEB.name)
    assert found is not None
    assert found.since == NOW + timedelta(2)


def test_all_are_sorted_and_a_copy() -> None:
    board = Board()
    for name in ("b", "a", "c"):
        board.put(replace(WEB, name=ServiceName(name)))
    everything = board.all()
    board.forget(ServiceName("a"))
    assert list(everything) == ["a", "b", "c"]
    assert list(board.all()) == ["b", "c"]


def test_a_listener_may_ask_the_board() -> None:
    board = Board()
    seen: list[Status | None] = []
    board.listen(lambda before, after: seen.append(board.get(WEB.name)))
    board.put(WEB)
    assert seen == [WEB]


def test_many_writers_are_heard_one_after_the_other() -> None:
    board = Board()
    told = heard(board)

    def write(first: int) -> None:
        for number in range(200):
            board.put(replace(WEB, attempts=first + number))

    threads = [threading.Thread(target=write, args=(first,)) for first in (0, 1000, 2000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert all(later[0] == earlier[1] for earlier, later in itertools.pairwise(told)), "no change is skipped"
    assert told[-1][1] == board.get(WEB.name)
