"""Each service's status names the commit that last changed its document, as git's own history has it."""

import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import NoReturn

import pytest

from agent.clock import SystemClock
from agent.contracts import Transient
from agent.control.board import Change
from agent.source.directory import DirectorySource
from agent.source.git.worktree import WorkTreeSource
from agent.source.snapshot import Past, Snapshot
from tests.fakes.clock import VirtualClock
from tests.fakes.folder import document, service_of
from tests.fakes.following import git
from tests.fakes.history import NEVER, GitHost, Repository

V1, V2, V3 = document("web"), document("web", "v2"), document("web", "v3")
API = document("api")


@pytest.fixture
def repo(tmp_path) -> Repository:
    return Repository(tmp_path / "repo")


@pytest.fixture
def host(repo) -> GitHost:
    return GitHost(repo.root)


def test_a_commit_and_its_child_are_told_at_once(repo, host):
    repo.commit("Begin", a=V1, b=API)
    host.recall()
    change = repo.commit("Take v2\n\nbecause", author="Bob", a=V2)
    assert host.scanner.step()
    at = datetime(2026, 1, 1, 10, 2, tzinfo=UTC)
    assert host.status().change == Change(change, "Bob", at, "Take v2"), "before anything was done"
    host.agent.settle()
    assert host.changed() == change
    assert host.changed("api") != change


def test_what_was_committed_while_nobody_looked_is_found(repo, host):
    first = repo.commit("Begin", a=V1, b=API)
    second = repo.commit("Take v2", a=V2)
    repo.commit("Something else", c=document("more"))
    host.recall()
    assert (host.changed(), host.changed("api")) == (second, first)
    third = repo.commit("Take v3", a=V3)
    repo.commit("Something else again", c=document("more", "v2"))
    host.recall()
    assert (host.changed(), host.changed("api")) == (third, first)


def test_a_move_a_split_a_merge_of_files_and_another_layout_change_no_document(repo, host):
    first = repo.commit("Begin", a=V1 + "---\n" + API)
    repo.commit("Split", a=API, b=V1)
    repo.git("mv", "specs/b.yaml", "specs/c.yaml")
    repo.commit_all("Move")
    repo.commit("Move and comment", c=None, d="# a comment\n" + V1)
    repo.commit(
        "Join",
        a=None,
        d=API
        + "---\n"
        + V1.replace("metadata: {name: web, annotations: {}}", "metadata:\n  annotations: {}\n  name: web"),
    )
    assert (host.recall().changed(), host.changed("api")) == (first, first)
    host.restart()
    for commit in reversed(repo.git("rev-list", "HEAD").split()):
        repo.git("checkout", "-q", commit)
        host.look()
        host.provenance.step(NEVER)
    assert (host.changed(), host.changed("api")) == (first, first), "step by step as at once"


def test_metadata_counts_and_so_does_what_was_changed_and_changed_back(repo, host):
    repo.commit("Begin", a=V1)
    labelled = repo.commit("Label it", a=V1.replace("{name: web,", "{name: web, labels: {team: x},"))
    assert host.recall().changed() == labelled
    repo.commit("Take v2", a=V2)
    back = repo.commit("Back to v1", a=V1.replace("{name: web,", "{name: web, labels: {team: x},"))
    assert host.recall().changed() == back
    assert host.restart().recall().changed() == back


def test_of_a_merge_the_commit_that_it_brought_is_told(repo, host):
    repo.commit("Begin", a=V1, b=API)
    host.recall()
    repo.git("checkout", "-q", "-b", "side")
    side = repo.commit("Take v2", a=V2)
    repo.git("checkout", "-q", "main")
    main = repo.commit("Another api", b=document("api", "v2"))
    repo.merge("side")
    assert (host.recall().changed(), host.changed("api")) == (side, main)
    assert (host.restart().recall().changed(), host.changed("api")) == (side, main)


def test_a_document_that_a_merge_made_is_the_merges(repo, host):
    repo.commit("Begin", a=V1)
    repo.git("checkout", "-q", "-b", "side")
    repo.commit("Take v2", a=V2)
    repo.git("checkout", "-q", "main")
    repo.git("mv", "specs/a.yaml", "specs/moved.yaml")
    repo.commit_all("Move")
    repo.git("merge", "-q", "--no-ff", "--no-commit", "side")
    merge = repo.commit("Merge, and take v3", author="Bob", moved=V3)
    assert host.recall().changed() == merge


def test_a_move_on_one_side_and_a_change_on_the_other_is_the_change(repo, host):
    repo.commit("Begin", a=V1)
    repo.git("checkout", "-q", "-b", "side")
    side = repo.commit("Take v2", a=V2)
    repo.git("checkout", "-q", "main")
    repo.git("mv", "specs/a.yaml", "specs/moved.yaml")
    repo.commit_all("Move")
    repo.merge("side")
    assert (repo.root / "specs" / "moved.yaml").read_text() == V2
    assert host.recall().changed() == side


def test_history_that_was_rewritten_is_told_anew(repo, host):
    repo.commit("Begin", a=V1, b=API)
    repo.commit("Take v2", a=V2)
    host.recall()
    repo.git("reset", "-q", "--hard", "HEAD~1")
    other = repo.commit("Take v2 by another commit", author="Bob", a=V2)
    assert host.recall().changed() == other


class Interrupted(WorkTreeSource):
    """Something happens at the moment in which history begins to be read, once."""

    def __init__(self, repo: Repository, happens: Callable[[], object]) -> None:
        super().__init__(repo.root / "specs", clock=SystemClock())
        self.happens: list[Callable[[], object]] = [happens]

    def look(self) -> Snapshot:
        found = super().look()
        assert found.past is not None
        return replace(found, past=_Watched(found.past, self.happens))


class _Watched:
    def __init__(self, past: Past, happens: list[Callable[[], object]]) -> None:
        self._past = past
        self._happens = happens
        self.ahead = past.ahead
        self.fetch = past.fetch

    def open(self, seconds: float):
        if self._happens:
            self._happens.pop()()
        return self._past.open(seconds)


def test_a_jump_while_history_is_read_makes_the_answer_void(repo):
    old = repo.commit("Begin", a=V1)

    def rewritten() -> None:
        repo.git("commit", "-q", "--amend", "-m", "Begin anew")
        host.scanner.step()

    host = GitHost(repo.root, source=Interrupted(repo, rewritten)).look()
    host.provenance.step(NEVER)
    assert host.changed() in ("", repo.head)
    host.recall()
    assert host.changed() == repo.head != old


def test_a_commit_while_history_is_read_is_not_overwritten_by_the_answer(repo):
    first = repo.commit("Begin", a=V1, b=API)

    def changed() -> None:
        repo.commit("Take v2", a=V2)
        host.scanner.step()

    host = GitHost(repo.root, source=Interrupted(repo, changed)).look()
    host.provenance.step(NEVER)
    assert (host.changed(), host.changed("api")) == (repo.head, first)


def test_a_removal_is_told_with_the_commit_that_removed(repo, host):
    repo.commit("Begin", a=V1, b=API)
    host.recall()
    gone = repo.commit("No more web", a=None)
    assert host.scanner.step()
    assert host.changed() == gone
    host.look()
    assert host.agent.board.get("web") is None


def test_nothing_is_invented_where_history_is_cut_off(repo, tmp_path):
    repo.commit("Begin", a=V1, b=API)
    change = repo.commit("Take v2", a=V2)
    repo.commit("Something else", c=document("more"))
    git(tmp_path, "clone", "-q", "--depth", "2", repo.root.as_uri(), "shallow")
    host = GitHost(tmp_path / "shallow").recall()
    assert (host.changed("api"), host.changed("more")) == ("", repo.head)
    assert host.changed() == "", f"{change} is where it is cut off"
    assert host.status("api").behind == 0


def test_a_folder_has_no_history(tmp_path, repo):
    repo.commit("Begin", a=V1)
    shutil.rmtree(repo.root / ".git")
    host = GitHost(repo.root, source=DirectorySource(repo.root / "specs", clock=SystemClock())).recall()
    assert (host.changed(), host.status().behind, host.provenance.place.head) == ("", 0, "")
    host.source.close()


def test_what_serves_from_an_older_commit_is_so_many_changes_behind(repo, host):
    first = repo.commit("Begin", a=V1)
    host.recall()
    host.world.crashing |= {service_of(V2).digest, service_of(V3).digest}
    repo.commit("Take v2", a=V2)
    host.recall(rounds=20)
    repo.commit("Something else", b=API)
    last = repo.commit("Take v3", a=V3)
    status = host.recall(rounds=20).status()
    assert (status.behind, status.change.commit, status.runs.commit) == (2, last, first)
    again = host.restart().recall(rounds=20).status()
    assert (again.behind, again.change.commit, again.runs.commit) == (2, last, first), "also from history alone"
    repo.commit("Back", a=V1)
    assert (host.recall().status().behind, host.status().runs) == (0, None)


def test_a_head_that_is_not_in_force_is_counted(repo, host):
    first = repo.commit("Begin", a=V1)
    host.recall()
    for number in range(3):
        head = repo.commit(f"More {number}", b=API)
    host.provenance.see(head)
    assert host.provenance.place.behind is None, "nobody counted yet"
    host.provenance.step(NEVER)
    place = host.provenance.place
    assert (place.head, place.behind, place.commit.commit) == (head, 3, first)
    host.recall()
    assert (host.provenance.place.head, host.provenance.place.behind) == (head, 0)


def test_a_head_that_could_not_be_counted_is_counted_later(repo, host, tmp_path):
    repo.commit("Begin", a=V1)
    other = Repository(tmp_path / "other")
    other.git("pull", "-q", repo.root.as_uri(), "main")
    head = other.commit("More", b=API)
    host.recall()
    host.provenance.see(head)
    host.provenance.step(NEVER)
    assert host.provenance.place.behind is None
    repo.git("fetch", "-q", other.root.as_uri(), "main")
    host.provenance.step(NEVER)
    assert host.provenance.place.behind == 1


class Slow:
    """A past that says nothing, and takes a minute for it."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.asked = 0

    def open(self, seconds: float) -> NoReturn:
        self.asked += 1
        self.clock.advance(seconds)
        raise Transient("it took too long", reason="SourceSlow")


def test_what_takes_long_for_nothing_is_seldom_asked_again(repo):
    repo.commit("Begin", a=V1)
    host = GitHost(repo.root)
    slow = Slow(host.clock)
    look = host.source.look
    host.source.look = lambda: replace(look(), past=slow)
    host.recall()
    assert (slow.asked, host.provenance.trouble) == (1, "it took too long")
    for _ in range(30):
        host.clock.advance(61.0)
        host.provenance.step(NEVER)
    assert slow.asked <= 3


def test_a_thousand_specs_over_thousands_of_commits_are_answered_soon(repo, host):
    names = [f"s{number:04}" for number in range(1000)]

    def file(name: str, version: int) -> str:
        text = document(name, f"v{version}")
        return f"M 100644 inline specs/{name}.yaml\ndata {len(text)}\n{text}\n"

    def commit(number: int, files: str) -> str:
        return f"commit refs/heads/main\ncommitter t <t@example.com> {1767225600 + number} +0000\ndata 1\nx\n{files}"

    stream = [commit(0, "".join(file(name, 0) for name in names))]
    stream += [commit(n, file(names[n * 7 % 500], n)) for n in range(1, 3000)]
    subprocess.run(["git", "fast-import", "--quiet"], cwd=repo.root, input="".join(stream).encode(), check=True)
    assert host.scanner.step()
    began = time.monotonic()
    host.provenance.step(NEVER)
    assert time.monotonic() - began < 15
    trails = host.provenance._trails  # all of them, without a world of a thousand
    assert len(trails) == 1000
    root = repo.git("rev-list", "--max-parents=0", "main").strip()
    assert {trails[name][0].change.commit for name in names[500:]} == {root}
    for name in names[:500:50]:
        last = repo.git("log", "-1", "--format=%H", "main", "--", f"specs/{name}.yaml").strip()
        assert trails[name][0].change.commit == last
