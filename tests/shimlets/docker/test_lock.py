"""The lock lies in the engine; holders are real processes, some of them killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.contracts import Conflict
from shimlets.docker.engine import Engine
from shimlets.docker.lock import Holder, Lock, Proc
from tests.contract.shimlet_contract import rival_process
from tests.shimlets.docker.world import DockerPlace

FACTORY = "shimlets.docker.shimlet:DockerShimlet"


def locks(place: DockerPlace) -> list[str]:
    found = place.api.volumes(filters={"label": [f"xmod.dev/lock={place.owner}"]})["Volumes"] or []
    return sorted(volume["Name"] for volume in found)


def plant(place: DockerPlace, number: int, holder: str) -> None:
    labels = {"xmod.dev/lock": place.owner, "xmod.dev/lock-holder": holder}
    place.api.create_volume(f"xmod-lock-{place.owner}-{number}", driver="local", labels=labels)


@pytest.mark.docker
def test_a_killed_holder_is_succeeded_at_once_and_nothing_of_it_is_left(place: DockerPlace):
    with rival_process(FACTORY, place.owner, place.options, place.state_dir) as rival:
        assert rival.stdout is not None
        assert rival.stdout.readline() == "\n", "the rival has it"
        assert locks(place) == [f"xmod-lock-{place.owner}-1"]
        rival.send_signal(signal.SIGKILL)
        rival.wait()
    began = time.monotonic()
    place.shimlet().acquire()
    assert time.monotonic() - began < 2
    assert locks(place) == [f"xmod-lock-{place.owner}-2"]


@pytest.mark.docker
def test_a_killed_holder_that_nobody_waited_for_is_dead_too(place: DockerPlace):
    with rival_process(FACTORY, place.owner, place.options, place.state_dir) as rival:
        assert rival.stdout is not None
        rival.stdout.readline()
        os.kill(rival.pid, signal.SIGKILL)
        deadline = time.monotonic() + 5
        while Proc().started(rival.pid) is not None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert Path(f"/proc/{rival.pid}").exists(), "a zombie"
        place.shimlet().acquire()


@pytest.mark.docker
def test_a_stopped_holder_lives(place: DockerPlace):
    with rival_process(FACTORY, place.owner, place.options, place.state_dir) as rival:
        assert rival.stdout is not None
        rival.stdout.readline()
        rival.send_signal(signal.SIGSTOP)
        with pytest.raises(
            Conflict, match=f"another agent of instance {place.owner} works on this engine: pid {rival.pid}"
        ):
            place.shimlet().acquire()


@pytest.mark.docker
def test_of_many_who_come_at_once_at_most_one_gets_it_and_then_one_does(place: DockerPlace):
    me = Proc().me("gone")
    plant(place, 3, str(Holder(me.boot, me.namespace, 2**22 + 5, "1")))
    code = (
        "import sys, pathlib, json\n"
        f"from {FACTORY.partition(':')[0]} import DockerShimlet\n"
        "from agent.contracts import Conflict\n"
        "s = DockerShimlet(sys.argv[1], json.loads(sys.argv[2]), pathlib.Path(sys.argv[3]))\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "try:\n    s.acquire(); print('got', flush=True)\n"
        "except Conflict:\n    print('refused', flush=True)\n"
        "sys.stdin.readline()\n"
    )
    argv = [sys.executable, "-c", code, place.owner, f'{{"host": "{place.host}"}}', str(place.state_dir)]
    root = Path(__file__).resolve().parents[3]
    crowd = [
        subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) for _ in range(4)
    ]
    try:
        for each in crowd:
            assert each.stdout.readline() == "ready\n"
        for each in crowd:
            each.stdin.write("go\n")
            each.stdin.flush()
        answers = [each.stdout.readline().strip() for each in crowd]
        assert answers.count("got") <= 1, answers
        assert set(answers) <= {"got", "refused"}
    finally:
        for each in crowd:
            each.kill()
            each.wait()
            each.stdin.close()
            each.stdout.close()
    place.shimlet().acquire()
    assert len(locks(place)) == 1


@pytest.mark.docker
@pytest.mark.parametrize("holder", ["other-boot:1:7:1", "", "nonsense"])
def test_a_holder_that_cannot_be_judged_is_believed_and_the_way_out_is_told(place: DockerPlace, holder: str):
    plant(place, 1, holder)
    lock = Lock(Engine(place.host, 5.0), place.owner, local=False)
    with pytest.raises(Conflict, match=f"docker volume rm xmod-lock-{place.owner}-1"):
        lock.acquire()
    place.api.remove_volume(f"xmod-lock-{place.owner}-1")
    lock.acquire()
    lock.release()
    assert locks(place) == []


@pytest.mark.docker
def test_a_holder_from_before_this_machine_booted_is_dead(place: DockerPlace):
    plant(place, 1, "other-boot:1:7:1")
    place.shimlet().acquire()


@pytest.mark.docker
def test_a_lock_that_was_pruned_is_taken_again(place: DockerPlace):
    shimlet = place.shimlet()
    shimlet.acquire()
    place.api.remove_volume(locks(place)[0])
    shimlet.acquire()
    assert len(locks(place)) == 1


# What this machine says of processes; no engine.


def test_a_holder_is_read_back():
    holder = Proc().me("abc")
    assert Holder.read(str(holder)) == holder
    assert Holder.read("boot:ns:12:34") == Holder("boot", "ns", 12, "34")
    assert Holder.read("boot:ns:x:34") is None
    assert Holder.read("") is None


def test_a_process_is_alive_only_as_the_one_that_started_then():
    proc, me = Proc(), Proc().me("")
    assert proc.alive(me, same_machine=True) is True
    assert proc.alive(Holder(me.boot, me.namespace, me.pid, "1"), same_machine=True) is False
    assert proc.alive(Holder(me.boot, me.namespace, 2**22 + 5, me.started), same_machine=True) is False


def test_another_boot_is_dead_on_this_machine_and_unknown_on_another():
    holder = Holder("other", "1", 1, "1")
    assert Proc().alive(holder, same_machine=True) is False
    assert Proc().alive(holder, same_machine=False) is None


def a_proc(root: Path, mine: str, others: dict[str, str]) -> Proc:
    (root / "sys/kernel/random").mkdir(parents=True)
    (root / "sys/kernel/random/boot_id").write_text("b\n")
    for pid, namespace in {"self": mine, **others}.items():
        (root / pid / "ns").mkdir(parents=True)
        (root / pid / "ns/pid").symlink_to(f"pid:[{namespace}]")
    return Proc(root)


def test_the_first_pid_namespace_sees_whether_another_one_still_lives(tmp_path: Path):
    proc = a_proc(tmp_path, "4026531836", {"77": "4026532999"})
    assert proc.alive(Holder("b", "4026532999", 1, "5"), same_machine=True) is None
    assert proc.alive(Holder("b", "4026532111", 1, "5"), same_machine=True) is False


def test_from_another_pid_namespace_nothing_is_judged(tmp_path: Path):
    proc = a_proc(tmp_path, "4026532777", {})
    assert proc.alive(Holder("b", "4026532999", 1, "5"), same_machine=True) is None
