"""Promise 2 in git: the last good word of an invalid file is the newest ancestor commit at which it was valid."""

import contextlib
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from agent.clock import SystemClock
from agent.control.board import Phase
from agent.source.git.remote import remote
from agent.source.git.repository import RepositorySource
from agent.spec.policy import Policy
from agent.spec.reading import Problem
from agent.spec.resolve import FileReading
from tests.fakes.folder import RESOLVER, document
from tests.fakes.following import git
from tests.fakes.history import NEVER, GitHost, Repository

V1, V2, V3 = document("web"), document("web", "v2"), document("web", "v3")
API = document("qwen")
BROKEN = V2.replace("8080", "eighty")
TORN = "apiVersion: xmod.dev/v1\nkind: DeploySpec\nmetadata: {name: \n"


@pytest.fixture
def repo(tmp_path) -> Repository:
    return Repository(tmp_path / "repo")


@pytest.fixture
def host(repo) -> GitHost:
    return GitHost(repo.root)


def test_a_service_that_does_not_run_comes_up_from_the_last_good_commit(repo, host):
    first = repo.commit("Begin", a=V1, b=API)
    repo.commit("Break it", a=BROKEN)
    host.look()
    assert host.agent.board.get("web") is None, "nobody waits for history"
    assert host.runs("qwen") == "v1"
    status = host.recall().status()
    assert (host.runs(), status.serving.holds, status.phase) == ("v1", True, Phase.KEPT)
    assert (status.converged.reason, status.revision, status.file) == ("SpecInvalid", first, "a.yaml")
    assert status.change.commit == first
    assert any("a.yaml" in notice for notice in status.notices)


@pytest.mark.parametrize("bad", [BROKEN, TORN, "", "]: {", "\x00"])
def test_several_invalid_commits_in_a_row_are_gone_through(repo, host, bad):
    repo.commit("Begin", a=V1)
    good = repo.commit("Take v2", a=V2)
    for number in range(3):
        repo.commit(f"Break it {number}", a=bad + "#" * number)
        repo.commit(f"Something else {number}", b=document("qwen", f"v{number}"))
    status = host.recall().status()
    assert (host.runs(), status.change.commit) == ("v2", good)


def test_a_file_that_is_too_large_has_a_last_good_word_too(repo, host):
    repo.commit("Begin", a=V1)
    repo.commit("Too much", a=V2 + "#" * (1 << 20))
    assert host.recall().runs() == "v1"


def test_a_file_that_was_never_valid_names_nobody_and_holds_nothing(repo, host):
    repo.commit("Begin", b=API, c=document("more"))
    host.recall()
    repo.commit("No more qwen", b=None)
    repo.commit("A bad file", a=TORN)
    repo.commit("Still bad", a=TORN + "#")
    host.restart().look()
    assert {n: h.reason for n, h in host.agent.controller.held().items()} == {"qwen": "SourceInvalid"}
    host.recall()
    assert host.agent.controller.held() == {}
    assert (host.runs("qwen"), host.runs("more")) == ("", "v1")
    assert host.desired.unexplained == ()


def test_what_disappeared_in_the_commit_that_broke_a_file_is_not_pruned(repo, host):
    repo.commit("Begin", a=V1, b=API)
    host.recall()
    repo.commit("Move qwen, and tear the file", a=TORN, b=None)
    repo.commit("Something else", c=document("more"))
    host.restart().recall()
    assert (host.runs(), host.runs("qwen")) == ("v1", "v1")
    assert host.agent.controller.held() == {}
    repo.commit("Mend it without qwen", a=V1)
    host.recall()
    assert (host.runs(), host.runs("qwen")) == ("v1", "")


def test_no_service_whose_name_is_in_an_invalid_file_is_pruned(repo, host):
    repo.commit("Begin", a=V1, b=API)
    host.recall()
    repo.commit("No more qwen", b=None)
    repo.commit("Back again, in another file, and broken", a=V1 + "---\n" + API.replace("8080", "eighty"))
    host.restart().recall()
    assert (host.runs(), host.runs("qwen")) == ("v1", "v1")


def test_a_file_that_was_moved_and_broken_in_one_commit_is_followed(repo, host):
    good = repo.commit("Begin", a=V1, b=API)
    repo.commit("Move and break", a=None, z=BROKEN)
    status = host.recall().status()
    assert (host.runs(), status.change.commit, status.file) == ("v1", good, "z.yaml")
    repo.git("mv", "specs/z.yaml", "specs/y.yaml")
    repo.commit_all("Move it again as it is")
    assert host.restart(world=False).recall().runs() == "v1"


def test_a_name_that_another_file_holds_by_now_is_not_doubled(repo, host):
    repo.commit("Begin", a=V1 + "---\n" + API)
    moved = repo.commit("Qwen has a file of its own, and a is broken", a=BROKEN, b=document("qwen", "v9"))
    host.recall()
    assert host.changed("qwen") == moved
    assert (host.runs(), host.runs("qwen")) == ("v1", "v9")
    assert host.status("qwen").phase is Phase.READY


@pytest.mark.parametrize("gone", [None, TORN])
@pytest.mark.parametrize("file", ["a", "z"])
def test_a_word_that_another_file_said_since_is_the_last_one(repo, host, file, gone):
    repo.commit("Begin", m=V1 + "---\n" + API)
    host.recall()
    repo.commit("Tear it", m=TORN)
    host.recall()
    newest = repo.commit("Web has a file of its own", **{file: V2})
    host.recall()
    assert (host.runs(), host.runs("qwen")) == ("v2", "v1")
    repo.commit("That is torn, too, or gone", **{file: gone})
    host.recall()
    assert (host.runs(), host.runs("qwen")) == ("v2", "v1")
    host.restart().recall()
    assert (host.runs(), host.runs("qwen")) == ("v2", "v1")
    if gone is not None:
        status = host.restart(world=False).recall().status()
        assert (host.runs(), host.runs("qwen"), status.change.commit) == ("v2", "v1", newest)


def test_what_runs_is_brought_to_a_newer_good_word_and_never_to_an_older_one(repo, host):
    repo.commit("Begin", a=V1)
    host.recall()
    good = repo.commit("Take v2", a=V2)
    repo.commit("Break it", a=TORN)
    host.restart().look()
    assert host.runs() == "v1", "as it was, until history is known"
    assert host.recall().runs() == "v2"
    assert host.status().change.commit == good

    repo.commit("Take v3", a=V3)
    host.recall()
    policy = Policy.load({"images": ["mini:v1"]}, specs=Path("/nowhere/specs"), search="/usr/bin:/bin", as_root=False)
    host.resolver = replace(RESOLVER, policy=policy)
    host.restart().recall()
    assert host.runs() == "v3", "valid by today's policy is only the first, and that is long past"
    assert host.status().converged.reason == "SpecInvalid"


def test_after_a_jump_the_word_is_the_newest_good_one_though_another_was_taken(repo, host):
    repo.commit("Begin", a=V1)
    host.recall()
    repo.commit("Take v2", a=V2)
    repo.commit("Break it", a=TORN)
    assert host.recall().runs() == "v2"
    repo.commit("Tear it more", a="]: {")
    assert host.recall().runs() == "v2"


def test_after_a_force_push_history_is_asked_anew(repo, host):
    repo.commit("Begin", a=V1)
    repo.commit("Take v2", a=V2)
    host.recall()
    repo.git("reset", "-q", "--hard", "HEAD~1")
    repo.commit("Break the first", a=TORN)
    host.recall()
    assert host.runs() == "v2", "what runs is as it was: the history that is left knows only an older word"
    host.restart(world=False).recall()
    assert host.runs() == "v1", "where nothing runs, the word that is left counts"


class Locked:
    """Reads as a host does whose key is missing: what is encrypted may become readable as it is."""

    def read_file(self, path: str, content: bytes) -> FileReading:
        if b"# sealed" in content:
            return FileReading((), (Problem(1, 1, "sops", "no key"),), passing=True)
        return RESOLVER.read_file(path, content)


@pytest.mark.parametrize("then", [None, TORN])
def test_a_word_from_before_it_was_encrypted_is_not_taken_for_want_of_a_key(repo, then):
    repo.commit("Begin, in the open", a=V1)
    repo.commit("Encrypt it", a=V2 + "# sealed")
    if then is not None:
        repo.commit("Break it", a=then)
    host = GitHost(repo.root, resolver=Locked()).recall()
    assert host.agent.board.get("web") is None
    assert not host.provenance.busy


def test_a_merge_that_breaks_a_file_has_its_parents_words(repo, host):
    repo.commit("Begin", a=V1)
    repo.git("checkout", "-q", "-b", "side")
    repo.commit("Break it on the side", a=TORN)
    repo.git("checkout", "-q", "main")
    good = repo.commit("Take v2", a=V2)
    repo.merge("side", "-X", "theirs")
    status = host.recall().status()
    assert (host.runs(), status.change.commit) == ("v2", good)


def test_where_history_is_cut_off_nothing_is_made_up(repo, tmp_path):
    repo.commit("Begin", a=V1, b=API)
    repo.commit("Break it", a=TORN)
    repo.commit("Break it more", a=TORN + "#")
    git(tmp_path, "clone", "-q", "--depth", "2", repo.root.as_uri(), "shallow")
    host = GitHost(tmp_path / "shallow").recall()
    assert host.agent.board.get("web") is None
    assert host.desired.unexplained == ("a.yaml",)
    assert host.provenance.trouble == ""
    assert not host.provenance.busy


def test_files_that_a_mirror_left_out_are_fetched_and_without_a_network_nothing_is_made_up(repo, tmp_path):
    for key in ("uploadpack.allowFilter", "uploadpack.allowAnySHA1InWant"):
        repo.git("config", key, "true")
    good = repo.commit("Begin", a=V1, b=API)
    repo.commit("Break it", a=TORN)
    url, away = repo.root.as_uri(), tmp_path / "away"

    def opened() -> RepositorySource:
        return RepositorySource(
            remote(url, path="specs"), state=tmp_path / "state", clock=SystemClock(), interval=3600.0
        )

    with contextlib.closing(opened()) as source:
        host = GitHost(repo.root, source=source).look()
        shutil.move(repo.root, away)
        host.recall()
        assert host.agent.board.get("web") is None
        assert "cannot be fetched" in host.provenance.trouble
        assert not host.provenance.busy
        assert host.runs("qwen") == "v1"
        shutil.move(away, repo.root)
        host.provenance.step(NEVER)
        host.clock.advance(61.0)
        host.recall()
        assert (host.runs(), host.changed(), host.provenance.trouble) == ("v1", good, "")
    shutil.move(repo.root, away)
    with contextlib.closing(opened()) as source:
        host = GitHost(repo.root, source=source).recall()
        assert (host.runs(), host.changed()) == ("v1", good), "what was fetched once is here"
