"""The host's clock jumps, forwards and back, under a running agent: nothing is restarted, and the next change is taken."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.program import Program, eventually, program
from tools import demo

ROOT = Path(__file__).resolve().parents[2]
HTTPD = "/bin/busybox"
JUMPS = ("+1d", "-1d", "+10y", "-2y", "+0")


def spec(name: str, words: str) -> str:
    return (
        f"apiVersion: xmod.dev/v1\nkind: DeploySpec\nmetadata: {{name: {name}}}\nspec:\n"
        f"  container: {{command: [{HTTPD}, httpd, -f, -p, '{{host}}:{{port}}', -h, /bin], port: 80}}\n"
        f"  env: [{{key: WORDS, value: '{words}'}}]\n"
    )


@pytest.fixture(scope="module")
def library() -> Path:
    """What lies to a program about the time."""
    subprocess.run([ROOT / "tools" / "apt-install", "libfaketime"], check=True)
    return next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))


@pytest.fixture
def agent(library: Path) -> Iterator[Program]:
    settings = {"policy": {"programs": [HTTPD]}, "agent": {"rescanInterval": "1s", "resyncInterval": "1s"}}
    with program("process", settings) as made:
        made._environment |= {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(made.root / "time"),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        yield made


def jump(agent: Program, to: str) -> None:
    new = agent.root / "time.new"
    new.write_text(f"{to}\n")
    os.replace(new, agent.root / "time")  # noqa: PTH105 at once


def test_a_clock_that_jumps_restarts_nothing_and_stops_no_work(agent: Program) -> None:
    jump(agent, "+0")
    for name in ("still", "changing"):
        (agent.specs / f"{name}.yaml").write_text(spec(name, "one"))
    agent.start()
    agent.serving("still")
    agent.serving("changing")
    (still,) = (pid for pid in demo.groups(agent.instance) if b"XMOD_SERVICE=still" in environment(pid))

    for number, to in enumerate(JUMPS):
        before = agent.service("changing")["wanted"]
        heartbeat = agent.status()["heartbeat"]
        jump(agent, to)
        eventually(
            lambda heartbeat=heartbeat: agent.status()["heartbeat"][:13] != heartbeat[:13], f"{to}: time is other"
        )
        (agent.specs / "changing.yaml").write_text(spec("changing", f"after {to} {number}"))
        eventually(lambda before=before: agent.service("changing")["wanted"] != before, f"{to}: the change is seen", 10)
        agent.serving("changing")
        eventually(lambda: len(demo.groups(agent.instance)) == 2, f"{to}: the old one is gone")
        assert still in demo.groups(agent.instance), f"{to}: what did not change was restarted"
        assert agent.service("still")["phase"] == "Ready", to
        assert agent.status()["source"]["error"] == "", to


def environment(pid: int) -> list[bytes]:
    return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
