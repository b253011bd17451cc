"""The board: one writer, listeners that hear each change once and in order."""

import itertools
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from agent.contracts import ServiceName
from agent.control.board import Board, Change, Phase, Status, Truth, Version, traced

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


CHANGES = tuple(Change(f"c{number}", "Ann", NOW, f"change {number}") for number in range(3))
TRAIL = tuple(
    Version(f"s{number}", change, f"d{number}" if number == 2 else "")
    for number, change in reversed(list(enumerate(CHANGES)))
)


def test_every_status_is_stamped_with_what_is_known_of_its_documents_past() -> None:
    board = Board()
    told = heard(board)
    board.put(replace(WEB, wanted="d2", routed="d2", routed_spec="s2"))
    board.changed({WEB.name: TRAIL})
    assert [after.change for _, after in told if after is not None] == [None, CHANGES[2]]
    board.put(replace(WEB, wanted="d2", routed="d0", routed_spec="s0"))
    status = board.get(WEB.name)
    assert status is not None
    assert (status.change, status.runs, status.behind) == (CHANGES[2], CHANGES[0], 2)
    board.changed({})
    status = board.get(WEB.name)
    assert status is not None
    assert (status.change, status.runs, status.behind) == (None, None, 0)


def test_what_serves_is_behind_only_if_it_is_another_version() -> None:
    assert traced(replace(WEB, wanted="d2", routed="d2", routed_spec="s0"), TRAIL).behind == 0, "agreed since"
    assert traced(replace(WEB, routed="d2", routed_spec="s0"), TRAIL).behind == 0, (
        "the same, though nothing is wanted now"
    )
    assert traced(replace(WEB, wanted="d2", routed="d9", routed_spec="s2"), TRAIL).behind == 0, (
        "resolves differently now"
    )
    assert traced(replace(WEB, wanted="d2", routed="d9", routed_spec="s1"), TRAIL).behind == 1
    assert traced(replace(WEB, wanted="d2", routed="d9", routed_spec="s9"), TRAIL).behind is None
    assert traced(WEB, TRAIL).behind == 0
