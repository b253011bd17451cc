"""What systemd hears of the agent, over its real kind of socket, and when it hears nothing."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.contracts import ServiceName
from agent.control.board import Phase, Status, Truth
from agent.daemon.supervisor import Reports, Supervisor, status_line, supervisor_of
from agent.surface.operations import AgentView, SourceView

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SOURCE = SourceView("git:x", "x", "a1b2c3d4" * 5, NOON, 2, ())
WEB = Status(ServiceName("web"), Phase.READY, Truth(True, "Serving"), Truth(True, "Converged"), NOON)
OLD = Status(ServiceName("old"), Phase.DEGRADED, Truth(True, "Serving"), Truth(False, "RolledBack"), NOON)
VIEW = AgentView(
    version="1",
    instance="t-a",
    started_at=NOON,
    heartbeat=NOON,
    source=SOURCE,
    worlds=(),
    services=(WEB, OLD),
    held=(),
    notices=(),
    memory_is_new=False,
)


class Systemd:
    """Its end of the socket."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.setblocking(False)

    def heard(self) -> list[str]:
        """Every message since last time."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(self.socket.recv(4096).decode())
        return found


@pytest.fixture(params=["file", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Systemd]]:
    folder = tmp_path_factory.mktemp("n")
    address = str(folder / "notify") if request.param == "file" else f"@{folder}"
    listening = Systemd(address)
    yield address, listening
    listening.socket.close()


class Agent:
    """What Reports asks."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.seen, self.wrong, self.passed = VIEW, "", threading.Event()
        self.reports = Reports(supervisor, view=lambda: self.seen, alive=lambda: self.wrong, passed=self.passed)


def test_it_is_found_in_the_environment_and_a_watchdog_of_another_process_is_none() -> None:
    assert supervisor_of({"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "3000000"}, 7) == Supervisor("/run/n", 3.0)
    ours = {"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "500000", "WATCHDOG_PID": "7"}
    assert supervisor_of(ours, 7) == Supervisor("@n", 0.5)
    assert supervisor_of(ours, 8) == Supervisor("@n")
    assert supervisor_of({"NOTIFY_SOCKET": "vsock:2:1", "WATCHDOG_USEC": "1"}, 7) == Supervisor()
    assert supervisor_of({"WATCHDOG_USEC": "3000000"}, 7) == Supervisor()


def test_passes_come_at_least_three_times_in_the_watchdogs_time() -> None:
    assert Supervisor("@n", 120.0).interval(30.0) == 30.0
    assert Supervisor("@n", 3.0).interval(30.0) == 1.0
    assert Supervisor("@n").interval(600.0) == 600.0


def test_the_life_of_an_agent_is_told(systemd: tuple[str, Systemd]) -> None:
    agent = Agent(Supervisor(systemd[0], 120.0))
    agent.reports.started()
    agent.reports.feed()
    agent.reports.status()
    agent.seen = replace(VIEW, services=(WEB,))
    agent.reports.status()
    agent.reports.stopping()
    revision = "a1b2c3d4a1b2c3d4a1b2"
    assert systemd[1].heard() == [
        "READY=1",
        f"STATUS=2 services, 2 serving, 1 converged; at {revision}",
        "WATCHDOG=1",
        f"STATUS=1 service, 1 serving, 1 converged; at {revision}",
        "STOPPING=1\nSTATUS=services go on running",
    ]


def test_the_watchdog_starves_while_the_agent_is_not_well(systemd: tuple[str, Systemd]) -> None:
    agent = Agent(Supervisor(systemd[0], 120.0))
    agent.wrong = "dead thread: worker-docker-0"
    agent.reports.feed()
    assert systemd[1].heard() == []
    agent.wrong = ""
    agent.reports.feed()
    assert systemd[1].heard() == ["WATCHDOG=1"]


def test_without_a_watchdog_nothing_is_fed(systemd: tuple[str, Systemd]) -> None:
    Agent(Supervisor(systemd[0])).reports.feed()
    assert systemd[1].heard() == []


def test_a_reload_ends_when_the_source_was_read(systemd: tuple[str, Systemd]) -> None:
    agent = Agent(Supervisor(systemd[0]))
    agent.passed.set()  # the first pass was long ago
    heard: list[str] = []

    def read() -> None:
        assert not agent.passed.is_set()
        heard.extend(systemd[1].heard())
        agent.passed.set()

    agent.reports.reload(read)
    [begins] = heard
    words = dict(line.split("=") for line in begins.split("\n"))
    assert words["RELOADING"] == "1"
    assert int(words["MONOTONIC_USEC"]) > 0
    assert systemd[1].heard()[0] == "READY=1"


def test_the_status_says_what_is_wrong_on_one_line() -> None:
    unread = replace(VIEW, services=(), source=replace(SOURCE, revision="", error="no\nfolder"))
    assert status_line(unread, "dead thread: source") == (
        "0 services, 0 serving, 0 converged; the source was not read yet; no folder; dead thread: source"
    )


def test_nobody_listening_is_no_reason_to_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    agent = Agent(Supervisor(str(tmp_path / "gone"), 1.0))
    agent.reports.feed()
    agent.reports.stopping()
    assert "the supervisor cannot be told" in caplog.text
    Agent(Supervisor()).reports.started()


def test_a_path_that_is_no_utf_8_and_a_long_error_are_told_all_the_same(systemd: tuple[str, Systemd]) -> None:
    agent = Agent(Supervisor(systemd[0]))
    error = "/srv/caf\udce9\nREADY=1\rx: missing" + " and so on" * 1000
    agent.seen = replace(VIEW, source=replace(SOURCE, error=error))
    agent.wrong = "dead thread: worker"
    agent.reports.status()
    (told,) = systemd[1].heard()
    assert "/srv/caf\\udce9 READY=1 x: missing" in told
    assert told.endswith("…; dead thread: worker")
    assert len(told.encode()) < 4096
