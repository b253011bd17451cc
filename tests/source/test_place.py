import os
import shutil
from pathlib import Path

import pytest

from agent.source.place import absolute, git_lock, inode_of, trace
from tests.fakes.following import git


def test_a_plain_folder_is_told_by_device_and_inode(folder: Path):
    way = trace(str(folder))
    status = folder.stat()
    assert way.real == str(folder)
    assert way.identity.startswith(f"{status.st_dev}:{status.st_ino}")
    assert way.stations == (str(folder),)


def test_a_folder_made_again_is_another_even_if_it_gets_the_old_inode(folder: Path):
    if not inode_of(str(folder)).born:
        pytest.skip("this file system does not tell when a folder was made")
    identities, inodes = set(), set()
    for _ in range(5):
        identities.add(trace(str(folder)).identity)
        inodes.add(folder.stat().st_ino)
        folder.rmdir()
        folder.mkdir()
    assert len(identities) == 5


def test_a_folder_that_takes_anothers_place_has_another_identity(folder: Path):
    before = trace(str(folder))
    folder.rename(folder.with_name("old"))
    folder.mkdir()
    assert trace(str(folder)).identity != before.identity


@pytest.mark.parametrize("below", ["", "specs"])
def test_the_swap_of_a_link_keeps_the_identity_and_tells_the_new_end(tmp_path: Path, below: str):
    for tree in ("one", "two"):
        (tmp_path / "trees" / tree / "specs").mkdir(parents=True)
    link = tmp_path / "current"
    link.symlink_to("trees/one")
    before = trace(str(link / below))
    (tmp_path / "next").symlink_to("trees/two")
    (tmp_path / "next").rename(link)
    after = trace(str(link / below))
    assert after.identity == before.identity
    assert str(link) in before.stations
    assert (before.real, after.real) == (str(tmp_path / "trees/one" / below), str(tmp_path / "trees/two" / below))
    assert before != after


def test_another_link_is_another_source(tmp_path: Path):
    (tmp_path / "tree").mkdir()
    for name in ("a", "b"):
        (tmp_path / name).symlink_to("tree")
    assert trace(str(tmp_path / "a")).identity != trace(str(tmp_path / "b")).identity


def test_links_to_links_are_all_stations(tmp_path: Path):
    (tmp_path / "tree").mkdir()
    (tmp_path / "inner").symlink_to(tmp_path / "tree")
    (tmp_path / "outer").symlink_to("./x/../inner")
    (tmp_path / "x").mkdir()
    way = trace(str(tmp_path / "outer"))
    assert way.stations == tuple(str(tmp_path / name) for name in ("outer", "inner", "tree"))
    assert way.real == os.path.realpath(tmp_path / "outer")


def test_a_missing_folder_names_the_first_name_that_is_missing(tmp_path: Path):
    way = trace(str(tmp_path / "no" / "such"))
    assert way.inode is None
    assert way.stations == (str(tmp_path / "no"),)
    assert "No such file" in way.error


def test_a_loop_of_links_ends(tmp_path: Path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert trace(str(tmp_path / "a")).inode is None


def test_a_path_keeps_its_links_and_loses_its_dots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "tree" / "inner").mkdir(parents=True)
    (tmp_path / "link").symlink_to("tree/inner")
    monkeypatch.chdir(tmp_path)
    assert absolute(Path("link")) == str(tmp_path / "link")
    assert absolute(Path("link/../inner/./x")) == str(tmp_path / "tree/inner/x")


def test_the_lock_of_a_git_at_work_is_found_from_below_and_in_a_linked_work_tree(tmp_path: Path):
    repo = tmp_path / "repo"
    (repo / "specs").mkdir(parents=True)
    git(repo, "init", "-q", "-b", "main")
    git(repo, "commit", "-q", "--allow-empty", "-m", "one")
    git(repo, "worktree", "add", "-q", str(tmp_path / "linked"))
    assert git_lock(str(repo / "specs")) == ""
    assert git_lock(str(tmp_path / "linked")) == ""
    (repo / ".git" / "index.lock").touch()
    assert git_lock(str(repo / "specs")) == str(repo / ".git" / "index.lock")
    assert git_lock(str(tmp_path / "linked")) == ""
    (repo / ".git" / "worktrees" / "linked" / "index.lock").touch()
    assert git_lock(str(tmp_path / "linked")).endswith("linked/index.lock")
    shutil.rmtree(repo)
    assert git_lock(str(tmp_path)) == ""
