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

from tools import llama_image, tiny_model


def docker(*words: str) -> str:
    return subprocess.run(["docker", *words], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def image() -> Iterator[str]:
    name = f"t-llama-{secrets.token_hex(4)}:1"
    llama_image.build(name)
    yield name
    docker("image", "rm", "-f", name)


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
