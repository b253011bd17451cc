"""A work tree's commit as a source: what is committed counts, what is in the checkout does not."""

import contextlib
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.clock import SystemClock
from agent.contracts import Transient
from agent.source.git.signature import Keys
from agent.source.git.trust import Trust
from agent.source.git.worktree import WorkTreeSource, stands_on_specs
from tests.fakes.following import Follower, contents, git
from tests.fakes.signing import signed_commit

NEVER = threading.Event()


@pytest.fixture
def open_tree() -> Iterator[Callable[[Path], WorkTreeSource]]:
    with contextlib.ExitStack() as stack:

        def start(path: Path, **options) -> WorkTreeSource:
            return stack.enter_context(contextlib.closing(WorkTreeSource(path, clock=SystemClock(), **options)))

        yield start


@pytest.fixture
def source(repo, open_tree) -> WorkTreeSource:
    return open_tree(repo.root / "specs")


def refused(source: WorkTreeSource) -> Transient:
    with pytest.raises(Transient) as caught:
        source.look()
    return caught.value


def test_the_snapshot_is_heads_tree_below_the_folder(repo, source):
    found = source.look()
    assert contents(found) == {"a.yaml": b"a: 1\n", "b/c.yaml": b"c: 1\n"}
    assert found.revision == repo.head
    assert found.source == source.id == f"git:{repo.root}/specs"
    assert all(file.modified_at > time.time() - 60 for file in found.files)


def test_what_is_edited_deleted_or_new_has_no_effect_and_is_counted(repo, source):
    before = contents(source.look())
    (repo.root / "specs" / "a.yaml").write_text("a: 2\n")
    (repo.root / "specs" / "new.yaml").write_text("n: 1\n")
    (repo.root / "specs" / "notes.txt").write_text("no spec")
    (repo.root / "elsewhere.yaml").write_text("not ours")
    assert contents(source.look()) == before
    source.wait(NEVER, 1.3)
    assert source.notice == "2 uncommitted edits not in effect until committed: specs/a.yaml, specs/new.yaml"


@pytest.mark.parametrize("form", ["sha1", "sha256"])
def test_edits_are_counted_without_what_the_work_trees_settings_would_run(open_tree, tmp_path, form):
    root, ran = tmp_path / "tree", tmp_path / "ran"
    (root / "specs").mkdir(parents=True)
    git(root, "init", "-q", "-b", "main", f"--object-format={form}")
    (root / "specs" / "a.yaml").write_text("a: 1\n")
    (root / ".gitattributes").write_text("*.yaml filter=theirs\n")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "one")
    for key in ("filter.theirs.clean", "filter.theirs.process", "core.fsmonitor"):
        git(root, "config", key, f"touch {ran}; cat")
    (root / ".git" / "info" / "exclude").write_text("ignored.yaml\n")
    source = open_tree(root / "specs")
    source.look()
    for name in ("a", "new", "ignored"):
        (root / "specs" / f"{name}.yaml").write_text("a: 2\n")
    source.wait(NEVER, 1.3)
    assert source.notice == "2 uncommitted edits not in effect until committed: specs/a.yaml, specs/new.yaml"
    assert not ran.exists()


def test_an_unchanged_commit_is_not_read_again_and_unchanged_files_are_shared(repo, source):
    first = source.look()
    again = source.look()
    assert again.files is first.files
    assert again.read_at > first.read_at
    repo.commit(a="a: 2\n")
    changed = {file.path: file for file in source.look().files}
    assert changed["a.yaml"].content == b"a: 2\n"
    assert changed["b/c.yaml"] is first.files[1]


@pytest.mark.parametrize(
    "words",
    [
        ("commit", "-q", "--allow-empty", "-m", "next"),
        ("reset", "-q", "--hard", "HEAD~1"),
        ("checkout", "-q", "other"),
        ("checkout", "-q", "--detach", "HEAD~1"),
        ("update-ref", "refs/heads/main", "HEAD~1"),
    ],
    ids=["commit", "reset", "checkout", "detach", "update-ref"],
)
def test_a_move_of_head_is_seen_at_once(repo, source, words):
    repo.git("branch", "other")
    repo.commit(a="a: 2\n")
    with Follower(source) as follower:
        follower.until(lambda found: found.revision == repo.head)
        follower.at_rest()
        repo.git(*words)
        follower.until(lambda found: found.revision == repo.head, within=2)


def test_a_ref_is_followed_into_packed_refs_and_out_again(repo, source):
    with Follower(source) as follower:
        follower.at_rest()
        repo.git("pack-refs", "--all")
        repo.git("gc", "-q", "--prune=now")
        follower.at_rest()
        follower.until(lambda found: found.revision == repo.head)
        repo.commit(a="a: 9\n")
        follower.until(lambda found: found.revision == repo.head, within=2)


def test_a_linked_work_tree_has_a_head_of_its_own(repo, open_tree, tmp_path):
    repo.git("worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
    source = open_tree(tmp_path / "side" / "specs")
    with Follower(source) as follower:
        follower.at_rest()
        (tmp_path / "side" / "specs" / "a.yaml").write_text("a: side\n")
        git(tmp_path / "side", "commit", "-q", "-am", "side")
        follower.until(lambda found: contents(found)["a.yaml"] == b"a: side\n", within=2)
        assert contents(open_tree(repo.root / "specs").look())["a.yaml"] == b"a: 1\n"


def test_a_git_sync_link_is_followed_as_the_same_source(repo, open_tree, tmp_path):
    def publish(name: str) -> None:
        repo.git("worktree", "add", "-q", "--detach", str(tmp_path / "trees" / name))
        (tmp_path / "new").symlink_to(Path("trees") / name)
        (tmp_path / "new").rename(tmp_path / "link")

    publish("one")
    source = open_tree(tmp_path / "link" / "specs")
    assert stands_on_specs(tmp_path / "link" / "specs")
    with Follower(source) as follower:
        first = follower.until(lambda found: found.revision == repo.head)
        follower.at_rest()
        head = repo.commit(a="a: 2\n")
        publish("two")
        second = follower.until(lambda found: found.revision == head, within=2)
    assert (second.source, second.identity) == (first.source, first.identity)


def test_a_link_whose_work_tree_is_gone_is_no_empty_snapshot(repo, open_tree, tmp_path):
    repo.git("worktree", "add", "-q", "--detach", str(repo.root / ".worktrees" / "one"))
    (tmp_path / "link").symlink_to(repo.root / ".worktrees" / "one")
    source = open_tree(tmp_path / "link" / "specs")
    source.look()
    shutil.rmtree(repo.root / ".worktrees" / "one")
    assert refused(source).reason == "SourceMissing"


def test_half_a_work_tree_behind_a_link_is_not_taken_for_the_one_around_it(repo, open_tree, tmp_path):
    repo.git("worktree", "add", "-q", "--detach", str(repo.root / ".worktrees" / "one"))
    (tmp_path / "link").symlink_to(repo.root / ".worktrees" / "one")
    source = open_tree(tmp_path / "link" / "specs")
    source.look()
    (repo.root / ".worktrees" / "one" / ".git").unlink()
    assert refused(source).reason == "SourceReplaced"


def test_the_last_file_removed_by_a_commit_is_an_empty_snapshot(repo, source):
    source.look()
    repo.commit(a=None, b__c=None)
    assert not (repo.root / "specs").exists()
    assert source.look().files == ()


def test_a_folder_that_no_commit_knows_is_an_error(repo, open_tree):
    (repo.root / "typo").mkdir()
    assert "no commit before it had one" in str(refused(open_tree(repo.root / "typo")))


def test_a_branch_without_a_commit_is_an_error(tmp_path, open_tree):
    git(tmp_path, "init", "-q", "-b", "main")
    assert refused(open_tree(tmp_path)).reason == "SourceUnborn"
    assert not stands_on_specs(tmp_path)


@pytest.mark.parametrize("state", ["rebase-merge", "rebase-apply", "BISECT_LOG"])
def test_while_git_walks_over_commits_the_last_word_stays(repo, source, state):
    source.look()
    (repo.root / ".git" / state).mkdir()
    assert refused(source).reason == "SourceChanging"
    (repo.root / ".git" / state).rmdir()
    source.look()


def test_a_rebase_that_stops_is_held_until_it_ends(repo, source):
    repo.git("checkout", "-q", "-b", "feature")
    repo.commit(a="a: feature\n")
    repo.git("checkout", "-q", "main")
    repo.commit(a="a: main\n")
    repo.git("checkout", "-q", "feature")
    before = source.look()
    with Follower(source) as follower:
        follower.at_rest()
        with pytest.raises(subprocess.CalledProcessError):
            repo.git("rebase", "-q", "main")
        follower.until_transient()
        repo.git("rebase", "--abort")
        follower.until(lambda found: found.revision == before.revision)
        seen = {found.revision for found in follower.seen if not isinstance(found, Transient)}
    assert seen == {before.revision}


@pytest.mark.parametrize("backend", ["--apply", "--merge"])
def test_no_commit_that_a_rebase_only_walks_over_is_ever_in_force(repo, source, backend):
    repo.git("checkout", "-q", "-b", "feature")
    for number in range(5):
        repo.commit(**{f"f{number}": f"f: {number}\n"})
    before = repo.head
    repo.git("checkout", "-q", "main")
    repo.commit(m="m: 1\n")
    repo.git("checkout", "-q", "feature")
    stop = threading.Event()
    seen: set[str] = set()

    def look() -> None:
        while not stop.is_set():
            with contextlib.suppress(Transient):
                seen.add(source.look().revision)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        repo.git("rebase", "-q", backend, "main")
    finally:
        stop.set()
        looking.join()
    assert source.look().revision == repo.head
    assert seen <= {before, repo.head}


def test_a_rebase_that_began_is_held_before_any_file_says_so(repo, source):
    repo.commit(a="a: 2\n")
    repo.git("checkout", "-q", "--detach")
    source.look()
    repo.git("update-ref", "--no-deref", "-m", "rebase (start): checkout main", "HEAD", "HEAD~1")
    assert refused(source).reason == "SourceChanging"
    log = repo.root / ".git" / "logs" / "HEAD"
    os.utime(log, (time.time() - 60, time.time() - 60))
    assert source.look().revision == repo.head


def test_a_shallow_clone_is_read_and_stays_one_source(repo, open_tree, tmp_path):
    repo.commit(a="a: 2\n")
    git(tmp_path, "clone", "-q", "--depth", "1", repo.root.as_uri(), "shallow")
    source = open_tree(tmp_path / "shallow" / "specs")
    first = source.look()
    head = repo.commit(a="a: 3\n")
    repo.commit(a="a: 4\n")
    git(tmp_path / "shallow", "fetch", "-q", "--depth", "1")
    git(tmp_path / "shallow", "reset", "-q", "--hard", "FETCH_HEAD")
    second = source.look()
    assert second.revision not in (first.revision, head)
    assert second.identity == first.identity


def test_rewritten_history_is_the_same_source_and_unrelated_history_another(repo, source):
    first = source.look()
    repo.commit(a="a: 2\n")
    source.look()
    repo.git("reset", "-q", "--hard", first.revision)
    repo.commit(a="a: 3\n")
    assert source.look().identity == first.identity
    repo.git("checkout", "-q", "--orphan", "other")
    repo.commit(a="a: 4\n")
    assert source.look().identity != first.identity
    repo.git("checkout", "-q", "main")
    assert source.look().identity == first.identity


def test_a_repository_cloned_again_is_the_same_source(repo, source, tmp_path):
    first = source.look()
    git(tmp_path, "clone", "-q", str(repo.root), "again")
    shutil.rmtree(repo.root)
    refused(source)
    (tmp_path / "again").rename(repo.root)
    head = repo.commit(a="a: 2\n")
    second = source.look()
    assert (second.revision, second.identity) == (head, first.identity)


def loose(repo, name: str) -> Path:
    oid = repo.git("rev-parse", name).strip()
    return repo.root / ".git" / "objects" / oid[:2] / oid[2:]


def rewrite(path: Path, content: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(content)


BREAKAGES = {
    "no .git": lambda repo: shutil.rmtree(repo.root / ".git"),
    "no HEAD": lambda repo: (repo.root / ".git" / "HEAD").unlink(),
    "HEAD is garbage": lambda repo: (repo.root / ".git" / "HEAD").write_text("\0\0"),
    "HEAD is empty": lambda repo: (repo.root / ".git" / "HEAD").write_text(""),
    "the ref is gone": lambda repo: (repo.root / ".git" / "refs" / "heads" / "main").unlink(),
    "the ref is empty": lambda repo: (repo.root / ".git" / "refs" / "heads" / "main").write_text(""),
    "the ref leads nowhere": lambda repo: (repo.root / ".git" / "refs" / "heads" / "main").write_text("1" * 40 + "\n"),
    "no objects": lambda repo: shutil.rmtree(repo.root / ".git" / "objects"),
    "no commit": lambda repo: loose(repo, "HEAD").unlink(),
    "no tree": lambda repo: loose(repo, "HEAD^{tree}").unlink(),
    "no folder": lambda repo: loose(repo, "HEAD:specs").unlink(),
    "no blob": lambda repo: loose(repo, "HEAD:specs/a.yaml").unlink(),
    "an empty commit": lambda repo: rewrite(loose(repo, "HEAD"), b""),
    "a broken tree": lambda repo: rewrite(loose(repo, "HEAD:specs"), b"garbage"),
    "a broken blob": lambda repo: rewrite(loose(repo, "HEAD:specs/a.yaml"), b"garbage"),
    "another blob's bytes": lambda repo: rewrite(
        loose(repo, "HEAD:specs/a.yaml"), loose(repo, "HEAD:specs/b/c.yaml").read_bytes()
    ),
}


@pytest.mark.parametrize("how", BREAKAGES)
def test_a_broken_repository_is_an_error_and_never_an_empty_snapshot(repo, open_tree, how):
    source = open_tree(repo.root / "specs")
    source.look()
    repo.commit(a="a: 2\n")
    BREAKAGES[how](repo)
    error = refused(source)
    assert str(repo.root) in str(error)
    assert refused(open_tree(repo.root / "specs"))


def test_a_broken_inner_repository_is_not_replaced_by_the_one_around_it(tmp_path, repo, open_tree):
    outer = repo.root.parent
    git(outer, "init", "-q")
    git(outer, "commit", "-q", "--allow-empty", "-m", "outer")
    source = open_tree(repo.root / "specs")
    source.look()
    (repo.root / ".git" / "HEAD").unlink()
    refused(source)
    shutil.rmtree(repo.root / ".git")
    assert refused(source).reason == "SourceReplaced"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to somebody else")
def test_a_foreign_work_tree_is_explained_with_its_cure(repo, open_tree, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.delenv("SUDO_UID", raising=False)
    for path in (repo.root, repo.root / ".git"):
        os.chown(path, 12345, 12345)
    source = open_tree(repo.root / "specs")
    error = refused(source)
    assert error.reason == "SourceNotOurs"
    assert stands_on_specs(repo.root / "specs")
    [cure] = [line for line in str(error).split(": ") if line.startswith("git config")]
    subprocess.run(cure.split(), check=True)
    assert source.look().files


def test_limits_are_those_of_a_folder(repo, open_tree):
    repo.commit(big="x" * 2000, small="y: 1\n")
    found = {file.path: file for file in open_tree(repo.root / "specs", max_file_bytes=1000).look().files}
    assert found["big.yaml"].content is None
    assert "more than the 1000" in found["big.yaml"].error
    assert found["small.yaml"].content == b"y: 1\n"
    errors = [file.error for file in open_tree(repo.root / "specs", max_total_bytes=8).look().files]
    assert any("in all" in error for error in errors)


def test_links_dotfiles_submodules_and_other_names_are_ignored(repo, source, tmp_path):
    specs = repo.root / "specs"
    (specs / "link.yaml").symlink_to("a.yaml")
    (specs / ".hidden.yaml").write_text("h: 1\n")
    (specs / ".git-crypt").mkdir()
    (specs / ".git-crypt" / "k.yaml").write_text("k: 1\n")
    (specs / "readme.md").write_text("text")
    (specs / "more.json").write_text("{}")
    repo.git("add", "-A")
    repo.git("update-index", "--add", "--cacheinfo", f"160000,{repo.head},specs/module.yaml")
    repo.git("commit", "-q", "-m", "more")
    assert set(contents(source.look())) == {"a.yaml", "b/c.yaml", "more.json"}


def test_a_folder_that_became_a_link_or_a_submodule_at_head_is_no_empty_one(repo, source):
    source.look()
    repo.git("rm", "-rq", "--cached", "specs")
    repo.git("update-index", "--add", "--cacheinfo", f"160000,{repo.head},specs")
    repo.git("commit", "-q", "-m", "a submodule from now on")
    with pytest.raises(Transient, match="specs is a submodule there"):
        source.look()


def test_a_root_can_be_the_folder(repo, open_tree):
    assert set(contents(open_tree(repo.root).look())) == {"specs/a.yaml", "specs/b/c.yaml"}


def test_no_checkout_at_full_speed_is_seen_half_done(repo, source):
    names = {f"s{number:03}.yaml" for number in range(60)}
    repo.git("rm", "-rq", "specs")
    for revision in ("one", "two"):
        repo.commit(**{name.removesuffix(".yaml"): f"revision: {revision}\n" for name in names})
        repo.git("tag", revision)
    stop = threading.Event()
    naive_missed = 0

    def check_out() -> None:
        while not stop.is_set():
            for words in (("checkout", "-q", "-f", "one"), ("reset", "-q", "--hard", "two"), ("checkout", "-q", "two")):
                repo.git(*words)

    def read_naively() -> None:
        nonlocal naive_missed
        while not stop.is_set():
            naive_missed += {path.name for path in (repo.root / "specs").glob("*.yaml")} != names

    threads = [threading.Thread(target=check_out), threading.Thread(target=read_naively)]
    for thread in threads:
        thread.start()
    seen = set()
    try:
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            found = source.look()
            texts = set(contents(found).values())
            assert set(contents(found)) == names
            assert len(texts) == 1, "two commits mixed"
            seen |= texts
            source.wait(stop, 0.5)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert naive_missed > 0, "the race was not hard enough to prove anything"
    assert len(seen) == 2


def test_wait_obeys_stop_kick_and_close(source):
    source.look()
    for end in (source.kick, source.close):
        waiting = threading.Thread(target=source.wait, args=(NEVER, 30))
        waiting.start()
        end()
        waiting.join(2)
        assert not waiting.is_alive()


def test_without_a_watch_a_commit_is_seen_within_seconds(repo, open_tree):
    def deaf(folders):
        raise OSError("no inotify here")

    with Follower(open_tree(repo.root / "specs", notify=deaf)) as follower:
        follower.at_rest()
        head = repo.commit(a="a: 2\n")
        follower.until(lambda found: found.revision == head, within=3)


def test_auto_means_git_only_where_head_holds_something(repo, tmp_path):
    assert stands_on_specs(repo.root / "specs")
    (repo.root / "new").mkdir()
    assert not stands_on_specs(repo.root / "new")
    assert not stands_on_specs(tmp_path)
    (repo.root / ".git" / "HEAD").write_text("")
    assert stands_on_specs(repo.root / "specs"), "its trouble must be seen"


# with signatures asked for


@pytest.fixture
def trusting(repo, signers, open_tree, tmp_path) -> Callable[[], WorkTreeSource]:
    """Opens the work tree as an agent that starts does."""
    return lambda: open_tree(repo.root / "specs", trust=Trust("commit", Keys(signers)), notes=tmp_path / "state")


def test_a_work_trees_unsigned_head_is_held_also_after_a_restart(repo, jane, trusting, tmp_path):
    repo.git("reset", "-q", "--soft", "HEAD")
    good = signed_commit(repo.root, jane.settings)
    source = trusting()
    assert source.look().revision == good
    repo.commit(a=None)
    held = source.look()
    assert held.revision == good
    assert set(contents(held)) == {"a.yaml", "b/c.yaml"}
    assert (source.unverified, "is held" in source.notice) == ("unsigned", True)
    source.close()
    for lost in (False, True):
        if lost:
            shutil.rmtree(tmp_path / "state")
        again = trusting()
        assert again.look().revision == good
        assert again.unverified == "unsigned"
    head = signed_commit(repo.root, jane.settings)
    taken = again.look()
    assert (taken.revision, set(contents(taken))) == (head, {"b/c.yaml"})
    assert (again.unverified, again.notice) == ("", "")


def test_what_was_in_force_is_so_after_a_restart_though_its_key_is_gone(repo, jane, mallory, trusting, signers):
    good = signed_commit(repo.root, jane.settings)
    trusting().look()
    signers.write_text(mallory.allowed())
    again = trusting()
    assert again.look().revision == good
    assert "does not verify any more" in again.notice


def test_keys_that_a_commit_could_change_are_refused_also_where_the_work_tree_comes_late(
    repo, jane, open_tree, tmp_path
):
    """As git-sync does: when the agent starts, its link is not there."""
    (repo.root / "signers").write_text(jane.allowed())
    repo.git("add", "signers")
    signed_commit(repo.root, jane.settings)
    link = tmp_path / "link"
    source = open_tree(link / "specs", trust=Trust("commit", Keys(link / "signers")))
    with pytest.raises(Transient, match="no git work tree"):
        source.look()
    link.symlink_to(repo.root)
    with pytest.raises(Transient, match="lies in the work tree that it is to vouch for"):
        source.look()


def test_a_work_tree_without_a_signed_commit_is_an_error(repo, trusting):
    source = trusting()
    with pytest.raises(Transient, match="no commit that verifies") as caught:
        source.look()
    assert caught.value.reason == "SourceUnverified"
    assert source.unverified == "unsigned"


def test_whoever_writes_a_work_trees_git_folder_has_no_say(repo, jane, mallory, trusting, signers, tmp_path):
    good = signed_commit(repo.root, jane.settings)
    source = trusting()
    source.look()
    repo.commit(a="a: evil\n")
    forged = signed_commit(repo.root, mallory.settings)
    others = tmp_path / "others"
    others.write_text(mallory.allowed())
    yes = tmp_path / "yes"
    yes.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\necho 'Good \"git\" signature for t with ED25519 key SHA256:x'\n")
    yes.chmod(0o755)
    included = tmp_path / "included"
    included.write_text(f"[gpg]\n\tprogram = {yes}\n[alias]\n\tverify-commit = !{yes}\n")
    for key, value in (
        ("gpg.program", yes),
        ("gpg.ssh.program", yes),
        ("gpg.x509.program", yes),
        ("gpg.ssh.allowedSignersFile", others),
        ("gpg.ssh.revocationFile", signers),
        ("gpg.minTrustLevel", "never"),
        ("include.path", included),
        ("core.hooksPath", tmp_path),
        ("core.fsmonitor", yes),
    ):
        repo.git("config", key, str(value))
    assert source.look().revision == good
    repo.git("replace", forged, good)
    assert trusting().look().revision == good
    (repo.root / ".git" / "info").mkdir(exist_ok=True)
    (repo.root / ".git" / "info" / "grafts").write_text(f"{forged} {good}\n")
    assert trusting().look().revision == good
    assert not (tmp_path / "ran").exists()


def test_an_object_under_anothers_name_is_not_believed(repo, jane, trusting):
    good = signed_commit(repo.root, jane.settings)
    trusting().look()
    head = repo.commit(a="a: evil\n")
    objects = repo.root / ".git" / "objects"
    planted = objects / head[:2] / head[2:]
    planted.chmod(0o644)
    planted.write_bytes((objects / good[:2] / good[2:]).read_bytes())
    with pytest.raises(Transient):
        trusting().look()
