"""An agent of a newer version, with other engine rows and settings, starts over what an older one left: nothing restarts.

The older one is the first that was released, run from this repository's own history.
"""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.fakes.program import Program, eventually, program
from tests.shimlets.docker.conftest import image
from tools import demo

_ = image  # a fixture
ROOT = Path(__file__).resolve().parents[2]
OLDEST = "2ab140c65ce77abcf99e4eb434d4155781357d50"
HTTPD = "/bin/busybox"


def by_program(name: str) -> str:
    return (
        f"apiVersion: xmod.dev/v1\nkind: DeploySpec\nmetadata: {{name: {name}}}\nspec:\n  shimletName: process\n"
        f"  container: {{command: [{HTTPD}, httpd, -f, -p, '{{host}}:{{port}}', -h, /bin], port: 80}}\n"
    )


def by_image(name: str, image: str) -> str:
    return (
        f"apiVersion: xmod.dev/v1\nkind: DeploySpec\nmetadata: {{name: {name}}}\nspec:\n  shimletName: docker\n"
        f"  container: {{image: {image}, command: [busybox, httpd, -f, -p, '{{port}}', -h, /bin], port: 80}}\n"
    )


def by_engine(name: str) -> str:
    return (
        f"apiVersion: xmod.dev/v1\nkind: DeploySpec\nmetadata: {{name: {name}}}\nspec:\n  shimletName: process\n"
        f"  engine: llama.cpp\n  modelFile: tiny.gguf\n"
    )


@pytest.fixture
def oldest(tmp_path: Path) -> Iterator[Path]:
    """A checkout of the oldest version."""
    known = subprocess.run(["git", "cat-file", "-e", OLDEST], cwd=ROOT, capture_output=True, check=False)
    if known.returncode:
        pytest.skip("this checkout has no history that reaches back to the first version")
    there = tmp_path / "oldest"
    archive = subprocess.run(["git", "archive", OLDEST], cwd=ROOT, capture_output=True, check=True).stdout
    there.mkdir()
    subprocess.run(["tar", "x"], cwd=there, input=archive, check=True)
    return there


@pytest.fixture
def agent() -> Iterator[Program]:
    with program("docker") as made:  # the default; the specs name their own
        configure(made)
        yield made


def configure(made: Program, **more: object) -> None:
    """Write its settings."""
    programs = [HTTPD, str(made.root / "bin" / "llama-server")]
    (made.root / "config.yaml").write_text(json.dumps({"policy": {"programs": programs}, **more}))


def run_oldest(agent: Program, oldest: Path) -> None:
    """Its own code, in our environment of libraries."""
    words = [sys.executable, "-m", "agent", "run", str(agent.specs), "--port", "0", *agent.options]
    environment = agent._environment | {"PYTHONPATH": str(oldest)}
    with agent.output.open("ab") as out:
        agent.process = subprocess.Popen(
            words, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=environment, cwd=oldest
        )
    eventually(agent._up, "the oldest agent runs")


@pytest.mark.docker
def test_a_newer_agent_with_other_settings_restarts_nothing(
    agent: Program, oldest: Path, image: str, tiny_gguf: Path, llama_bin: Path
) -> None:
    (agent.root / "models").mkdir()
    shutil.copy(tiny_gguf, agent.root / "models" / "tiny.gguf")
    (agent.root / "bin").symlink_to(llama_bin)
    (agent.specs / "model.yaml").write_text(by_engine("model"))
    (agent.specs / "one.yaml").write_text(by_program("one"))
    (agent.specs / "two.yaml").write_text(by_image("two", image))
    run_oldest(agent, oldest)
    for name in ("one", "two", "model"):
        agent.serving(name)
    api = docker.APIClient(version="1.41", timeout=20)
    mine = {"label": f"xmod.dev/instance={agent.instance}"}

    def running() -> tuple[set[int], dict[str, str]]:
        containers = api.containers(filters={**mine, "label": [mine["label"], "xmod.dev/service"]})
        return set(demo.groups(agent.instance)), {c["Id"]: c["Status"] for c in containers}

    before = running()
    assert [len(found) for found in before] == [2, 1]
    configure(
        agent,
        ports={"range": "20100-20199"},
        agent={"resyncInterval": "1s"},
        engines={"llama.cpp": {"loading": [503, 429], "health": {"path": "/health", "interval": "1s"}}},
    )
    agent.stop(signal.SIGKILL)
    agent.start()
    for name in ("one", "two"):
        agent.serving(name)
    eventually(lambda: agent.service("model").get("phase") == "Ready", "the model serves on")
    assert any("resolves to" in notice for notice in agent.service("model")["notices"])
    listed = agent.status()["worlds"][0]["seen_at"]
    eventually(lambda: agent.status()["worlds"][0]["seen_at"] > listed, "the worlds were listed again")
    pids, containers = running()
    assert (pids, containers.keys()) == (before[0], before[1].keys())
    assert not agent.status()["held"]
    (agent.specs / "one.yaml").unlink()
    eventually(lambda: not agent.service("one"), "what an older agent began, a newer one ends")
    agent.says("rollout", "model")
    eventually(lambda: not pids & set(demo.groups(agent.instance)), "the model is replaced once that is asked for")
    agent.serving("model")
    api.close()
