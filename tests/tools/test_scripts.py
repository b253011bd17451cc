"""The shell scripts behind the two commands: quiet when there is nothing to do, clear when they cannot."""

import os
import subprocess
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"


def ran(*words: str | Path, path: str = "") -> subprocess.CompletedProcess[str]:
    environment = os.environ | ({"PATH": path} if path else {})
    return subprocess.run(words, capture_output=True, text=True, env=environment, check=False, stdin=subprocess.DEVNULL)


def without(folder: Path, *absent: str) -> str:
    """A PATH that has all of the system's programs but these."""
    for place in ("/usr/bin", "/bin"):
        for program in Path(place).iterdir():
            link = folder / program.name
            if program.name not in absent and not link.exists() and not link.is_symlink():
                link.symlink_to(program)
    return str(folder)


@pytest.mark.parametrize("name", ["setup", "docker-engine", "apt-install", "sshd"])
def test_a_script_parses_and_may_be_run(name: str):
    assert ran("sh", "-n", TOOLS / name).returncode == 0
    assert os.access(TOOLS / name, os.X_OK)


def test_installing_what_is_there_asks_for_nothing():
    installed = ran(TOOLS / "apt-install", "dpkg", "bash")
    assert (installed.returncode, installed.stdout, installed.stderr) == (0, "", "")


def test_no_debian_is_told_what_is_missing(tmp_path: Path):
    refused = ran(TOOLS / "apt-install", "dpkg", "no-such-package", path=without(tmp_path, "apt-get"))
    assert refused.returncode == 1
    assert "install by hand what matches: no-such-package" in refused.stderr


@pytest.mark.docker
def test_an_engine_that_answers_is_left_alone():
    found = ran(TOOLS / "docker-engine")
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")
