"""What an operator says to the real program, over processes and containers, with kills and lost folders in between."""

import json
import re
import shutil
import signal
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from tests.fakes.program import Program, eventually, program
from tests.flow.test_docker_flow import containers, engine, page, phase, write
from tests.flow.test_docker_flow import spec as container_spec
from tests.shimlets.docker.conftest import image
from tools import demo

SETTINGS = {"policy": {"programs": [sys.executable]}, "agent": {"resyncInterval": "2s"}}
_ = engine, image  # fixtures


def spec(name: str, colour: str = "red", *, needs: str = "") -> str:
    """A web server; with `needs` it exits unless that file exists."""
    serve = [sys.executable, "-m", "http.server", "{port}", "--bind", "{host}", "--directory", "/usr/share/doc"]
    if needs:
        code = (
            f"import os, sys; os.path.exists({needs!r}) or sys.exit('no {needs}'); os.execv(sys.argv[1], sys.argv[1:])"
        )
        serve = [sys.executable, "-c", code, *serve]
    container = {"command": serve, "port": 8000, "health": {"path": "/"}}
    body = {"container": container, "env": [{"key": "COLOUR", "value": colour}]}
    return json.dumps({"apiVersion": "xmod.dev/v1", "kind": "DeploySpec", "metadata": {"name": name}, "spec": body})


@pytest.fixture
def agent() -> Iterator[Program]:
    with program("process", SETTINGS) as made:
        yield made


@pytest.fixture
def in_docker() -> Iterator[Program]:
    with program("docker", {"agent": {"resyncInterval": "2s"}}) as made:
        yield made


def processes(agent: Program) -> set[int]:
    return set(demo.groups(agent.instance))


def answers(url: str) -> bool:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.status == 200


def again(agent: Program, *, lost: bool) -> None:
    """Killed and started again."""
    agent.stop(signal.SIGKILL)
    if lost:
        shutil.rmtree(agent.root / "state")
    agent.start()


def left_alone(agent: Program, name: str) -> dict[str, Any]:
    """Wait until it is suspended and known to serve."""

    def so() -> dict[str, Any]:
        seen = agent.service(name)
        return seen if seen.get("phase") == "Suspended" and seen["serving"]["holds"] else {}

    try:
        found: dict[str, Any] = eventually(so, f"{name} is suspended and serves")
    except AssertionError as error:
        raise AssertionError(f"{error}: {agent.service(name)}\n{agent.output.read_text()[-3000:]}") from error
    return found


def metric(agent: Program, name: str) -> dict[str, float]:
    """The samples of a metric, by their labels."""
    started = re.findall(r'"port": ?(\d+)|port=(\d+)', agent.output.read_text())
    port = next(filter(None, started[-1]))
    page = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
    return {found[1]: float(found[2]) for found in re.finditer(rf"^{name}\{{(.*)\}} (\S+)$", page, re.MULTILINE)}


def test_what_is_suspended_is_left_alone_through_edits_deaths_and_kills(agent: Program) -> None:
    write(agent, "web.yaml", spec("web"))
    write(agent, "other.yaml", spec("other"))
    agent.start()
    agent.serving("web")
    agent.serving("other")
    assert "no service is called wbe; there are: other, web" in agent.refuses("suspend", "wbe")
    assert agent.says("suspend", "web", "--reason", "the fan is broken").startswith("web is suspended")
    phase(agent, "web", "Suspended")
    before = processes(agent)
    write(agent, "web.yaml", spec("web", "blue"))
    write(agent, "other.yaml", spec("other", "blue"))
    eventually(lambda: len(processes(agent) - before) == 1, "the other is replaced")
    agent.serving("other")
    again(agent, lost=False)
    seen = left_alone(agent, "web")
    assert seen["blocked"] == "suspended"
    assert "(the fan is broken); xmod-agent resume web" in seen["converged"]["message"]
    assert len(processes(agent) & before) == 1
    assert metric(agent, "xmod_service_suspended")['service="web"'] == 1
    eventually(
        lambda: metric(agent, "xmod_convergence_lag_seconds")['blocked="suspended",service="web"'] > 0, "it lags"
    )
    (agent.specs / "web.yaml").unlink()
    eventually(lambda: agent.status()["held"], "its removal is held")
    assert agent.status()["held"][0]["reason"] == "Suspended"
    assert "nothing that is held can be approved" in agent.says("approve-prune", "--yes")
    write(agent, "web.yaml", spec("web", "blue"))
    assert agent.says("resume", "web") == "resumed: web\n"
    assert answers(agent.serving("web"))
    eventually(lambda: not processes(agent) & before, "it is what git says")


def test_all_are_suspended_and_one_is_excepted(agent: Program) -> None:
    write(agent, "web.yaml", spec("web"))
    agent.start()
    agent.serving("web")
    agent.says("suspend", "--all", "--reason", "move")
    write(agent, "late.yaml", spec("late"))
    phase(agent, "late", "Suspended")
    phase(agent, "web", "Suspended")
    again(agent, lost=False)
    assert agent.says("status").startswith("all services are suspended by an operator for ")
    assert len(processes(agent)) == 1
    assert agent.says("resume", "late") == "resumed: late\n"
    assert answers(agent.serving("late"))
    assert agent.says("resume", "--all") == "resumed: web\n"
    agent.serving("web")


def test_a_burnt_spec_is_tried_again_when_someone_says_so(agent: Program) -> None:
    needed = agent.root / "needed"
    write(agent, "web.yaml", spec("web"))
    agent.start()
    agent.serving("web")
    write(agent, "web.yaml", spec("web", "blue", needs=str(needed)))
    eventually(lambda: agent.service("web").get("converged", {}).get("reason") == "RolledBack", "it is rolled back")
    needed.touch()
    agent.says("retry", "web")
    agent.serving("web")
    assert agent.service("web")["wanted"] == agent.service("web")["routed"]
    assert "there is nothing to retry: web is as it is wanted" in agent.refuses("retry", "web")


def test_a_forgotten_process_runs_on_whatever_becomes_of_the_agent_and_its_folder(agent: Program) -> None:
    write(agent, "web.yaml", spec("web"))
    write(agent, "other.yaml", spec("other"))
    agent.start()
    endpoint = agent.serving("web")
    agent.serving("other")
    assert "web stands in web.yaml:1" in agent.refuses("forget", "web", "--yes")
    agent.says("suspend", "web", "--reason", "a reason")
    (agent.specs / "web.yaml").unlink()
    eventually(lambda: agent.status()["held"], "its removal is held")
    said = agent.says("forget", "web", "--yes")
    pid = int(re.search(r"pid (\d+)", said)[1])
    assert endpoint.removeprefix("http://") in said
    events = json.loads(agent.says("events", "web", "-o", "json"))
    words = {event["what"]: event["message"] for event in events if event["kind"] == "word"}
    assert words["suspend"] == "a reason"
    assert f"pid {pid}" in words["forget"]
    assert agent.status()["held"] == []
    assert agent.service("web") == {}
    for lost in (False, True):
        again(agent, lost=lost)
        agent.serving("other")
        assert (agent.service("web"), agent.status()["held"]) == ({}, [])
        assert answers(endpoint)
    write(agent, "web.yaml", spec("web"))
    later = agent.serving("web")
    assert later != endpoint
    assert answers(endpoint)
    (agent.specs / "web.yaml").unlink()
    eventually(lambda: agent.service("web") == {}, "the later one is gone")
    assert answers(endpoint)
    assert Path(f"/proc/{pid}").exists()


@pytest.mark.docker
def test_a_forgotten_container_runs_on_whatever_becomes_of_the_agent_and_its_folder(
    in_docker: Program, engine: docker.APIClient, image: str
) -> None:
    agent = in_docker
    write(agent, "web.yaml", container_spec("web", image, words="old"))
    write(agent, "other.yaml", container_spec("other", image, words="other"))
    agent.start()
    endpoint = agent.serving("web")
    agent.serving("other")
    (old,) = containers(engine, agent, "web")
    agent.says("suspend", "web")
    said = agent.says("forget", "web", "--yes")
    assert old[:12] in said
    assert "running at " + endpoint.removeprefix("http://") in said
    phase(agent, "web", "Suspended")
    (agent.specs / "web.yaml").unlink()
    eventually(lambda: agent.service("web") == {}, "nothing of it is left")
    for lost in (False, True):
        again(agent, lost=lost)
        agent.serving("other")
        assert (agent.service("web"), agent.status()["held"]) == ({}, [])
        assert containers(engine, agent, "web") == {old: "running"}
    write(agent, "web.yaml", container_spec("web", image, words="old"))
    later = agent.serving("web")
    assert later != endpoint
    (agent.specs / "web.yaml").unlink()
    eventually(lambda: containers(engine, agent, "web") == {old: "running"}, "the later one is gone")
    assert page(endpoint) == "old"


@pytest.mark.docker
def test_suspended_in_the_midst_of_a_replacement_a_container_serves(
    in_docker: Program, engine: docker.APIClient, image: str
) -> None:
    """The new one is slow to answer: the agent is killed with the old one stopped, and finds it suspended."""
    agent = in_docker
    write(agent, "web.yaml", container_spec("web", image, words="one"))
    agent.start()
    agent.serving("web")
    slow = container_spec("web", image, words="two").replace("exec busybox", "sleep 3; exec busybox")
    write(agent, "web.yaml", slow)
    eventually(lambda: len(containers(engine, agent, "web")) == 2, "the new one is made")
    agent.says("suspend", "web")
    again(agent, lost=False)
    seen = left_alone(agent, "web")
    assert page(seen["endpoints"][0]) == "two"
    (web,) = containers(engine, agent, "web")
    engine.stop(web, timeout=0)
    write(agent, "other.yaml", container_spec("other", image, words="other"))
    agent.serving("other")
    assert containers(engine, agent, "web") == {web: "exited"}, "what is stopped by hand now stays so"
