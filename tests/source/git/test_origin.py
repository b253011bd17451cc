"""What a remote is asked for: all history, the ref that is meant wherever it stands, and of the files the specs alone."""

import os
import threading
from pathlib import Path

import pytest

from agent.source.git.command import GitFailed, ask
from agent.source.git.origin import NotSynced, Origin, bare, leads
from agent.source.git.remote import remote
from tests.fakes.following import git
from tests.fakes.git_server import GitServer, git_server

NEVER = threading.Event()


@pytest.fixture
def served(repo, tmp_path) -> GitServer:
    git(tmp_path, "clone", "-q", "--bare", str(repo.root), "served.git")
    repo.git("remote", "add", "served", str(tmp_path / "served.git"))
    with git_server(tmp_path) as started:
        yield started


@pytest.fixture
def place(tmp_path) -> Path:
    return tmp_path / "mirror"


def fetched(place: Path, url: str, *, ref: str = "", path: str = "") -> Origin:
    origin = Origin(remote(url, ref=ref, path=path), stop=NEVER)
    if not place.exists():
        origin.init(place)
    origin.fetch(place)
    return origin


@pytest.mark.parametrize(
    ("ref", "tag"), [("", ""), ("main", ""), ("v1", "v1"), ("both", ""), ("refs/tags/both", "both")]
)
def test_a_ref_leads_to_its_commit_and_a_branch_goes_before_a_tag(repo, place, ref, tag):
    old = repo.head
    repo.git("tag", "both")
    repo.commit(a="a: 2\n")
    repo.git("branch", "both")
    repo.git("tag", "-a", "-m", "one", "v1")
    assert fetched(place, repo.root.as_uri(), ref=ref).resolved(place) == (old if tag == "both" else repo.head, tag)


def test_a_ref_of_another_kind_is_fetched(repo, place):
    repo.git("update-ref", "refs/pull/1/head", "HEAD")
    assert fetched(place, repo.root.as_uri(), ref="refs/pull/1/head").resolved(place)[0] == repo.head


def test_a_commit_that_no_branch_leads_to_is_asked_for_by_its_id(repo, served, place):
    lost = repo.commit(a="a: lost\n")
    repo.git("push", "-q", "served", "main")
    repo.git("reset", "-q", "--hard", "HEAD~1")
    repo.git("push", "-q", "-f", "served", "main")
    url = f"{served.url}/served.git"
    origin = fetched(place, url, ref=lost, path="specs")
    assert origin.resolved(place) == (lost, "")
    origin.fill(place, lost)
    origin.fetch(place)
    assert leads(place, f"{lost}^{{commit}}") == lost, "a fetch does not prune it"
    with pytest.raises(NotSynced, match=r"no branch or tag leads to commit 1{40}, and the server does not hand it out"):
        fetched(place, url, ref="1" * 40)


def test_what_the_remote_says_is_what_is_resolved(repo, place):
    repo.git("tag", "-a", "-m", "one", "v1")
    for ref in ("", "main", "v1"):
        origin = fetched(place, repo.root.as_uri(), ref=ref)
        assert origin.asked() == origin.resolved(place)[0] == repo.head
    assert Origin(remote(repo.root.as_uri(), ref="typo"), stop=NEVER).asked() == ""


def test_of_a_whole_repository_only_the_specs_come(repo, served, place):
    (repo.root / "model.gguf").write_bytes(os.urandom(400_000))
    (repo.root / ".hidden").mkdir()
    (repo.root / ".hidden" / "big.yaml").write_bytes(b"#" + os.urandom(200_000))
    (repo.root / "top.yml").write_text("top: 1\n")
    repo.git("add", "-A")
    head = repo.commit(a="a: 2\n")
    repo.git("push", "-q", "served", "main")
    origin = fetched(place, f"{served.url}/served.git")
    origin.fill(place, head)
    assert sum(path.stat().st_size for path in place.rglob("*") if path.is_file()) < 100_000
    assert ask(bare(place), ["cat-file", "blob", f"{head}:top.yml"], seconds=10) == "top: 1\n"
    assert ask(bare(place), ["cat-file", "blob", f"{head}:specs/b/c.yaml"], seconds=10) == "c: 1\n"
    served.seen.clear()
    origin.fill(place, head)
    assert served.seen == [], "what is not wanted is not asked for again"


def test_a_commit_without_our_path_needs_nothing_and_a_missing_commit_is_an_error(repo, place):
    origin = fetched(place, repo.root.as_uri(), path="elsewhere")
    origin.fill(place, repo.head)
    with pytest.raises(GitFailed):
        origin.fill(place, "1" * 40)


def test_reading_lets_git_out_to_nobody(repo, served, place):
    origin = fetched(place, f"{served.url}/served.git")
    head = origin.resolved(place)[0]
    served.seen.clear()
    with pytest.raises(GitFailed):
        ask(bare(place), ["cat-file", "blob", f"{head}:specs/a.yaml"], seconds=10)
    assert served.seen == []
