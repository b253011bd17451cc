"""`run`, `plan` and `plugins`: what they make of flags, and what they say when something is wrong."""

import json
import socket

import pytest

from agent.settings import table

PLUGIN = """
from agent.contracts import Achieved, compose

class Holds:
    name = "holds"
    def is_achieved(self, ctx):
        return Achieved()
    def ensure(self, ctx):
        pass

def register(plugins):
    plugins.goalset(compose("mine").then(Holds()).removed_by("mine").build())
"""


@pytest.fixture
def specs(tmp_path):
    folder = tmp_path / "specs"
    folder.mkdir()
    return folder


def test_help_explains_every_flag_and_setting(xmod):
    shown = xmod("run", "--help").stdout
    for setting in table():
        assert setting.name in shown
        assert setting.env in shown
        assert setting.description in shown
        assert setting.flag in shown
    for flag in ("--once", "--config"):
        assert flag in shown


def test_every_command_has_help(xmod):
    shown = xmod("--help").stdout
    for command in (
        "run plan plugins validate schema status events logs sync approve-prune restart rollout adopt install-systemd".split()  # noqa: SIM905
    ):
        assert f"  {command} " in shown
        assert xmod(command, "--help").exit_code == 0


def test_an_agent_has_one_source(specs, xmod, tmp_path):
    neither = xmod("run")
    assert (neither.exit_code, neither.stderr) == (
        1,
        "xmod-agent: say where the specs are: DIR, or --repo URL (source.repo)\n",
    )
    both = xmod("plan", specs, "--repo", "https://h.example/x")
    assert both.exit_code == 1
    assert "two sources" in both.stderr
    secret = xmod("plan", "--repo", "https://me:secret@h.example/x", "--state-dir", tmp_path)
    assert secret.exit_code == 1
    assert "source.tokenFile" in secret.stderr
    assert "me:secret" not in secret.stderr
    assert "--ref" not in xmod("plan", specs, "--ref", "main").stderr
    assert "only of use with source.repo" in xmod("plan", specs, "--ref", "main").stderr
    assert "--source: source.mode: must be 'auto', 'git' or 'folder'" in xmod("run", specs, "--source", "x").stderr


def test_a_wrong_setting_is_refused_before_anything_starts(specs, xmod):
    result = xmod("run", specs, "--bind", "0.0.0.0", "--port", "70000", "--instance", "Not_A_Label")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 2
    assert "xmod-agent: --port: service.port: must be less than or equal to 65535, got 70000" in result.stderr
    assert "xmod-agent: --instance: agent.instance: " in result.stderr
    assert "service.allowRemote" in xmod("run", specs, "--bind", "0.0.0.0").stderr


def test_a_missing_settings_file_is_one_sentence(specs, tmp_path, xmod):
    result = xmod("run", specs, "--config", tmp_path / "none.yaml")
    assert (result.exit_code, result.stderr) == (1, f"xmod-agent: {tmp_path}/none.yaml: No such file or directory\n")


def test_a_log_file_that_cannot_be_opened_is_one_sentence(specs, tmp_path, xmod):
    config = tmp_path / "config.yaml"
    config.write_text("logging: {output: none/agent.log}\n")
    result = xmod("run", specs, "--config", config)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"xmod-agent: logging.output: {tmp_path}/none/agent.log: No such file")


def test_a_port_in_use_ends_the_run_with_a_sentence(specs, tmp_path, xmod, monkeypatch):
    monkeypatch.setenv("XMOD_AGENT__SOCKET", str(tmp_path / "s" / "a.sock"))
    with socket.create_server(("127.0.0.1", 0)) as other:
        result = xmod(
            "run", specs, "--shimlet", "process", "--state-dir", tmp_path / "state",
            "--port", other.getsockname()[1], "--instance", f"t-{other.getsockname()[1]}",
        )  # fmt: skip
    assert result.exit_code == 1
    assert "another program has the port; choose another with --port" in result.stderr
    assert "Traceback" not in result.stderr + result.stdout


def test_a_plan_of_nothing_has_nothing_to_do(specs, tmp_path, xmod):
    words = ("plan", specs, "--shimlet", "process", "--state-dir", tmp_path / "state", "--instance", "t-plan-nothing")
    result = xmod(*words)
    assert (result.exit_code, result.stdout) == (0, "nothing to do\n")
    assert json.loads(xmod(*words, "-o", "json").stdout) == {"rows": [], "error": "", "host": "", "elsewhere": 0}


def test_a_plan_of_an_invalid_file_has_something_to_say(specs, tmp_path, xmod):
    (specs / "a.yaml").write_text("kind: DeploySpec\n")
    words = ("plan", specs, "--shimlet", "process", "--state-dir", tmp_path / "state", "--instance", "t-plan-invalid")
    result = xmod(*words)
    assert result.exit_code == 2
    assert result.stdout.splitlines()[1].startswith("invalid  a.yaml")


def test_a_plan_prints_no_escapes_of_strangers(specs, tmp_path, xmod):
    (specs / "a\x1b[31m.yaml").write_text('kind: DeploySpec\n"\\e[31m": 1\n')
    words = ("plan", specs, "--shimlet", "process", "--state-dir", tmp_path / "state", "--instance", "t-plan-escapes")
    for more in ((), ("-o", "json"), ("-o", "yaml")):
        result = xmod(*words, *more)
        assert "[31m" in result.stdout
        assert all(line.isprintable() for line in (result.stdout + result.stderr).splitlines()), more
    result = xmod("plan", tmp_path / "\x1b[31m", *words[2:])
    assert result.exit_code == 1
    assert "\\x1b[31m: no folder there" in result.stderr
    assert all(line.isprintable() for line in result.stderr.splitlines())


def test_a_plan_of_a_missing_folder_is_an_error(tmp_path, xmod):
    words = ("--shimlet", "process", "--state-dir", tmp_path / "state", "--instance", "t-plan-missing")
    result = xmod("plan", tmp_path / "none", *words)
    assert result.exit_code == 1
    assert str(tmp_path / "none") in result.stderr


def test_plugins_shows_what_comes_from_where(tmp_path, xmod):
    (tmp_path / "mine.py").write_text(PLUGIN)
    result = xmod("plugins", "--plugin-dir", tmp_path)
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["goalset", "mine", f"{tmp_path}/mine.py"] in lines
    assert any(line[:2] == ["shimlet", "docker"] for line in lines)
    rows = json.loads(xmod("plugins", "--plugin-dir", tmp_path, "-o", "json").stdout)
    assert {"kind": "goalset", "name": "mine", "origin": f"{tmp_path}/mine.py"} in rows


@pytest.mark.parametrize("command", ["plugins", "run", "plan"])
def test_a_broken_plugin_is_refused_with_its_file_and_line(specs, tmp_path, xmod, command, monkeypatch):
    monkeypatch.setenv("XMOD_AGENT__SOCKET", str(tmp_path / "s" / "a.sock"))
    (tmp_path / "broken.py").write_text("\n1 / 0\n")
    words = [] if command == "plugins" else [specs, "--state-dir", tmp_path / "state"]
    result = xmod(command, *words, "--plugin-dir", tmp_path)
    assert result.exit_code == 1
    assert f"{tmp_path}/broken.py, line 2: ZeroDivisionError" in result.stderr
    assert "Traceback" not in result.stderr
