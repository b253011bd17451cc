"""One folder, one agent, the real engine: what a user does and what must not happen to running containers."""

import contextlib
import shutil
import signal
import socket
import urllib.request
from collections.abc import Iterator
from typing import Any

import docker
import pytest

from tests.fakes.program import Program, eventually, program
from tests.shimlets.docker.conftest import image

pytestmark = pytest.mark.docker
_ = image  # a fixture


def spec(
    name: str, image: str, *, words: str = "", health: str = "{path: /, startupDeadline: 20s}", more: str = ""
) -> str:
    """A DeploySpec of a web server whose page is its container's environment."""
    return f"""
apiVersion: xmod.dev/v1
kind: DeploySpec
metadata: {{name: {name}}}
spec:
  container:
    image: {image}
    command: ["/bin/sh", "-c", "mkdir /www; echo '{words}' > /www/index.html; exec busybox httpd -f -p {{port}} -h /www"]
    port: 8080
    health: {health}
{more}
"""


@pytest.fixture
def agent() -> Iterator[Program]:
    with program("docker", {"agent": {"resyncInterval": "2s"}}) as made:
        yield made


@pytest.fixture
def engine() -> Iterator[docker.APIClient]:
    with contextlib.closing(docker.APIClient(version="1.41", timeout=20)) as api:
        yield api


def containers(engine: docker.APIClient, agent: Program, name: str = "") -> dict[str, str]:
    """Container ids and their states, of everything that the agent's instance has."""
    labels = [f"xmod.dev/instance={agent.instance}", *([f"xmod.dev/service={name}"] if name else [])]
    return {c["Id"]: c["State"] for c in engine.containers(all=True, filters={"label": labels})}


def page(endpoint: str) -> str:
    with urllib.request.urlopen(endpoint, timeout=5) as answer:
        return str(answer.read().decode().strip())


def write(agent: Program, file: str, text: str) -> None:
    """As an editor does: into a neighbour, then rename."""
    new = agent.specs / f".{file}.new"
    new.write_text(text)
    new.replace(agent.specs / file)


def phase(agent: Program, name: str, wanted: str, seconds: float = 40) -> dict[str, Any]:
    """Wait until a service is in that phase."""
    seen: dict[str, Any] = {}

    def there() -> bool:
        nonlocal seen
        seen = agent.service(name)
        return seen.get("phase") == wanted

    try:
        eventually(there, f"{name} is {wanted}", seconds)
    except AssertionError as error:
        raise AssertionError(f"{error}: {seen}\n{agent.output.read_text()[-3000:]}") from error
    return seen


def test_a_service_comes_changes_moves_is_mended_and_goes(agent: Program, engine: docker.APIClient, image: str) -> None:
    """The main job: a file appears, changes, moves, disappears; a killed container is back; kill -9 restarts nothing."""
    write(agent, "other.yaml", spec("other", image, words="other"))
    write(agent, "web.yaml", spec("web", image, words="one"))
    agent.start()
    endpoint = agent.serving("web")
    agent.serving("other")
    assert page(endpoint) == "one"
    first = containers(engine, agent, "web")

    write(agent, "web.yaml", spec("web", image, words="two"))
    eventually(lambda: containers(engine, agent, "web").keys().isdisjoint(first), "the old container is gone")
    assert agent.serving("web") == endpoint, "an assigned port is kept"
    assert page(endpoint) == "two"
    second = containers(engine, agent)

    (agent.specs / "sub").mkdir()
    (agent.specs / "web.yaml").rename(agent.specs / "sub" / "moved.yaml")
    eventually(lambda: agent.service("web").get("file") == "sub/moved.yaml", "the move is seen")
    assert containers(engine, agent) == second

    agent.stop(signal.SIGKILL)
    shutil.rmtree(agent.root / "state")
    agent.start()
    assert agent.serving("web") == endpoint
    assert agent.serving("other")
    assert containers(engine, agent) == second, "kill -9 and a lost state folder restart nothing"

    (web,) = containers(engine, agent, "web")
    engine.kill(web)
    eventually(lambda: containers(engine, agent, "web") == {web: "running"}, "a killed container is back")
    engine.remove_container(web, force=True)
    eventually(lambda: "running" in containers(engine, agent, "web").values(), "a removed container is back")
    assert agent.serving("web") == endpoint

    (agent.specs / "sub" / "moved.yaml").unlink()
    eventually(lambda: not containers(engine, agent, "web"), "the service is gone")
    eventually(lambda: not agent.service("web"), "nothing is said of it any more")
    assert agent.stop() == 0
    assert list(containers(engine, agent).values()) == ["running"], "a stopped agent leaves services running"


def test_a_spec_that_never_answers_is_rolled_back_and_remembered(
    agent: Program, engine: docker.APIClient, image: str
) -> None:
    """The old one is back, the failed one stays as a record: also after kill -9 with the state folder lost."""
    write(agent, "web.yaml", spec("web", image, words="good"))
    agent.start()
    endpoint = agent.serving("web")
    bad = spec("web", image, words="bad", health="{path: /missing, startupDeadline: 2s, interval: 500ms}")
    write(agent, "web.yaml", bad)
    seen = phase(agent, "web", "Degraded")
    eventually(lambda: agent.service("web")["converged"]["reason"] == "RolledBack", "it is rolled back")
    assert page(endpoint) == "good"
    states = sorted(containers(engine, agent).values())
    assert states == ["exited", "running"], seen
    before = containers(engine, agent)

    agent.stop(signal.SIGKILL)
    shutil.rmtree(agent.root / "state")
    agent.start()
    seen = phase(agent, "web", "Degraded")
    assert page(endpoint) == "good"
    assert containers(engine, agent) == before, "the failed spec is not tried again"
    assert seen["blocked"] == "failed"

    write(agent, "web.yaml", spec("web", image, words="better"))
    agent.serving("web")
    assert page(endpoint) == "better"
    assert list(containers(engine, agent).values()) == ["running"], "a spec that works clears the record"


def test_a_program_that_exits_at_once_says_why(agent: Program, engine: docker.APIClient, image: str) -> None:
    """The first of its kind has nothing to go back to: Failed, stopped, with its last words."""
    text = spec("web", image).replace("exec busybox httpd", "echo out of luck; exit 3; exec busybox httpd")
    write(agent, "web.yaml", text)
    agent.start()
    seen = phase(agent, "web", "Failed")
    assert "3" in seen["converged"]["message"], seen
    assert "out of luck" in seen["converged"]["message"], seen
    eventually(lambda: list(containers(engine, agent).values()) == ["exited"], "it stays, stopped")


def test_an_image_that_does_not_exist_leaves_the_old_one_serving(agent: Program, image: str) -> None:
    """The registry is at fault, not the spec: it is pending, and the old one goes on."""
    write(agent, "web.yaml", spec("web", image, words="old"))
    agent.start()
    endpoint = agent.serving("web")
    write(agent, "web.yaml", spec("web", "127.0.0.1:1/no/such:image", words="new"))
    eventually(lambda: agent.service("web")["converged"]["reason"].startswith("Image"), "the pull failed")
    seen = agent.service("web")
    assert seen["serving"]["holds"], seen
    assert "no/such" in seen["converged"]["message"], seen
    assert page(endpoint) == "old"


def test_what_is_not_ours_is_never_touched(agent: Program, engine: docker.APIClient, image: str) -> None:
    """A foreign container in our place is a conflict that is reported; once it is gone, the service comes."""
    write(agent, "web.yaml", spec("web", image, words="ours"))
    agent.start()
    agent.serving("web")
    (ours,) = containers(engine, agent)
    name = engine.inspect_container(ours)["Name"].lstrip("/")
    assert agent.stop() == 0
    engine.remove_container(ours, force=True)
    foreign = engine.create_container(image, ["/bin/sleep", "600"], name=name)["Id"]
    try:
        agent.start()
        eventually(lambda: agent.service("web").get("converged", {}).get("reason") == "Conflict", "it is reported")
        assert name in agent.service("web")["converged"]["message"]
        assert engine.inspect_container(foreign)["State"]["Status"] == "created"
    finally:
        engine.remove_container(foreign, force=True)
    agent.says("restart", "web")
    agent.serving("web")


def test_a_host_port_in_use_by_a_stranger_holds_only_the_new_one_back(
    agent: Program, engine: docker.APIClient, image: str
) -> None:
    """The sentence names the port; what served goes on serving."""
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        port = stranger.getsockname()[1]
        (agent.root / "config.yaml").write_text(f'{{"policy": {{"portRange": "{port}-{port}"}}}}')
        write(agent, "web.yaml", spec("web", image, words="old"))
        agent.start()
        endpoint = agent.serving("web")
        write(agent, "web.yaml", spec("web", image, words="new", more=f"  hostPort: {port}"))
        eventually(lambda: agent.service("web")["converged"]["reason"] == "NoRoom", "it waits for its port")
        assert str(port) in agent.service("web")["converged"]["message"]
        assert page(endpoint) == "old"
    agent.serving("web")
    eventually(lambda: page(f"http://127.0.0.1:{port}/") == "new", "the port was given up")


def test_a_second_agent_of_the_instance_refuses_and_another_instance_sees_nothing(
    agent: Program, engine: docker.APIClient, image: str
) -> None:
    """The lock is on the engine, not in a folder; instances do not see each other."""
    write(agent, "web.yaml", spec("web", image))
    agent.start()
    agent.serving("web")
    before = containers(engine, agent)
    with program("docker") as twin:
        twin._environment["XMOD_AGENT__INSTANCE"] = agent.instance
        with pytest.raises(AssertionError, match="another"):
            twin.start()
        twin.instance = "t-nobody"  # what it would clean up is not its own
    with program("docker") as stranger:
        stranger.start()
        assert stranger.status()["services"] == []
        stranger.says("plan", str(stranger.specs), *stranger.options, code=0)
    assert containers(engine, agent) == before


def test_replicas_each_have_a_port_and_shrink_and_grow(agent: Program, engine: docker.APIClient, image: str) -> None:
    """Another count is no reason to replace: what runs stays."""
    write(agent, "web.yaml", spec("web", image, more="  replicaCount: 2"))
    agent.start()
    agent.serving("web")
    assert len(set(agent.service("web")["endpoints"])) == 2
    two = containers(engine, agent)
    write(agent, "web.yaml", spec("web", image, more="  replicaCount: 3"))
    eventually(lambda: len(agent.service("web")["endpoints"]) == 3, "a third one serves")
    assert containers(engine, agent).items() >= two.items()
    write(agent, "web.yaml", spec("web", image, more="  replicaCount: 1"))
    eventually(lambda: len(containers(engine, agent)) == 1, "one is left")
    assert containers(engine, agent).items() <= two.items()


def test_side_by_side_serves_throughout(agent: Program, engine: docker.APIClient, image: str) -> None:
    """With an assigned port, the old one stops after the new one serves."""
    more = "  rollout: {strategy: side-by-side}"
    write(agent, "web.yaml", spec("web", image, words="one", more=more))
    agent.start()
    first = agent.serving("web")
    (old,) = containers(engine, agent)
    write(agent, "web.yaml", spec("web", image, words="two", more=more))
    eventually(lambda: len(containers(engine, agent)) == 2, "both are there")
    assert containers(engine, agent)[old] == "running"
    eventually(lambda: old not in containers(engine, agent), "the old one is gone")
    second = agent.serving("web")
    assert second != first
    assert page(second) == "two"
