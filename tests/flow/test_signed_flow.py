"""Only signed commits count: the real program, real processes, real keys."""

import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.following import git
from tests.fakes.program import Program, eventually, program
from tests.fakes.signing import SshKey, signed_commit, ssh_key
from tests.flow.test_git_flow import SETTINGS, commit, processes, spec


@pytest.fixture
def jane(tmp_path: Path) -> SshKey:
    return ssh_key(tmp_path / "jane")


@pytest.fixture
def agent(jane: SshKey, tmp_path: Path) -> Iterator[Program]:
    (tmp_path / "signers").write_text(jane.allowed())
    source = {**SETTINGS["source"], "verify": "commit", "allowedSigners": str(tmp_path / "signers")}
    with program("process", {**SETTINGS, "source": source, "agent": {"rescanInterval": "1s"}}) as made:
        git(made.specs, "init", "-q", "-b", "main")
        yield made


def metric(agent: Program, reason: str) -> str:
    started = re.findall(r'"port": (\d+)|\bport=(\d+)', agent.output.read_text())[-1]
    port = started[0] or started[1]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        page = answer.read().decode()
    [line] = [line for line in page.splitlines() if line.startswith(f'xmod_source_unverified{{reason="{reason}"}}')]
    return line.split()[1]


def test_a_removal_that_nobody_signed_waits_for_a_signature(agent, jane):
    for name in ("one", "two"):
        (agent.specs / f"{name}.yaml").write_text(spec(name))
        git(agent.specs, "add", f"{name}.yaml")
    good = signed_commit(agent.specs, jane.settings)
    agent.start()
    agent.serving("one")
    agent.serving("two")
    before = processes(agent)
    assert metric(agent, "unsigned") == "0.0"

    bad = commit(agent.specs, two=None)
    eventually(lambda: any(bad[:12] in note for note in agent.status()["notices"]), "it is held")
    said = " ".join(agent.says("status").split())
    assert f"commit {bad[:12]} by t is held: it is not signed" in said
    assert metric(agent, "unsigned") == "1.0"
    assert agent.status()["source"]["revision"] == good
    assert "nothing to do" in agent.says("plan", str(agent.specs), *agent.options)
    agent.stop()
    agent.start()
    agent.serving("two")
    assert agent.status()["source"]["revision"] == good
    assert processes(agent) == before

    signed_commit(agent.specs, jane.settings)
    eventually(lambda: not agent.service("two"), "it is removed")
    assert agent.serving("one")
    assert len(processes(agent) & before) == 1
    assert metric(agent, "unsigned") == "0.0"
    assert not any("held" in note for note in agent.status()["notices"])
    told = [(event["what"], event["commit"]) for event in json.loads(agent.says("events", "-o", "json"))]
    assert [said for said in told if said[0] in ("Held", "Verified")] == [("Held", bad), ("Verified", "")]
