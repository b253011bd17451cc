"""The llama-server command: llama.cpp's own HTTP server, with llama.cpp's own options."""

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tools import llama_server, tiny_model


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def asked(url: str, body: dict | None = None, key: str = "") -> dict:
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
    request = urllib.request.Request(url, None if body is None else json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read())


def healthy(url: str) -> bool:
    try:
        return asked(f"{url}/health") == {"status": "ok"}
    except OSError:
        return False


@contextmanager
def serving(*words: str) -> Iterator[tuple[str, subprocess.Popen]]:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, llama_server.__file__, *words, "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 30
        while not healthy(url):
            assert process.poll() is None, "the server ended"
            assert time.monotonic() < deadline, "the server never answered"
            time.sleep(0.02)
        yield url, process
    finally:
        process.kill()
        process.wait()


def test_it_chats_under_its_alias_and_ends_on_sigterm(tiny_gguf: Path):
    with serving("-m", str(tiny_gguf), "-a", "my-name", "-c", "512", "--metrics") as (url, process):
        assert [model["id"] for model in asked(f"{url}/v1/models")["data"]] == ["my-name"]
        chat = asked(f"{url}/v1/chat/completions", {"messages": [{"role": "user", "content": "Who are you?"}]})
        assert chat["choices"][0]["message"]["content"].strip() == tiny_model.SENTENCE
        assert chat["choices"][0]["finish_reason"] == "stop"
        with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
            assert b"llamacpp:" in answer.read()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0


def test_another_sentence_is_another_model(tmp_path: Path):
    tiny_model.write(tmp_path / "other.gguf", sentence="Something else entirely")
    with serving("-m", str(tmp_path / "other.gguf")) as (url, _):
        reply = asked(f"{url}/v1/completions", {"prompt": "x", "max_tokens": 8})
        assert reply["choices"][0]["text"].strip() == "Something else entirely"


def test_a_key_is_asked_for_where_one_is_given(tiny_gguf: Path):
    with serving("-m", str(tiny_gguf), "--api-key", "s3cret") as (url, _):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            asked(f"{url}/v1/completions", {"prompt": "x", "max_tokens": 1})
        assert asked(f"{url}/v1/completions", {"prompt": "x", "max_tokens": 1}, key="s3cret")["choices"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", "x.gguf", "--flash-attn"], "unrecognized arguments: --flash-attn"),
        (["--model", "x.gguf", "--met"], "unrecognized arguments: --met"),
        ([], "required: -m/--model"),
    ],
)
def test_options_that_it_does_not_know_are_refused(capsys: pytest.CaptureFixture[str], words: list[str], said: str):
    with pytest.raises(SystemExit, match="2"):
        llama_server.main(words)
    assert said in capsys.readouterr().err


def test_a_model_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]):
    assert llama_server.main(["--model", "nowhere.gguf"]) == 1
    assert "nowhere.gguf: no such model file" in capsys.readouterr().err


def test_a_file_that_is_no_model_ends_it(tmp_path: Path):
    (tmp_path / "bad.gguf").write_bytes(b"junk")
    ran = subprocess.run(
        [sys.executable, llama_server.__file__, "-m", str(tmp_path / "bad.gguf"), "--port", str(free_port())],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ran.returncode == 1
    assert "llama-server: " in ran.stderr
