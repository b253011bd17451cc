"""A repository elsewhere: fetched over file and http, offline, broken, rewritten; nothing is lost by any of it."""

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.clock import SystemClock
from agent.contracts import Transient
from agent.source.git.mirror import Mirror
from agent.source.git.remote import Access, remote
from agent.source.git.repository import RepositorySource
from agent.source.git.signature import Keys
from agent.source.git.trust import Trust
from tests.fakes.following import contents, git
from tests.fakes.git_server import GitServer, git_server
from tests.fakes.signing import signed_commit

NEVER = threading.Event()
Open = Callable[..., RepositorySource]


@pytest.fixture
def open_repository(repo, tmp_path) -> Iterator[Open]:
    with contextlib.ExitStack() as stack:

        def start(
            url: str = "",
            *,
            interval: float = 60.0,
            path: str = "specs",
            trust: Trust | None = None,
            **options,
        ) -> RepositorySource:
            wanted = remote(url or repo.root.as_uri(), path=path, **options)
            state, clock = tmp_path / "state", SystemClock()
            source = RepositorySource(wanted, state=state, clock=clock, interval=interval, trust=trust)
            return stack.enter_context(contextlib.closing(source))

        yield start


@pytest.fixture
def server(repo, tmp_path) -> Iterator[GitServer]:
    git(tmp_path, "clone", "-q", "--bare", str(repo.root), "served.git")
    repo.git("remote", "add", "served", str(tmp_path / "served.git"))
    with git_server(tmp_path) as started:
        yield started


def synced(source: RepositorySource, seconds: float = 20):
    """Kick, wait for the sync that follows, look."""
    source.kick()
    source.wait(NEVER, seconds)
    return source.look()


def seen(source: RepositorySource, holds: Callable[[RepositorySource], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not holds(source):
        assert time.monotonic() < deadline, source.notice
        with contextlib.suppress(Transient):
            source.look()
        source.wait(NEVER, 0.1)


def mirror_of(tmp_path: Path) -> Path:
    [link] = (tmp_path / "state").glob("*/current")
    return link.resolve()


def test_the_first_look_has_what_was_cloned(repo, open_repository):
    source = open_repository()
    found = source.look()
    assert contents(found) == {"a.yaml": b"a: 1\n", "b/c.yaml": b"c: 1\n"}
    assert found.revision == repo.head
    assert source.id == f"git:{repo.root.as_uri()}//specs"
    assert source.notice == ""


def test_a_kick_brings_a_commit_without_waiting_for_the_interval(repo, open_repository):
    source = open_repository(interval=3600)
    source.look()
    head = repo.commit(a="a: 2\n")
    began = time.monotonic()
    assert synced(source).revision == head
    assert time.monotonic() - began < 3


def test_without_a_kick_the_interval_brings_it(repo, open_repository):
    source = open_repository(interval=0.2)
    source.look()
    head = repo.commit(a="a: 2\n")
    seen(source, lambda source: source.look().revision == head)


def test_the_snapshots_time_is_when_the_remote_last_said_so(repo, open_repository):
    source = open_repository(interval=3600)
    first = source.look()
    assert synced(source).read_at > first.read_at
    last = source.look().read_at
    shutil.move(repo.root, f"{repo.root}-gone")
    assert synced(source).read_at == last


def test_offline_the_last_commit_stays_in_force_also_after_a_restart(repo, open_repository):
    before = open_repository()
    first = before.look()
    before.close()
    shutil.move(repo.root, f"{repo.root}-gone")
    after = open_repository()
    began = time.monotonic()
    found = after.look()
    assert time.monotonic() - began < 5
    assert contents(found) == contents(first)
    assert (found.revision, found.identity, found.read_at) == (first.revision, first.identity, first.read_at)
    seen(after, lambda source: "not in sync" in source.notice)
    shutil.move(f"{repo.root}-gone", repo.root)
    head = repo.commit(a="a: 2\n")
    assert synced(after).revision == head
    assert after.notice == ""


def test_a_remote_that_was_never_reached_is_an_error(tmp_path, open_repository):
    with pytest.raises(Transient, match="does not appear to be a git repository"):
        open_repository((tmp_path / "nowhere").as_uri()).look()


def test_an_empty_remote_is_an_error(tmp_path, open_repository):
    git(tmp_path, "init", "-q", "--bare", "empty.git")
    with pytest.raises(Transient):
        open_repository((tmp_path / "empty.git").as_uri()).look()


@pytest.mark.parametrize("ref", ["side", "v1", "v2", "refs/heads/side", "sha"])
def test_a_ref_is_a_branch_a_tag_or_a_commit(repo, open_repository, ref):
    repo.git("checkout", "-q", "-b", "side")
    wanted = repo.commit(a="a: side\n")
    repo.git("tag", "v1")
    repo.git("tag", "-a", "-m", "annotated", "v2")
    repo.git("checkout", "-q", "main")
    repo.commit(a="a: 2\n")
    source = open_repository(ref=wanted if ref == "sha" else ref)
    assert source.look().revision == wanted
    assert synced(source).revision == wanted
    assert source.notice == ""


def test_a_ref_that_never_existed_is_an_error(open_repository):
    with pytest.raises(Transient, match=r"has no branch, tag or commit 'typo'.*--ref"):
        open_repository(ref="typo").look()


def test_a_path_that_never_existed_is_an_error(open_repository):
    with pytest.raises(Transient, match=r"no folder typo.*--path"):
        open_repository(path="typo").look()


def test_the_last_file_removed_by_a_commit_is_an_empty_snapshot(repo, open_repository):
    source = open_repository()
    source.look()
    repo.commit(a=None, b__c=None)
    assert synced(source).files == ()


def test_a_deleted_branch_changes_nothing_and_is_said(repo, open_repository):
    repo.git("branch", "side")
    source = open_repository(ref="side")
    first = source.look()
    repo.git("branch", "-q", "-D", "side")
    assert synced(source).revision == first.revision
    assert "has no branch, tag or commit 'side'" in source.notice
    source.close()
    again = open_repository(ref="side")
    assert contents(again.look()) == contents(first)


def test_a_force_push_is_followed_as_the_same_source(repo, open_repository):
    source = open_repository()
    first = source.look()
    repo.commit(a="a: 2\n")
    synced(source)
    repo.git("reset", "-q", "--hard", first.revision)
    head = repo.commit(a="a: 3\n")
    forced = synced(source)
    assert (forced.revision, forced.identity) == (head, first.identity)


def test_unrelated_history_is_another_source(repo, open_repository):
    source = open_repository()
    first = source.look()
    repo.git("checkout", "-q", "--orphan", "other")
    repo.commit(a="a: other\n")
    repo.git("branch", "-M", "other", "main")
    other = synced(source)
    assert other.revision == repo.head
    assert other.identity != first.identity


def first_file(folder: Path, pattern: str) -> Path:
    return next(path for path in sorted(folder.rglob(pattern)) if path.is_file())


def emptied(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(b"")


def without_a_pack(mirror: Path) -> None:
    for path in (mirror / "objects").rglob("*"):
        if path.is_file():
            path.unlink()


BREAKAGES = {
    "no objects": without_a_pack,
    "an empty object": lambda mirror: [emptied(p) for p in (mirror / "objects").rglob("*") if p.is_file()],
    "no HEAD": lambda mirror: (mirror / "HEAD").unlink(),
    "an empty config": lambda mirror: (mirror / "config").write_text(""),
    "garbage for config": lambda mirror: (mirror / "config").write_text("[[["),
    "garbage for packed refs": lambda mirror: (mirror / "packed-refs").write_text("garbage\n"),
    "a broken branch": lambda mirror: (mirror / "refs" / "heads" / "main").write_text("garbage\n"),
    "a broken ref of ours": lambda mirror: (mirror / "refs" / "xmod" / "current").write_text("garbage\n"),
    "no ref of ours": lambda mirror: (mirror / "refs" / "xmod" / "current").unlink(),
    "a stale lock on a ref": lambda mirror: (mirror / "refs" / "heads" / "main.lock").touch(),
    "a stale lock on our ref": lambda mirror: (mirror / "refs" / "xmod" / "current.lock").touch(),
    "a stale lock on packed refs": lambda mirror: (mirror / "packed-refs.lock").touch(),
    "a stale lock on shallow": lambda mirror: (mirror / "shallow.lock").touch(),
    "a ref where a folder must be": lambda mirror: (shutil.rmtree(mirror / "refs"), (mirror / "refs").touch()),
    "nothing at all": lambda mirror: shutil.rmtree(mirror),
}


@pytest.mark.parametrize("how", BREAKAGES)
@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
def test_a_broken_mirror_is_cloned_anew_and_no_file_is_lost(repo, open_repository, tmp_path, how, restarted):
    source = open_repository(interval=3600)
    first = source.look()
    if restarted:
        source.close()
    BREAKAGES[how](mirror_of(tmp_path))
    head = repo.commit(a="a: 2\n")
    if restarted:
        source = open_repository(interval=3600)
    source.kick()
    deadline = time.monotonic() + 30
    while True:
        with contextlib.suppress(Transient):
            found = source.look()
            assert set(contents(found)) == {"a.yaml", "b/c.yaml"}
            assert found.identity == first.identity
            if found.revision == head:
                break
        assert time.monotonic() < deadline, source.notice
        source.wait(NEVER, 0.2)
    seen(source, lambda source: not source.notice)
    git(mirror_of(tmp_path), "fsck", "--connectivity-only")


def test_a_broken_mirror_and_no_network_is_an_error_until_there_is_one(repo, open_repository, tmp_path):
    source = open_repository(interval=3600)
    first = source.look()
    source.close()
    without_a_pack(mirror_of(tmp_path))
    shutil.move(repo.root, f"{repo.root}-gone")
    source = open_repository(interval=3600)
    with pytest.raises(Transient):
        source.look()
    shutil.move(f"{repo.root}-gone", repo.root)
    source.kick()
    seen(source, lambda source: not source.notice)
    assert contents(source.look()) == contents(first)


def test_a_killed_clone_leaves_nothing_behind(repo, tmp_path, open_repository):
    source = open_repository()
    source.look()
    source.close()
    left = mirror_of(tmp_path).with_name("clone-dead")
    left.mkdir()
    (left / "HEAD").touch()
    shutil.rmtree(mirror_of(tmp_path))
    seen(open_repository(), lambda source: not source.notice and not left.exists())


def test_a_look_at_another_ref_or_path_leaves_a_source_as_it_is(repo, open_repository):
    first = repo.head
    repo.git("branch", "side")
    source = open_repository(ref="side")
    before = source.look()
    head = repo.commit(a="a: 2\n", other__x="x: 1\n")
    assert open_repository().look().revision == head
    assert contents(open_repository(path="specs/other").look()) == {"x.yaml": b"x: 1\n"}
    after = source.look()
    assert (after.revision, contents(after)) == (first, contents(before))


def test_two_processes_do_not_sync_one_mirror_at_once(repo, tmp_path):
    mirrors = [Mirror(tmp_path / "state", remote(str(repo.root)), stop=NEVER) for _ in range(4)]
    found: list[str] = []
    threads = [threading.Thread(target=lambda m=mirror: found.append(m.sync())) for mirror in mirrors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [repo.head] * 4
    assert len(list((tmp_path / "state").glob("*/clone-*"))) == 1


# over http


def test_over_http_only_the_files_that_are_needed_come(repo, server, open_repository, tmp_path):
    (repo.root / "model.bin").write_bytes(os.urandom(300_000))
    repo.git("add", "-A")
    repo.commit(a="a: 2\n")
    repo.git("push", "-q", "served", "main")
    source = open_repository(f"{server.url}/served.git")
    assert contents(source.look())["a.yaml"] == b"a: 2\n"
    size = sum(path.stat().st_size for path in mirror_of(tmp_path).rglob("*") if path.is_file())
    assert size < 150_000
    assert "?" in git(mirror_of(tmp_path), "rev-list", "--objects", "--all", "--missing=print")
    head = repo.commit(a="a: 3\n")
    repo.git("push", "-q", "served", "main")
    found = synced(source)
    assert (found.revision, contents(found)["a.yaml"]) == (head, b"a: 3\n")


def test_over_http_nothing_is_fetched_where_nothing_changed(server, open_repository):
    source = open_repository(f"{server.url}/served.git", interval=3600)
    source.look()
    server.seen.clear()
    synced(source)
    asked = [line for line, _ in server.seen]
    assert len(asked) == 2, "the refs, and nothing else"
    assert source.notice == ""


def test_a_token_lets_git_in_and_is_nowhere_to_be_seen(server, open_repository, tmp_path, told):
    server.token = "s3cret-token"
    (tmp_path / "token").write_text("wrong\n")
    source = open_repository(f"{server.url}/served.git", access=Access(token_file=tmp_path / "token"))
    with pytest.raises(Transient, match="Authentication failed"):
        source.look()
    (tmp_path / "token").write_text("s3cret-token\n")
    source.kick()
    seen(source, lambda source: not source.notice and source.look().files != ())
    assert "Authentication failed" in "".join(str(vars(record)) for record in told.records)
    said = "".join(str(vars(record)) for record in told.records) + source.notice + source.location + source.id
    for path in (tmp_path / "state").rglob("*"):
        if path.is_file():
            assert b"s3cret" not in path.read_bytes(), path
    assert "s3cret" not in said
    assert not any("s3cret" in value for value in source._remote.env().values())


def test_without_a_token_nobody_is_asked(server, open_repository):
    server.token = "s3cret-token"
    began = time.monotonic()
    with pytest.raises(Transient, match=r"could not read Username|terminal prompts disabled"):
        open_repository(f"{server.url}/served.git").look()
    assert time.monotonic() - began < 10


def test_a_missing_token_file_is_said(server, open_repository, tmp_path):
    source = open_repository(f"{server.url}/served.git", access=Access(token_file=tmp_path / "none"))
    with pytest.raises(Transient, match=r"source\.tokenFile: .*cannot be read"):
        source.look()


def test_a_server_that_refuses_and_comes_back_is_followed_again(repo, server, open_repository):
    source = open_repository(f"{server.url}/served.git", interval=0.2)
    first = source.look()
    server.refuse = True
    seen(source, lambda source: "503" in source.notice)
    assert source.look().revision == first.revision
    head = repo.commit(a="a: 2\n")
    repo.git("push", "-q", "served", "main")
    server.refuse = False
    seen(source, lambda source: source.look().revision == head)
    assert source.notice == ""


def test_a_server_that_stalls_holds_up_neither_a_look_nor_the_end(repo, server, open_repository):
    source = open_repository(f"{server.url}/served.git", interval=3600)
    first = source.look()
    repo.commit(a="a: 2\n")
    repo.git("push", "-q", "served", "main")
    server.stall = True
    source.kick()
    assert server.stalled.wait(10)
    began = time.monotonic()
    assert source.look().revision == first.revision
    source.close()
    assert time.monotonic() - began < 2
    assert source._thread is not None
    assert not source._thread.is_alive()


@pytest.mark.parametrize("path", ["specs", "specs/b"])
def test_a_folder_that_became_a_link_is_no_empty_one(repo, open_repository, path):
    source = open_repository(path=path, interval=3600)
    first = source.look()
    repo.git("mv", "specs", "moved")
    (repo.root / "specs").symlink_to("moved")
    repo.git("add", "specs")
    repo.git("commit", "-q", "-m", "moved, with a link for those who look there")
    with pytest.raises(Transient, match="specs is a link there"):
        synced(source)
    repo.git("revert", "-n", "HEAD")
    repo.git("commit", "-q", "-m", "back")
    assert contents(synced(source)) == contents(first)


# with signatures asked for


@pytest.fixture
def trusting(signers, open_repository) -> Open:
    def start(url: str = "", *, mode: str = "commit", **options) -> RepositorySource:
        return open_repository(url, trust=Trust(mode, Keys(signers)), **options)

    return start


def test_an_unsigned_head_is_held_and_the_last_good_commit_is_read_whole(repo, server, jane, trusting, tmp_path):
    """Over http, where the files of the older commit are not here unless they are asked for."""
    repo.commit(a="a: old\n", b__c="c: old\n")
    good = signed_commit(repo.root, jane.settings)
    repo.commit(a="a: evil\n", b__c=None)
    repo.git("push", "-q", "served", "main")
    source = trusting(f"{server.url}/served.git", interval=3600)
    found = source.look()
    assert found.revision == good
    assert contents(found) == {"a.yaml": b"a: old\n", "b/c.yaml": b"c: old\n"}
    assert source.unverified == "unsigned"
    assert "is held" in source.notice
    head = signed_commit(repo.root, jane.settings)
    repo.git("push", "-q", "served", "main")
    taken = synced(source)
    assert (taken.revision, contents(taken)) == (head, {"a.yaml": b"a: evil\n"})
    assert (source.unverified, source.notice) == ("", "")


def test_what_is_in_force_survives_a_restart_a_lost_mirror_and_being_offline(repo, jane, trusting, tmp_path):
    good = signed_commit(repo.root, jane.settings)
    source = trusting()
    assert source.look().revision == good
    repo.commit(a=None)
    assert synced(source).revision == good
    source.close()
    shutil.rmtree(tmp_path / "state")
    source = trusting()
    assert source.look().revision == good
    source.close()
    shutil.move(repo.root, f"{repo.root}-gone")
    assert trusting().look().revision == good


def test_a_mirror_that_broke_holds_what_was_in_force(repo, jane, mallory, trusting, signers, tmp_path):
    good = signed_commit(repo.root, jane.settings)
    source = trusting()
    source.look()
    repo.commit(a="a: 2\n")
    assert synced(source).revision == good
    signers.write_text(mallory.allowed())
    (mirror_of(tmp_path) / "packed-refs.lock").touch()
    assert synced(source).revision == good
    assert not (mirror_of(tmp_path) / "packed-refs.lock").exists(), "cloned anew"
    assert "unknown" not in source.notice
    assert source.unverified == "unsigned"


def test_without_a_signed_commit_nothing_is_said_to_be_wanted_and_nothing_cloned_again(repo, jane, trusting, tmp_path):
    source = trusting(interval=3600)
    with pytest.raises(Transient, match="no commit that verifies") as caught:
        source.look()
    assert caught.value.reason == "SourceUnverified"
    assert source.unverified == "unsigned"
    cloned = mirror_of(tmp_path)
    source.kick()
    source.wait(NEVER, 20)
    with pytest.raises(Transient, match="no commit that verifies"):
        source.look()
    assert mirror_of(tmp_path) == cloned
    head = signed_commit(repo.root, jane.settings)
    assert synced(source).revision == head
    assert source.notice == ""


@pytest.mark.parametrize("kind", ["heads", "tags"])
def test_a_branch_or_tag_that_is_called_like_our_own_refs_puts_nothing_in_force(repo, trusting, kind):
    """Where there is no refs/xmod/current, git would look for refs/heads/refs/xmod/current."""
    for name in ("current", "tip"):
        repo.git("update-ref", f"refs/{kind}/refs/xmod/{name}", "HEAD")
    source = trusting(interval=3600)
    for _ in range(2):
        with pytest.raises(Transient, match="no commit that verifies"):
            source.look()
        source.kick()
        source.wait(NEVER, 20)
    assert source.unverified == "unsigned"


def test_what_came_into_force_unsigned_is_not_trusted_later(repo, jane, open_repository, trusting):
    good = signed_commit(repo.root, jane.settings)
    head = repo.commit(a="a: 2\n")
    before = open_repository()
    assert before.look().revision == head
    before.close()
    assert trusting().look().revision == good


def test_a_key_that_is_named_lets_a_commit_in_also_while_offline(repo, jane, mallory, trusting, signers):
    good = signed_commit(repo.root, jane.settings)
    source = trusting()
    source.look()
    head = signed_commit(repo.root, mallory.settings)
    assert synced(source).revision == good
    shutil.move(repo.root, f"{repo.root}-gone")
    signers.write_text(jane.allowed() + mallory.allowed())
    assert synced(source).revision == head
    assert "not in sync" in source.notice


def test_a_tag_that_comes_after_its_commit_is_fetched(repo, jane, server, trusting):
    git(repo.root, *jane.settings, "tag", "-s", "-m", "one", "v1")
    repo.git("push", "-q", "served", "main", "v1")
    source = trusting(f"{server.url}/served.git", mode="tag", interval=3600)
    first = repo.head
    assert source.look().revision == first
    head = repo.commit(a="a: 2\n")
    repo.git("push", "-q", "served", "main")
    assert synced(source).revision == first
    git(repo.root, *jane.settings, "tag", "-s", "-m", "two", "v2")
    repo.git("push", "-q", "served", "v2")
    assert synced(source).revision == head


def test_a_tag_that_is_meant_must_be_signed_itself(repo, jane, trusting):
    git(repo.root, *jane.settings, "tag", "-s", "-m", "one", "v1")
    repo.git("tag", "-a", "-m", "two", "v2")
    assert trusting(mode="tag", ref="v1").look().revision == repo.head
    with pytest.raises(Transient, match="tag v2"):
        trusting(mode="tag", ref="v2").look()


def test_a_branch_cannot_pass_for_the_tag_that_is_meant(repo, jane, trusting):
    """Who may push a branch, and no tag, would else lead a host back to an older signed tag."""
    git(repo.root, *jane.settings, "tag", "-s", "-m", "one", "v1")
    repo.git("branch", "v2")
    head = repo.commit(a="a: 2\n")
    git(repo.root, *jane.settings, "tag", "-s", "-m", "two", "v2")
    assert trusting(mode="tag", ref="v2").look().revision == head


# over ssh, whose far end is this machine


@pytest.fixture
def ssh(tmp_path, monkeypatch) -> Path:
    """An `ssh` that notes its words and runs the command here, as the far end would."""
    script = tmp_path / "bin" / "ssh"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/said\nfor last; do :; done\nexec sh -c "$last"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    monkeypatch.delenv("GIT_SSH_COMMAND", raising=False)
    return tmp_path / "said"


def test_over_ssh_a_sync_is_one_connection_that_checks_the_host(repo, ssh, open_repository, tmp_path):
    (tmp_path / "key").write_text("key")
    (tmp_path / "hosts").write_text("hosts")
    access = Access(ssh_key=tmp_path / "key", known_hosts=tmp_path / "hosts")
    source = open_repository(f"ssh://git@far.example{repo.root}", access=access, interval=3600)
    assert source.look().revision == repo.head
    ssh.write_text("")
    head = repo.commit(a="a: 2\n")
    assert synced(source).revision == head
    [line] = ssh.read_text().splitlines()
    assert "StrictHostKeyChecking=yes" in line
    assert f'IdentityFile="{tmp_path}/key"' in line
    assert "git@far.example git-upload-pack" in line


def test_a_failing_ssh_is_said_in_its_own_words(ssh, open_repository, tmp_path):
    (tmp_path / "bin" / "ssh").write_text("#!/bin/sh\necho 'Host key verification failed.' >&2\nexit 255\n")
    with pytest.raises(Transient, match="Host key verification failed"):
        open_repository("git@far.example:x.git").look()
