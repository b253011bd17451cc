"""`make run`, end to end: a real agent, a real llama.cpp server, a real reply."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.program import PROGRAM, eventually
from tools import demo, tiny_model

ROOT = Path(__file__).resolve().parent.parent


class Demo:
    """One demo in a folder of its own."""

    def __init__(self, root: Path) -> None:
        self.place = demo.Place(root)
        self.process: subprocess.Popen[str] | None = None
        self.output = root.parent / "output.txt"

    def run(self) -> str:
        """Run it until it says that it serves; what it said."""
        with self.output.open("w") as out:
            words = [sys.executable, "-m", "tools.demo", "run", "--root", str(self.place.root)]
            self.process = subprocess.Popen(words, cwd=ROOT, stdout=out, stderr=out, text=True)
        eventually(lambda: "Ctrl-C" in self.output.read_text() or self.process.poll() is not None, "it serves", 60)
        assert self.process.poll() is None, self.output.read_text()
        return self.output.read_text()

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send it a signal; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=30)

    def service(self) -> dict[str, Any]:
        words = [PROGRAM, "status", "-o", "json", "--instance", self.place.instance]
        told = subprocess.run(words, capture_output=True, text=True, check=True)
        services = {service["name"]: service for service in json.loads(told.stdout)["services"]}
        return services.get(demo.SERVICE, {})

    def endpoint(self) -> str:
        eventually(lambda: self.service().get("phase") == "Ready", "the service is ready")
        return self.service()["endpoints"][0]

    def pids(self) -> list[int]:
        return sorted(demo.groups(self.place.instance))


@pytest.fixture
def running() -> Iterator[Demo]:
    folder = Path(tempfile.mkdtemp(prefix="t-demo-"))
    made = Demo(folder / "run")
    try:
        made.run()
        yield made
    finally:
        if made.process is not None and made.process.poll() is None:
            made.process.kill()
            made.process.wait()
        demo.stop(made.place)
        shutil.rmtree(folder, ignore_errors=True)


def test_a_real_server_replies_at_the_endpoint_that_status_reports(running: Demo):
    assert demo.chat(running.endpoint(), "Hello?") == tiny_model.SENTENCE
    said = running.output.read_text()
    assert running.endpoint() in said
    assert tiny_model.SENTENCE in said
    assert f"status --instance {running.place.instance}" in said


def test_a_stopped_agent_leaves_the_service_alone_and_the_next_one_adopts_it(running: Demo):
    endpoint, pids = running.endpoint(), running.pids()
    assert running.end() == 0
    assert "1 service runs on" in running.output.read_text()
    assert demo.chat(endpoint, "Still there?") == tiny_model.SENTENCE
    running.run()
    assert running.endpoint() == endpoint
    assert running.pids() == pids


def test_a_killed_agent_and_a_lost_state_folder_restart_nothing(running: Demo):
    endpoint, pids = running.endpoint(), running.pids()
    os.kill(int(running.place.pid.read_text()), signal.SIGKILL)
    assert running.process.wait(timeout=30) != 0
    shutil.rmtree(running.place.state)
    running.run()
    assert running.endpoint() == endpoint
    assert running.pids() == pids


def test_the_file_gone_is_the_service_gone(running: Demo):
    (running.place.specs / "tiny-llama.yaml").unlink()
    eventually(lambda: not running.pids(), "the server has ended")
    eventually(lambda: not running.service(), "the service is forgotten")


def test_a_moved_file_is_nothing_and_an_edited_one_a_new_server(running: Demo):
    pids = running.pids()
    file = running.place.specs / "tiny-llama.yaml"
    file.rename(file.with_name("another-name.yaml"))
    eventually(lambda: running.service().get("file") == "another-name.yaml", "the move is seen")
    assert running.pids() == pids
    edited = file.with_name(".edited")
    edited.write_text(
        file.with_name("another-name.yaml").read_text().replace("contextLength: 256", "contextLength: 512")
    )
    edited.rename(file.with_name("another-name.yaml"))
    eventually(lambda: running.pids() not in ([], pids), "there is another server")
    assert demo.chat(running.endpoint(), "Hello?") == tiny_model.SENTENCE


def test_a_server_killed_behind_the_agents_back_is_back(running: Demo):
    [pid] = running.pids()
    os.killpg(pid, signal.SIGKILL)
    eventually(lambda: running.pids() not in ([], [pid]), "another server runs")
    assert demo.chat(running.endpoint(), "Hello?") == tiny_model.SENTENCE


def test_stop_ends_the_agent_and_its_services_and_forgets_everything(running: Demo):
    words = [sys.executable, "-m", "tools.demo", "stop", "--root", str(running.place.root)]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True, timeout=60)
    assert running.process.wait(timeout=30) == 0
    assert not running.pids()
    assert not running.place.root.exists()


def test_a_second_run_keeps_what_somebody_edited(tmp_path: Path):
    place = demo.Place(tmp_path / "run")
    demo.prepare(place)
    assert (place.specs / "tiny-llama.yaml").exists()
    (place.specs / "tiny-llama.yaml").unlink()
    demo.prepare(place)
    assert not list(place.specs.iterdir())


def test_a_taken_port_is_stepped_around():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert demo.free_port(port) not in (0, port)
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert demo.free_port(port) == port


def test_two_clones_are_two_instances(tmp_path: Path):
    assert demo.Place(tmp_path / "a").instance != demo.Place(tmp_path / "b").instance
    assert demo.Place(tmp_path / "a").instance == demo.Place(tmp_path / "a").instance
