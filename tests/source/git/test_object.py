"""Objects are read by name or id, checked by their hash, and bounded in size and time."""

import subprocess

import pytest

from agent.contracts import Transient
from agent.source.git.command import Repository
from agent.source.git.object import Missing, Objects, moment
from tests.fakes.following import git


@pytest.fixture
def where(repo) -> Repository:
    return Repository(("-C", str(repo.root)))


def test_a_commit_has_its_tree_parents_and_time(repo, where):
    first = repo.head
    head = repo.commit(a="a: 2\n")
    with Objects(where, seconds=10) as objects:
        commit = objects.commit("HEAD")
        assert (commit.oid, commit.parents) == (head, (first,))
        assert commit.tree == repo.git("rev-parse", "HEAD^{tree}").strip()
        assert commit.at == float(repo.git("log", "-1", "--format=%ct"))
        assert [node.name for node in objects.tree(commit.tree)] == [b"specs"]


def test_a_commit_is_told_as_people_know_it_whoever_wrote_it(repo, where):
    repo.git("commit", "-q", "--allow-empty", "-m", "Over\ntwo lines\n\nand a body" + "x" * 300)
    told = repo.git("cat-file", "commit", "HEAD").replace("Over\ntwo", "x" * 300 + " two")
    odd = git(repo.root, "hash-object", "-t", "commit", "-w", "--literally", str(_written(repo, told)))
    with Objects(where, seconds=10) as objects:
        entry = objects.commit("HEAD").entry
        assert (entry.subject, entry.author) == ("Over two lines", "t")
        assert len(objects.commit(odd.strip()).entry.subject) == 200
    assert moment(1e18).year == 9999
    assert moment(-5.0).year == 1970


def _written(repo, text: str):
    path = repo.root / "commit"
    path.write_text(text)
    return path


def test_an_annotated_tag_is_its_commit(repo, where):
    repo.git("tag", "-a", "-m", "x", "v1")
    with Objects(where, seconds=10) as objects:
        assert objects.commit("v1").oid == repo.head


def test_what_is_not_there_is_missing_and_what_follows_is_read_all_the_same(repo, where):
    with Objects(where, seconds=10) as objects:
        for name in ("nowhere", "HEAD~9", "1" * 40):
            with pytest.raises(Missing):
                objects.commit(name)
        assert objects.commit("HEAD").oid == repo.head


def test_a_blob_over_the_limit_has_a_size_and_no_content(repo, where):
    repo.commit(big="x" * 3_000_000)
    big, small = (repo.git("rev-parse", f"HEAD:specs/{name}.yaml").strip() for name in ("big", "a"))
    with Objects(where, seconds=10) as objects:
        assert objects.blob(big, limit=1000) == (3_000_000, b"")
        assert objects.blob(small, limit=1000) == (5, b"a: 1\n")


def test_another_kind_of_object_is_an_error(repo, where):
    with Objects(where, seconds=10) as objects, pytest.raises(Transient, match="is a commit, not a blob"):
        objects.blob(repo.head, limit=1000)


@pytest.mark.parametrize(
    "content", [b"garbage", b"9zz a.yaml\0" + b"1" * 20, b"100644 \0" + b"1" * 20, b"100644 a.yaml"]
)
def test_a_tree_that_makes_no_sense_is_an_error(repo, where, content):
    words = ["git", "hash-object", "-t", "tree", "-w", "--stdin", "--literally"]
    made = subprocess.run(words, cwd=repo.root, input=content, check=True, capture_output=True)
    with Objects(where, seconds=10) as objects, pytest.raises(Transient, match="tree"):
        objects.tree(made.stdout.decode().strip())


def test_a_git_that_does_not_answer_is_killed(tmp_path, monkeypatch):
    program = tmp_path / "git"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with Objects(Repository(()), seconds=0.3) as objects, pytest.raises(Transient) as caught:
        objects.commit("HEAD")
    assert caught.value.reason == "SourceSlow"


def test_a_repository_with_longer_ids_is_read_too(tmp_path):
    git(tmp_path, "init", "-q", "--object-format=sha256")
    (tmp_path / "a.yaml").write_text("a: 1\n")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-q", "-m", "x")
    with Objects(Repository(("-C", str(tmp_path))), seconds=10) as objects:
        commit = objects.commit("HEAD")
        [node] = objects.tree(commit.tree)
        assert len(commit.oid) == 64
        assert objects.blob(node.oid, limit=1000) == (5, b"a: 1\n")
