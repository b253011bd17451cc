"""A past is told as git's own log tells it: below one path, merges against their first parent, and cut where it is cut."""

import shutil
import subprocess
import threading

import pytest

from agent.contracts import Transient
from agent.source.git.command import Repository, spawn
from agent.source.git.mirror import Mirror
from agent.source.git.past import GitPast
from agent.source.git.remote import remote
from agent.source.scan import Limits
from agent.source.snapshot import Edit
from tests.fakes.following import git

SECONDS = 30.0


def past_of(repo, *, git_dir: str = "", path: str = "specs", limits: Limits | None = None) -> GitPast:
    root = repo.root
    return GitPast(Repository(("-C", str(root))), path, limits=limits or Limits(), git_dir=git_dir or f"{root}/.git")


def log(past: GitPast, revision: str, but: str = ""):
    with past.open(SECONDS) as reading:
        return list(reading.log(revision, but=but))


def blob(repo, name: str, commit: str = "HEAD") -> str:
    return repo.git("rev-parse", f"{commit}:specs/{name}").strip()


def test_each_commit_is_told_with_what_it_did_to_which_file(repo):
    first = repo.head
    repo.commit(a="a: 2\n")
    second = repo.head
    (repo.root / "elsewhere.yaml").write_text("x: 1\n")
    repo.git("add", ".")
    repo.git("commit", "-q", "-m", "outside")
    repo.git("mv", "specs/a.yaml", "specs/ä b.yaml")
    repo.git("commit", "-q", "-m", "Move it\nto there\n\nand a body")
    moved, told = repo.head, log(past_of(repo), repo.head)
    assert [entry.id for entry in told] == [moved, second, first]
    assert [entry.parents for entry in told] == [(second,), (first,), ()]
    assert told[0].subject == "Move it to there"
    assert (told[0].author, told[0].at.timestamp()) == ("t", float(repo.git("log", "-1", "--format=%ct")))
    held = blob(repo, "ä b.yaml")
    assert set(told[0].edits) == {Edit("a.yaml", held, ""), Edit("ä b.yaml", "", held)}
    assert told[1].edits == (Edit("a.yaml", blob(repo, "a.yaml", first), held),)
    assert {edit.path for edit in told[2].edits} == {"a.yaml", "b/c.yaml"}


def test_a_merge_is_compared_with_its_first_parent_and_with_others_when_asked(repo):
    base = repo.head
    repo.git("checkout", "-q", "-b", "side")
    side = repo.commit(a="a: side\n")
    repo.git("checkout", "-q", "main")
    main = repo.commit(b__c="c: main\n")
    repo.git("merge", "-q", "--no-ff", "-m", "Merge side", "side")
    past = past_of(repo)
    told = {entry.id: entry for entry in log(past, repo.head)}
    merge = told[repo.head]
    assert merge.parents == (main, side)
    assert [edit.path for edit in merge.edits] == ["a.yaml"]
    assert set(told) == {repo.head, main, side, base}
    with past.open(SECONDS) as reading:
        assert [edit.path for edit in reading.edits(side, merge.id)] == ["b/c.yaml"]
        assert reading.edits(main, merge.id) == merge.edits


def test_what_another_commit_has_in_its_past_can_be_left_out(repo):
    first = repo.head
    second = repo.commit(a="a: 2\n")
    third = repo.commit(a="a: 3\n")
    told = log(past_of(repo), third, but=first)
    assert [entry.id for entry in told] == [third, second]
    assert told[-1].parents == (first,)
    assert past_of(repo).ahead(first, third) == 2
    assert past_of(repo).ahead(third, first) == 0


def test_only_specs_count_and_content_is_read_by_its_id(repo):
    repo.commit(a="a: 2\n", _hidden="h: 1\n")
    (repo.root / "specs" / ".dot.yaml").write_text("d: 1\n")
    (repo.root / "specs" / "note.txt").write_text("n\n")
    (repo.root / "specs" / "link.yaml").symlink_to("a.yaml")
    repo.git("add", ".")
    repo.git("commit", "-q", "-m", "no specs")
    past = past_of(repo, limits=Limits(file_bytes=100))
    assert log(past, repo.head)[0].edits == ()
    big = repo.commit(big="x" * 200)
    with past.open(SECONDS) as reading:
        assert reading.content(blob(repo, "a.yaml")) == b"a: 2\n"
        assert reading.content(blob(repo, "big.yaml", big)) == b""
        assert reading.content("1" * 40) is None
        assert reading.edits("HEAD~2", "HEAD~1") == ()


def test_a_users_settings_change_nothing(repo):
    first = repo.head
    for key in ("log.follow", "log.showSignature", "diff.relative", "core.quotePath"):
        repo.git("config", key, "true")
    repo.git("config", "diff.renames", "copies")
    repo.git("mv", "specs/a.yaml", "specs/z.yaml")
    repo.git("commit", "-q", "-m", "move")
    told = log(past_of(repo), repo.head)
    assert [entry.id for entry in told] == [repo.head, first]
    assert {edit.path for edit in told[0].edits} == {"a.yaml", "z.yaml"}


def test_where_history_is_cut_off_it_says_so(repo, tmp_path):
    first = repo.head
    head = repo.commit(a="a: 2\n")
    git(tmp_path, "clone", "-q", "--depth", "1", repo.root.as_uri(), "shallow")
    shallow = GitPast(Repository(("-C", str(tmp_path / "shallow"))), "specs", Limits(), f"{tmp_path}/shallow/.git")
    with shallow.open(SECONDS) as reading:
        [only] = reading.log(head)
        assert only.parents == ()
        assert reading.cut(only.id)
    with past_of(repo).open(SECONDS) as reading:
        assert not reading.cut(first)


def test_a_commit_that_is_not_there_or_time_that_is_over_is_transient(repo):
    with pytest.raises(Transient, match="log cannot be read"):
        log(past_of(repo), "1" * 40)
    with pytest.raises(Transient, match="cannot be counted"):
        past_of(repo).ahead("1" * 40, repo.head)
    held = blob(repo, "a.yaml")
    with past_of(repo).open(0.0) as reading, pytest.raises(Transient):  # its time is over as soon as git runs
        _ = [reading.content(held) for _ in range(100_000)]


def test_a_log_that_ends_within_a_commit_is_no_log(repo, monkeypatch):
    files = "".join(f"M 100644 inline specs/{n}.yaml\ndata 2\na\n\n" for n in range(2000))  # more than a pipe holds
    stream = f"commit refs/heads/many\ncommitter t <t@example.com> 1767225600 +0000\ndata 1\nx\n{files}"
    subprocess.run(["git", "fast-import", "--quiet"], cwd=repo.root, input=stream.encode(), check=True)
    monkeypatch.setattr("agent.source.git.past._PIECE", 64)
    spawned = []
    monkeypatch.setattr("agent.source.git.past.spawn", lambda *a, **k: spawned.append(spawn(*a, **k)) or spawned[-1])
    repo.git("checkout", "-q", "many")
    head = repo.commit(a="a: 2\n")
    with past_of(repo).open(SECONDS) as reading:
        entries = reading.log(head)
        assert next(entries).id == head
        spawned[-1].kill()
        spawned[-1].wait()
        with pytest.raises(Transient, match="log cannot be read"):
            next(entries)


def test_a_commit_without_a_time_or_an_author_is_told(repo):
    text = f"tree {repo.git('rev-parse', 'HEAD^{tree}').strip()}\nauthor nobody\ncommitter nobody\n\nNo time\n"
    words = ["git", "hash-object", "-t", "commit", "-w", "--stdin", "--literally"]
    made = subprocess.run(words, cwd=repo.root, input=text, check=True, capture_output=True, text=True)
    [entry] = log(past_of(repo), made.stdout.strip())
    assert (entry.subject, entry.author, entry.at.timestamp()) == ("No time", "", 0.0)


def test_a_mirror_lacks_old_files_without_asking_for_them_and_fetches_them_when_told(repo, tmp_path):
    old = blob(repo, "a.yaml")
    repo.git("config", "uploadpack.allowFilter", "true")
    repo.git("config", "uploadpack.allowAnySHA1InWant", "true")
    repo.commit(a="a: 2\n")
    mirror = Mirror(tmp_path / "state", remote(repo.root.as_uri(), path="specs"), stop=threading.Event())
    mirror.sync()
    past = GitPast(mirror.plain, "specs", Limits(), bring=mirror.bring)
    with past.open(SECONDS) as reading:
        assert reading.content(old) is None
        assert reading.content(blob(repo, "a.yaml")) == b"a: 2\n"
        assert len(list(reading.log(repo.head))) == 2
    past.fetch([old])
    with past.open(SECONDS) as reading:
        assert reading.content(old) == b"a: 1\n"
    shutil.rmtree(repo.root)
    with past.open(SECONDS) as reading:
        assert reading.content(old) == b"a: 1\n", "it stays"
