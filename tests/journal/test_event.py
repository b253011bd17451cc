"""Rows are what was told, and nothing that strangers wrote has power over a terminal or room without end."""

import sqlite3
from collections.abc import Iterator
from datetime import timedelta

import pytest

from agent.journal import Kind
from agent.journal.event import SCHEMA, cleaned, insert, knows, newest, select
from tests.journal.making import NOON, happened


@pytest.fixture
def rows() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for statement in SCHEMA:
        connection.execute(statement)
    yield connection
    connection.close()


def test_what_was_told_is_read_again_in_its_order(rows: sqlite3.Connection) -> None:
    told = [happened("Ready", serving=True, converged=True, commit="a1", author="Ä", who="root"), happened("Failed")]
    insert(rows, told)
    found = select(rows, service="", since=None, after=0, limit=10)
    assert [event.id for event in found] == [1, 2]
    assert [cleaned(event) for event in told] == [type(e)(**{**_plain(e), "id": 0}) for e in found]


def _plain(event: object) -> dict[str, object]:
    return {name: getattr(event, name) for name in event.__dataclass_fields__}  # type: ignore[attr-defined]


def test_the_newest_of_one_service_since_a_time_and_the_oldest_after_an_id(rows: sqlite3.Connection) -> None:
    insert(rows, [happened(str(number), "ab"[number % 2], seconds=number) for number in range(10)])

    def whats(**asked: object) -> str:
        plain = {"service": "", "since": None, "after": 0, "limit": 100} | asked
        return "".join(event.what for event in select(rows, **plain))  # type: ignore[arg-type]

    assert whats() == "0123456789"
    assert whats(limit=3) == "789"
    assert whats(service="a") == "02468"
    assert whats(service="a", limit=2) == "68"
    assert whats(since=NOON + timedelta(seconds=7)) == "789"
    assert whats(after=4, limit=3) == "456"
    assert whats(after=4, service="b") == "579"
    assert whats(service="c") == ""
    assert knows(rows, "a")
    assert not knows(rows, "c")


def test_a_clock_that_jumped_for_a_while_hides_nothing(rows: sqlite3.Connection) -> None:
    insert(rows, [happened("1", seconds=1), happened("2", seconds=-10_000), happened("3", seconds=3)])
    found = select(rows, service="", since=NOON, after=0, limit=100)
    assert [event.what for event in found] == ["1", "3"]


def test_the_newest_of_each_service(rows: sqlite3.Connection) -> None:
    insert(rows, [happened("1", "a"), happened("2", "b"), happened("3", "a"), happened("no", "a", kind=Kind.WORD)])
    assert {event.service: event.what for event in newest(rows, Kind.SERVICE)} == {"a": "3", "b": "2"}


def test_a_row_that_makes_no_sense_hides_no_other(rows: sqlite3.Connection) -> None:
    insert(rows, [happened("1"), happened("2"), happened("3"), happened("4")])
    rows.execute("UPDATE events SET kind = x'ff00' WHERE id = 2")
    rows.execute("UPDATE events SET at = 1 << 62 WHERE id = 3")
    assert [event.what for event in select(rows, service="", since=None, after=0, limit=9)] == ["1", "4"]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("plain ä → words", "plain ä → words"),
        ("a\nb\x1b[31mred", "a\\nb\\u001b[31mred"),
        ("name-\udcff", "name-\\udcff"),
        ("nul\0", "nul\\u0000"),
    ],
)
def test_texts_are_one_printable_line(text: str, kept: str, rows: sqlite3.Connection) -> None:
    event = cleaned(happened(message=text, author=text, service=text))
    assert (event.message, event.author, event.service) == (kept, kept, kept)
    insert(rows, [event])
    assert select(rows, service="", since=None, after=0, limit=1)[0].message == kept


def test_texts_are_bounded() -> None:
    assert len(cleaned(happened(message="x" * 1_000_000)).message) == 2000
    assert len(cleaned(happened(message="\x1b" * 1_000_000)).message) == 2000
