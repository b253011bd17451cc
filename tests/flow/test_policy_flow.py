"""The policy when something is started, with the real program on plain processes: swapped links, new rules, forged marks."""

import json
import os
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.contracts import ServiceName, decode, digest_of, encode
from tests.fakes.program import Program, eventually, program
from tools import demo

BUSYBOX = shutil.which("busybox") or "/bin/busybox"
SETTINGS = {
    "policy": {"programs": [BUSYBOX]},
    "agent": {"rescanInterval": "1s", "resyncInterval": "1s"},
    "shimlets": {"process": {"stopGrace": 2}},
}


@pytest.fixture
def agent() -> Iterator[Program]:
    with program("process", SETTINGS) as made:
        yield made


def put(agent: Program, name: str, spec: dict[str, object]) -> None:
    document = {"apiVersion": "xmod.dev/v1", "kind": "DeploySpec", "metadata": {"name": name}, "spec": spec}
    new = agent.specs / f".{name}.new"
    new.write_text(json.dumps(document))
    new.replace(agent.specs / f"{name}.yaml")


def web(*words: str) -> dict[str, object]:
    """A web server that shows its model's folder."""
    serve = [BUSYBOX, "httpd", "-f", "-p", "{host}:{port}", "-h", "{model}", *words]
    return {"modelFile": "m", "container": {"command": serve, "port": 80, "health": {"tcp": True}}}


def model(agent: Program) -> Path:
    folder = agent.root / "models" / "m"
    folder.mkdir(parents=True)
    (folder / "index.html").write_text("hello")
    return folder


def shown(endpoint: str) -> str:
    with urllib.request.urlopen(endpoint.replace("tcp:", "http:"), timeout=5) as answer:
        text: str = answer.read().decode()
        return text


def refused(agent: Program, name: str) -> str:
    """Wait until it is said that the policy forbids it; the sentence."""

    def said() -> str:
        seen = agent.service(name)
        return seen["converged"]["message"] if seen.get("blocked") == "policy" else ""

    sentence: str = eventually(said, f"{name} is refused")
    return sentence


def running(agent: Program) -> list[int]:
    return sorted(demo.groups(agent.instance))


def test_a_link_swapped_after_the_check_is_not_followed_when_the_service_is_started_again(agent: Program) -> None:
    """No byte of the spec changes; the model's folder becomes a link to /etc, and the server crashes."""
    folder = model(agent)
    put(agent, "web", web())
    agent.start()
    assert shown(agent.serving("web")) == "hello"
    (pid,) = running(agent)
    shutil.rmtree(folder)
    folder.symlink_to("/etc")
    os.killpg(pid, signal.SIGKILL)
    told = refused(agent, "web")
    assert "policy.modelRoots" in told
    assert "in truth /etc" in told
    assert running(agent) == []
    assert agent.service("web")["converged"]["reason"] == "PolicyRefused"
    assert "policy.modelRoots" in agent.says("status", "web")
    folder.unlink()
    model(agent)
    agent.says("restart", "web")
    assert shown(agent.serving("web")) == "hello"


def test_a_change_that_is_refused_leaves_what_serves(agent: Program) -> None:
    """The link is swapped and the spec changed in one commit."""
    folder = model(agent)
    put(agent, "web", web())
    agent.start()
    agent.serving("web")
    before = running(agent)
    shutil.rmtree(folder)
    folder.symlink_to("/etc")
    put(agent, "web", web("-r", "new"))
    eventually(lambda: agent.status()["source"]["invalid"], "the change is refused as it is read")
    assert running(agent) == before
    assert agent.service("web")["serving"]["holds"]


def test_a_mark_is_held_to_the_policy_of_now_when_its_file_is_invalid(agent: Program) -> None:
    """The operator narrows the policy; what runs is left alone, and is not started again once it has ended."""
    model(agent)
    put(agent, "web", web())
    agent.start()
    agent.serving("web")
    before = running(agent)
    agent.stop()
    (agent.root / "config.yaml").write_text(json.dumps({**SETTINGS, "policy": {"programs": []}}))
    agent.start()
    eventually(lambda: agent.service("web").get("serving", {}).get("holds"), "it is found again")
    assert running(agent) == before
    os.killpg(before[0], signal.SIGKILL)
    eventually(lambda: agent.service("web")["converged"]["reason"] == "PolicyRefused", "it is refused")
    assert "policy.programs" in refused(agent, "web")
    assert running(agent) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start processes of other users")
def test_a_mark_forged_by_another_user_starts_nothing(agent: Program) -> None:
    """A half-written file makes every unknown name doubtful: it would be run as its mark says."""
    (agent.specs / "draft.yaml").write_text("apiVersion: xmod.dev/v1")
    put(agent, "real", {"container": {"command": [BUSYBOX, "sleep", "1000"], "health": {"none": True}}})
    agent.start()
    eventually(lambda: agent.service("real").get("phase") == "Ready", "the real one runs")
    (pid,) = running(agent)
    block = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    mine = dict(word.split("=", 1) for word in block if word.startswith("XMOD_"))
    service, placement = decode(mine["XMOD_MARK"])
    pwned = agent.root / "pwned"
    workload = replace(service.workload, command=(BUSYBOX, "touch", str(pwned)))
    forged = replace(
        service,
        name=ServiceName("evil"),
        file="draft.yaml",
        workload=workload,
        digest=digest_of(workload),
        replicas=2,
    )
    environ = mine | {"XMOD_MARK": encode(forged, placement), "XMOD_SERVICE": "evil", "XMOD_RUN": "forged"}
    script = f"export XMOD_PID=$$; exec {BUSYBOX} sleep 1000"
    with subprocess.Popen(["/bin/sh", "-c", script], env=environ, user=65534, group=65534, extra_groups=[]) as stranger:
        try:
            read = agent.status()["source"]["read_at"]
            put(agent, "later", {"container": {"command": [BUSYBOX, "sleep", "1001"], "health": {"none": True}}})
            eventually(lambda: agent.service("later").get("phase") == "Ready", "the world was listed since")
            eventually(lambda: agent.status()["source"]["read_at"] > read, "the folder was read since")
            assert agent.service("evil") == {}
            assert not pwned.exists()
            assert stranger.poll() is None
        finally:
            stranger.kill()
