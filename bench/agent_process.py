"""The agent as a user starts it: a process of its own, on a folder of its own, ended whatever happens."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parent.parent
PLUGINS = Path(__file__).parent / "plugins"
_READY_WITHIN = 60.0  # seconds


class Failure(Exception):
    """A part that could not be measured, and why."""


class AgentProcess:
    """Runs while the `with` block does. `specs`: the folder that it watches; `calls`: where the pretend shimlet stamps."""

    def __init__(self, work: Path, *, shimlet: str, instance: str) -> None:
        self.specs = work / "specs"
        self.calls = work / "calls"
        self.log = work / "agent.log"
        self._work = work
        self._shimlet = shimlet
        self._instance = instance
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.specs.mkdir(parents=True, exist_ok=True)
        self.calls.touch()
        config = self._work / "config.json"  # JSON is YAML
        config.write_text(json.dumps(self._settings()))
        command = [sys.executable, "-m", "agent", "run", str(self.specs), "--config", str(config)]
        flags = {
            "--shimlet": self._shimlet,
            "--instance": self._instance,
            "--state-dir": self._work / "state",
            "--port": self._port,
            "--plugin-dir": PLUGINS,
        }
        command += [str(word) for flag in flags.items() for word in flag]
        environ = {key: value for key, value in os.environ.items() if not key.startswith("XMOD_")}
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=environ, stdout=log, stderr=log, start_new_session=True
            )
        try:
            self.until(self._ready, _READY_WITHIN, "the agent to be ready")
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def until(self, claim: Callable[[], bool], seconds: float, what: str) -> None:
        """Poll for a claim. Raises Failure, with the agent's last words, if it does not come true in time."""
        deadline = time.monotonic() + seconds
        while not claim():
            ended = not self.runs
            if ended or time.monotonic() > deadline:
                how = "ended while the bench waited" if ended else f"did not come within {seconds:g} s: waited"
                words = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
                raise Failure(f"the agent {how} for {what}\n{words}")
            time.sleep(0.005)

    def status(self) -> Mapping[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/api/v1/status", timeout=10) as answer:
            status: Mapping[str, Any] = json.load(answer)
            return status

    def mean(self, histogram: str) -> float:
        """The mean of a histogram without labels, from /metrics; 0 if it saw nothing."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=10) as answer:
            lines = dict(line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if line[:1] != "#")
        count = float(lines[f"{histogram}_count"])
        return float(lines[f"{histogram}_sum"]) / count if count else 0.0

    def _settings(self) -> Mapping[str, Any]:
        return {
            "agent": {"socket": str(self._work / "agent.sock")},
            "logging": {"level": "warning", "format": "text"},
            "ports": {"range": "20000-29999"},
            "shimlets": {"pretend": {"calls": str(self.calls)}},
        }

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
