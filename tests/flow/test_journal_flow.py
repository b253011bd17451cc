"""Promise 8 and the journal: whatever befalls the agent's memory, nothing that runs is touched, and the agent says so."""

import contextlib
import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from agent.surface.client import Client
from tests.fakes.program import Program, eventually, program

NAMES = ("web", "other")


def spec(name: str, **more: object) -> str:
    """A service that is a plain web server."""
    command = [sys.executable, "-m", "http.server", "{port}", "--bind", "{host}", "--directory", "/usr/share"]
    container = {"command": command, "port": 8000, "health": {"path": "/"}}
    body = {"container": container, **more}
    return yaml.safe_dump({"apiVersion": "xmod.dev/v1", "kind": "DeploySpec", "metadata": {"name": name}, "spec": body})


@pytest.fixture
def agent() -> Iterator[Program]:
    """Two services that serve."""
    settings = {"policy": {"programs": [sys.executable]}, "agent": {"resyncInterval": "1s"}}
    with program("process", settings) as agent:
        for name in NAMES:
            (agent.specs / f"{name}.yaml").write_text(spec(name))
        agent.start()
        for name in NAMES:
            agent.serving(name)
        yield agent


def replicas(agent: Program) -> dict[str, str]:
    """What runs, by the kernel's word: pid and when it started."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")
            environment = (path / "environ").read_bytes()
        except OSError:
            continue
        if b"http.server" in words and agent.instance.encode() in environment:
            found[path.name] = (path / "stat").read_text().rpartition(")")[2].split()[19]
    return found


def notices(agent: Program) -> str:
    return "\n".join(agent.status()["notices"])


def whats(agent: Program, name: str = "") -> list[str]:
    events = Client(agent.root / "s").events(name or None, limit=1000)["events"]
    return [event["what"] for event in events]


def state(agent: Program) -> Path:
    return agent.root / "state"


def database(agent: Program) -> Path:
    return state(agent) / "journal.db"


def well(agent: Program, before: dict[str, str]) -> None:
    """Everything serves, and what runs is what ran."""
    for name in NAMES:
        agent.serving(name)
    assert replicas(agent) == before


def test_events_tell_a_services_life_and_outlive_it_and_the_agent(agent: Program) -> None:
    eventually(lambda: "Ready" in whats(agent, "web"), "it is written")
    agent.says("restart", "web")
    eventually(lambda: whats(agent, "web").count("Ready") == 2, "it was restarted")
    (agent.specs / "web.yaml").unlink()
    eventually(lambda: "Removed" in whats(agent, "web"), "it is gone")
    agent.stop(signal.SIGKILL)
    agent.start()
    seen = whats(agent, "web")
    assert (seen[0], seen[-2:]) == ("Progressing", ["Removing", "Removed"])
    assert "restart" in seen
    table = agent.says("events", "web", "--since", "1h")
    assert "by " in next(line for line in table.splitlines() if " restart " in line)
    assert "ended without a word" in agent.says("events")
    agent.says("events", "nobody", code=1)


def test_a_restart_that_changes_nothing_is_two_events(agent: Program) -> None:
    eventually(lambda: whats(agent).count("Ready") == 2, "both are written")
    agent.stop()
    agent.start()
    for name in NAMES:
        agent.serving(name)
    eventually(lambda: whats(agent).count("Started") == 2, "the start is written")
    seen = whats(agent)
    assert seen[seen.index("Stopped") :] == ["Stopped", "Started"]


def test_an_agent_of_another_instance_is_kept_out_of_the_state_folder(agent: Program) -> None:
    before = replicas(agent)
    words = ("run", str(agent.specs), "--port", "0", *agent.options, "--instance", f"{agent.instance}-b")
    assert "another agent keeps its state there" in agent.refuses(*words)
    well(agent, before)
    agent.stop(signal.SIGKILL)
    agent.start()
    well(agent, before)


def test_new_events_are_seen_within_a_second(agent: Program) -> None:
    last = Client(agent.root / "s").events(None, limit=1)["last"]
    agent.says("restart", "web")
    eventually(lambda: Client(agent.root / "s").events(None, after=last, limit=9)["events"], "it is seen", seconds=3)


def test_what_an_operator_said_and_the_history_survive_a_kill_and_a_dry_run_changes_nothing(agent: Program) -> None:
    agent.says("suspend", "web")
    eventually(lambda: "suspend" in whats(agent, "web"), "it is written")
    agent.stop(signal.SIGKILL)
    before = {path.name: path.read_bytes() for path in state(agent).glob("journal*")}
    assert "journal.db-wal" in before
    planned = agent.says("plan", str(agent.specs), *agent.options)
    assert "Suspended" in planned, "the dry run knows the words"
    assert {path.name: path.read_bytes() for path in state(agent).glob("journal*")} == before
    agent.start()
    eventually(lambda: agent.service("web").get("phase") == "Suspended", "it is suspended still")
    agent.stop()
    before = {path.name: path.read_bytes() for path in state(agent).glob("journal*")}
    assert list(before) == ["journal.db"]
    agent.says("plan", str(agent.specs), *agent.options)
    assert {path.name: path.read_bytes() for path in state(agent).glob("journal*")} == before


@pytest.mark.parametrize("killed", [False, True])
def test_a_state_folder_deleted_while_it_runs_touches_nothing(agent: Program, killed: bool) -> None:
    before = replicas(agent)
    assert len(before) == 2
    agent.says("suspend", "web")
    shutil.rmtree(state(agent))
    if killed:
        agent.stop(signal.SIGKILL)
        agent.start()
        for name in NAMES:
            agent.serving(name)
        assert agent.status()["memory_is_new"]
    else:
        eventually(database(agent).exists, "it is made again")
        eventually(lambda: "deleted while the agent ran" in notices(agent), "it is said")
        eventually(lambda: whats(agent)[:1] == ["Renewed"], "the new one begins with why")
        agent.stop(signal.SIGKILL)
        agent.start()
        eventually(lambda: agent.service("web").get("phase") == "Suspended", "the word was in memory, and is kept")
    assert replicas(agent) == before


def garbage(path: Path) -> None:
    path.write_bytes(b"garbage" * 5000)


def truncated(path: Path) -> None:
    os.truncate(path, 5000)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("ruin", [garbage, truncated, a_folder])
def test_a_ruined_journal_is_set_aside_at_the_start_and_touches_nothing(
    agent: Program, ruin: Callable[[Path], None]
) -> None:
    before = replicas(agent)
    agent.stop()
    ruin(database(agent))
    agent.start()
    well(agent, before)
    eventually(lambda: "begun anew" in notices(agent), "it is said")
    assert agent.status()["memory_is_new"]
    assert "journal.db.corrupt" in agent.says("status")
    assert (state(agent) / "journal.db.corrupt").exists()


@pytest.mark.parametrize("ruin", [garbage, truncated, a_folder])
def test_a_journal_ruined_while_it_is_used_is_mended_or_set_aside(agent: Program, ruin: Callable[[Path], None]) -> None:
    """What is still in SQLite's -wal mends what was written over; else a new one is begun. The agent goes on either way."""
    before = replicas(agent)
    agent.stop()
    agent.start()
    well(agent, before)
    ruin(database(agent))
    agent.says("suspend", "other")
    agent.says("restart", "web")
    eventually(lambda: "restart" in whats(agent, "web"), "history goes on")
    eventually(lambda: agent.service("other").get("phase") == "Suspended", "words are taken")
    agent.serving("web")
    assert replicas(agent).items() & before.items(), "the other one runs on"
    assert agent.process is not None
    assert agent.process.poll() is None
    agent.stop()
    with contextlib.closing(sqlite3.connect(database(agent))) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    agent.start()
    eventually(lambda: agent.service("other").get("phase") == "Suspended", "and were kept")


def test_the_words_of_an_older_agent_are_taken_over(agent: Program) -> None:
    agent.stop()
    for path in state(agent).glob("journal*"):
        path.unlink()
    said = '{"suspended": {"web": ["2026-01-01T00:00:00+00:00", "by an older one"]}}'
    (state(agent) / "words.json").write_text(said)
    agent.start()
    eventually(lambda: not (state(agent) / "words.json").exists(), "they are taken over")
    assert not agent.status()["memory_is_new"]
    eventually(lambda: agent.service("web").get("phase") == "Suspended", "and heeded")
