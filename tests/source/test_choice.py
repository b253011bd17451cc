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
from agent.source.git.worktree import WorkTreeSource
from tests.fakes.following import git

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


def test_what_is_cloned_late_into_an_empty_folder_is_read_as_git(repo, tmp_path):
    late = tmp_path / "late"
    late.mkdir()
    with chosen(late) as source:
        assert source.look().files == ()
        git(late, "clone", "-q", str(repo.root), ".")
        source.wait(NEVER, 5)
        found = source.look()
        assert (found.revision, found.source, source.id) == (repo.head, f"git:{late}", f"git:{late}")
        assert {file.path for file in found.files} == {"specs/a.yaml", "specs/b/c.yaml"}


def test_what_is_mounted_late_is_read_as_git(repo, tmp_path, mount):
    late = tmp_path / "late"
    late.mkdir()
    with chosen(late) as source:
        assert source.look().files == ()
        mount(late)
        git(late, "clone", "-q", str(repo.root), ".")
        source.wait(NEVER, 5)
        assert source.look().source == f"git:{late}"


def test_a_work_tree_that_comes_while_a_folder_is_read_is_not_read_as_one(repo, tmp_path):
    late = tmp_path / "late"
    late.mkdir()
    clock = SystemClock()

    class Slow(DirectorySource):
        def look(self):
            git(late, "clone", "-q", str(repo.root), ".")
            return super().look()

    source = ChosenSource(late, git=lambda: WorkTreeSource(late, clock=clock), folder=lambda: Slow(late, clock=clock))
    with contextlib.closing(source):
        assert source.look().source == f"git:{late}"


def test_a_folder_in_which_something_was_seen_stays_a_folder(repo, tmp_path):
    plain = tmp_path / "plain"
    plain.mkdir()
    with chosen(plain) as source:
        assert source.look().files == ()
        (plain / "a.yaml").write_text("a: 1\n")
        assert source.look().source == f"folder:{plain}"
        git(plain, "init", "-q")
        git(plain, "add", "-A")
        git(plain, "commit", "-q", "-m", "x")
        (plain / "a.yaml").unlink()
        assert source.look().source == f"folder:{plain}"


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
