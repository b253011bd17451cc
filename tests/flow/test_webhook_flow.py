"""A webhook as the only cause: the real program follows a repository that it would ask again in an hour."""

import hashlib
import hmac
import json
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.fakes.following import git
from tests.fakes.git_server import git_server
from tests.fakes.program import Program, eventually, program
from tests.flow.test_git_flow import SETTINGS, commit, spec

SECRET = "correct horse battery staple"


def push(port: int, ref: str, secret: str = SECRET) -> int:
    """What GitHub sends; the answer's code."""
    body = json.dumps({"ref": ref}).encode()
    mac = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    headers = {"X-Hub-Signature-256": f"sha256={mac}", "X-GitHub-Event": "push", "Host": "hooks.example"}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(f"http://127.0.0.1:{port}/webhook", body, headers), timeout=10
        ) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def port_of(agent: Program) -> int:
    line = next(line for line in agent.output.read_text().splitlines() if "agent started" in line)
    return int(json.loads(line)["webhook_port"])


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.touch(0o600)
    path.write_text(SECRET)
    return path


def test_a_push_is_running_in_a_blink_although_the_interval_is_an_hour(secret: Path, tmp_path: Path):
    settings = {**SETTINGS, "source": {"interval": "1h"}, "webhook": {"secretFile": str(secret), "port": 0}}
    with program("process", settings) as agent, git_server(tmp_path) as server:
        git(agent.specs, "init", "-q", "-b", "main")
        first = commit(agent.specs, one=spec("one"))
        git(tmp_path, "clone", "-q", "--bare", str(agent.specs), "served.git")
        agent.source = ("--repo", f"{server.url}/served.git", "--ref", "main")
        agent.start()
        agent.serving("one")
        assert agent.status()["source"]["revision"] == first
        before = agent.service("one")["wanted"]
        port = port_of(agent)

        second = commit(agent.specs, one=spec("one", "blue"))
        git(agent.specs, "push", "-q", str(tmp_path / "served.git"), "main")
        asked = len(server.seen)
        assert push(port, "refs/heads/main", secret="guess") == 401
        assert push(port, "refs/heads/topic") == 202
        time.sleep(0.5)  # nothing may happen, which has no moment of its own
        assert len(server.seen) == asked, "neither of the two had any effect"

        began = time.monotonic()
        assert push(port, "refs/heads/main") == 202
        answered = time.monotonic() - began
        eventually(lambda: len(server.seen) > asked, "the fetch begins", 3)
        fetching = time.monotonic() - began
        eventually(lambda: agent.status()["source"]["revision"] == second, "the commit is read", 5)
        eventually(lambda: agent.service("one")["wanted"] != before, "the change is wanted", 5)
        agent.serving("one")
        assert answered < 0.5
        assert fetching < 1.0

        assert SECRET not in agent.output.read_text()
        assert secret.name not in agent.says("status", "-o", "json")
