"""What real processes, kills and lost folders do to the process shimlet."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.contracts import Fate, Placement, SecretRef, Service, ServiceName, State, Transient
from shimlets.process.finding import stat_of
from shimlets.process.shimlet import ProcessShimlet
from tests.contract.shimlet_contract import DIES, SERVES, SERVES_TOO, TALKS, only, watching
from tests.shimlets.process.place import (
    ProcessPlace,
    alive,
    environ_of,
    folder_that_refuses,
    pids_of,
)

A = ServiceName("a")
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[ProcessPlace]:
    with ProcessPlace(tmp_path / "state") as place:
        yield place


@pytest.fixture
def shimlet(place: ProcessPlace) -> ProcessShimlet:
    return place.shimlet()


def exited(place: ProcessPlace, shimlet: ProcessShimlet) -> str:
    """Wait for the one replica to have exited; its message."""
    place.until(lambda: place.state(shimlet) == [State.EXITED], "it exited")
    return only(shimlet.observe(A)).replicas[0].message


def stopped(place: ProcessPlace, shimlet: ProcessShimlet, service: Service) -> None:
    shimlet.apply(service, (), {})
    place.until(lambda: place.state(shimlet) == [State.STOPPED], "it is stopped")


# What runs, and with what.


def test_a_replica_leads_a_session_of_its_own_in_the_root_folder_with_nothing_to_read(place, shimlet):
    pid = place.up(shimlet, place.service("a", SERVES))
    stat = stat_of(pid)
    assert (stat.group, stat.session) == (pid, pid)
    assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")
    assert str(Path(f"/proc/{pid}/fd/0").readlink()) == "/dev/null"
    assert sorted(path.name for path in Path(f"/proc/{pid}/fd").iterdir()) == ["0", "1", "2"]


def test_the_agents_own_environment_does_not_leak(place, shimlet, monkeypatch):
    monkeypatch.setenv("AGENT_TOKEN", "x")
    pid = place.up(shimlet, place.service("a", SERVES))
    assert not {key for key in environ_of(pid) if not key.startswith("XMOD_")} - {
        *("PATH", "HOME", "LANG", "TZ", "USER", "SPT_NOENV", "PWD", "OLDPWD"),
    }


def test_pipes_that_break_kill_a_replica_as_they_do_in_a_shell(place, shimlet):
    pid = place.up(shimlet, place.service("a", SERVES))
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    real = (1 << 31) - 1  # libc leaves its own two, above these, ignored
    assert int(status["SigIgn"], 16) & real == 0
    assert int(status["SigBlk"], 16) == 0


def test_placeholders_devices_and_secrets_reach_the_program(place, shimlet):
    show = 'echo "$0 $TOKEN $CUDA_VISIBLE_DEVICES $URL"; sleep 1000'
    service = place.running(
        *("/bin/sh", "-c", show, "{port}"),
        env=(("TOKEN", SecretRef("env", "T")), ("URL", "http://{host}:{port}")),
    )
    shimlet.apply(service, [Placement(0, 18765, ("g1",))], {"TOKEN": "hush"})
    place.until(lambda: list(shimlet.logs(A, 5)) == ["18765 hush g1 http://127.0.0.1:18765"])


def test_a_program_is_found_in_the_listed_folders_first(tmp_path):
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    program = bin_dir / "sleep"
    program.write_text("#!/bin/sh\necho mine; exec /bin/sleep 1000\n")
    program.chmod(0o755)
    with ProcessPlace(tmp_path / "state", path=[str(bin_dir)]) as place:
        shimlet = place.shimlet()
        place.up(shimlet, place.running("sleep", "5"))
        place.until(lambda: list(shimlet.logs(A, 5)) == ["mine"])


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (("no-such-program-here",), 127, "'no-such-program-here' was not found"),
        (("/no/such/program",), 127, "'/no/such/program' was not found"),
        (("/etc/passwd",), 126, "not executable"),
        (("bin/x",), 127, "full path"),
        (("/bin/echo", "a\0b"), 126, "NUL"),
        (("/bin/echo", "x" * 200_000), 126, "Argument list too long"),
        ((), 126, "nothing to run"),
    ],
)
def test_what_cannot_be_started_is_shown_as_exited_and_says_why(place, shimlet, command, code, said):
    shimlet.apply(place.running(*command), [place.placement(0)], {})
    replica = only(shimlet.observe(A)).replicas[0]
    assert (replica.state, replica.exit_code) == (State.EXITED, code)
    assert said in replica.message
    assert only(place.shimlet().observe(A)).replicas[0] == replica


def test_limits_that_are_not_enforced_are_noticed(place, shimlet):
    place.up(shimlet, place.running("/bin/sleep", "1000", memory=1 << 20))
    assert "limits are not enforced" in only(shimlet.observe(A)).notice


# How it ends.


def test_an_exit_code_and_a_signal_are_told(place, shimlet):
    shimlet.apply(place.service("a", DIES), [place.placement(0)], {})
    assert exited(place, shimlet).startswith("exited with code 3 after 0.")
    shimlet.remove(A, place.service("a", DIES).digest)
    place.up(shimlet, place.service("a", SERVES))
    place.kill("a")
    assert exited(place, shimlet).startswith("killed by SIGKILL")
    assert only(shimlet.observe(A)).replicas[0].exit_code == 137


def test_what_failed_and_was_stopped_keeps_its_last_words(place, shimlet):
    service = place.running("/bin/sh", "-c", "echo no model here; exec sleep 1000")
    place.up(shimlet, service)
    place.until(lambda: list(shimlet.logs(A, 1)))
    shimlet.record(A, service.digest, Fate.FAILED)
    stopped(place, shimlet, service)
    for one in (shimlet, place.shimlet()):
        for seen in (only(one.observe(A)), only(one.list()[A])):
            assert seen.fate is Fate.FAILED
            assert seen.replicas[0].message.startswith("stopped after ")
            assert seen.replicas[0].message.endswith("; last words: no model here")
    assert only(shimlet.observe(A)).replicas[0].exit_code == 143


def test_starts_in_a_row_are_counted_until_one_lasts_or_it_is_stopped(place, shimlet):
    service, placement = place.service("a", DIES), place.placement(0)
    for restarts in range(3):
        shimlet.apply(service, [placement], {})
        exited(place, shimlet)
        assert only(shimlet.observe(A)).replicas[0].restarts == restarts
    (path,) = place.state_dir.glob("**/0.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"started": time.time() - 100}))
    shimlet.apply(service, [placement], {})
    assert only(shimlet.observe(A)).replicas[0].restarts == 0


def test_zombies_are_not_alive_and_are_reaped(place, shimlet):
    pid = place.up(shimlet, place.service("a", SERVES))
    os.kill(pid, signal.SIGKILL)
    place.until(lambda: (stat := stat_of(pid)) is None or stat.state == "Z")
    assert place.state(shimlet) == [State.EXITED]
    assert stat_of(pid) is None


def test_a_stubborn_process_is_killed_after_the_grace(tmp_path):
    with ProcessPlace(tmp_path, stopGrace=0.5) as place:
        shimlet = place.shimlet()
        service = place.running("/bin/sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 0.1; done")
        place.up(shimlet, service)
        place.until(lambda: list(shimlet.logs(A, 1)) == ["deaf"])
        began = time.monotonic()
        shimlet.apply(service, (), {})
        assert time.monotonic() - began < 0.4, "apply does not wait"
        assert place.state(shimlet) == [State.STOPPING]
        place.until(lambda: place.state(shimlet) == [State.STOPPED])
        assert 0.5 <= time.monotonic() - began < 3
        assert not pids_of(place.owner)


def test_a_polite_process_has_its_grace(place, shimlet):
    service = place.running("/bin/sh", "-c", "trap 'sleep 0.3; echo bye; exit 0' TERM; while :; do sleep 0.05; done")
    place.up(shimlet, service)
    stopped(place, shimlet, service)
    assert list(shimlet.logs(A, 1)) == ["bye"]


def sleeping(seconds: str) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "cmdline").read_bytes() == b"/bin/sleep\0" + seconds.encode() + b"\0":
                found.append(int(folder.name))
        except OSError:
            continue
    return [pid for pid in found if alive(pid)]


def test_children_that_left_the_session_are_ended_too(place, shimlet):
    unique = str(3_000_000 + os.getpid())
    script = f"(setsid /bin/sleep {unique} &) ; /usr/bin/env -i /bin/sleep {unique}0 & exec /bin/sleep {unique}00"
    service = place.running("/bin/sh", "-c", script)
    place.up(shimlet, service)
    place.until(lambda: all(sleeping(unique + zeros) for zeros in ("", "0", "00")), "all three run")
    shimlet.remove(A, service.digest)
    place.until(lambda: not shimlet.observe(A).generations)
    assert [sleeping(unique + zeros) for zeros in ("", "0", "00")] == [[], [], []]


def test_children_of_a_dead_leader_are_cleared_before_it_starts_again(place, shimlet):
    service = place.running("/bin/sh", "-c", "/bin/sleep 2000 & exec /bin/sleep 2001")
    placement = place.placement(0)
    leader = place.up(shimlet, service, placement)
    place.until(lambda: len(pids_of(place.owner)) == 2)
    (child,) = set(pids_of(place.owner)) - {leader}
    os.kill(leader, signal.SIGKILL)
    assert "1 of its processes are left" in exited(place, shimlet)
    assert alive(child)
    place.until(lambda: shimlet.apply(service, [placement], {}) or place.state(shimlet) == [State.RUNNING])
    assert not alive(child)


def test_what_a_dead_leader_left_goes_with_remove(place, shimlet):
    service = place.running("/bin/sh", "-c", "/bin/sleep 2000 & exec /bin/sleep 2001")
    leader = place.up(shimlet, service)
    place.until(lambda: len(pids_of(place.owner)) == 2)
    os.kill(leader, signal.SIGKILL)
    exited(place, shimlet)
    shutil.rmtree(place.state_dir)
    assert place.state(shimlet) == [State.EXITED]
    shimlet.remove(A, service.digest)
    place.until(lambda: not shimlet.observe(A).generations)
    assert not pids_of(place.owner)


# Found again.

AGENT = """
import os, pathlib, signal, sys
from agent.contracts import decode
from shimlets.process.shimlet import ProcessShimlet
shimlet = ProcessShimlet(sys.argv[1], {"stopGrace": float(sys.argv[4])}, pathlib.Path(sys.argv[2]))
shimlet.acquire()
service, placement = decode(sys.argv[3])
words = sys.argv[5:]
if "apply" in words:
    shimlet.apply(service, [placement], {})
if "stop" in words:
    shimlet.apply(service, [], {})
if "remove" in words:
    shimlet.remove(service.name, service.digest)
os.kill(os.getpid(), signal.SIGKILL)
"""


def short_lived_agent(
    place: ProcessPlace, service: Service, placement: Placement, *words: str, grace: float = 3
) -> None:
    """An agent that does as it is told and is killed at once."""
    from agent.contracts import encode

    argv = [sys.executable, "-c", AGENT, place.owner, str(place.state_dir), encode(service, placement), str(grace)]
    assert subprocess.run([*argv, *words], cwd=ROOT, check=False).returncode == -signal.SIGKILL


def test_another_agent_adopts_what_a_killed_one_started(place):
    service, placement = place.service("a", SERVES), place.placement(0)
    short_lived_agent(place, service, placement, "apply")
    pid = place.leader()
    shimlet = place.shimlet()
    shimlet.acquire()
    shimlet.apply(service, [placement], {})
    assert place.leader() == pid
    assert place.state(shimlet) == [State.RUNNING]
    with watching(shimlet) as told:
        place.until(lambda: place.state(shimlet) == [State.RUNNING])
        began = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        place.until(lambda: "a" in told)
        assert time.monotonic() - began < 1, "the death of another's child is told at once"
    assert "no agent could learn its exit code" in exited(place, shimlet)
    assert only(shimlet.observe(A)).replicas[0].exit_code is None


@pytest.mark.parametrize("word", ["stop", "remove"])
def test_a_stop_that_a_killed_agent_began_is_taken_up_by_the_watch_of_the_next(tmp_path, word):
    with ProcessPlace(tmp_path, stopGrace=0.3) as place:
        service = place.running("/bin/sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")
        placement = place.placement(0)
        short_lived_agent(place, service, placement, "apply", word, grace=0.3)
        assert pids_of(place.owner)
        shimlet = place.shimlet()
        assert place.state(shimlet) == [State.STOPPING]
        shimlet.acquire()
        with watching(shimlet):
            place.until(lambda: not pids_of(place.owner))
            place.until(lambda: place.state(shimlet) == ([State.STOPPED] if word == "stop" else []))
        if word == "remove":
            place.until(lambda: not list(tmp_path.glob("**/*.json")))


def test_a_stop_that_a_killed_agent_began_is_taken_up_by_apply(tmp_path):
    with ProcessPlace(tmp_path, stopGrace=0.3) as place:
        service = place.running("/bin/sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")
        short_lived_agent(place, service, place.placement(0), "apply", "stop", grace=0.3)
        stopped(place, place.shimlet(), service)


def test_a_lost_state_folder_restarts_nothing_and_loses_no_control(place, shimlet):
    service, placement = place.service("a", TALKS), place.placement(0)
    pid = place.up(shimlet, service, placement)
    shimlet.record(A, service.digest, Fate.SERVED)
    before = only(shimlet.observe(A))
    shutil.rmtree(place.state_dir)
    for one in (shimlet, place.shimlet()):
        after = only(one.observe(A))
        assert (after.service, after.replicas[0].started_at) == (service, before.replicas[0].started_at)
        one.apply(service, [placement], {})
        assert place.leader() == pid
    os.kill(pid, signal.SIGKILL)
    assert "killed by SIGKILL" in exited(place, shimlet), "it was adopted"
    place.until(lambda: shimlet.apply(service, [placement], {}) or place.state(shimlet) == [State.RUNNING])
    shutil.rmtree(place.state_dir)
    stopped(place, shimlet, service)
    shimlet.remove(A, service.digest)
    assert shimlet.list() == {}


@pytest.mark.parametrize("acquires", [True, False])
def test_what_runs_and_lost_its_records_counts_as_having_served(place, shimlet, acquires):
    service = place.service("a", SERVES, replicas=2)
    shimlet.apply(service, [place.placement(0), place.placement(1)], {})
    place.until(lambda: place.state(shimlet) == [State.RUNNING] * 2)
    shimlet.record(A, service.digest, Fate.SERVED)
    shutil.rmtree(place.state_dir)
    fresh = place.shimlet()
    if acquires:
        fresh.acquire()
    for _ in range(2):  # also once it was adopted, and has records
        assert only(fresh.list()[A]).fate is Fate.SERVED
        assert only(fresh.observe(A)).fate is Fate.SERVED
    assert bool(list(place.state_dir.glob("**/fate.json"))) == acquires
    fresh.close()
    assert only(place.shimlet().observe(A)).fate is Fate.SERVED


def test_of_what_runs_and_has_a_record_it_is_known_that_it_never_served(place, shimlet):
    service = place.service("a", SERVES, replicas=2)
    place.up(shimlet, service, place.placement(0))
    shimlet.apply(service, [r.placement for r in only(shimlet.observe(A)).replicas] + [place.placement(1)], {})
    (lost, _) = sorted(place.state_dir.glob("**/[01].json"))
    lost.unlink()
    for one in (shimlet, place.shimlet()):
        assert only(one.observe(A)).fate is Fate.NEW


def test_a_failure_that_lost_its_records_only_is_still_one(place, shimlet):
    service = place.service("a", SERVES)
    place.up(shimlet, service, place.placement(0))
    shimlet.record(A, service.digest, Fate.FAILED)
    for path in place.state_dir.glob("**/0.json"):
        path.unlink()
    assert only(place.shimlet().observe(A)).fate is Fate.FAILED


def test_what_was_presumed_is_forgotten_with_its_generation(place, shimlet):
    service, placement = place.service("a", SERVES), place.placement(0)
    place.up(shimlet, service, placement)
    shutil.rmtree(place.state_dir)
    assert only(shimlet.observe(A)).fate is Fate.SERVED
    shimlet.remove(A, service.digest)
    place.until(lambda: not shimlet.observe(A).generations)
    place.up(shimlet, service, placement)
    assert only(shimlet.observe(A)).fate is Fate.NEW


def test_a_state_folder_that_cannot_be_written_hides_nothing_and_stops_no_stop(place, shimlet):
    service, placement = place.service("a", SERVES), place.placement(0)
    pid = place.up(shimlet, service, placement)
    with folder_that_refuses(place.state_dir):
        fresh = place.shimlet()
        assert only(fresh.observe(A)).replicas[0].state is State.RUNNING
        with pytest.raises(Transient, match=str(place.state_dir)):
            fresh.apply(place.service("b", SERVES), [place.placement(0)], {})
        assert not pids_of(place.owner, "b")
        with pytest.raises(Transient, match=str(place.state_dir)):
            fresh.record(A, service.digest, Fate.SERVED)
        fresh.apply(service, (), {})
        place.until(lambda: place.state(fresh) == [State.STOPPED])
        assert not alive(pid)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as filler:
        while True:
            try:
                filler.write(b"x" * 4096)
            except OSError:
                return


def test_a_full_disk_is_a_transient_that_names_the_path(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", small], check=False, capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a small disk needs root")
    try:
        with ProcessPlace(small / "state") as place:
            shimlet = place.shimlet()
            service, placement = place.service("a", SERVES), place.placement(0)
            pid = place.up(shimlet, service, placement)
            fill(small / "filler")
            with pytest.raises(Transient, match=f"{small}.*No space left"):
                shimlet.apply(place.service("b", SERVES), [place.placement(0)], {})
            assert place.state(place.shimlet()) == [State.RUNNING]
            shimlet.apply(service, (), {})
            place.until(lambda: place.state(shimlet) == [State.STOPPED])
            assert not alive(pid)
            (small / "filler").unlink()
            shimlet.remove(A, service.digest)
            assert shimlet.list() == {}
    finally:
        subprocess.run(["umount", small], check=True)


CLOBBERS = """
import ctypes, os, time
words = open("/proc/self/stat").read().rpartition(")")[2].split()
start, end = int(words[47]), int(words[48])
time.sleep(0.3)
ctypes.memset(start, 0, end - start)
print("gone", flush=True)
time.sleep(1000)
"""


def test_a_program_that_overwrites_its_environment_is_vouched_for_by_its_record(place, shimlet):
    service, placement = place.running(sys.executable, "-c", CLOBBERS), place.placement(0)
    pid = place.up(shimlet, service, placement)
    place.until(lambda: list(shimlet.logs(A, 1)) == ["gone"])
    assert "XMOD_MARK" not in environ_of(pid)
    fresh = place.shimlet()
    assert place.state(fresh) == [State.RUNNING]
    fresh.apply(service, [placement], {})
    stopped(place, fresh, service)
    assert not alive(pid)


def test_record_and_mark_name_the_same_moment_of_the_start(place, shimlet):
    pid = place.up(shimlet, place.service("a", SERVES))
    by_mark = only(shimlet.observe(A)).replicas[0].started_at
    [record] = [json.loads(path.read_text()) for path in place.state_dir.rglob("*.json")]
    assert record["started"] == float(environ_of(pid)["XMOD_STARTED"]) == by_mark.timestamp(), "else probes begin anew"


def test_a_record_that_names_a_strangers_pid_harms_nobody(place, shimlet):
    service, placement = place.service("a", SERVES), place.placement(0)
    place.up(shimlet, service, placement)
    stopped(place, shimlet, service)
    untouched = place.stranger(service, 0)
    stranger = place.strangers[0].pid
    (path,) = place.state_dir.glob("**/0.json")
    lie = json.loads(path.read_text()) | {"pid": stranger, "wish": "run", "finished": None}
    path.write_text(json.dumps(lie))
    fresh = place.shimlet()
    assert place.state(fresh) == [State.EXITED]
    fresh.remove(A, service.digest)
    place.until(lambda: not fresh.observe(A).generations)
    assert untouched()


def test_after_a_restart_of_the_machine_replicas_are_kept_and_not_failed(place, shimlet):
    service, placement = place.service("a", SERVES), place.placement(0)
    pid = place.up(shimlet, service, placement)
    (path,) = place.state_dir.glob("**/0.json")
    before = json.loads(path.read_text()) | {"boot": "another"}
    os.kill(pid, signal.SIGKILL)
    place.until(lambda: not alive(pid))
    path.write_text(json.dumps(before))
    fresh = place.shimlet()
    assert place.state(fresh) == [State.STOPPED]
    assert "the machine was started again" in only(fresh.observe(A)).replicas[0].message
    place.up(fresh, service, placement)


def test_a_start_that_was_recorded_and_never_happened_is_kept_and_not_failed(place, shimlet):
    service, placement = place.service("a", SERVES), place.placement(0)
    place.up(shimlet, service, placement)
    stopped(place, shimlet, service)
    (path,) = place.state_dir.glob("**/0.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pid": 0, "wish": "run", "finished": None}))
    fresh = place.shimlet()
    assert place.state(fresh) == [State.STOPPED]
    place.up(fresh, service, placement)


def test_a_start_whose_pid_was_never_recorded_is_found(place, shimlet):
    service, placement = place.service("a", SERVES), place.placement(0)
    pid = place.up(shimlet, service, placement)
    (path,) = place.state_dir.glob("**/0.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pid": 0, "ticks": 0}))
    fresh = place.shimlet()
    fresh.apply(service, [placement], {})
    assert place.leader() == pid


def test_a_twin_is_drift_and_apply_ends_it_and_not_the_recorded_one(place, shimlet):
    service, placement = place.service("a", SERVES), place.placement(0)
    pid = place.up(shimlet, service, placement)
    environ = environ_of(pid) | {"XMOD_RUN": "another"}
    become = 'export XMOD_PID=$$; exec "$0" "$@"'
    with subprocess.Popen(["/bin/sh", "-c", become, "/bin/sleep", "1000"], env=environ, start_new_session=True) as twin:
        place.until(lambda: str(twin.pid) in only(shimlet.observe(A)).drift)
        assert place.state(shimlet) == [State.RUNNING]
        shimlet.apply(service, [placement], {})
        assert twin.wait(10) == -signal.SIGTERM
    assert place.leader() == pid
    place.until(lambda: not only(shimlet.observe(A)).drift)


def test_looking_without_the_lock_writes_nothing(place, shimlet):
    place.up(shimlet, place.service("a", SERVES))
    place.kill("a")

    def files() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in place.state_dir.glob("**/*") if path.is_file()}

    before = files()
    looker = place.shimlet()
    place.until(lambda: place.state(looker) == [State.EXITED])
    assert looker.list()
    assert files() == before


def test_two_agents_lookers_and_doers_at_once_start_everything_once(place, shimlet):
    services = [place.service(f"s{n}", SERVES) for n in range(8)]
    placements = {service.name: place.placement(0) for service in services}
    stop, errors = threading.Event(), []

    def look() -> None:
        looker = place.shimlet()
        while not stop.is_set():
            looker.list()

    def apply(some: list[Service]) -> None:
        try:
            for service in some:
                for _ in range(3):
                    shimlet.apply(service, [placements[service.name]], {})
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=apply, args=(services[n::2],)) for n in range(2)]
    looker = threading.Thread(target=look)
    for thread in (looker, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    looker.join()
    assert not errors
    assert len(pids_of(place.owner)) == 8
    assert all(len(pids_of(place.owner, service.name)) == 1 for service in services)


def test_a_replica_is_never_missed_in_the_moment_of_its_start(place, shimlet):
    service, placement = place.service("a", SERVES), place.placement(0)
    looker = place.shimlet()
    for _ in range(10):
        shimlet.apply(service, [placement], {})
        for one in (shimlet, looker):
            assert place.state(one)[0] in (State.STARTING, State.RUNNING)
        os.kill(pids_of(place.owner)[0], signal.SIGKILL)
        place.until(lambda: place.state(shimlet) == [State.EXITED])


def test_without_descriptors_a_look_fails_and_does_not_report_everything_dead(place, shimlet):
    place.up(shimlet, place.service("a", SERVES))
    script = textwrap.dedent("""
        import os, pathlib, resource, sys
        from agent.contracts import Transient
        from shimlets.process.shimlet import ProcessShimlet
        shimlet = ProcessShimlet(sys.argv[1], {}, pathlib.Path(sys.argv[2]))
        assert list(shimlet.list()) == ["a"]
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        held = []
        try:
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
        for spare in (0, 1):
            if spare:
                os.close(held.pop())
            try:
                seen = list(shimlet.list())
            except Transient:
                seen = ["a"]
            assert seen == ["a"], seen
    """)
    argv = [sys.executable, "-c", script, place.owner, str(place.state_dir)]
    ran = subprocess.run(argv, cwd=ROOT, check=False, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


# Logs.


def test_a_log_is_bounded_while_it_is_watched(tmp_path):
    with ProcessPlace(tmp_path, logBytes=20_000) as place:
        shimlet = place.shimlet()
        place.up(shimlet, place.running("/bin/sh", "-c", "yes hello | head -c 60000; echo; echo end; sleep 1000"))
        (log,) = tmp_path.glob("**/0.log")
        place.until(lambda: log.stat().st_size > 60_000)
        with watching(shimlet):
            place.until(lambda: log.stat().st_size < 20_000)
        assert list(shimlet.logs(A, 1)) == ["end"]
        assert sorted(path.name for path in log.parent.iterdir()) == ["0.json", "0.log", "0.log.1"]


def test_logs_and_records_are_for_their_owner_alone(place, shimlet):
    place.up(shimlet, place.service("a", SERVES))
    (log,) = place.state_dir.glob("**/0.log")
    assert (log.stat().st_mode & 0o777, log.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_logs_of_several_replicas_say_whose_they_are(place, shimlet):
    service = place.running("/bin/sh", "-c", "echo {port}; sleep 1000", replicas=2)
    placements = [place.placement(0), place.placement(1)]
    shimlet.apply(service, placements, {})
    expected = [f"#{p.index} {p.port}" for p in placements]
    place.until(lambda: list(shimlet.logs(A, 5)) == expected)


def test_the_log_of_what_exited_can_be_read(place, shimlet):
    shimlet.apply(place.service("a", DIES), [place.placement(0)], {})
    exited(place, shimlet)
    assert list(shimlet.logs(A, 5)) == ["last words"]


def test_logs_are_of_the_newest_live_generation(place, shimlet):
    old = place.running("/bin/sh", "-c", "echo old; sleep 1000")
    new = place.running("/bin/sh", "-c", "echo new; exit 1")
    place.up(shimlet, old)
    shimlet.apply(new, [place.placement(0)], {})
    place.until(lambda: not shimlet.observe(A).generations[-1].live)
    assert list(shimlet.logs(A, 5)) == ["old"]


# Cost.


def test_a_look_over_300_processes_is_cheap(place, shimlet):
    count = 300
    service = place.running(
        "/bin/sh", "-c", f"i=0; while [ $i -lt {count} ]; do /bin/sleep 1000 & i=$((i+1)); done; echo up; wait"
    )
    place.up(shimlet, service)
    place.until(lambda: list(shimlet.logs(A, 1)) == ["up"])
    shimlet.list()
    costs = []
    for _ in range(5):
        began = time.process_time()
        shimlet.list()
        costs.append(time.process_time() - began)
    assert min(costs) < 0.1, "seconds of CPU; about 0.005 when this was written"
    shimlet.remove(A, service.digest)
    place.until(lambda: not shimlet.observe(A).generations)
    assert not pids_of(place.owner)


def test_generations_share_a_name_and_nothing_else(place, shimlet):
    old, new = place.service("a", SERVES), place.service("a", SERVES_TOO)
    place.up(shimlet, old)
    pid = place.leader()
    shimlet.apply(new, [place.placement(0)], {})
    place.until(lambda: len(pids_of(place.owner)) == 2)
    shimlet.apply(dataclasses.replace(old, replicas=1), (), {})
    place.until(lambda: not alive(pid))
    assert len(pids_of(place.owner)) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start processes of other users")
def test_a_program_that_becomes_another_user_is_known_by_its_record_and_ended_whole(place: ProcessPlace) -> None:
    """Its leader, and a worker that outlives the leader."""
    shimlet = place.shimlet()
    shimlet.acquire()
    drop = "setpriv --reuid 65534 --clear-groups --regid 65534"
    service = place.running("/bin/sh", "-c", f"{drop} /bin/sleep 1003 & exec {drop} /bin/sleep 1004")
    placement = place.placement(0)
    pid = place.up(shimlet, service, placement)
    place.until(lambda: len(pids_of(place.owner)) == 2, "both run")
    place.until(lambda: Path(f"/proc/{pid}/cmdline").read_text() == "/bin/sleep\x001004\x00", "it is the other user")
    assert place.state(shimlet) == [State.RUNNING]
    again = ProcessShimlet(place.owner, place.options, place.state_dir)
    assert place.state(again) == [State.RUNNING], "an agent that starts anew knows it too"
    os.kill(pid, signal.SIGKILL)
    place.until(lambda: place.state(shimlet) == [State.EXITED], "its leader is gone")
    assert "left" in shimlet.observe(A).generations[0].replicas[0].message
    shimlet.remove(A, service.digest)
    place.until(lambda: not pids_of(place.owner), "the worker is gone too")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start processes of other users")
def test_a_mark_forged_by_another_user_makes_no_service(place: ProcessPlace) -> None:
    shimlet = place.shimlet()
    pid = place.up(shimlet, place.running("/bin/sleep", "1000"))
    forged = {key: value for key, value in environ_of(pid).items() if key.startswith("XMOD_")}
    forged |= {"XMOD_SERVICE": "evil", "XMOD_MARK": forged["XMOD_MARK"].replace('"name":"a"', '"name":"evil"')}
    assert '"evil"' in forged["XMOD_MARK"]
    with subprocess.Popen(["/bin/sleep", "1000"], env=forged, user=65534, group=65534, extra_groups=[]) as stranger:
        assert list(shimlet.list()) == [A]
        assert [len(g.replicas) for g in shimlet.observe(A).generations] == [1]
        stranger.kill()
