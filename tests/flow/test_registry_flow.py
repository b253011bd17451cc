"""Private images: a real engine pulls from a real registry, with a password that git holds encrypted or a file holds."""

import json
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.fakes.program import Program, eventually, program
from tests.fakes.registry import Registry
from tests.fakes.sops import SEARCH, Key, encrypted, key
from tests.flow.test_docker_flow import containers, engine, spec, write
from tests.shimlets.docker.conftest import image
from tests.shimlets.docker.world import import_image

pytestmark = pytest.mark.docker
_ = (image, engine)  # fixtures

PASSWORD, TOKEN = "pass-71c2d9", "token-0be4a8"


@pytest.fixture
def mine() -> Key:
    return key()


@pytest.fixture
def agent(tmp_path: Path, mine: Key, monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:
    monkeypatch.setenv("PATH", SEARCH)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "none"))
    settings = {
        "agent": {"resyncInterval": "2s"},
        "secrets": {"ageKeyFile": str(mine.into(tmp_path / "keys.txt"))},
        "policy": {"secretFiles": [str(tmp_path)]},
    }
    with program("docker", settings) as made:
        yield made


@pytest.fixture
def private(agent: Program, engine: docker.APIClient) -> Iterator[str]:
    """The reference of an image that the user robot may pull."""
    tag = f"xmod-test-{agent.instance}:v1"
    import_image(engine, tag)
    saved = b"".join(engine.get_image(tag))
    engine.remove_image(tag, force=True)
    with Registry(login=f"robot:{PASSWORD}") as registry:
        registry.bearer = registry.echoes = True
        ref = registry.add("private", "v1", saved)
        yield ref
        agent.end()
        if engine.images(name=ref):
            engine.remove_image(ref, force=True)


def pulled(name: str, image: str, login: str, more: str = "") -> str:
    return spec(name, image, more=more).replace("    port: 8080\n", f"    port: 8080\n    imageCredentials: {login}\n")


def test_a_password_in_git_pulls_and_stands_in_no_label_state_status_or_log(
    agent: Program, engine: docker.APIClient, private: str, mine: Key
) -> None:
    text = pulled("web", private, f"{{username: robot, password: {PASSWORD}}}", f"  env: [{{key: T, value: {TOKEN}}}]")
    write(agent, "web.yaml", encrypted(text, mine))
    agent.start()
    agent.serving("web")
    (container,) = containers(engine, agent, "web")
    seen = engine.inspect_container(container)
    assert f"T={TOKEN}" in seen["Config"]["Env"]
    labels = json.dumps(seen["Config"]["Labels"])
    assert "image.password" in labels, "the reference is there"
    kept = [path.read_text(errors="replace") for path in (agent.root / "state").rglob("*") if path.is_file()]
    everything = "\n".join([labels, *kept, json.dumps(agent.status()), agent.output.read_text()])
    assert PASSWORD not in everything
    assert TOKEN not in everything


def test_a_login_that_is_refused_or_cannot_be_read_leaves_running_what_runs(
    agent: Program, engine: docker.APIClient, private: str, image: str, tmp_path: Path
) -> None:
    write(agent, "web.yaml", spec("web", image))
    agent.start()
    agent.serving("web")
    before = containers(engine, agent)
    file = tmp_path / "password"
    write(agent, "web.yaml", pulled("web", private, f"{{username: robot, passwordFrom: {{file: {file}}}}}"))

    def why() -> tuple[str, str]:
        seen = agent.service("web")["converged"]
        return seen["reason"], seen["message"]

    eventually(lambda: why()[0] == "SecretUnreadable", "it is said that the file is missing")
    assert f"password for image {private}: cannot read secret file {file}" in why()[1]
    assert containers(engine, agent) == before
    file.write_text("falsch-99")
    agent.says("retry", "web")
    eventually(lambda: why()[0] == "ImageRefused", "it is said that the registry refuses", 60)
    assert "falsch-99" not in why()[1] + agent.output.read_text()
    assert containers(engine, agent) == before
    assert agent.service("web")["serving"]["holds"]
    file.write_text(PASSWORD)
    agent.says("retry", "web")
    agent.serving("web", 60)
    (after,) = containers(engine, agent)
    assert after not in before
