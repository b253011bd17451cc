"""`xmod-agent` as a person runs it: a process of its own, spoken to by its own command line."""

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker

from agent.surface.client import Client, NoAgent
from tools import demo

PROGRAM = Path(sys.executable).with_name("xmod-agent")


def eventually(holds: Callable[[], Any], what: str, seconds: float = 30.0) -> Any:
    """What it returns once that is true; fails when the time is up."""
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.02)
    return found


class Program:
    """One instance on one folder, as often as it is started. `root` holds specs/, bin/, models/, state and its output.

    `options`: those that `run` and `plan` have in common; `source`: where the specs come from, if not from `specs`.
    """

    def __init__(self, root: Path, *, shimlet: str, settings: dict[str, Any], words: tuple[str, ...] = ()) -> None:
        self.root = root
        self.instance = f"t-{secrets.token_hex(4)}"
        self.specs = root / "specs"
        self.specs.mkdir(exist_ok=True)
        self.output = root / "output.txt"
        self._environment = os.environ | {"XMOD_AGENT__INSTANCE": self.instance, "XMOD_AGENT__SOCKET": str(root / "s")}
        config = root / "config.yaml"
        config.write_text(json.dumps(settings))
        state = str(root / "state")
        self.options = ("--shimlet", shimlet, "--state-dir", state, "--config", str(config), *words)
        self.source: tuple[str, ...] = ()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the agent and wait until it does its work."""
        words = [PROGRAM, "run", *(self.source or (str(self.specs),)), "--port", "0", *self.options]
        with self.output.open("ab") as out:
            self.process = subprocess.Popen(
                words, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=self._environment
            )
        eventually(self._up, "the agent has read its folder")

    def _up(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"the agent ended: {self.output.read_text()}"
        try:
            return bool(self.status()["source"]["read_at"])
        except NoAgent:
            return False

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send the agent a signal and wait for its end; its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(timeout=30)
        self.process = None
        return code

    def says(self, *words: str, code: int = 0) -> str:
        """What the command line prints."""
        return self._ran(words, code).stdout

    def refuses(self, *words: str) -> str:
        """The sentence with which a word is refused."""
        return self._ran(words, 1).stderr

    def _ran(self, words: tuple[str, ...], code: int) -> "subprocess.CompletedProcess[str]":
        ran = subprocess.run([PROGRAM, *words], capture_output=True, text=True, env=self._environment, check=False)
        assert ran.returncode == code, f"{words} ended with {ran.returncode}: {ran.stdout}{ran.stderr}"
        return ran

    def status(self) -> dict[str, Any]:
        """Everything, as `status -o json` has it, without the time that a command takes."""
        return dict(Client(self.root / "s").status())

    def service(self, name: str) -> dict[str, Any]:
        """One service; empty if there is none."""
        return next((service for service in self.status()["services"] if service["name"] == name), {})

    def serving(self, name: str, seconds: float = 30.0) -> str:
        """Wait until a service is Ready; its first endpoint."""

        def ready() -> str:
            seen = self.service(name)
            return seen["endpoints"][0] if seen.get("phase") == "Ready" and seen["endpoints"] else ""

        try:
            endpoint: str = eventually(ready, f"{name} is ready", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.service(name)}\n{self.output.read_text()[-3000:]}") from error
        return endpoint

    def end(self) -> None:
        """The agent and all that it started are gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        for group in demo.groups(self.instance):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        if "docker" in self.options:
            _sweep(self.instance)


def _sweep(instance: str) -> None:
    mine = {"label": f"xmod.dev/instance={instance}"}
    with contextlib.closing(docker.APIClient(version="1.41", timeout=20)) as api:
        for container in api.containers(all=True, filters=mine):
            api.remove_container(container["Id"], force=True)
        for network in api.networks(filters=mine):
            api.remove_network(network["Id"])
        for volume in api.volumes(filters={"name": f"xmod-lock-{instance}-"})["Volumes"] or []:
            api.remove_volume(volume["Name"])


@contextlib.contextmanager
def program(shimlet: str, settings: dict[str, Any] | None = None, words: tuple[str, ...] = ()) -> Iterator[Program]:
    """A Program in a folder of its own; the folder's path is short, for a socket's sake."""
    root = Path(tempfile.mkdtemp(prefix="t-"))
    made = Program(root, shimlet=shimlet, settings=settings or {}, words=words)
    try:
        yield made
    finally:
        made.end()
        shutil.rmtree(root, ignore_errors=True)
