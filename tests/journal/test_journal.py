"""What outlives the agent: whole or not at all, and never at the expense of what runs."""

import contextlib
import json
import logging
import shutil
import sqlite3
import threading
import time
from pathlib import Path

import pytest

from agent.journal import CannotRead, Journal, Kind
from tests.journal.making import happened


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(("-wal", "-shm")))


def whats(journal: Journal, **asked: object) -> list[str]:
    return [event.what for event in journal.events(**asked)]  # type: ignore[arg-type]


# words


def test_what_was_kept_is_loaded_by_the_next(tmp_path: Path) -> None:
    Journal(tmp_path / "new" / "state").save({"approved": ["ä"]})
    assert Journal(tmp_path / "new" / "state").load() == {"approved": ["ä"]}


def test_nothing_kept_is_none(tmp_path: Path) -> None:
    assert Journal(tmp_path).load() is None
    assert Journal(tmp_path / "nowhere").load() is None
    assert names(tmp_path) == []


def test_the_newest_words_count_and_nothing_else_is_left(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for number in range(5):
        journal.save({"number": number})
    assert journal.load() == {"number": 4}
    journal.close()
    assert [path.name for path in tmp_path.iterdir()] == ["journal.db"]


def test_torn_words_are_no_words(tmp_path: Path) -> None:
    """SQLite has no checksum of its own: one flipped bit must not release a removal."""
    journal = Journal(tmp_path)
    journal.save({"approved": ["a"]})
    journal.close()
    data = (tmp_path / "journal.db").read_bytes()
    assert data.count(b'"approved": ["a"]') == 1
    (tmp_path / "journal.db").write_bytes(data.replace(b'"approved": ["a"]', b'"approved": ["b"]'))
    journal = Journal(tmp_path)
    with pytest.raises(ValueError, match="torn"):
        journal.load()
    journal.set_aside("torn")
    journal.save({"new": True})
    assert Journal(tmp_path).load() == {"new": True}
    assert names(tmp_path) == ["journal.db", "journal.db.corrupt"]


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe" * 5000, b"SQLite format 3\0" + b"x" * 5000])
def test_what_cannot_be_read_is_set_aside_and_not_overwritten(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "journal.db").write_bytes(content)
    journal = Journal(tmp_path)
    with pytest.raises(ValueError, match=r"."):
        journal.load()
    assert [path.name for path in tmp_path.iterdir()] == ["journal.db"], "loading only reads"
    journal.set_aside("why")
    journal.save({"new": True})
    assert (tmp_path / "journal.db.corrupt").read_bytes() == content
    assert journal.load() == {"new": True}
    assert "begun anew" in journal.notices[0]
    assert "(why)" in journal.notices[0]


def test_a_journal_that_is_lost_while_it_is_open_loses_no_words(tmp_path: Path) -> None:
    """They are in memory, and in the next journal from its first moment; who reads it finds why there is one."""
    journal = Journal(tmp_path)
    journal.save({"approved": ["a"]})
    shutil.rmtree(tmp_path)
    journal.record(happened("Ready"))
    journal.close()
    again = Journal(tmp_path)
    assert again.load() == {"approved": ["a"]}
    assert whats(again) == ["Renewed", "Ready"]
    assert "deleted while the agent ran" in journal.notices[0]


def test_words_that_can_be_read_outlive_the_rest(tmp_path: Path) -> None:
    """The history is corrupt, the words are not: they are in the new journal."""
    journal = Journal(tmp_path)
    journal.save({"approved": ["a"]})
    for number in range(3000):
        journal.record(happened(str(number), message="x" * 300))
    journal.close()
    path = tmp_path / "journal.db"
    data = bytearray(path.read_bytes())
    data[len(data) // 2 :] = b"\xff" * (len(data) - len(data) // 2)
    path.write_bytes(data)
    journal = Journal(tmp_path)
    assert journal.load() == {"approved": ["a"]}
    journal._store.check()  # as its thread does first
    journal.keep()
    journal.close()
    assert Journal(tmp_path).load() == {"approved": ["a"]}
    assert "was corrupt" in journal.notices[0]
    assert names(tmp_path) == ["journal.db", "journal.db.corrupt"]


def test_a_folder_that_cannot_be_written_costs_memory_and_not_service(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "state"
    blocked.write_text("a file where the folder should be")
    journal = Journal(blocked)
    with caplog.at_level(logging.ERROR, "xmod.journal"):
        journal.save({"a": 1})
        journal.save({"a": 2})
    assert "words are lost at a restart" in journal.trouble
    assert journal.trouble in journal.notices
    assert len(caplog.records) == 1, "told once"
    assert journal.load() is None
    blocked.unlink()
    journal.save({"a": 3})
    assert journal.trouble, "nobody who plans waits for a file that is in trouble"
    journal.keep()
    assert (journal.trouble, journal.notices) == ("", ())
    assert journal.load() == {"a": 3}


@pytest.mark.parametrize("of", ["saved", "loaded"])
def test_words_that_were_deleted_are_written_again(tmp_path: Path, of: str) -> None:
    state = tmp_path / "state"
    Journal(state).save({"a": 1})
    journal = Journal(state)
    if of == "saved":
        journal.save({"a": 1})
    else:
        journal.load()
    shutil.rmtree(state)
    journal.keep()
    assert Journal(state).load() == {"a": 1}


def test_words_that_are_there_are_not_written_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.save({"a": 1})
    before = {path.name: path.stat() for path in tmp_path.iterdir()}
    journal.keep()
    assert {path.name: path.stat() for path in tmp_path.iterdir()} == before


def test_without_words_there_is_nothing_to_keep(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "state")
    journal.load()
    journal.keep()
    assert list(tmp_path.iterdir()) == []


def test_what_was_set_aside_is_not_written_again(tmp_path: Path) -> None:
    """It was JSON, and no words for all that."""
    Journal(tmp_path).save({"approved": 7})
    journal = Journal(tmp_path)
    journal.load()
    journal.set_aside("not iterable")
    journal.keep()
    assert names(tmp_path) == ["journal.db.corrupt"]


def test_words_that_could_not_be_written_are_once_they_can_be(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    blocked = tmp_path / "state"
    blocked.write_text("a file where the folder should be")
    journal = Journal(blocked)
    journal.save({"a": 1})
    journal.keep()
    assert "words are lost at a restart" in journal.trouble
    assert len(caplog.records) == 1, "told once"
    blocked.unlink()
    journal.keep()
    assert journal.trouble == ""
    assert Journal(blocked).load() == {"a": 1}


def test_the_last_chance_to_keep_words_is_taken(tmp_path: Path) -> None:
    blocked = tmp_path / "state"
    blocked.write_text("a file where the folder should be")
    journal = Journal(blocked)
    journal.save({"a": 1})
    blocked.unlink()
    journal.save({"a": 2})
    journal.close()
    assert Journal(blocked).load() == {"a": 2}


def test_another_programs_lock_costs_who_plans_a_moment_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.save({"a": 1})
    with contextlib.closing(sqlite3.connect(tmp_path / "journal.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        for number in range(10):
            journal.save({"a": number})
        assert time.monotonic() - began < 4
        assert "locked" in journal.trouble
        other.execute("COMMIT")
    journal.keep()
    assert journal.trouble == ""
    assert Journal(tmp_path).load() == {"a": 9}


# words.json, which agents before had


def test_the_words_of_an_older_agent_are_taken_over_once(tmp_path: Path) -> None:
    older = tmp_path / "words.json"
    older.write_text('{"approved": ["a"]}')
    journal = Journal(tmp_path)
    assert journal.load() == {"approved": ["a"]}
    assert names(tmp_path) == ["words.json"], "loading only reads"
    journal.keep()
    assert names(tmp_path) == ["journal.db"]
    journal.save({"approved": []})
    older.write_text('{"approved": ["a"]}')
    assert Journal(tmp_path).load() == {"approved": []}, "a journal counts more"


def test_older_words_are_kept_until_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "words.json").write_text('{"approved": ["a"]}')
    (tmp_path / "journal.db-wal").mkdir()
    (tmp_path / "journal.db-shm").mkdir()
    (tmp_path / "journal.db.corrupt-shm").mkdir()
    journal = Journal(tmp_path)
    journal.load()
    (tmp_path / "journal.db").mkdir()
    journal.save({"approved": []})
    assert Journal(tmp_path).load() == {"approved": []}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"x"', b"\xff\xfe", b'{"a": 1}x', b"[" * 100_000])
def test_older_words_that_cannot_be_read_are_set_aside(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "words.json").write_bytes(content)
    journal = Journal(tmp_path)
    with pytest.raises(ValueError, match=r"."):
        journal.load()
    assert names(tmp_path) == ["words.json"]
    journal.set_aside("why")
    journal.save({"new": True})
    assert (tmp_path / "words.corrupt").read_bytes() == content
    assert names(tmp_path) == ["journal.db", "words.corrupt"]
    assert journal.notices == ()


def test_an_unreadable_folder_is_told_and_not_fatal(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "words.json").mkdir()
    assert Journal(tmp_path).load() is None
    assert "cannot read the state folder" in caplog.text


# what happened


def test_events_are_read_while_others_are_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    assert (journal.events(), journal.knows("a"), journal.newest(Kind.SERVICE)) == ((), False, {})
    stop = threading.Event()
    writer = threading.Thread(target=journal.run, args=(stop,), daemon=True)
    writer.start()
    try:
        for number in range(2000):
            journal.record(happened(str(number), "a"))
            if number % 100 == 0:
                found = whats(journal, limit=10_000)
                assert found == [str(one) for one in range(len(found))]
    finally:
        stop.set()
        writer.join()
    journal.close()
    assert whats(journal, limit=10_000) == [str(number) for number in range(2000)]
    assert whats(journal, service="a", limit=1) == ["1999"]
    assert journal.knows("a")
    assert journal.newest(Kind.SERVICE)["a"].what == "1999"


def test_a_journal_found_corrupt_while_it_is_read_is_set_aside(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.save({"approved": ["a"]})
    journal.close()
    (tmp_path / "journal.db").write_bytes(b"garbage" * 1000)
    assert journal.events() == ()
    assert names(tmp_path) == ["journal.db.corrupt"]
    journal.keep()
    assert Journal(tmp_path).load() == {"approved": ["a"]}
    assert whats(journal) == ["Renewed"]


def test_corruption_that_cannot_be_set_aside_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "journal.db").write_bytes(b"garbage" * 1000)
    journal = Journal(tmp_path)

    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(CannotRead, match="file is not a database"):
        journal.events()
    journal.save({"a": 1})
    assert "cannot be set aside: [Errno 13]" in journal.trouble
    assert journal.newest(Kind.SERVICE) == {}


def test_a_full_room_of_json_is_one_row(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for number in range(3):
        journal.save({"n": number})
    journal.close()
    connection = sqlite3.connect(tmp_path / "journal.db")
    [(plain,)] = connection.execute("SELECT plain FROM words").fetchall()
    connection.close()
    assert json.loads(plain) == {"n": 2}
