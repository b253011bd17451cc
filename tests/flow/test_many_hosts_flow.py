"""Two hosts, one repository: two of the real program with real processes, and commits."""

import contextlib
import json
import sys

import pytest

from tests.fakes.following import git
from tests.fakes.program import Program, eventually, program
from tests.flow.test_git_flow import answers, commit, processes, spec

SETTINGS = {"policy": {"programs": [sys.executable]}, "agent": {"resyncInterval": "2s"}}


def on(name: str, *hosts: str, **more: object) -> str:
    document = json.loads(spec(name))
    document["spec"] |= {"hosts": [*hosts], **more}
    return json.dumps(document)


@pytest.fixture
def fleet(tmp_path):
    repository = tmp_path / "fleet"
    repository.mkdir()
    git(repository, "init", "-q", "-b", "main")
    with contextlib.ExitStack() as stack:
        hosts = []
        for number, name in enumerate(("a", "b")):
            ports = {"range": f"{18100 + 100 * number}-{18199 + 100 * number}"}
            agent = stack.enter_context(program("process", {**SETTINGS, "ports": ports}, ("--host", name)))
            agent.source = (str(repository),)
            hosts.append(agent)
        yield (repository, *hosts)


def test_a_commit_moves_a_service_from_one_host_to_another(fleet):
    repository, a, b = fleet
    commit(repository, one=on("one", "a"), two=on("two", "*"), three=on("three", "*", dependsOn=["one"]))
    for agent in (a, b):
        agent.start()
        assert answers(agent.serving("two"))
    assert answers(a.serving("one"))
    assert answers(a.serving("three"))
    waits = eventually(lambda: b.service("three"), "b knows of it")
    assert waits["converged"]["reason"] == "DependencyMissing"
    assert "for other hosts" in waits["converged"]["message"]
    view = b.status()
    assert (view["host"], view["source"]["elsewhere"]) == ("b", 1)
    assert "1 for other hosts; this is b" in b.says("status")
    before = processes(a)

    commit(repository, one=on("one", "b"))
    assert answers(b.serving("one"))
    assert answers(b.serving("three")), "what it depends on serves here now"
    eventually(lambda: not a.service("one"), "it is removed where it was")
    assert processes(a) < before
    assert answers(a.serving("two"))
    assert answers(a.serving("three")), "what runs is not stopped for what it depends on"


def test_a_host_that_is_renamed_by_mistake_keeps_what_it_runs(fleet):
    repository, a, _ = fleet
    commit(repository, one=on("one", "a"), two=on("two", "*"))
    a.start()
    a.serving("one")
    a.serving("two")
    before = processes(a)
    a.stop()
    words = a.options
    renamed(a, "oops")
    a.start()
    eventually(lambda: [held["reason"] for held in a.status()["held"]] == ["HostChanged"], "the removal is held")
    assert processes(a) == before
    a.stop()
    a.options = words
    a.start()
    assert a.serving("one")
    assert (a.status()["held"], processes(a)) == ([], before)


def renamed(agent: Program, name: str) -> None:
    agent.options = tuple(name if word == "a" else word for word in agent.options)


def test_another_hosts_plan_says_what_would_run_there(fleet):
    repository, a, _ = fleet
    commit(repository, one=on("one", "b"), two=on("two", "a", dependsOn=["three"]), three=on("three", "a"))
    shared = [word for word in a.options if word not in ("--host", "a")]
    told = json.loads(a.says("plan", str(repository), "--host", "a", "-o", "json", *shared))
    assert [(row["action"], row["name"]) for row in told["rows"]] == [("run", "three"), ("run", "two")]
    assert (told["host"], told["elsewhere"]) == ("a", 1)
    assert "what runs there now cannot be seen from here" in a.says("plan", str(repository), "--host", "b", *shared)
    config = shared[shared.index("--config") :][:2]
    assert a.says("validate", str(repository), "--shimlet", "process", "--host", "b", *config) == ""
