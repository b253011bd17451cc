"""The agent as a service of a real systemd: what survives what."""

import json
import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.fakes.program import eventually
from tests.fakes.systemd_host import AGENT, SystemdHost

pytestmark = [
    pytest.mark.docker,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a root file system"),
]
SPECS = "/etc/xmod-agent/specs"
WEB = ("python3", "-m", "http.server", "{port}", "--bind", "{host}", "--directory", "/usr/share")
SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        if self.path == "/eat":
            eaten = [bytearray(1 << 20) for _ in range(600)]
http.server.ThreadingHTTPServer((sys.argv[2], int(sys.argv[1])), Handler).serve_forever()
"""
HOG = ("python3", "-c", SERVER, "{port}", "{host}", "hungry")


def spec(name: str, command: tuple[str, ...], memory: str) -> str:
    container = {"command": command, "port": 8000, "health": {"path": "/"}}
    body = {"shimletName": "process", "resourceRequirements": {"memory": memory}, "container": container}
    return json.dumps({"apiVersion": "xmod.dev/v1", "kind": "DeploySpec", "metadata": {"name": name}, "spec": body})


@pytest.fixture(scope="module")
def host() -> Iterator[SystemdHost]:
    """Installed and started, with two services; systemd is told to be quicker than a shop needs it."""
    with SystemdHost() as host:
        host.says("groupadd", "docker")
        host.says(AGENT, "install-systemd")
        host.put("/etc/systemd/system/quick.conf", "[Service]\nRestartSec=100ms\n")
        host.says("mkdir", "/etc/systemd/system/xmod-agent.service.d")
        host.says("mv", "/etc/systemd/system/quick.conf", "/etc/systemd/system/xmod-agent.service.d/")
        host.says("systemctl", "daemon-reload")
        host.put(f"{SPECS}/web.yaml", spec("web", WEB, "200Mi"))
        host.put(f"{SPECS}/hog.yaml", spec("hog", HOG, "64Mi"))
        host.says("systemctl", "enable", "--now", "xmod-agent")
        yield host


@pytest.fixture
def served(host: SystemdHost) -> dict[str, list[int]]:
    """Both serve; by which processes."""
    host.says("systemctl", "start", "xmod-agent")
    for name in ("web", "hog"):
        host.endpoint(name)
    return running(host)


def running(host: SystemdHost) -> dict[str, list[int]]:
    return {"web": host.pids("/usr/share"), "hog": host.pids("hungry")}


def agents(host: SystemdHost) -> int:
    return int(host.unit("MainPID"))


def test_the_installed_service_is_ready_and_says_how_all_is(host: SystemdHost, served: dict[str, list[int]]) -> None:
    assert {name: len(pids) for name, pids in served.items()} == {"web": 1, "hog": 1}
    assert (host.unit("SubState"), host.unit("User")) == ("running", "xmod-agent")
    eventually(lambda: host.unit("StatusText").startswith("2 services, 2 serving, 2 converged; at "), "the status")
    assert host.says("systemd-analyze", "verify", "xmod-agent.service") == ""
    assert "docker" in host.says("id", "-nG", "xmod-agent").split()


def test_to_install_again_changes_nothing_and_spares_the_settings(host: SystemdHost) -> None:
    config, unit = "/etc/xmod-agent/config.yaml", "/etc/systemd/system/xmod-agent.service"
    host.says("sh", "-c", f"echo '# mine' >>{config}")
    before = host.says("cat", config, unit)
    assert "next: systemctl enable --now xmod-agent" in host.says(AGENT, "install-systemd")
    assert host.says("cat", config, unit) == before


def test_root_and_members_of_the_group_may_speak_to_it_and_nobody_else(
    host: SystemdHost, served: dict[str, list[int]]
) -> None:
    host.says("useradd", "-G", "xmod-agent", "alice")
    host.says("useradd", "bob")
    assert "web" in host.says(AGENT, "status")
    assert "web" in host.says("runuser", "-u", "alice", "--", AGENT, "status")
    assert "may not speak to the agent" in host.says("runuser", "-u", "bob", "--", AGENT, "status", code=1)


def test_a_program_that_eats_all_memory_is_killed_told_and_started_again_and_the_agent_lives(
    host: SystemdHost, served: dict[str, list[int]]
) -> None:
    agent, at = agents(host), host.endpoint("hog")
    eat = f"import urllib.request; urllib.request.urlopen('{at}/eat', timeout=60).read()"
    host.says("python3", "-c", eat, code=None)  # it may be cut off in its answer, or before
    eventually(lambda: host.pids("hungry") not in ([], served["hog"]), "it was started again")
    host.endpoint("hog")
    assert running(host)["web"] == served["web"]
    assert (agents(host), host.unit("SubState"), host.unit("NRestarts")) == (agent, "running", "0")
    told = [json.loads(line) for line in host.journal().splitlines() if line.startswith("{")]
    [ended] = [line for line in told if line["message"] == "a program ended"]
    held = "memory" in host.says("cat", "/sys/fs/cgroup/cgroup.controllers", code=None).split()  # of this host's v2
    assert ended["service"] == "hog"
    assert ended["reason"] == ("OOMKilled" if held else "Exited")
    assert ("OOMKilled" if held else "killed by SIGKILL") in ended["error"]
    notices = next(s for s in host.status()["services"] if s["name"] == "hog")["notices"]
    assert any("limits are not enforced" in notice for notice in notices) is not held


def test_a_killed_agent_comes_back_to_the_same_processes(host: SystemdHost, served: dict[str, list[int]]) -> None:
    before, times = agents(host), int(host.unit("NRestarts"))
    host.says("systemctl", "kill", "--kill-whom=main", "-s", "KILL", "xmod-agent")
    eventually(lambda: agents(host) not in (0, before) and host.unit("SubState") == "running", "it is back")
    assert int(host.unit("NRestarts")) == times + 1
    host.endpoint("web")
    assert running(host) == served


def test_a_hung_agent_is_ended_by_the_watchdog_and_comes_back_to_the_same_processes(
    host: SystemdHost, served: dict[str, list[int]]
) -> None:
    quick = "/etc/systemd/system/xmod-agent.service.d/watchdog.conf"
    host.put(quick, "[Service]\nWatchdogSec=6\nTimeoutAbortSec=2\n")
    host.says("systemctl", "daemon-reload")
    host.says("systemctl", "restart", "xmod-agent")
    host.endpoint("web")
    before = agents(host)
    host.says("systemctl", "kill", "--kill-whom=main", "-s", "STOP", "xmod-agent")
    eventually(lambda: agents(host) not in (0, before) and host.unit("SubState") == "running", "it is back", 40)
    journal = host.journal()
    host.says("rm", quick)
    host.says("systemctl", "daemon-reload")
    assert "Watchdog timeout" in journal
    assert "Fatal Python error: Aborted" in journal  # with the stack of each thread
    host.endpoint("web")
    assert running(host) == served


@pytest.mark.parametrize("verbs", [("restart",), ("stop", "start")])
def test_services_run_on_while_the_agent_does_not(
    verbs: tuple[str, ...], host: SystemdHost, served: dict[str, list[int]]
) -> None:
    for verb in verbs:
        host.says("systemctl", verb, "xmod-agent")
        assert running(host) == served
        assert host.unit("Result") == "success"
    host.endpoint("web")
    assert running(host) == served


def test_an_upgrade_restarts_nothing(host: SystemdHost, served: dict[str, list[int]]) -> None:
    find = "import agent; print(agent.__file__)"
    path = host.says("/opt/xmod-agent/bin/python", "-c", find).strip()
    host.says("sed", "-i", 's/^__version__ = .*/__version__ = "99.0"/', path)
    host.says("systemctl", "restart", "xmod-agent")
    eventually(lambda: host.status().get("version") == "99.0", "the new one runs")
    host.endpoint("web")
    assert running(host) == served


def test_a_reload_reads_the_source_now(host: SystemdHost, served: dict[str, list[int]]) -> None:
    before = host.status()["heartbeat"]
    host.says("systemctl", "reload", "xmod-agent")
    assert host.status()["heartbeat"] > before
    assert host.unit("SubState") == "running"
    assert running(host) == served


def test_lines_in_the_journal_are_json_and_have_their_level(host: SystemdHost, served: dict[str, list[int]]) -> None:
    lines = host.says("journalctl", "-u", "xmod-agent", "-o", "json", "--no-pager").splitlines()
    ours = [line for line in map(json.loads, lines) if str(line["MESSAGE"]).startswith("{")]
    levels = {(line["PRIORITY"], json.loads(line["MESSAGE"])["level"]) for line in ours}
    assert levels <= {("4", "warning"), ("6", "info"), ("3", "error")}
    assert ("6", "info") in levels


def test_nothing_of_the_host_is_left_in_the_hosts_groups(host: SystemdHost) -> None:
    """What systemd makes in its container must not lie beside this host's own groups."""
    found = subprocess.run(["find", "/sys/fs/cgroup", "-maxdepth", "3", "-name", "xmod-agent.service"],
                           capture_output=True, text=True, check=False).stdout  # fmt: skip
    assert found == ""
