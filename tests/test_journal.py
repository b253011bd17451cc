"""What outlives the agent: whole or not at all, and never at the expense of what runs."""

import json
import logging
import shutil
from pathlib import Path

import pytest

from agent.journal import Journal


def test_what_was_kept_is_loaded_by_the_next(tmp_path: Path) -> None:
    Journal(tmp_path / "new" / "state").save({"approved": ["ä"]})
    assert Journal(tmp_path / "new" / "state").load() == {"approved": ["ä"]}


def test_nothing_kept_is_none(tmp_path: Path) -> None:
    assert Journal(tmp_path).load() is None
    assert Journal(tmp_path / "nowhere").load() is None


def test_the_newest_words_count_and_nothing_else_is_left(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for number in range(5):
        journal.save({"number": number})
    assert journal.load() == {"number": 4}
    assert [path.name for path in tmp_path.iterdir()] == ["words.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"x"', b"\xff\xfe", b'{"a": 1}x', b"[" * 100_000])
def test_what_cannot_be_read_is_set_aside_and_not_overwritten(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "words.json").write_bytes(content)
    journal = Journal(tmp_path)
    with pytest.raises(ValueError, match=r"."):
        journal.load()
    assert [path.name for path in tmp_path.iterdir()] == ["words.json"], "loading only reads"
    journal.set_aside("why")
    journal.save({"new": True})
    assert (tmp_path / "words.corrupt").read_bytes() == content
    assert journal.load() == {"new": True}


def test_a_kill_while_writing_leaves_the_old_words(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.save({"old": True})
    (tmp_path / "words.new").write_text('{"new": tr')
    assert Journal(tmp_path).load() == {"old": True}
    journal.save({"newer": True})
    assert json.loads((tmp_path / "words.json").read_text()) == {"newer": True}


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
    assert len(caplog.records) == 1, "told once"
    assert journal.load() is None
    blocked.unlink()
    journal.save({"a": 3})
    assert journal.trouble == ""
    assert journal.load() == {"a": 3}


def test_a_full_disk_leaves_the_old_words() -> None:
    """/dev/full says that the disk is full to whoever writes."""
    folder = Path("/dev/shm")
    if not Path("/dev/full").exists() or not folder.is_dir():
        pytest.skip("this machine has no /dev/full")
    import tempfile

    with tempfile.TemporaryDirectory(dir=folder) as name:
        state = Path(name)
        journal = Journal(state)
        journal.save({"old": True})
        (state / "words.new").symlink_to("/dev/full")
        journal.save({"new": True})
        assert "No space left" in journal.trouble
        assert Journal(state).load() == {"old": True}
        (state / "words.new").unlink()
        journal.save({"new": True})
        assert (journal.trouble, Journal(state).load()) == ("", {"new": True})


def test_an_unreadable_folder_is_told_and_not_fatal(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "words.json").mkdir()
    assert Journal(tmp_path).load() is None
    assert "cannot read the state folder" in caplog.text


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
    before = (tmp_path / "words.json").stat()
    journal.keep()
    assert (tmp_path / "words.json").stat() == before


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
    assert [path.name for path in tmp_path.iterdir()] == ["words.corrupt"]


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
