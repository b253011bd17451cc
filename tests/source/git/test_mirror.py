"""What is in force moves only when all of it is here, and what belongs to nobody any more goes: see test_repository."""

import fcntl
import os
import threading
import time
from pathlib import Path

import pytest

from agent.source.git.command import ask
from agent.source.git.mirror import IN_FORCE, Mirror
from agent.source.git.origin import NotSynced, leads
from agent.source.git.remote import Access, remote
from agent.source.git.signature import Keys
from agent.source.git.trust import Trust
from tests.fakes.following import git
from tests.fakes.signing import signed_commit

NEVER = threading.Event()
MONTHS = 100 * 86400.0  # seconds


@pytest.fixture
def mirror(repo, tmp_path):
    def made(*, trust: Trust | None = None, **options) -> Mirror:
        return Mirror(tmp_path / "state", remote(repo.root.as_uri(), **options), stop=NEVER, trust=trust)

    return made


def folders(tmp_path: Path) -> set[str]:
    return {path.name for path in (tmp_path / "state").iterdir()}


def aged(folder: Path) -> None:
    then = time.time() - MONTHS
    os.utime(folder / "synced", (then, then))


def test_a_sync_tells_what_is_in_force_and_how_new_that_is(repo, mirror):
    made = mirror()
    assert (made.there, made.synced_at, made.tip) == (False, 0.0, "")
    assert made.sync() == made.tip == repo.head
    assert made.there
    assert time.time() - made.synced_at < 10
    head = repo.commit(a="a: 2\n")
    assert made.sync() == head


def test_history_can_be_read_though_an_agent_was_killed_while_it_prepared_that(repo, mirror):
    made = mirror()
    made.sync()
    git(Path(made.repository.words[-1]), "init", "-q", "--bare", "plain")
    assert ask(made.plain, ["rev-list", "--count", repo.head], seconds=10).strip() == "1"


def test_the_newest_commit_and_the_one_in_force_are_two(repo, mirror, jane, signers):
    good = signed_commit(repo.root, jane.settings)
    made = mirror(trust=Trust("commit", Keys(signers)))
    made.sync()
    head = repo.commit(a="a: 2\n")
    assert (made.sync(), made.tip) == (good, head)


def test_another_ref_path_or_trust_has_a_mirror_of_its_own(repo, mirror, jane, signers, tmp_path):
    signed_commit(repo.root, jane.settings)
    other = tmp_path / "others"
    other.write_text(jane.allowed())
    for made in (
        mirror(),
        mirror(ref="main"),
        mirror(path="specs"),
        *(mirror(trust=Trust(mode, Keys(file))) for mode in ("commit", "commit") for file in (signers, other)),
    ):
        made.sync()
    assert len(folders(tmp_path)) == 5


def test_a_deleted_branch_leaves_what_is_in_force(repo, mirror, tmp_path):
    repo.git("branch", "side")
    made = mirror(ref="side")
    first = made.sync()
    repo.git("branch", "-D", "side")
    with pytest.raises(NotSynced, match="deleted or never existed"):
        made.sync()
    [link] = (tmp_path / "state").glob("*/current")
    assert leads(link, IN_FORCE) == first


def test_a_missing_file_of_access_is_said_before_anybody_is_asked(repo, tmp_path):
    wanted = remote("git@h.example:x.git", access=Access(ssh_key=tmp_path / "none"))
    with pytest.raises(NotSynced, match=r"source\.sshKey"):
        Mirror(tmp_path / "state", wanted, stop=NEVER).sync()


def test_a_stopped_mirror_does_not_wait_for_another_process(repo, tmp_path):
    stop = threading.Event()
    made = Mirror(tmp_path / "state", remote(repo.root.as_uri()), stop=stop)
    made.sync()
    [lock] = (tmp_path / "state").glob("*/lock")
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        stop.set()
        with pytest.raises(NotSynced, match="another process"):
            made.sync()


# those that nobody syncs any more


def test_a_mirror_that_nobody_synced_for_long_is_removed(repo, mirror, tmp_path):
    mirror(ref="main").sync()
    [old] = folders(tmp_path)
    aged(tmp_path / "state" / old)
    made = mirror()
    made.sync()
    made.retire()
    assert old not in folders(tmp_path)
    assert made.there


def test_a_mirror_that_is_young_ours_or_in_use_stays(repo, mirror, tmp_path):
    mirror(ref="main").sync()
    young = folders(tmp_path)
    mirror(path="specs").sync()
    [used] = folders(tmp_path) - young
    made = mirror()
    made.sync()
    [ours] = folders(tmp_path) - young - {used}
    for name in (used, ours):
        aged(tmp_path / "state" / name)
    with (tmp_path / "state" / used / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        made.retire()
    assert folders(tmp_path) == {*young, used, ours}


def test_what_is_no_mirror_is_never_removed(repo, mirror, tmp_path):
    made = mirror()
    made.sync()
    state = tmp_path / "state"
    for name in ("0123456789abcdef", "notes"):
        (state / name).mkdir()
        (state / name / "synced").touch()
        (state / name / "lock").touch()
        (state / name / "precious").touch()
        (state / name / "current").symlink_to("clone-1")
        aged(state / name)
    (state / "trusted-0123456789abcdef").write_text("x")
    (state / "fedcba9876543210").symlink_to(tmp_path / "repo")
    made.retire()
    assert len(folders(tmp_path)) == 5
    assert (state / "0123456789abcdef" / "precious").exists()
