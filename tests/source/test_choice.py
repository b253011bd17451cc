"""Which mode a folder is read in, and that the choice holds."""

import contextlib
import shutil
import threading
import time
from pathlib import Path

import pytest

from agent.clock import SystemClock
from agent.contracts import Transient
from agent.source.choice import ChosenSource
from agent.source.directory import DirectorySource
from agent.source.git_worktree import WorkTreeSource

NEVER = threading.Event()


def chosen(path: Path) -> contextlib.closing[ChosenSource]:
    clock = SystemClock()
    return contextlib.closing(
        ChosenSource(
            path, git=lambda: WorkTreeSource(path, clock=clock), folder=lambda: DirectorySource(path, clock=clock)
        )
    )


def test_a_work_tree_is_read_as_git_and_it_is_said(repo, told):
    with chosen(repo.root / "specs") as source:
        assert source.look().revision == repo.head
        assert source.id == f"git:{repo.root}/specs"
    assert "reading commits" in told.text


def test_a_plain_folder_is_read_as_a_folder(tmp_path):
    with chosen(tmp_path) as source:
        assert source.look().revision.startswith("content:")
        assert source.id == f"folder:{tmp_path}"


def test_a_folder_that_comes_later_is_chosen_by_then(repo, tmp_path):
    shutil.move(repo.root, tmp_path / "aside")
    with chosen(repo.root / "specs") as source:
        with pytest.raises(Transient) as caught:
            source.look()
        assert caught.value.reason == "SourceMissing"
        shutil.move(tmp_path / "aside", repo.root)
        source.wait(NEVER, 5)
        assert source.look().revision == repo.head


def test_the_choice_holds_whatever_becomes_of_the_folder(repo):
    with chosen(repo.root / "specs") as source:
        source.look()
        shutil.rmtree(repo.root / ".git")
        with pytest.raises(Transient):
            source.look()


def test_a_kick_ends_a_wait_for_a_folder(tmp_path):
    with chosen(tmp_path / "none") as source:
        source.kick()
        began = time.monotonic()
        source.wait(NEVER, 30)
        assert time.monotonic() - began < 5
