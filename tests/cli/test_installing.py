"""What `install-systemd` writes, what systemd thinks of it, and where the command refuses. It is really run in tests/flow."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agent.cli import installing
from tools import tables

README = tables.README.read_text()
analyzed = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def unit(*words: str, version: int = 252) -> str:
    return installing.unit(words or ("/bin/true",), user="root", group="root", version=version)


def test_the_program_that_prints_is_the_one_that_is_started(xmod):
    shown = xmod("install-systemd", "/srv/specs", "--print")
    program = Path(sys.prefix) / "bin" / "xmod-agent"
    assert f"\nExecStart={program} run /srv/specs\n" in shown.stdout
    assert not re.search(r"@[A-Z]+@", shown.stdout)


def test_a_repository_comes_with_its_ref_and_path(xmod):
    shown = xmod("install-systemd", "--print", "--repo", "https://h.example/x", "--ref", "main", "--path", "a b").stdout
    assert ' run --repo https://h.example/x --ref main --path "a b"\n' in shown


def test_words_are_quoted_as_systemd_reads_them(tmp_path: Path):
    words = ("/bin/echo", "100%", "$HOME", 'say "x"', "back\\slash", "semi;colon", "")
    assert '\nExecStart=/bin/echo 100%% $$HOME "say \\"x\\"" "back\\\\slash" "semi;colon" ""\n' in unit(*words)


def test_two_sources_and_a_ref_of_nothing_are_refused(xmod):
    both = xmod("install-systemd", "/srv/specs", "--repo", "https://h.example/x")
    assert (both.exit_code, both.stderr) == (1, "xmod-agent: DIR and --repo are two sources; say which one is meant\n")
    assert "say which with --repo" in xmod("install-systemd", "--ref", "main").stderr


@pytest.mark.skipif(Path("/run/systemd/system").is_dir(), reason="systemd runs here, and this would install")
def test_without_systemd_it_refuses(xmod):
    refused = xmod("install-systemd")
    assert (refused.exit_code, refused.stderr) == (
        1,
        "xmod-agent: systemd does not run here; with --print the unit is only shown\n",
    )


def test_a_program_that_other_users_cannot_reach_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    program = tmp_path / "closed" / "bin" / "xmod-agent"
    program.parent.mkdir(parents=True)
    program.touch(mode=0o755)
    (tmp_path / "closed").chmod(0o700)
    with pytest.raises(installing.typer.Exit):
        installing._refuse_unreachable(program)
    assert "other users may not enter" in capsys.readouterr().err


def test_only_a_systemd_that_knows_it_is_told_of_the_agents_own_group():
    assert "\nDelegateSubgroup=agent\n" in unit(version=254)
    assert "\nDelegateSubgroup" not in unit(version=252)


@pytest.mark.parametrize(
    "choking",
    [
        "MemoryDenyWriteExecute",
        "PrivateDevices",
        "PrivateTmp",
        "ProtectHome",
        "ProtectClock",
        "ProtectControlGroups",
        "ProtectProc",
        "ProcSubset",
        "DeviceAllow",
        "PrivateUsers",
        "RemoveIPC",
    ],
)
def test_nothing_is_locked_away_that_a_model_server_needs(choking: str):
    assert not re.search(rf"^{choking}", unit(), re.MULTILINE)


def test_the_watchdog_is_slower_than_the_slowest_good_pass():
    """A first clone may take a pass of 60 s, and the longest wait between passes is a third of the watchdog."""
    seconds = int(re.search(r"^WatchdogSec=(\d+)$", unit(), re.MULTILINE)[1])
    assert seconds / 3 + 60 < seconds


@analyzed
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path):
    path = tmp_path / "xmod-agent.service"
    path.write_text(unit())
    ran = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


@analyzed
def test_the_exposure_in_the_readme_is_what_systemd_says():
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", tables.UNIT]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    figure = re.search(r"exposure level for \S+: ([\d.]+)", told)[1]
    version = subprocess.run(["systemctl", "--version"], capture_output=True, text=True, check=False).stdout.split()[1]
    if version == "252":
        assert f"an exposure of **{figure}** (by systemd 252)" in README
    assert float(figure) < 4  # each systemd counts a little differently
