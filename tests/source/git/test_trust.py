"""The newest commit that verifies is in force; nothing that does not is, and nothing older than what was."""

import logging
import shutil
from pathlib import Path

import pytest

from agent.source.git.command import Repository
from agent.source.git.object import Objects
from agent.source.git.signature import Keys, Verifier
from agent.source.git.trust import Trust, Unverified
from tests.fakes.following import git
from tests.fakes.signing import signed_commit


class Asked:
    """A trust in a repository's commits, asked as a source does: with the answer before."""

    def __init__(self, root: Path, signers: Path, mode: str = "commit") -> None:
        self.root = root
        self.trust = Trust(mode, Keys(signers))
        self.in_force = ""

    def __call__(self, head: str = "HEAD", *, tag: str = "") -> str:
        oid = git(self.root, "rev-parse", f"{head}^{{commit}}").strip()
        with Objects(Repository(("-C", str(self.root))), seconds=20) as objects:
            self.in_force = self.trust.settle(objects, oid, in_force=self.in_force, tag=tag)
        return self.in_force


@pytest.fixture
def asked(repo, signers) -> Asked:
    return Asked(repo.root, signers)


@pytest.fixture
def sign(repo, jane):
    return lambda: signed_commit(repo.root, jane.settings)


@pytest.fixture
def judged(monkeypatch) -> list[str]:
    """The ids of what git was asked about."""
    seen: list[str] = []
    ask = Verifier.finding
    monkeypatch.setattr(
        Verifier, "finding", lambda self, kind, oid, content: seen.append(oid) or ask(self, kind, oid, content)
    )
    return seen


def test_a_signed_head_is_in_force(asked, sign):
    head = sign()
    assert asked() == head
    assert (asked.trust.notice, asked.trust.reason) == ("", "")


def test_an_unsigned_head_is_held_and_said(asked, sign, repo):
    good = sign()
    assert asked() == good
    head = repo.commit(a="a: 2\n")
    assert asked() == good
    notice = asked.trust.notice
    assert asked.trust.reason == "unsigned"
    for word in (head[:12], "by t", "it is not signed", good[:12], "git commit -S", str(asked.trust.keys.signers)):
        assert word in notice


def test_a_signed_commit_takes_over_with_the_unsigned_ones_below_it(asked, sign, repo):
    sign()
    asked()
    repo.commit(a="a: 2\n")
    asked()
    head = sign()
    assert asked() == head
    assert asked.trust.notice == ""


def test_what_comes_in_one_push_ends_as_what_comes_one_by_one(asked, sign, repo):
    first = sign()
    assert asked() == first
    repo.commit(a="a: 2\n")
    second = sign()
    repo.commit(a="a: 3\n")
    repo.commit(a="a: 4\n")
    assert asked() == second


def test_without_memory_the_newest_ancestor_that_verifies_is_found(asked, sign, repo):
    sign()
    newest = sign()
    for number in range(5):
        repo.commit(a=f"a: {number}\n")
    assert asked() == newest


def test_only_first_parents_are_asked(asked, sign, repo, jane):
    good = sign()
    repo.git("checkout", "-q", "-b", "side")
    repo.commit(x="x: 1\n")
    signed_commit(repo.root, jane.settings)
    repo.git("checkout", "-q", "main")
    repo.commit(a="a: 2\n")
    repo.git("merge", "-q", "--no-ff", "-m", "merge", "side")
    assert asked() == good


def test_if_nothing_verifies_nothing_is_in_force(asked, repo):
    repo.commit(a="a: 2\n")
    with pytest.raises(Unverified, match=f"no commit that verifies.*{repo.head[:12]} by t.*not signed") as caught:
        asked()
    assert caught.value.reason == "SourceUnverified"
    assert asked.trust.reason == "unsigned"


def test_an_unsigned_force_push_does_not_lead_back_to_an_older_signed_commit(asked, sign, repo):
    older = sign()
    good = sign()
    assert asked() == good
    repo.git("reset", "-q", "--hard", older)
    repo.commit(a="a: 2\n")
    assert asked() == good
    repo.git("reset", "-q", "--hard", older)
    assert asked() == older, "a head that is signed is followed"


def test_a_commit_in_force_that_is_gone_is_not_replaced_by_an_older_one(asked, sign, repo):
    sign()
    asked.in_force = "1" * 40
    repo.commit(a="a: 2\n")
    with pytest.raises(Unverified, match=f"is gone.*{repo.head[:12]} by t does not verify"):
        asked()
    asked.trust.keys.signers.unlink()
    with pytest.raises(Unverified, match="is gone"):
        asked()


def test_a_key_that_is_named_later_lets_its_commit_in(asked, sign, repo, mallory, signers):
    good = sign()
    asked()
    head = signed_commit(repo.root, mallory.settings)
    assert asked() == good
    assert asked.trust.reason == "unknown"
    with signers.open("a") as keys:
        keys.write(mallory.allowed())
    assert asked() == head


def test_what_is_in_force_stays_when_its_key_goes_and_is_said(asked, sign, repo, mallory, signers):
    good = sign()
    asked()
    signers.write_text(mallory.allowed())
    assert asked() == good
    assert asked.trust.reason == "unknown"
    assert "does not verify any more" in asked.trust.notice
    repo.commit(a="a: 2\n")
    assert asked() == good
    head = signed_commit(repo.root, mallory.settings)
    assert asked() == head
    assert asked.trust.notice == ""


def test_keys_that_cannot_be_read_hold_every_new_commit(asked, sign, signers, tmp_path):
    good = sign()
    asked()
    head = sign()
    signers.rename(tmp_path / "aside")
    assert asked() == good
    assert asked.trust.reason == "error"
    assert "source.allowedSigners" in asked.trust.notice
    asked.in_force = ""
    with pytest.raises(Unverified, match=r"source\.allowedSigners"):
        asked()
    (tmp_path / "aside").rename(signers)
    assert asked() == head


def test_a_program_that_is_missing_is_no_verdict(asked, sign, monkeypatch, tmp_path):
    good = sign()
    asked()
    head = sign()
    git_alone = tmp_path / "bin"
    git_alone.mkdir()
    (git_alone / "git").symlink_to(shutil.which("git"))
    monkeypatch.setenv("PATH", str(git_alone))
    assert asked(head) == good
    assert asked.trust.reason == "error"
    monkeypatch.undo()
    assert asked() == head


def test_each_commit_is_judged_once_for_the_same_keys(asked, sign, repo, judged, signers):
    good = sign()
    asked()
    head = repo.commit(a="a: 2\n")
    for _ in range(3):
        asked()
    assert judged == [good, head]
    signers.write_text(signers.read_text() + "\n# another\n")
    asked()
    assert judged == [good, head, head], "the one in force is asked for no more"


def test_a_long_chain_without_signatures_is_walked_without_git(asked, sign, repo, monkeypatch):
    good = sign()
    for _ in range(60):
        git(repo.root, "commit", "-q", "--allow-empty", "-m", "x")
    monkeypatch.setattr("agent.source.git.signature.run", None)
    with pytest.raises(TypeError):
        asked(good)
    monkeypatch.undo()
    assert asked() == good


def test_what_is_not_judged_in_time_is_judged_the_next_time(asked, sign, repo, mallory, judged, monkeypatch):
    good = sign()
    forged = [signed_commit(repo.root, mallory.settings) for _ in range(8)]
    monkeypatch.setattr("agent.source.git.trust._JUDGING", 1e-9)
    with pytest.raises(Unverified, match="so far"):
        asked()
    assert judged == forged[-1:]
    monkeypatch.setattr("agent.source.git.trust._JUDGING", 10.0)
    assert asked() == good
    assert judged == [*reversed(forged), good], "nothing twice"


def test_that_there_is_none_is_found_once(asked, repo, monkeypatch):
    with pytest.raises(Unverified):
        asked()
    monkeypatch.setattr(Objects, "commit", None)
    with pytest.raises(Unverified, match="not signed"):
        asked()


def test_a_hold_is_logged_once(asked, sign, repo, told):
    sign()
    asked()
    repo.commit(a="a: 2\n")
    asked()
    asked()
    sign()
    asked()
    records = {id(record): record for record in told.records if "verif" in record.message}  # heard twice under pytest
    lines = [(record.levelno, record.message) for record in records.values()]
    assert lines == [(logging.WARNING, "a commit does not verify"), (logging.INFO, "the newest commit verifies")]


def test_an_authors_name_cannot_steer_a_terminal(asked, sign, repo):
    sign()
    asked()
    git(
        repo.root,
        "-c",
        "user.name=x\x1b[31m",
        "commit",
        "-q",
        "--allow-empty",
        "-m",
        "x",
        "--author",
        "\x1b[31mred <r@x>",
    )
    asked()
    assert "\x1b" not in asked.trust.notice
    assert "red" in asked.trust.notice


# tags


@pytest.fixture
def tagged(repo, signers) -> Asked:
    return Asked(repo.root, signers, "tag")


def test_a_commit_that_a_signed_tag_points_at_is_in_force(tagged, repo, jane, mallory):
    git(repo.root, *jane.settings, "tag", "-s", "-m", "one", "v1")
    first = repo.head
    assert tagged() == first
    repo.commit(a="a: 2\n")
    assert tagged() == first
    assert "no signed tag points at it" in tagged.trust.notice
    assert "git tag -s" in tagged.trust.notice
    git(repo.root, "tag", "light")
    git(repo.root, "tag", "-a", "-m", "not signed", "annotated")
    assert (tagged(), tagged.trust.reason) == (first, "unsigned")
    git(repo.root, *mallory.settings, "tag", "-s", "-m", "two", "v2")
    assert tagged() == first
    git(repo.root, *jane.settings, "tag", "-s", "-m", "three", "v3")
    assert tagged() == repo.head
    assert tagged.trust.notice == ""


def test_a_signed_commit_is_no_signed_tag(tagged, sign):
    sign()
    with pytest.raises(Unverified, match="no signed tag"):
        tagged()


def test_a_tag_counts_under_its_own_name_alone(tagged, repo, jane):
    git(repo.root, *jane.settings, "tag", "-s", "-m", "one", "v1")
    first = repo.head
    git(repo.root, "update-ref", "refs/tags/v2", "refs/tags/v1")
    git(repo.root, "tag", "-d", "v1")
    with pytest.raises(Unverified, match="another name"):
        tagged(first)


def test_a_tag_that_was_asked_for_is_the_one_that_must_be_signed(tagged, repo, jane):
    git(repo.root, *jane.settings, "tag", "-s", "-m", "one", "v1")
    git(repo.root, "tag", "-a", "-m", "two", "v2")
    assert tagged("v1", tag="v1") == repo.head
    tagged.in_force = ""
    with pytest.raises(Unverified, match="not signed"):
        tagged("v2", tag="v2")


def test_without_memory_the_newest_tagged_commit_is_found(tagged, repo, jane):
    git(repo.root, *jane.settings, "tag", "-s", "-m", "one", "v1")
    first = repo.head
    repo.commit(a="a: 2\n")
    repo.commit(a="a: 3\n")
    assert tagged() == first


def test_a_name_that_only_unicode_takes_for_two_lines_is_one(tagged, repo, jane):
    git(repo.root, *jane.settings, "tag", "-s", "-m", "one", "v\u20281")
    repo.git("tag", "light\u2028x")
    assert tagged() == repo.head
