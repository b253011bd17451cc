"""Whose commit it was, how far behind we are, and the last good word from history: the real program, processes, commits."""

import json
import shutil

import pytest

from tests.fakes.following import git
from tests.fakes.program import eventually, program
from tests.flow.test_git_flow import SETTINGS, answers, commit, processes, spec


@pytest.fixture
def agent():
    with program("process", SETTINGS) as made:
        git(made.specs, "init", "-q", "-b", "main")
        yield made


def change_of(agent, name: str) -> str:
    change = agent.service(name).get("change")
    return str(change["commit"]) if change else ""


def served(agent, name: str) -> bool:
    """It serves, though git says something else by now."""
    endpoints = eventually(lambda: agent.service(name).get("endpoints"), f"{name} serves", 30)
    return answers(endpoints[0])


def test_every_way_to_look_names_the_commit(agent):
    first = commit(agent.specs, one=spec("one"), two=spec("two"))
    second = commit(agent.specs, two=spec("two", "blue"))
    agent.start()
    agent.serving("one")
    agent.serving("two")
    eventually(lambda: (change_of(agent, "one"), change_of(agent, "two")) == (first, second), "history is known", 10)
    git(agent.specs, "mv", "one.yaml", "moved.yaml")
    moved = commit(agent.specs)
    eventually(lambda: agent.status()["source"]["revision"] == moved, "the move is seen", 5)
    assert change_of(agent, "one") == first, "a move is no change"
    third = commit(agent.specs, two=spec("two", "green"))
    eventually(lambda: change_of(agent, "two") == third, "the change is seen", 5)
    agent.serving("two")

    shown = agent.says("status")
    assert f" at {third[:10]}, " in shown
    assert "behind" not in shown
    assert first[:10] in next(line for line in shown.splitlines() if line.startswith("one"))
    assert f"changed    {third[:10]}, " in agent.says("status", "two")
    assert "by t: change" in agent.says("status", "two")
    source = agent.status()["source"]
    assert (source["head"], source["behind"], source["commit"]["subject"]) == (third, 0, "change")
    events = json.loads(agent.says("events", "two", "-o", "json"))
    assert third in {event["commit"] for event in events}


def test_an_invalid_file_and_nothing_left_of_us_comes_up_from_the_last_good_commit(agent):
    good = commit(agent.specs, one=spec("one"), two=spec("two"), three=spec("three"))
    commit(agent.specs, one=spec("one", "blue").replace("8000", '"many"'))
    commit(agent.specs, two=spec("two", "blue"))
    assert "the last good word" in agent.says("plan", str(agent.specs), *agent.options, code=2)
    agent.start()
    assert answers(agent.serving("two"))
    assert answers(agent.serving("three"))
    assert served(agent, "one")
    one = agent.service("one")
    assert (one["converged"]["reason"], one["revision"], one["file"]) == ("SpecInvalid", good, "one.yaml")
    assert change_of(agent, "one") == good

    before = processes(agent)
    agent.stop()
    shutil.rmtree(agent.root / "state", ignore_errors=True)
    commit(agent.specs, two=None)
    agent.start()
    eventually(lambda: len(processes(agent)) == 2, "what the file is known not to name is removed")
    assert processes(agent) < before
    assert served(agent, "one")
