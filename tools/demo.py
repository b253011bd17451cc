"""`make run` and `make stop`: the agent on a copy of specs-example/, with a real llama.cpp server and a tiny model.

Everything lies in .run/: specs (edit them), bin (the one program that they may start), models, state and config.yaml.
The agent runs in the foreground and is ended by Ctrl-C; what it started runs on, as it should, until `make stop`. The
instance is named after this folder, and taken ports are stepped around, so that two clones do not meet.
"""

import argparse
import contextlib
import hashlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools import tiny_model

ROOT = Path(__file__).resolve().parent.parent
SERVICE = "tiny-llama"


@dataclass(frozen=True, slots=True)
class Place:
    """Where one demo lives."""

    root: Path

    @property
    def instance(self) -> str:
        """The same for the same folder, so that a second run finds what the first one started."""
        return "demo-" + hashlib.sha256(str(self.root).encode()).hexdigest()[:6]

    @property
    def specs(self) -> Path:
        """What the agent watches."""
        return self.root / "specs"

    @property
    def program(self) -> Path:
        """The llama.cpp server; bin/ beside the specs is where an ordinary user's agent looks for programs."""
        return self.root / "bin" / "llama-server"

    @property
    def model(self) -> Path:
        """The model that the example names."""
        return self.root / "models" / "tiny.gguf"

    @property
    def config(self) -> Path:
        """The operator's file."""
        return self.root / "config.yaml"

    @property
    def pid(self) -> Path:
        """The agent's process id while it runs."""
        return self.root / "agent.pid"

    @property
    def state(self) -> Path:
        """The agent's memory."""
        return self.root / "state"


def write_program(path: Path) -> None:
    """Write a `llama-server` that any PATH can hold: one file, of this Python and this checkout."""
    path.parent.mkdir(parents=True, exist_ok=True)
    words = shlex.join([sys.executable, str(ROOT / "tools" / "llama_server.py")])
    path.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    path.chmod(0o755)


def prepare(place: Place) -> None:
    """Lay everything out; specs that are there already are somebody's work and stay."""
    if not place.specs.exists():
        place.specs.mkdir(parents=True)
        for example in sorted((ROOT / "specs-example").glob("*.yaml")):
            shutil.copy(example, place.specs)
    write_program(place.program)
    if not place.model.exists():
        tiny_model.write(place.model)
    place.config.write_text(json.dumps(settings(place), indent=2) + "\n")  # JSON is YAML


def settings(place: Place) -> dict[str, Any]:
    """What the operator of this demo allows."""
    return {
        "policy": {"programs": [str(place.program)]},  # models/ beside the specs is allowed anyway
        "agent": {"stateDir": str(place.state)},
    }


def free_port(wanted: int) -> int:
    """The wanted port of this machine, or any other if somebody has it."""
    for port in (wanted, 0):
        with contextlib.suppress(OSError), socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", port))
            return int(listener.getsockname()[1])
    raise OSError("no free port on 127.0.0.1")


def command(place: Place, port: int) -> list[str]:
    """What a person would type."""
    agent = Path(sys.executable).with_name("xmod-agent")
    words = [str(agent), "run", str(place.specs), "--shimlet", "process", "--config", str(place.config)]
    return [*words, "--instance", place.instance, "--port", str(port)]


def run(place: Place) -> int:
    """Run the agent in the foreground until a signal ends it; its exit code."""
    prepare(place)
    port = free_port(8080)
    words = command(place, port)
    print("starting:", shlex.join(shown(words)), flush=True)
    ended = threading.Event()
    # In a group of its own, so that a terminal's Ctrl-C reaches it once, through us.
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, process_group=0) as agent:
        place.pid.write_text(f"{agent.pid}\n")

        def end(*_: object) -> None:
            if not ended.is_set():
                ended.set()
                agent.terminate()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, end)
        announcer = threading.Thread(target=announce, args=(place, port, ended), daemon=True)
        announcer.start()
        code = agent.wait()
        ended.set()
    place.pid.unlink(missing_ok=True)
    print(farewell(place), flush=True)
    return code if code >= 0 else 128 - code


def shown(words: list[str]) -> list[str]:
    """The same words, with paths as they are seen from here."""
    here = Path.cwd()
    return [
        str(path.relative_to(here)) if (path := Path(word)).is_absolute() and path.is_relative_to(here) else word
        for word in words
    ]


def announce(place: Place, port: int, ended: threading.Event) -> None:
    """Wait until the example serves, ask it something, and say how to go on; or say why it does not serve."""
    told = ""
    while not ended.wait(0.3):
        service = status(port).get(SERVICE, {})
        if service.get("endpoints") and service["serving"]["holds"]:
            print(welcome(place, port, service["endpoints"][0]), flush=True)
            return
        trouble = service["converged"]["message"] if service.get("phase") in ("Failed", "Degraded") else ""
        if trouble and not told:
            told = trouble
            print(f"\n{SERVICE} does not serve: {trouble}\n", flush=True)


def status(port: int) -> dict[str, Any]:
    """What the agent says of its services, by name; nothing while it does not answer."""
    url = f"http://127.0.0.1:{port}/api/v1/status"
    with contextlib.suppress(OSError, ValueError), urllib.request.urlopen(url, timeout=5) as answer:
        return {service["name"]: service for service in json.loads(answer.read())["services"]}
    return {}


def chat(endpoint: str, words: str) -> str:
    """What the model replies."""
    body = json.dumps({"messages": [{"role": "user", "content": words}], "max_tokens": 32}).encode()
    request = urllib.request.Request(  # noqa: S310 – an address of this machine
        f"{endpoint}/v1/chat/completions", body, {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 – the same
        return str(json.loads(answer.read())["choices"][0]["message"]["content"]).strip()


def welcome(place: Place, port: int, endpoint: str) -> str:
    """What there is to try."""
    try:
        reply = chat(endpoint, "Who are you?")
    except (OSError, ValueError, LookupError) as error:
        reply = f"(no reply: {error})"
    agent, specs, model = shown([str(Path(sys.executable).with_name("xmod-agent")), str(place.specs), str(place.model)])
    return f"""
────────────────────────────────────────────────────────────────────────────────────────────────
{SERVICE} serves at {endpoint} – asked "Who are you?", it said: {reply}

Try it, in another terminal:
  curl {endpoint}/v1/chat/completions -H 'content-type: application/json' \\
       -d '{{"messages": [{{"role": "user", "content": "Who are you?"}}]}}'
  {agent} status --instance {place.instance}
  curl http://127.0.0.1:{port}/metrics
  edit {specs}/{SERVICE}.yaml      the service is replaced
  rm {specs}/{SERVICE}.yaml        it is gone
The model is generated ({model}, half a megabyte); the server is llama.cpp's own.
Ctrl-C ends the agent. What it started runs on, as it should; make stop ends that too.
────────────────────────────────────────────────────────────────────────────────────────────────
"""


def farewell(place: Place) -> str:
    """What is left when the agent ended."""
    left = len(groups(place.instance))
    if left == 0:
        return "The agent ended; none of its services runs."
    services = "1 service runs" if left == 1 else f"{left} services run"
    return f"The agent ended; {services} on. make run finds what runs again, make stop ends it."


def groups(instance: str) -> dict[int, str]:
    """The process groups of an instance's replicas, by the mark in their environment, and their commands."""
    found: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended, or is someone else's
            if f"XMOD_INSTANCE={instance}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                found[os.getpgid(int(folder.name))] = words
    return found


def stop(place: Place) -> int:
    """End the agent and the services of this demo, and forget its state."""
    with contextlib.suppress(OSError, ValueError):
        pid = int(place.pid.read_text())
        if place.instance.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
            os.kill(pid, signal.SIGTERM)
            until(lambda: not Path(f"/proc/{pid}").exists(), 30)
    for number in (signal.SIGTERM, signal.SIGKILL):
        for group, words in groups(place.instance).items():
            print(f"ending {words}")
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, number)
        if until(lambda: not groups(place.instance), 10):
            break
    shutil.rmtree(place.root, ignore_errors=True)
    return 0 if not groups(place.instance) else 1


def until(holds: Callable[[], bool], seconds: float) -> bool:
    """Wait until it holds; whether it did in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description="The agent with a tiny model, for trying out.")
    parser.add_argument("what", choices=("run", "stop"))
    parser.add_argument("--root", type=Path, default=ROOT / ".run", help="where everything of it lies")
    asked = parser.parse_args()
    place = Place(asked.root.absolute())
    return run(place) if asked.what == "run" else stop(place)


if __name__ == "__main__":
    sys.exit(main())
