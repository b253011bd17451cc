"""Words, as an agent takes them over from the one before; and sources that are not made as they were not meant."""

import contextlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from agent.clock import SystemClock
from agent.contracts import Transient
from agent.control.words import Words
from agent.daemon.parts import StartError, hold, source_of, words_of, words_read
from agent.journal import Journal
from agent.settings import Settings, load
from tests.fakes.following import git

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


def test_a_state_folder_is_one_agents_at_a_time(tmp_path: Path) -> None:
    held = hold(tmp_path / "state")
    assert held is not None
    with pytest.raises(StartError, match="--state-dir"):
        hold(tmp_path / "state")
    os.close(held)
    again = hold(tmp_path / "state")
    assert again is not None
    os.close(again)


def test_a_state_folder_that_cannot_be_had_is_no_reason_to_end(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    assert hold(tmp_path / "state") is None


# signatures


def asking_for_signatures(directory: Path, signers: Path) -> Settings:
    flags = {"source.verify": "commit", "source.allowedSigners": str(signers), "agent.stateDir": str(signers.parent)}
    return load(directory=directory, environ={}, flags=flags)


def test_keys_that_a_commit_could_change_are_refused(tmp_path: Path) -> None:
    specs = tmp_path / "repo" / "specs"
    specs.mkdir(parents=True)
    git(tmp_path / "repo", "init", "-q")
    (tmp_path / "link").symlink_to(tmp_path / "repo")
    for signers in (tmp_path / "repo" / "signers", specs / "signers", tmp_path / "link" / "signers"):
        with pytest.raises(StartError, match="lies in the work tree that it is to vouch for"):
            source_of(asking_for_signatures(specs, signers), SystemClock())
    source_of(asking_for_signatures(specs, tmp_path / "signers"), SystemClock()).close()


def test_a_folder_is_not_read_where_signatures_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "a.yaml").write_text("a: 1\n")
    source = source_of(asking_for_signatures(tmp_path / "specs", tmp_path / "signers"), SystemClock())
    with contextlib.closing(source), pytest.raises(Transient, match="lies in no git work tree"):
        source.look()
