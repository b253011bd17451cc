"""An engine that hangs, dies and comes back under a running agent: it delays only its own services, and nothing is lost."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.program import Program, eventually, program
from tests.flow.test_faults import put
from tests.flow.test_faults import spec as process_spec
from tests.shimlets.docker.test_watching import PrivateEngine, own, private
from tests.shimlets.docker.world import DockerPlace

pytestmark = pytest.mark.docker
_ = own, private  # fixtures


def docker_spec(name: str, words: str = "one") -> str:
    """A service without a port: this engine has no network of its own."""
    return (
        f"apiVersion: xmod.dev/v1\nkind: DeploySpec\nmetadata: {{name: {name}}}\nspec:\n  shimletName: docker\n"
        f"  container: {{image: 'mini:latest', command: [/bin/sleep, '600']}}\n  env: [{{key: WORDS, value: {words}}}]\n"
    )


@pytest.fixture
def agent(private: PrivateEngine, own: DockerPlace) -> Iterator[Program]:
    settings = {
        "policy": {"programs": ["/bin/busybox"]},
        "agent": {"rescanInterval": "2s", "resyncInterval": "2s"},
        "shimlets": {"docker": {"host": private.host}},
    }
    with program("process", settings) as made:
        own.owner = made.instance  # so that what is left on the private engine is cleaned up
        yield made
        private.send(signal.SIGCONT)


def out_of_sight(agent: Program) -> bool:
    return agent.service("web")["converged"]["reason"] == "WorldUnseen"


def containers(own: DockerPlace, agent: Program) -> dict[str, str]:
    found = own.api.containers(all=True, filters={"label": f"xmod.dev/instance={agent.instance}"})
    return {container["Id"]: container["State"] for container in found}


def settled(agent: Program, name: str, seconds: float = 60.0) -> None:
    eventually(lambda: agent.service(name).get("phase") == "Ready", f"{name} is ready", seconds)


def test_a_hung_and_a_dead_engine_delay_only_their_own(
    agent: Program, private: PrivateEngine, own: DockerPlace, tmp_path: Path
) -> None:
    """The process service changes meanwhile; the container is the same one after a hang, and is found after a death."""
    put(agent, "web.yaml", docker_spec("web"))
    put(agent, "plain.yaml", process_spec("plain"))
    agent.start()
    settled(agent, "web")
    agent.serving("plain")
    before = containers(own, agent)

    private.send(signal.SIGSTOP)
    eventually(lambda: out_of_sight(agent), "the hang is noticed", 40)
    put(agent, "plain.yaml", process_spec("plain", words="two"))
    put(agent, "web.yaml", docker_spec("web", "two"))
    first = agent.service("plain")["routed"]
    eventually(lambda: agent.service("plain")["routed"] != first, "the other one changes meanwhile")
    agent.serving("plain")
    put(agent, "web.yaml", docker_spec("web"))
    private.send(signal.SIGCONT)
    settled(agent, "web")
    assert containers(own, agent) == before, "nothing was done to it"

    private.kill()
    eventually(lambda: out_of_sight(agent), "the death is noticed", 40)
    agent.stop(signal.SIGKILL)
    agent.start()
    agent.serving("plain")
    assert agent.status()["services"], "an agent starts without the engine"
    private.start()
    settled(agent, "web", 90)
    assert containers(own, agent).keys() == before.keys()
    assert set(containers(own, agent).values()) == {"running"}
