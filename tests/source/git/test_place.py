"""Where a work tree is, and that a sight differs when, and only when, HEAD may have moved."""

import os

import pytest

from agent.source.git.place import locate, sight
from tests.fakes.following import git


def tree_of(path):
    return locate(str(path))[1]


def test_a_folder_lies_below_the_top_of_its_work_tree(repo):
    tree = tree_of(repo.root / "specs" / "b")
    assert (tree.top, tree.path) == (str(repo.root), "specs/b")
    assert tree.git_dir == tree.common_dir == str(repo.root / ".git")
    assert tree_of(repo.root).path == ""


def test_a_folder_that_the_checkout_lacks_lies_there_too(repo):
    assert tree_of(repo.root / "gone" / "deeper").path == "gone/deeper"


def test_a_linked_work_tree_has_its_own_head_and_common_refs(repo, tmp_path):
    repo.git("worktree", "add", "-q", "--detach", str(tmp_path / "side"))
    tree = tree_of(tmp_path / "side" / "specs")
    assert tree.git_dir == str(repo.root / ".git" / "worktrees" / "side")
    assert tree.common_dir == str(repo.root / ".git")


def test_a_submodule_is_a_work_tree_of_its_own(repo, tmp_path):
    inner = tmp_path / "inner"
    git(tmp_path, "clone", "-q", str(repo.root), "inner")
    repo.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(inner), "module")
    tree = tree_of(repo.root / "module" / "specs")
    assert (tree.top, tree.path) == (str(repo.root / "module"), "specs")


def test_outside_of_any_work_tree_there_is_none(tmp_path):
    assert tree_of(tmp_path) is None


@pytest.mark.parametrize(
    "words",
    [
        ("commit", "-q", "--allow-empty", "-m", "x"),
        ("checkout", "-q", "-b", "other"),
        ("checkout", "-q", "--detach"),
        ("reset", "-q", "--hard", "HEAD~1"),
        ("pack-refs", "--all"),
        ("branch", "-m", "main", "renamed"),
    ],
)
def test_what_moves_head_changes_the_sight(repo, words):
    repo.commit(a="a: 2\n")
    before = sight(str(repo.root / "specs"))
    assert sight(str(repo.root / "specs")) == before
    repo.git(*words)
    assert sight(str(repo.root / "specs")) != before


def test_work_on_the_checkout_and_on_other_branches_does_not(repo):
    before = sight(str(repo.root / "specs"))
    (repo.root / "specs" / "a.yaml").write_text("a: 2\n")
    repo.git("add", "-A")
    repo.git("branch", "other")
    repo.git("stash")
    os.utime(repo.root / ".git" / "HEAD")
    assert sight(str(repo.root / "specs")) == before
