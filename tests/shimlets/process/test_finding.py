"""Processes are found by what they carry, wherever they are in their life."""

import os
import shutil
import struct
import subprocess
import sys
import sysconfig
import tempfile
import uuid
from pathlib import Path

import pytest

from agent.contracts import Placement, Workload, encode
from shimlets.process.environment import Carried, mark_of
from shimlets.process.finding import Processes, Who, _executed_by, boot_id, stat_of
from tests.contract.shimlet_contract import service_of

SERVICE = service_of("a", Workload(command=("x",)), shimlet="process", goalset="g")
MARK = Carried(SERVICE, Placement(0), encode(SERVICE, Placement(0)), "", "run", 0, 1.0)


def owner() -> str:
    return f"t-{uuid.uuid4().hex[:10]}"


def environ(name: str, **more: str) -> dict[str, str]:
    return mark_of(MARK, owner=name, uid=os.geteuid()) | more


def test_a_process_is_its_pid_and_start_time_whatever_its_name(tmp_path):
    odd = tmp_path / "a) R 1 (b"
    odd.symlink_to("/bin/sleep")
    with subprocess.Popen([odd, "1000"]) as process:
        stat = stat_of(process.pid)
        assert stat is not None
        assert stat.who == Who(process.pid, stat.who.ticks)
        assert (stat.parent, stat.alive) == (os.getpid(), True)
        assert stat.who.ticks > 0
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        zombie = stat_of(process.pid)
        assert zombie is not None
        assert (zombie.who, zombie.alive) == (stat.who, False)
    assert stat_of(process.pid) is None


def test_what_carries_our_mark_is_found_and_a_zombie_is_not():
    name = owner()
    processes = Processes(name, os.geteuid())
    assert processes.look().ours == ()
    with subprocess.Popen(["/bin/sleep", "1000"], env=environ(name)) as process:
        (found,) = processes.look().ours
        assert (found.stat.who.pid, found.carried, found.leads) == (process.pid, MARK, True)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        sight = processes.look()
        assert sight.ours == ()
        assert sight.alive(found.stat.who) is None


def test_only_the_process_that_has_the_pid_it_says_leads():
    name = owner()
    with subprocess.Popen(["/bin/sleep", "1000"], env=environ(name, XMOD_PID="1")) as process:
        (found,) = Processes(name, os.geteuid()).look().ours
        assert not found.leads
        process.kill()


def test_a_process_that_becomes_another_program_is_read_again():
    name = owner()
    processes = Processes(name, os.geteuid())
    script = "read go; export XMOD_PID=$$; exec /bin/sleep 1000"
    with subprocess.Popen(["/bin/sh", "-c", script], env=environ(name), stdin=subprocess.PIPE) as process:
        assert [found.carried.leader for found in processes.look().ours] == [0]
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
        leaders = [0]
        while leaders == [0]:
            leaders = [found.carried.leader for found in processes.look().ours]
        assert leaders == [process.pid]
        process.kill()


def test_a_process_that_begins_to_carry_a_mark_by_exec_is_found():
    name = owner()
    processes = Processes(name, os.geteuid())
    words = [f"{key}={value}" for key, value in environ(name).items()]
    with subprocess.Popen(
        ["/bin/sh", "-c", 'read go; exec "$0" "$@"', "/usr/bin/env", *words, "/bin/sleep", "1000"],
        stdin=subprocess.PIPE,
        env={},
    ) as process:
        assert processes.look().ours == ()
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
        while not processes.look().ours:
            assert process.poll() is None
        process.kill()


def test_another_owner_or_user_sees_nothing():
    name = owner()
    with subprocess.Popen(["/bin/sleep", "1000"], env=environ(name)) as process:
        assert Processes(name + "x", os.geteuid()).look().ours == ()
        assert Processes(name, os.geteuid() + 1).look().ours == ()
        process.kill()


def test_a_broken_mark_is_told_once_and_hides_nothing(caplog):
    name = owner()
    processes = Processes(name, os.geteuid())
    with (
        subprocess.Popen(["/bin/sleep", "1000"], env=environ(name, XMOD_MARK="{")) as broken,
        subprocess.Popen(["/bin/sleep", "1000"], env=environ(name)) as whole,
    ):
        for _ in range(3):
            assert [found.stat.who.pid for found in processes.look().ours] == [whole.pid]
        assert caplog.text.count("broken mark") == 1
        broken.kill()
        whole.kill()


def test_a_boot_has_a_name():
    assert boot_id() == boot_id()
    assert len(boot_id()) == 36


# Strangers. Only root can become somebody else, so these tests need it.

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start processes of other users")


def forged(name: str) -> dict[str, str]:
    return environ(name, XMOD_RUN="forged")


@as_root
@pytest.mark.parametrize(
    "ids",
    [(NOBODY, NOBODY, NOBODY), (NOBODY, 0, 0), (0, NOBODY, 0), (0, 0, NOBODY)],
    ids=["all", "real", "eff", "saved"],
)
def test_a_mark_is_worth_nothing_on_another_user(ids: tuple[int, int, int]):
    name = owner()
    become = f"import os, sys; os.setresuid{ids}; print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", become], env=environ(name), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        sight = Processes(name, os.geteuid()).look()
        assert (sight.ours, [found.stat.who.pid for found in sight.claimed]) == ((), [process.pid])
        process.kill()


@as_root
def test_a_set_uid_program_with_a_strangers_environment_is_not_ours():
    """As sudo is while it asks for a password: root in every id, started by anybody."""
    name = owner()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        copy = Path(shutil.copy(os.path.realpath(sys.executable), folder))
        copy.chmod(0o4755)
        become = "import os, sys; os.setresuid(0, 0, 0); print(os.getresuid(), flush=True); sys.stdin.read()"
        with subprocess.Popen(
            [copy, "-I", "-S", "-c", become],
            env=forged(name) | {"LD_LIBRARY_PATH": sysconfig.get_config_var("LIBDIR")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
        ) as process:
            assert process.stdout is not None
            told = process.stdout.readline()
            if told != b"(0, 0, 0)\n":
                process.kill()
                pytest.skip("a set-uid copy of this Python does not become root here")
            sight = Processes(name, os.geteuid()).look()
            assert (sight.ours, [found.stat.who.pid for found in sight.claimed]) == ((), [process.pid])
            process.kill()


@as_root
def test_what_was_ours_stays_known_when_it_lets_go_of_its_rights():
    name = owner()
    processes = Processes(name, os.geteuid())
    become = f"import os, sys; sys.stdin.readline(); os.setuid({NOBODY}); print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", become], env=environ(name), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        while not processes.look().ours:
            assert process.poll() is None
        process.stdin.write(b"go\n")
        process.stdin.flush()
        process.stdout.readline()
        assert [found.stat.who.pid for found in processes.look().ours] == [process.pid]
        process.kill()


def test_a_32_bit_programs_words_are_read_too():
    words = {6: 4096, 11: 7, 12: 8, 23: 0, 0: 0}
    for pair in ("=QQ", "=II"):
        assert _executed_by(b"".join(struct.pack(pair, *item) for item in words.items())) == (7, 8)
    assert _executed_by(b"") is None


def test_only_what_carries_the_mark_is_asked_who_it_is():
    """`status` and `auxv` cost as much as all the rest of a look."""
    name = owner()
    script = (
        "import os, sys\n"
        "from shimlets.process.finding import Processes\n"
        "read = []\n"
        "sys.addaudithook(lambda event, args: read.append(str(args[0])) if event == 'open' else None)\n"
        f"Processes({name!r}, os.geteuid()).look()\n"
        "print([path for path in read if path.endswith(('/status', '/auxv'))])\n"
    )
    with subprocess.Popen(["/bin/sleep", "1000"], env=environ(name)) as process:
        root = Path(__file__).resolve().parents[3]
        told = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True)
        assert told.stdout.strip() == str([f"/proc/{process.pid}/status", f"/proc/{process.pid}/auxv"])
        process.kill()
