"""The image of the llama-server command: made from scratch, answers like the original."""

import contextlib
import json
import secrets
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.program import Program, eventually, program
from tools import demo, llama_image, tiny_model


def docker(*words: str) -> str:
    return subprocess.run(["docker", *words], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    name = f"t-llama-{secrets.token_hex(4)}:1"
    llama_image.build(name)
    yield name
    docker("image", "rm", "-f", name)


def spec(image: str, served: str) -> str:
    document = {
        "apiVersion": "xmod.dev/v1",
        "kind": "DeploySpec",
        "metadata": {"name": "model"},
        "spec": {"engine": "llama.cpp", "modelName": served, "modelFile": "tiny.gguf", "container": {"image": image}},
    }
    return json.dumps(document)


@pytest.mark.docker
def test_a_container_of_it_chats_and_stops_at_once(image: str, tiny_gguf: Path):
    name = f"t-{secrets.token_hex(4)}"
    mount = f"{tiny_gguf.parent}:/models:ro"
    docker(
        "run",
        "-d",
        "--name",
        name,
        "-p",
        "127.0.0.1::8080",
        "-v",
        mount,
        image,
        "-m",
        "/models/tiny.gguf",
        "--host",
        "0.0.0.0",
    )
    try:
        url = f"http://{docker('port', name, '8080/tcp')}/v1/completions"
        body = json.dumps({"prompt": "x", "max_tokens": 20}).encode()
        deadline = time.monotonic() + 30
        reply = b""
        while not reply:
            assert time.monotonic() < deadline, docker("logs", name)
            with contextlib.suppress(OSError), urllib.request.urlopen(url, body, timeout=5) as answer:
                reply = answer.read()
        assert json.loads(reply)["choices"][0]["text"].strip() == tiny_model.SENTENCE
        docker("stop", "-t", "10", name)
        assert docker("inspect", "-f", "{{.State.ExitCode}}", name) == "0"
    finally:
        docker("rm", "-f", name)


@pytest.mark.docker
def test_a_spec_with_an_engine_runs_it_and_a_change_replaces_it(image: str):
    with program("docker") as agent:
        tiny_model.write(agent.root / "models" / "tiny.gguf")
        (agent.specs / "model.json").write_text(spec(image, "first"))
        agent.start()
        endpoint = agent.serving("model", 60)
        assert demo.chat(endpoint, "Hello?") == tiny_model.SENTENCE
        assert served_names(endpoint) == ["first"]
        (agent.specs / "model.json").write_text(spec(image, "second"))
        eventually(lambda: served_names(endpoint_of(agent)) == ["second"], "the new name is served", 60)
        (agent.specs / "model.json").unlink()
        eventually(lambda: not agent.service("model"), "it is gone")
        assert not docker("ps", "-aq", "--filter", f"label=xmod.dev/instance={agent.instance}")


def endpoint_of(agent: Program) -> str:
    return next(iter(agent.service("model")["endpoints"]), "")


def served_names(endpoint: str) -> list[str]:
    with contextlib.suppress(OSError, ValueError), urllib.request.urlopen(f"{endpoint}/v1/models", timeout=5) as answer:
        return [model["id"] for model in json.loads(answer.read())["data"]]
    return []
