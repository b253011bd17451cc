"""Words, as an agent takes them over from the one before."""

from dataclasses import replace
from pathlib import Path

import pytest

from agent.control.words import Words
from agent.daemon.parts import words_of, words_read
from agent.journal import Journal

KEPT = replace(Words(), adopted=frozenset({"folder:/old"}))
CORRUPT = [
    b"",
    b"{",
    b"[]",
    b"\xff",
    b'{"approved": 7}',
    b'{"restarts": {"a": "noon"}}',
    b'{"held": []}',
    b"[" * 100_000,
]


def test_what_was_kept_is_read(tmp_path: Path) -> None:
    Journal(tmp_path).save(KEPT.to_plain())
    assert words_read(Journal(tmp_path)) == (KEPT, "")
    assert words_of(Journal(tmp_path)) == (KEPT, True)


def test_no_memory_is_no_words(tmp_path: Path) -> None:
    assert words_read(Journal(tmp_path)) == (None, "")
    assert words_of(Journal(tmp_path)) == (Words(), False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", CORRUPT)
def test_corrupt_words_are_set_aside_for_a_person(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "words.json").write_bytes(content)
    journal = Journal(tmp_path)
    assert words_of(journal) == (Words(), False)
    journal.keep()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"words.corrupt": content}


@pytest.mark.parametrize("content", CORRUPT)
def test_reading_corrupt_words_leaves_them_where_they_are(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "words.json").write_bytes(content)
    words, wrong = words_read(Journal(tmp_path))
    assert words is None
    assert wrong
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"words.json": content}
