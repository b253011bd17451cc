"""Control groups, in the kernel's own hierarchy; limits, where its controllers are elsewhere, in a folder like it."""

import contextlib
import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from shimlets.process import cgroup
from shimlets.process.cgroup import Groups, Limits, delegated
from shimlets.process.starting import start
from tests.shimlets.process.place import ProcessPlace, alive

BOTH = Limits(cpu=1.5, memory=64 << 20)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As the kernel shows a group of which memory and cpu were handed out."""
    (tmp_path / "cgroup.subtree_control").touch()
    return tmp_path


@pytest.fixture
def unit() -> Iterator[Path]:
    """A group as systemd makes it for a unit, with a leaf for the agent."""
    mounted = cgroup._mounted()
    if mounted is None or not os.access(mounted, os.W_OK) or os.geteuid() != 0:
        pytest.skip("no unified control groups that this user may make")
    unit = mounted / f"t-{uuid.uuid4().hex[:10]}"
    try:
        (unit / "agent").mkdir(parents=True)
    except OSError as error:
        pytest.skip(f"{mounted}: {error.strerror}")
    try:
        os.setxattr(unit, "user.delegate", b"1")
        yield unit
    finally:
        deadline = time.monotonic() + 10
        while unit.exists() and time.monotonic() < deadline:
            for path in (*unit.iterdir(), unit):
                with contextlib.suppress(OSError):
                    if path.is_dir():
                        (path / "cgroup.kill").write_text("1")
                        path.rmdir()
            time.sleep(0.01)
        assert not unit.exists()


@contextlib.contextmanager
def sleeper(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(words or ("/bin/sleep", "60")) as process:
        try:
            yield process
        finally:
            process.kill()


def inside(group: Path, process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
    (group / "cgroup.procs").write_text(str(process.pid))
    return process


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not alive(pid)


def test_limits_are_written_as_the_kernel_wants_them(folder: Path) -> None:
    made = Groups("t-a", lambda: folder).make("1", Limits(cpu=1.5, memory=(64 << 20) + 1))
    assert made == folder / "t-a.1"
    assert {file.name: file.read_text() for file in made.iterdir()} == {
        "cpu.max": "150000 100000",
        "memory.max": str(64 << 20),
        "memory.oom.group": "1",
    }


def test_limits_hold_for_what_is_in_the_group_if_the_kernel_took_them(folder: Path) -> None:
    groups = Groups("t-a", lambda: folder)
    made = groups.make("1", BOTH)
    assert not groups.holds("1", 7, BOTH)
    (made / "cgroup.procs").write_text("7\n8\n")
    assert groups.holds("1", 7, BOTH)
    assert not groups.holds("1", 9, BOTH)
    (made / "memory.max").write_text("max\n")
    assert not groups.holds("1", 7, BOTH)


def test_what_the_kernel_killed_for_want_of_memory_is_known(folder: Path) -> None:
    groups = Groups("t-a", lambda: folder)
    events = groups.make("1", BOTH) / "memory.events"
    assert not groups.out_of_memory("1")
    events.write_text("low 0\noom 3\noom_kill 0\n")
    assert not groups.out_of_memory("1")
    events.write_text("low 0\noom 3\noom_kill 1\n")
    assert groups.out_of_memory("1")


def test_without_delegation_there_are_no_groups_and_nothing_fails() -> None:
    groups = Groups("t-a", lambda: None)
    assert groups.make("1", BOTH) is None
    assert not groups.holds("1", 1, BOTH)
    assert (groups.pids("1"), groups.out_of_memory("1")) == (frozenset(), False)
    groups.kill("1")
    groups.tidy(())


def test_only_a_group_that_says_so_is_used_and_only_from_a_leaf_beside(unit: Path) -> None:
    with sleeper() as process:
        assert delegated(str(process.pid)) is None  # wherever the tests run
        inside(unit / "agent", process)
        assert delegated(str(process.pid)) == unit
        os.setxattr(unit, "user.delegate", b"0")
        assert delegated(str(process.pid)) is None
        os.setxattr(unit, "user.delegate", b"1")
        with sleeper() as other:
            inside(unit, other)  # as an agent that has no leaf of its own, or what an older unit left there
            assert delegated(str(process.pid)) is None
            assert delegated(str(other.pid)) is None


def test_a_program_starts_in_its_group_and_ends_with_all_that_is_in_it(unit: Path, tmp_path: Path) -> None:
    groups = Groups("t-a", lambda: unit)
    group = groups.make("1", Limits())
    script = "setsid -f env -i /bin/sleep 61; exec /bin/sleep 62"  # one that leaves session, parent and environment
    leader = start(("/bin/sh", "-c", script), dict(os.environ), tmp_path / "log", group)
    deadline = time.monotonic() + 10
    while len(groups.pids("1")) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    pids = groups.pids("1")
    assert leader in pids
    assert len(pids) == 2
    groups.kill("1")
    os.waitpid(leader, 0)
    assert all(gone(pid) for pid in pids)


def test_a_program_whose_group_is_gone_runs_without_it(tmp_path: Path) -> None:
    pid = start(("/bin/sh", "-c", "echo ran"), dict(os.environ), tmp_path / "log", tmp_path / "nothing")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert (tmp_path / "log").read_text() == "ran\n"


def test_only_empty_groups_of_ours_are_tidied_away(unit: Path) -> None:
    groups = Groups("t-a", lambda: unit)
    for run in ("1", "2", "3"):
        groups.make(run, Limits())
    Groups("t-b", lambda: unit).make("4", Limits())
    with sleeper() as process:
        inside(unit / "t-a.2", process)
        groups.tidy(["1"])
        assert sorted(path.name for path in unit.iterdir() if path.is_dir()) == ["agent", "t-a.1", "t-a.2", "t-b.4"]


def test_a_replica_has_a_group_that_ends_what_escaped_it_and_goes_with_it(
    unit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shimlets.process.shimlet.delegated", lambda: unit)
    with ProcessPlace(tmp_path / "state", stopGrace=0.2) as place:
        shimlet = place.shimlet()
        shimlet.acquire()
        service = place.running("/bin/sh", "-c", "setsid -f env -i /bin/sleep 63; exec /bin/sleep 64")
        place.up(shimlet, service)
        [group] = place.until(lambda: list(unit.glob(f"{place.owner}.*")), "its group is there")
        place.until(lambda: len((group / "cgroup.procs").read_text().split()) == 2, "both are in it")
        pids = [int(pid) for pid in (group / "cgroup.procs").read_text().split()]
        shimlet.remove(service.name, service.digest)
        place.until(lambda: not any(alive(pid) for pid in pids), "both have ended")
        place.until(lambda: not shimlet.observe(service.name).generations, "it is gone")
        shimlet._leaders()
        assert not group.exists()


def test_a_program_that_the_kernel_ended_for_want_of_memory_is_told_so(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("shimlets.process.shimlet.delegated", lambda: folder)
    with ProcessPlace(tmp_path / "state") as place:
        shimlet = place.shimlet()
        shimlet.acquire()
        service = place.running("/bin/sleep", "65", memory=64 << 20)
        pid = place.up(shimlet, service)
        assert "limits are not enforced" in shimlet.observe(service.name).generations[0].notice
        [group] = folder.glob(f"{place.owner}.*")
        (group / "cgroup.procs").write_text(f"{pid}\n")
        assert shimlet.observe(service.name).generations[0].notice == ""
        (group / "memory.events").write_text("oom_kill 1\n")
        place.kill("a")
        place.until(lambda: shimlet.observe(service.name).generations[0].replicas[0].message, "its end is seen")
        assert "OOMKilled" in shimlet.observe(service.name).generations[0].replicas[0].message
        assert [record.reason for record in caplog.records if record.message == "a program ended"] == ["OOMKilled"]
