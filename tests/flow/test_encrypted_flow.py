"""Secrets in git, encrypted: the real program, real git, real sops, real processes."""

import json
import shutil
import sys
import urllib.request
from pathlib import Path

import pytest

from agent.surface.client import Client
from tests.fakes.following import git
from tests.fakes.program import Program, eventually, program
from tests.fakes.sops import SEARCH, Key, encrypted, key
from tools import demo

FIRST, SECOND = "geheim-8fa3c1", "anders-77b20e"


@pytest.fixture
def mine() -> Key:
    return key()


@pytest.fixture
def agent(tmp_path, mine, monkeypatch):
    monkeypatch.setenv("PATH", SEARCH)
    mine.into(tmp_path / "keys.txt")
    settings = {"policy": {"programs": [sys.executable]}, "secrets": {"ageKeyFile": str(tmp_path / "keys.txt")}}
    with program("process", settings) as made:
        git(made.specs, "init", "-q", "-b", "main")
        yield made


def spec(name: str, secret: str | None = None) -> str:
    command = [sys.executable, "-m", "http.server", "{port}", "--bind", "{host}", "--directory", "/usr/share/doc"]
    body = {"container": {"command": command, "port": 8000, "health": {"path": "/"}}}
    if secret is not None:
        body["env"] = [{"key": "TOKEN", "value": secret}]
    return json.dumps({"apiVersion": "xmod.dev/v1", "kind": "DeploySpec", "metadata": {"name": name}, "spec": body})


def commit(agent: Program, **files: str | None) -> str:
    for name, text in files.items():
        file = agent.specs / f"{name}.yaml"
        file.unlink() if text is None else file.write_text(text)
    git(agent.specs, "add", "-A")
    git(agent.specs, "commit", "-q", "-m", "change")
    return git(agent.specs, "rev-parse", "HEAD").strip()


def environment(pid: int) -> dict[str, str]:
    pairs = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return dict(pair.decode().partition("=")[::2] for pair in pairs)


def running(agent: Program, name: str) -> dict[int, str]:
    """Its processes, each with its TOKEN."""
    found = {pid: environment(pid) for pid in demo.groups(agent.instance)}
    return {pid: env.get("TOKEN", "") for pid, env in found.items() if env.get("XMOD_SERVICE") == name}


def in_effect(agent: Program, revision: str) -> None:
    eventually(lambda: agent.status()["source"]["revision"] == revision, f"{revision} is read")


def invalid(agent: Program) -> list[str]:
    return [error for file in agent.status()["source"]["invalid"] for error in file["errors"]]


def told(agent: Program) -> str:
    """All that the agent says and keeps, in one text: files of its state, its log, answers of its API, marks."""
    kept = [path.read_text(errors="replace") for path in (agent.root / "state").rglob("*") if path.is_file()]
    status = json.dumps(Client(agent.root / "s").status())
    marks = [
        json.dumps({key: value for key, value in environment(pid).items() if key.startswith("XMOD_")})
        for pid in demo.groups(agent.instance)
    ]
    port = next(json.loads(line)["port"] for line in agent.output.read_text().splitlines() if '"agent started"' in line)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        metrics = answer.read().decode()
    plan = agent.says("plan", str(agent.specs), *agent.options)
    return "\n".join([*kept, status, *marks, metrics, plan, agent.output.read_text(), agent.says("status")])


def test_a_secret_in_git_reaches_its_service_and_nothing_else(agent, mine):
    commit(agent, web=encrypted(spec("web", FIRST), mine), hidden=encrypted(spec("hidden", SECOND), mine, only=""))
    agent.start()
    for name in ("web", "hidden"):
        agent.serving(name)
    assert list(running(agent, "web").values()) == [FIRST]
    assert list(running(agent, "hidden").values()) == [SECOND]
    everything = told(agent)
    assert "web" in everything
    for secret in (FIRST, SECOND, mine.private):
        assert secret not in everything


def test_encrypting_anew_changes_nothing_and_a_rotated_secret_replaces_once(agent, mine):
    commit(agent, web=encrypted(spec("web", FIRST), mine), other=encrypted(spec("other", FIRST), mine))
    agent.start()
    agent.serving("web")
    agent.serving("other")
    before, other = running(agent, "web"), running(agent, "other")
    in_effect(agent, commit(agent, web=None, moved=encrypted(spec("web", FIRST), key(), mine)))
    assert running(agent, "web") == before, "neither a move nor new ciphertext is a change"
    in_effect(agent, commit(agent, moved=encrypted(spec("web", SECOND), mine)))
    eventually(lambda: list(running(agent, "web").values()) == [SECOND], "the new value runs", 20)
    agent.serving("web")
    after = running(agent, "web")
    agent.says("sync")
    in_effect(agent, commit(agent, plain=spec("plain")))
    agent.serving("plain")
    assert running(agent, "web") == after
    assert running(agent, "other") == other


def test_without_the_key_and_with_the_state_lost_everything_stays_as_it_is(agent, mine, tmp_path):
    files = {name: spec(name) for name in ("plain-1", "plain-2", "plain-3", "plain-4", "plain-5")}
    files |= {"web": encrypted(spec("web", FIRST), mine), "hidden": encrypted(spec("hidden", FIRST), mine, only="")}
    assert "hidden" not in files["hidden"], "its name is encrypted, too"
    commit(agent, **files)
    agent.start()
    for name in files:
        agent.serving(name)
    before = set(demo.groups(agent.instance))
    agent.stop()
    shutil.rmtree(agent.root / "state")
    (tmp_path / "keys.txt").rename(tmp_path / "away")
    in_between = commit(agent, **{"plain-1": None})
    agent.start()
    in_effect(agent, in_between)
    (error, other) = invalid(agent)
    assert f"the age key file {tmp_path}/keys.txt (secrets.ageKeyFile) cannot be read: No such file" in error + other
    eventually(lambda: agent.status()["held"], "the removal waits")
    held = [(held["name"], held["reason"]) for held in agent.status()["held"]]
    assert held == [("plain-1", "SourceInvalid")], "anybody may be named in what nobody can read"
    for name in ("web", "hidden"):
        said = f"{name} goes on serving, and is said to"
        eventually(lambda name=name: agent.service(name).get("serving", {}).get("holds"), said, 40)
    agent.says("sync")
    agent.serving("plain-2")
    assert set(demo.groups(agent.instance)) == before
    (tmp_path / "away").rename(tmp_path / "keys.txt")

    def well() -> bool:
        agent.says("sync")
        return not invalid(agent)

    eventually(well, "it is tried again, though no file changed", 30)
    for name in ("web", "hidden"):
        agent.serving(name)
    eventually(lambda: not running(agent, "plain-1"), "what is gone goes now")
    after = set(demo.groups(agent.instance))
    assert (after < before, len(before) - len(after)) == (True, 1), "nothing was started anew"


def test_an_edit_that_nobody_here_can_read_keeps_the_service_running(agent, mine):
    commit(agent, web=encrypted(spec("web", FIRST), mine))
    agent.start()
    agent.serving("web")
    before = running(agent, "web")
    stranger = key()
    in_effect(agent, commit(agent, web=encrypted(spec("web", SECOND), stranger)))
    assert stranger.public in invalid(agent)[0]
    tampered = encrypted(spec("web", FIRST), mine).replace("http.server", "http.clown")
    in_effect(agent, commit(agent, web=tampered))
    assert "not as sops wrote it" in invalid(agent)[0]
    assert running(agent, "web") == before
    assert agent.service("web")["serving"]["holds"], agent.service("web")
