"""What `install-systemd` writes, what systemd thinks of it, and where the command refuses. It is really run in tests/flow."""

import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.cli import installing
from tools import tables

README = tables.README.read_text()
root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
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


def test_what_would_break_a_line_or_is_no_utf_8_is_spelled_out(tmp_path: Path):
    text = unit("/bin/echo", "a\rb\nc", os.fsdecode(b"/srv/caf\xe9"), "café")
    assert '\nExecStart=/bin/echo "a\\x0db\\x0ac" "/srv/caf\\xe9" café\n' in text
    text.encode()


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


@pytest.fixture
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """In place of /etc, with a root who lets nobody read what root makes."""
    monkeypatch.setattr(installing, "CONFIG", tmp_path / "xmod-agent" / "config.yaml")
    before = os.umask(0o077)
    yield tmp_path / "xmod-agent"
    os.umask(before)


@root
def test_the_service_can_read_what_a_strict_root_installs(etc: Path):
    installing._make_settings(4321, specs=etc / "specs")
    made = {path.name: path.stat() for path in (etc, etc / "config.yaml", etc / "specs")}
    assert {name: oct(stat.S_IMODE(found.st_mode)) for name, found in made.items()} == {
        "xmod-agent": "0o750",
        "config.yaml": "0o640",
        "specs": "0o750",
    }
    assert {(found.st_uid, found.st_gid) for found in made.values()} == {(0, 4321)}


@root
def test_settings_that_the_service_cannot_read_are_told_and_stay(etc: Path, capsys: pytest.CaptureFixture[str]):
    installing._make_settings(4321, specs=None)
    (etc / "config.yaml").write_text("mine")
    assert capsys.readouterr().err == ""
    installing._make_settings(4322, specs=None)
    assert "config.yaml: the service may not read it" in capsys.readouterr().err
    assert (etc / "config.yaml").read_text() == "mine"


@root
def test_nothing_is_written_through_a_link_and_a_link_to_specs_stays(etc: Path, tmp_path: Path):
    etc.mkdir()
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (etc / ".config.yaml.part").symlink_to(victim)
    (etc / "specs").symlink_to("worktree")  # of a git-sync that did not run yet
    installing._make_settings(0, specs=etc / "specs")
    assert victim.read_text() == "untouched"
    assert (etc / "config.yaml").read_text().startswith("# Settings")
    assert (etc / "specs").is_symlink()


@pytest.mark.parametrize("name", ["-rf", "a b", "x\nExecStartPre=/bin/false", "%n", ""])
def test_a_user_with_an_odd_name_is_refused(xmod, name: str):
    refused = xmod("install-systemd", "--print", f"--user={name}")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "a user's name has" in refused.stderr


def test_a_path_that_looks_like_the_templates_words_stays_and_a_group_may_have_a_blank():
    text = installing.unit(["/bin/true", "/srv/@USER@"], user="root", group="domain users", version=252)
    assert "\nExecStart=/bin/true /srv/@USER@\n" in text
    assert '\nEnvironment=XMOD_AGENT__SOCKET_GROUP="domain users"\n' in text


def test_a_package_that_other_users_cannot_read_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    tmp_path.parent.parent.chmod(0o755)
    tmp_path.parent.chmod(0o755)
    tmp_path.chmod(0o755)
    package = tmp_path / "agent.py"
    package.touch()
    package.chmod(0o600)
    with pytest.raises(installing.typer.Exit):
        installing._refuse_unreachable(Path("/bin/sh"), package)
    assert "agent.py" in capsys.readouterr().err
