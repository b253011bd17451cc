"""Git as the whole user interface: the real program, real processes, real commits."""

import json
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.fakes.following import git
from tests.fakes.git_server import git_server
from tests.fakes.program import Program, eventually, program
from tools import demo

SETTINGS = {"policy": {"programs": [sys.executable]}, "source": {"interval": "1s"}}


def spec(name: str, colour: str = "red") -> str:
    command = [sys.executable, "-m", "http.server", "{port}", "--bind", "{host}", "--directory", "/usr/share/doc"]
    container = {"command": command, "port": 8000, "health": {"path": "/"}}
    body = {"container": container, "env": [{"key": "COLOUR", "value": colour}]}
    return json.dumps({"apiVersion": "xmod.dev/v1", "kind": "DeploySpec", "metadata": {"name": name}, "spec": body})


def commit(where: Path, **files: str | None) -> str:
    for name, text in files.items():
        if text is None:
            git(where, "rm", "-q", f"{name}.yaml")
        else:
            (where / f"{name}.yaml").write_text(text)
            git(where, "add", f"{name}.yaml")
    git(where, "commit", "-q", "--allow-empty", "-m", "change")
    return git(where, "rev-parse", "HEAD").strip()


def answers(url: str) -> bool:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.status == 200


@pytest.fixture
def agent():
    with program("process", SETTINGS) as made:
        git(made.specs, "init", "-q", "-b", "main")
        yield made


def processes(agent: Program) -> set[int]:
    return set(demo.groups(agent.instance))


def test_a_commit_is_what_counts_in_a_work_tree(agent):
    first = commit(agent.specs, one=spec("one"), two=spec("two"), three=spec("three"), four=spec("four"))
    agent.start()
    for name in ("one", "two", "three", "four"):
        assert answers(agent.serving(name))
    view = agent.status()["source"]
    assert (view["id"], view["revision"]) == (f"git:{agent.specs}", first)
    before = processes(agent)

    (agent.specs / "one.yaml").write_text(spec("one", "blue"))
    (agent.specs / "two.yaml").unlink()
    eventually(lambda: any("2 uncommitted edits" in note for note in agent.status()["notices"]), "edits are counted")
    assert processes(agent) == before, "an edit that is not committed does nothing"
    assert "2 uncommitted edits" in agent.says("status", code=0)

    git(agent.specs, "checkout", "-q", "two.yaml")
    second = commit(agent.specs, one=spec("one", "blue"))
    eventually(lambda: agent.status()["source"]["revision"] == second, "the commit is seen", 3)
    eventually(lambda: len(processes(agent) - before) == 1, "one is replaced")
    assert answers(agent.serving("one"))
    eventually(lambda: len(processes(agent)) == 4, "the old one is gone")
    assert len(processes(agent) & before) == 3

    commit(agent.specs, two=None)
    eventually(lambda: not agent.service("two"), "it is removed")
    assert len(processes(agent)) == 3


def test_a_storm_of_branches_restarts_nothing(agent):
    commit(agent.specs, one=spec("one"), two=spec("two"))
    git(agent.specs, "branch", "side")
    commit(agent.specs, notes="kind: Note\n")
    agent.start()
    agent.serving("one")
    agent.serving("two")
    before = processes(agent)
    for _ in range(25):
        for branch in ("side", "main"):
            git(agent.specs, "checkout", "-q", branch)
    git(agent.specs, "mv", "one.yaml", "renamed.yaml")
    last = commit(agent.specs, more="kind: Note\n")
    eventually(lambda: agent.status()["source"]["revision"] == last, "the last one is seen")
    agent.says("sync")
    assert agent.serving("one")
    assert processes(agent) == before


def test_another_mode_prunes_nothing_by_itself(agent):
    commit(agent.specs, one=spec("one"), two=spec("two"))
    agent.start()
    agent.serving("one")
    agent.serving("two")
    before = processes(agent)
    agent.stop()
    (agent.specs / "two.yaml").unlink()
    agent.options = (*agent.options, "--source", "folder")
    agent.start()
    assert agent.status()["source"]["id"] == f"folder:{agent.specs}"
    eventually(lambda: agent.status()["held"], "the removal is held")
    assert [held["reason"] for held in agent.status()["held"]] == ["OtherSource"]
    assert agent.serving("one")
    assert processes(agent) == before


def test_a_repository_is_synced_by_the_agent_also_without_a_network(agent, tmp_path):
    first = commit(agent.specs, one=spec("one"), two=spec("two"))
    git(tmp_path, "clone", "-q", "--bare", str(agent.specs), "served.git")
    with git_server(tmp_path) as server:
        url = f"{server.url}/served.git"
        start_on(agent, url)
        assert answers(agent.serving("one"))
        assert agent.status()["source"]["revision"] == first
        assert "nothing to do" in agent.says("plan", "--repo", url, *agent.options)

        commit(agent.specs, three=spec("three"))
        git(agent.specs, "push", "-q", str(tmp_path / "served.git"), "main")
        agent.says("sync")
        assert answers(agent.serving("three"))
        agent.serving("two")

        before = processes(agent)
        server.refuse = True
        eventually(lambda: any("503" in note for note in agent.status()["notices"]), "it says that it is offline")
        agent.stop()
        start_on(agent, url)
        agent.serving("three")
        assert processes(agent) == before
        server.refuse = False
        commit(agent.specs, two=None)
        git(agent.specs, "push", "-q", str(tmp_path / "served.git"), "main")
        eventually(lambda: not agent.service("two"), "it is removed")


def start_on(agent: Program, url: str) -> None:
    agent.source = ("--repo", url)
    agent.start()
