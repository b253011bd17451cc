"""Bad input and faults, as a user meets them, on plain processes: nothing that runs is disturbed, and it is said why."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.program import PROGRAM, Program, eventually, program
from tools import demo

HTTPD = "/bin/busybox"


def spec(name: str, *, words: str = "one", extra: str = "") -> str:
    """A DeploySpec of a small web server; another word makes another digest."""
    return (
        f"apiVersion: xmod.dev/v1\nkind: DeploySpec\nmetadata: {{name: {name}}}\nspec:\n"
        f"  container:\n    command: [{HTTPD}, httpd, -f, -p, '{{host}}:{{port}}', -h, /bin]\n    port: 80\n"
        f"    health: {{tcp: true, startupDeadline: 20s}}\n  env: [{{key: WORDS, value: {words}}}]\n{extra}"
    )


@pytest.fixture
def agent() -> Iterator[Program]:
    settings = {
        "policy": {"programs": [HTTPD]},
        "agent": {"rescanInterval": "2s", "resyncInterval": "2s"},
        "shimlets": {"process": {"stopGrace": 2}},
    }
    with program("process", settings) as made:
        yield made


def put(agent: Program, path: str, text: str | bytes) -> None:
    """As an editor does: into a neighbour, then rename."""
    target = agent.specs / path
    new = target.with_name(f".{target.name}.new")
    new.write_bytes(text.encode() if isinstance(text, str) else text)
    new.replace(target)


def pids(agent: Program) -> list[int]:
    return sorted(demo.groups(agent.instance))


def invalid(agent: Program) -> dict[str, str]:
    """The files that are not in effect, and their first error."""
    return {bad["path"]: bad["errors"][0] for bad in agent.status()["source"]["invalid"]}


def held(agent: Program) -> dict[str, str]:
    """The removals that are held, and why."""
    return {prune["name"]: prune["reason"] for prune in agent.status()["held"]}


def running(agent: Program, *names: str) -> list[int]:
    """Start the agent on a spec each, and wait until all serve."""
    for name in names:
        put(agent, f"{name}.yaml", spec(name))
    agent.start()
    for name in names:
        agent.serving(name)
    return pids(agent)


BROKEN = {
    "a YAML error": spec("a").replace("[", "[[", 1),
    "an unknown field": spec("a").replace("env:", "enviroment:"),
    "a wrong type": spec("a") + "  replicaCount: many\n",
    "an empty file": "",
    "a file truncated in the middle of a word": spec("a")[:100],
    "a file of 50 MB": b"#" * 50_000_000 + spec("a").encode(),
    "a binary file": bytes(range(256)) * 10,
    "a name that is no DNS label": spec("a").replace("name: a", "name: A_b"),
    "a port out of range": spec("a").replace("port: 80", "port: 80000"),
}


def test_a_broken_file_is_told_and_its_service_runs_on_even_if_the_agent_is_killed(agent: Program) -> None:
    """Each way to break a file; then the agent is killed with its state folder lost, while the file is broken."""
    before = running(agent, "a", "b")
    for what, content in BROKEN.items():
        put(agent, "a.yaml", content)
        eventually(lambda: "a.yaml" in invalid(agent), f"{what} is told")
        assert agent.service("a")["serving"]["holds"], what
        assert pids(agent) == before, what
        agent.stop(signal.SIGKILL)
        shutil.rmtree(agent.root / "state")
        agent.start()
        eventually(lambda: agent.service("a").get("serving", {}).get("holds"), f"after {what}, it is found again")
        assert pids(agent) == before, f"{what}, and a restart"
        put(agent, "a.yaml", spec("a"))
        eventually(lambda: not invalid(agent), "the file is good again")
        assert agent.serving("a")
        assert pids(agent) == before, f"{what}, mended"


def test_a_folder_named_like_a_file_and_one_name_in_two_files(agent: Program) -> None:
    """The first is only a folder; the second is told for both files, and the service runs on."""
    before = running(agent, "a")
    (agent.specs / "x.yaml").mkdir()
    put(agent, "x.yaml/b.yaml", spec("b"))
    agent.serving("b")
    put(agent, "twin.yaml", spec("a", words="two"))
    eventually(lambda: invalid(agent).keys() == {"a.yaml", "twin.yaml"}, "both files are told")
    assert set(before) <= set(pids(agent))
    (agent.specs / "twin.yaml").unlink()
    eventually(lambda: not invalid(agent), "one file is left")
    assert set(before) <= set(pids(agent))


def test_an_emptied_folder_is_held_while_running_and_at_start_until_an_operator_says(agent: Program) -> None:
    """More than the budget at once is held whole, also after a restart; a part of it can be approved."""
    before = running(agent, "a", "b", "c")
    for file in agent.specs.iterdir():
        file.unlink()
    eventually(lambda: held(agent).keys() == {"a", "b", "c"}, "all are held")
    assert pids(agent) == before
    agent.stop(signal.SIGKILL)
    shutil.rmtree(agent.root / "state")
    agent.start()
    eventually(lambda: set(held(agent).values()) == {"SourceEmpty"}, "all are held at start")
    assert pids(agent) == before
    assert "b" in agent.says("approve-prune", "b", "--yes")
    eventually(lambda: len(pids(agent)) == 2, "one is gone")
    assert held(agent).keys() == {"a", "c"}
    put(agent, "a.yaml", spec("a"))
    eventually(lambda: held(agent).keys() == {"c"}, "what is wanted again is not held")
    assert set(pids(agent)) < set(before)


def test_a_mistyped_folder_prunes_nothing_until_adopted(agent: Program, tmp_path: Path) -> None:
    """Another source is no evidence about this one's services."""
    before = running(agent, "a", "b")
    source = agent.status()["source"]["id"]
    assert agent.stop() == 0
    right, agent.specs = agent.specs, tmp_path / "mistyped"
    agent.specs.mkdir()
    put(agent, "c.yaml", spec("c"))
    agent.start()
    agent.serving("c")
    eventually(lambda: held(agent) == {"a": "OtherSource", "b": "OtherSource"}, "they are held")
    assert set(before) < set(pids(agent))
    agent.says("approve-prune", "a", "--yes", code=1)
    assert agent.says("adopt", "--from", source)
    eventually(lambda: "OtherSource" not in held(agent).values(), "they are this source's now")
    assert agent.stop() == 0
    agent.specs = right
    agent.start()
    eventually(lambda: agent.service("a").get("phase") == "Ready", "the right folder finds its own")
    assert pids(agent)[:1] == before[:1]


def test_a_folder_swapped_deleted_and_unreadable_deletes_nothing(agent: Program, tmp_path: Path) -> None:
    """Missing, replaced by an empty one, replaced by another: all stays; put back: all is as before."""
    before = running(agent, "a", "b", "c")
    away = tmp_path / "away"
    agent.specs.rename(away)
    eventually(lambda: agent.status()["source"]["error"], "the folder is missed")
    assert pids(agent) == before
    agent.specs.mkdir()
    eventually(lambda: len(held(agent)) == 3, "an empty one in its place is no evidence")
    put(agent, "d.yaml", spec("d"))
    agent.serving("d")
    assert set(before) < set(pids(agent))
    shutil.rmtree(agent.specs)
    away.rename(agent.specs)
    eventually(lambda: agent.service("a").get("phase") == "Ready", "the folder is back")
    assert set(before) <= set(pids(agent))


def test_a_full_disk_for_the_state_folder_stops_nothing(agent: Program) -> None:
    """What runs is seen and mended as ever; what cannot be recorded is told."""
    state = agent.root / "state"
    state.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", state], check=False).returncode == 0
    if not mounted:
        pytest.skip("mounting a small file system is not permitted here")
    try:
        before = running(agent, "a")
        filler = state / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"x" * 4096)
        put(agent, "b.yaml", spec("b"))
        eventually(lambda: agent.service("b").get("converged", {}).get("message"), "b is told about")
        assert pids(agent)[:1] == before
        assert agent.service("a")["serving"]["holds"]
        filler.unlink()
        agent.serving("b", seconds=60)
        assert set(before) < set(pids(agent))
    finally:
        agent.end()
        subprocess.run(["umount", "-l", state], check=True)


def test_signals_once_and_plan(agent: Program) -> None:
    """HUP reads the folder again; `plan` tells and changes nothing; --once ends by itself with the right code."""
    put(agent, "a.yaml", spec("a"))
    told = agent.says("plan", str(agent.specs), *agent.options, code=2)
    assert "create" in told
    assert pids(agent) == []
    once = ["run", str(agent.specs), "--port", "0", *agent.options, "--once"]
    agent.says(*once)
    before = pids(agent)
    assert len(before) == 1
    agent.says("plan", str(agent.specs), *agent.options, code=0)
    put(agent, "a.yaml", spec("a", words="two"))
    assert "replace" in agent.says("plan", str(agent.specs), *agent.options, code=2)
    put(agent, "bad.yaml", "nonsense: [")
    agent.says("plan", str(agent.specs), *agent.options, code=2)
    assert pids(agent) == before
    agent.says(*once, code=1)
    assert len(pids(agent)) == 1
    agent.start()
    assert agent.process is not None
    os.kill(agent.process.pid, signal.SIGHUP)
    agent.serving("a")
    assert agent.stop() == 0


def test_a_signal_while_starting_is_neither_fatal_nor_lost(agent: Program) -> None:
    """HUP is nothing to die of, and TERM ends it as ever: also before the agent is up, and twice."""
    words = [PROGRAM, "run", agent.specs, "--port", "0", *agent.options]
    for pause in (0.5, 0.8):  # seconds after exec: the imports are done or nearly so
        with (agent.root / "early.txt").open("wb") as out:
            early = subprocess.Popen(words, stdout=out, stderr=out, env=agent._environment)
            with contextlib.suppress(subprocess.TimeoutExpired):
                early.wait(pause)
            eventually(lambda pid=early.pid: catches(pid, signal.SIGHUP), "it minds signals")
            for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGTERM):
                early.send_signal(number)
            assert early.wait(30) == 0, (agent.root / "early.txt").read_text()


def catches(pid: int, number: int) -> bool:
    """The process has a handler of its own for that signal."""
    lines = (Path("/proc") / str(pid) / "status").read_text().splitlines()
    caught = next(int(line.split()[1], 16) for line in lines if line.startswith("SigCgt"))
    return bool(caught >> (number - 1) & 1)
