"""A git server that stalls mid-fetch, refuses and comes back, and a disk with no room for what it sends.

What was fetched last stays in force, also for an agent that is killed meanwhile; what was pushed is taken at the end.
"""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.following import git
from tests.fakes.git_server import GitServer, git_server
from tests.fakes.program import Program, eventually, program
from tools import demo

SLEEP = "/bin/sleep"
SETTINGS = {"policy": {"programs": [SLEEP]}, "source": {"interval": "500ms"}}


def document(name: str, words: str = "one") -> str:
    return (
        f"apiVersion: xmod.dev/v1\nkind: DeploySpec\nmetadata: {{name: {name}}}\nspec:\n"
        f"  container: {{command: [{SLEEP}, infinity], health: {{none: true}}}}\n"
        f"  env: [{{key: WORDS, value: {words}}}]\n"
    )


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    git(tmp_path, "init", "-q", "-b", "main", "work")
    git(tmp_path, "init", "-q", "--bare", "-b", "main", "served.git")
    with git_server(tmp_path) as made:
        push(tmp_path, one=document("one"), two=document("two"))
        yield made


def push(root: Path, **files: str | bytes | None) -> str:
    work = root / "work"
    for name, text in files.items():
        path = work / f"{name}.yaml"
        if text is None:
            path.unlink()
        else:
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
    git(work, "add", "-A")
    git(work, "commit", "-q", "-m", "change")
    git(work, "push", "-q", str(root / "served.git"), "main")
    return git(work, "rev-parse", "HEAD").strip()


@pytest.fixture
def agent(server: GitServer) -> Iterator[Program]:
    with program("process", SETTINGS) as made:
        made.source = ("--repo", f"{server.url}/served.git")
        yield made


def processes(agent: Program) -> set[int]:
    return set(demo.groups(agent.instance))


def ready(agent: Program, *names: str) -> bool:
    return {s["name"] for s in agent.status()["services"] if s["phase"] == "Ready"} == set(names)


@pytest.mark.parametrize("how", ["stall", "half"])
def test_a_server_that_stalls_in_a_fetch_refuses_and_comes_back(
    agent: Program, server: GitServer, tmp_path: Path, how: str
) -> None:
    agent.start()
    eventually(lambda: ready(agent, "one", "two"), "both run")
    before = processes(agent)

    setattr(server, how, True)
    last = push(tmp_path, one=document("one", "two"), two=None, three=document("three"))
    assert server.stalled.wait(20), "the fetch hangs"
    agent.stop(signal.SIGKILL)
    agent.start()
    eventually(lambda: ready(agent, "one", "two"), "killed in the middle of a fetch, it goes on with what it had")
    assert processes(agent) == before

    server.refuse = True
    setattr(server, how, False)
    server.over.set()
    eventually(lambda: any("503" in notice for notice in agent.status()["notices"]), "it is refused, and says so")
    assert ready(agent, "one", "two")
    assert processes(agent) == before

    server.refuse = False
    eventually(lambda: agent.status()["source"]["revision"] == last, "the server is back", 60)
    eventually(lambda: ready(agent, "one", "three"), "what was pushed is taken")
    assert not processes(agent) & before


def test_a_disk_without_room_for_a_commit_leaves_the_last_one_in_force(
    agent: Program, server: GitServer, tmp_path: Path
) -> None:
    state = agent.root / "state"
    state.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", state], check=False).returncode == 0
    if not mounted:
        pytest.skip("mounting a small file system is not permitted here")
    try:
        agent.start()
        eventually(lambda: ready(agent, "one", "two"), "both run")
        before = processes(agent)
        filler = state / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"x" * 4096)
        large = b"# " + os.urandom(300_000).hex().encode() + b"\n"
        last = push(tmp_path, two=None, three=large + document("three").encode())
        eventually(lambda: any("not in sync" in notice for notice in agent.status()["notices"]), "it is told")
        assert ready(agent, "one", "two")
        assert processes(agent) == before
        filler.unlink()
        eventually(lambda: agent.status()["source"]["revision"] == last, "there is room again", 60)
        eventually(lambda: ready(agent, "one", "three"), "the commit is taken")
    finally:
        agent.end()
        subprocess.run(["umount", "-l", state], check=True)
