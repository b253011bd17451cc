"""One commit's spec files below a path, each blob read once while it stays the same."""

import pytest

from agent.contracts import Transient
from agent.source.git.command import Repository
from agent.source.git.object import Objects
from agent.source.git.tree import NoSuchPath, TreeReader, listed, root_of
from agent.source.scan import Limits


def read(repo, reader: TreeReader):
    with Objects(Repository(("-C", str(repo.root))), seconds=10) as objects:
        return reader.read(objects, objects.commit("HEAD"))


def test_files_are_those_of_the_path_with_the_commits_time(repo):
    files = read(repo, TreeReader("specs", Limits()))
    assert [(file.path, file.content) for file in files] == [("a.yaml", b"a: 1\n"), ("b/c.yaml", b"c: 1\n")]
    assert {file.modified_at for file in files} == {float(repo.git("log", "-1", "--format=%ct"))}
    assert [file.path for file in read(repo, TreeReader("", Limits()))] == ["specs/a.yaml", "specs/b/c.yaml"]


def test_what_stayed_the_same_is_shared_also_under_another_name(repo):
    reader = TreeReader("specs", Limits())
    before = {file.path: file for file in read(repo, reader)}
    repo.git("mv", "specs/a.yaml", "specs/z.yaml")
    repo.git("commit", "-q", "-m", "move")
    after = {file.path: file for file in read(repo, reader)}
    assert after["b/c.yaml"] is before["b/c.yaml"]
    assert after["z.yaml"].content is before["a.yaml"].content


def test_no_folder_at_the_path_and_a_file_there_are_told_apart_from_an_empty_one(repo):
    for path in ("nowhere", "specs/a.yaml", "specs/b/c"):
        with pytest.raises(NoSuchPath):
            read(repo, TreeReader(path, Limits()))


def test_limits_leave_a_file_unread_and_a_repository_unlisted(repo):
    repo.commit(big="x" * 100, small="s: 1\n")
    big = {file.path: file for file in read(repo, TreeReader("specs", Limits(file_bytes=50)))}["big.yaml"]
    assert big.content is None
    assert "has 100 bytes" in big.error
    with pytest.raises(Transient, match="more than 2 entries"):
        read(repo, TreeReader("", Limits(entries=2)))


def test_links_and_submodules_are_no_files(repo):
    (repo.root / "specs" / "link.yaml").symlink_to("a.yaml")
    repo.git("add", ".")
    repo.git("update-index", "--add", "--cacheinfo", f"160000,{repo.head},specs/sub.yaml")
    repo.git("commit", "-q", "-m", "a link and a submodule")
    with Objects(Repository(("-C", str(repo.root))), seconds=10) as objects:
        blobs, links = listed(objects, root_of(objects, objects.commit("HEAD"), "specs"), Limits())
    assert (sorted(blobs), links) == (["a.yaml", "b/c.yaml"], {"link.yaml"})
