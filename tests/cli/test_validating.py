"""`validate` and `schema`, as CI and editors use them."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.sops import SEARCH, encrypted, key

GOOD = """\
apiVersion: xmod.dev/v1
kind: DeploySpec
metadata: {{name: {name}}}
spec:
  container:
    image: mini
    port: 80
"""
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
BAD = GOOD.replace("image:", "imgae:")


@pytest.fixture
def specs(tmp_path):
    folder = tmp_path / "specs"
    folder.mkdir()
    return folder


def write(folder, name, content):
    file = folder / name
    file.write_text(content)
    return file


def test_a_valid_folder_ends_well(specs, xmod):
    write(specs, "a.yaml", GOOD.format(name="a"))
    write(specs, "b.yml", GOOD.format(name="b"))
    write(specs, "README.md", "not a spec")
    result = xmod("validate", specs)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "2 files, 2 services, 0 problems\n"


def test_an_error_has_file_line_column_field_and_what_was_expected(specs, xmod):
    file = write(specs, "a.yaml", BAD.format(name="a"))
    result = xmod("validate", specs)
    assert result.exit_code == 1
    assert result.stdout == f'{file}:6:5: spec.container.imgae: is not a known field; did you mean "image"?\n'


def test_all_errors_of_all_files_are_told_at_once(specs, xmod):
    write(specs, "a.yaml", BAD.format(name="A_") + "    cpu: 3\n")
    write(specs, "b.yaml", "kind: [\n")
    lines = xmod("validate", specs).stdout.splitlines()
    assert {line.split(":")[0].rpartition("/")[2] for line in lines} == {"a.yaml", "b.yaml"}
    assert len(lines) >= 4


def test_a_name_in_two_files_is_reported_at_both(specs, xmod):
    a, b = (write(specs, name, GOOD.format(name="same")) for name in ("a.yaml", "b.yaml"))
    lines = xmod("validate", specs).stdout.splitlines()
    assert lines == [
        f"{a}:1:1: metadata.name: the name same is taken: it is also in {b}:1; a name is one service",
        f"{b}:1:1: metadata.name: the name same is taken: it is also in {a}:1; a name is one service",
    ]


def test_a_file_named_twice_is_read_once(specs, xmod):
    file = write(specs, "a.yaml", GOOD.format(name="a"))
    result = xmod("validate", specs, file, file)
    assert (result.exit_code, result.stderr) == (0, "1 file, 1 service, 0 problems\n")


def test_for_github_it_is_an_annotation(specs, xmod):
    file = write(specs, "a,b.yaml", BAD.format(name="a"))
    shown = str(file).replace(",", "%2C")
    result = xmod("validate", file, "--format", "github")
    assert result.exit_code == 1
    assert result.stdout.startswith(f"::error file={shown},line=6,col=5::spec.container.imgae: is not a known field")


def test_for_programs_it_is_json(specs, xmod):
    file = write(specs, "a.yaml", BAD.format(name="a"))
    result = xmod("validate", file, "--format", "json")
    (found,) = json.loads(result.stdout)
    assert found["file"] == str(file)
    assert (found["line"], found["column"], found["field"]) == (6, 5, "spec.container.imgae")
    assert result.stderr == ""


def test_what_cannot_be_read_is_a_problem(specs, xmod):
    result = xmod("validate", specs / "none.yaml")
    assert result.exit_code == 1
    assert "none.yaml:1:1: cannot be read: No such file or directory" in result.stdout


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"#" * (1 << 20) + b"\n"])
def test_an_empty_a_binary_and_a_huge_file_are_problems(specs, xmod, content):
    (specs / "a.yaml").write_bytes(content)
    assert xmod("validate", specs / "a.yaml").exit_code == 1
    assert xmod("validate", specs).exit_code == 1


def test_the_settings_policy_holds(specs, tmp_path, xmod):
    config = tmp_path / "config.yaml"
    config.write_text("policy: {images: ['registry.example/*']}\n")
    write(specs, "a.yaml", GOOD.format(name="a"))
    result = xmod("validate", specs, "--config", config)
    assert result.exit_code == 1
    assert "the rule policy.images does not allow it" in result.stdout


def test_a_mistake_in_the_policy_is_the_settings_not_the_specs(specs, tmp_path, xmod):
    config = tmp_path / "config.yaml"
    config.write_text("policy: {imgaes: []}\n")
    write(specs, "a.yaml", GOOD.format(name="a"))
    result = xmod("validate", specs, "--config", config)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert str(config) in result.stderr
    assert "policy.imgaes" in result.stderr


def test_a_folder_without_specs_has_no_problems(specs, xmod):
    result = xmod("validate", specs)
    assert (result.exit_code, result.stderr) == (0, "0 files, 0 services, 0 problems\n")


def test_the_schema_is_json_schema_of_a_deployspec(xmod):
    result = xmod("schema")
    schema = json.loads(result.stdout)
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert "spec" in schema["properties"]


def program(*words, **more):
    """It as a process, cut off where it hangs."""
    environ = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])} | more.pop("env", {})
    run = [sys.executable, "-m", "agent", "validate", *words]
    return subprocess.run(run, capture_output=True, timeout=30, check=False, env=environ, **more)


@pytest.mark.parametrize("what", ["fifo", "device", "socket"])
def test_what_is_no_regular_file_is_a_problem_and_no_wait(tmp_path, what):
    file = tmp_path / "a.yaml"
    if what == "fifo":
        os.mkfifo(file)
    elif what == "device":
        file.symlink_to("/dev/zero")
    else:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(file))
    result = program(file)
    assert result.returncode == 1
    assert f"{file}:1:1: cannot be read: ".encode() in result.stdout
    assert program(tmp_path).returncode == 0, "a folder's are no specs"


def test_what_comes_through_a_pipe_is_checked(tmp_path):
    good, bad = GOOD.format(name="a").encode(), BAD.format(name="a").encode()
    result = program("/dev/stdin", input=good)
    assert (result.returncode, result.stderr) == (0, b"1 file, 1 service, 0 problems\n")
    assert program("/dev/stdin", input=bad).stdout.startswith(b"/dev/stdin:6:5: spec.container.imgae: ")
    file = tmp_path / "a.yaml"
    file.write_bytes(good)
    with file.open("rb") as opened:
        assert program("/dev/stdin", stdin=opened).returncode == 0


def test_what_a_shell_substitutes_is_checked():
    reading, writing = os.pipe()
    try:
        os.write(writing, BAD.format(name="a").encode())
        os.close(writing)
        assert b":6:5: spec.container.imgae" in program(f"/dev/fd/{reading}", pass_fds=[reading]).stdout
    finally:
        os.close(reading)


@pytest.mark.parametrize("name", ["/dev/fd/99", "/dev/fd/99999999999999999999", "/dev/fd/x"])
def test_a_descriptor_that_is_not_there_is_a_problem(name):
    result = program(name)
    assert result.returncode == 1
    assert f"{name}:1:1: cannot be read: ".encode() in result.stdout
    assert b"Traceback" not in result.stderr


def test_names_of_strangers_have_no_power_over_the_terminal(specs, xmod):
    write(specs, "a\x1b[31m\n.yaml", GOOD.format(name='"\\e[31mred\\u202e"') + '"\\e[5m": 1\n')
    for form in ("text", "json", "github"):
        result = xmod("validate", specs, "--format", form)
        assert result.exit_code == 1
        assert "[31m" in result.stdout
        assert all(line.isprintable() for line in result.stdout.split("\n")), form


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8:surrogateescape", "ascii"])
@pytest.mark.parametrize("form", ["text", "json", "github"])
def test_a_name_that_is_no_text_is_printed_as_text(tmp_path, form, encoding):
    file = os.fsencode(tmp_path) + b"/gr\xc3\xb6\xdfe.yaml"
    with open(file, "wb") as out:  # noqa: PTH123 bytes
        out.write(BAD.format(name="a").encode())
    result = program(file, "--format", form, env={"PYTHONIOENCODING": encoding})
    text = result.stdout.decode()
    assert "\\xdfe.yaml" in text
    assert result.returncode == 1
    if form == "json":
        assert json.loads(text)[0]["file"].endswith("/grö\\xdfe.yaml")


PROGRAM = """\
apiVersion: xmod.dev/v1
kind: DeploySpec
metadata: {name: a}
spec:
  container:
    command: [hello, "{port}"]
    port: 80
"""


def test_a_folder_is_valid_for_the_shimlet_that_it_runs_under(specs, tmp_path, xmod):
    (tmp_path / "bin").mkdir()
    write(tmp_path / "bin", "hello", "").chmod(0o755)
    config = write(tmp_path, "config.yaml", f"policy: {{programs: [{tmp_path}/bin]}}\n")
    write(specs, "a.yaml", PROGRAM)
    assert xmod("validate", specs, "--config", config).exit_code == 1
    result = xmod("validate", specs, "--config", config, "--shimlet", "process")
    assert (result.exit_code, result.stdout) == (0, "")


def test_a_goalset_and_a_plugin_are_known_when_told(specs, tmp_path, xmod):
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    write(plugins, "mine.py", PLUGIN)
    write(specs, "a.yaml", GOOD.format(name="a") + "  goalSetName: mine\n")
    assert "goalSetName" in xmod("validate", specs).stdout
    assert xmod("validate", specs, "--plugin-dir", plugins).exit_code == 0
    result = xmod("validate", specs, "--goalset", "nobodys")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "nobodys" in result.stderr
    assert xmod("validate", specs, "--plugin-dir", plugins, "--goalset", "mine").exit_code == 0


SECRET = GOOD.format(name="web") + "  env:\n    - key: TOKEN\n      value: geheim\n"


@pytest.fixture
def mine(monkeypatch):
    monkeypatch.setenv("PATH", SEARCH)
    monkeypatch.setenv("HOME", "/nowhere")
    return key()


def test_an_encrypted_file_is_checked_with_a_key(specs, xmod, mine, tmp_path, monkeypatch):
    monkeypatch.setenv("XMOD_SECRETS__AGE_KEY_FILE", str(mine.into(tmp_path / "keys.txt")))
    write(specs, "a.yaml", encrypted(SECRET, mine))
    bad = write(specs, "b.yaml", encrypted(SECRET.replace("image:", "imgae:").replace("web", "api"), mine, only=""))
    result = xmod("validate", specs)
    assert result.exit_code == 1
    assert result.stdout.startswith(f"{bad}:7:9: spec.container.imgae: ")
    assert result.stderr == "2 files, 1 service, 1 problem\n"


def test_an_encrypted_file_without_a_key_fails_unless_it_may_be_skipped(specs, xmod, mine):
    file = write(specs, "a.yaml", encrypted(SECRET, mine))
    write(specs, "b.yaml", GOOD.format(name="b"))
    result = xmod("validate", specs)
    assert result.exit_code == 1
    assert f"{file}:" in result.stdout
    assert f"encrypted for {mine.public}" in result.stdout
    result = xmod("validate", specs, "--skip-encrypted")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.startswith(f"{file}: not checked: no age key in ")
    assert result.stderr.endswith("2 files, 1 service, 0 problems\n")


def test_what_is_wrong_with_its_encryption_itself_is_never_skipped(specs, xmod, mine):
    sealed = encrypted(SECRET, mine).replace("sops:\n", "sops:\n    kms: [{arn: x}]\n")
    write(specs, "a.yaml", sealed)
    result = xmod("validate", specs, "--skip-encrypted")
    assert (result.exit_code, "only age keys" in result.stdout) == (1, True)


FLEET = GOOD + "  hosts: [{hosts}]\n"


def test_for_a_host_only_what_is_for_it_is_held_to_rules_and_policy(specs, xmod):
    write(specs, "a.yaml", FLEET.format(name="a", hosts="edge-01") + "  bindAddress: 0.0.0.0\n")
    write(specs, "b.yaml", FLEET.format(name="b", hosts="{matchLabels: {gpu: h100}}"))
    assert xmod("validate", specs).exit_code == 1
    other = xmod("validate", specs, "--host", "edge-02", "--label", "gpu=h100")
    assert (other.exit_code, other.stderr) == (0, "2 files, 1 service, 0 problems (1 more for other hosts)\n")
    assert "policy.bindAddresses" in xmod("validate", specs, "--host", "edge-01").stdout


def test_labels_in_the_settings_are_those_of_the_host_in_the_settings(specs, tmp_path, xmod):
    config = write(tmp_path, "config.yaml", "agent: {host: edge-01, labels: {gpu: h100}}\n")
    write(specs, "b.yaml", FLEET.format(name="b", hosts="{matchLabels: {gpu: h100}}"))
    for words, count in (
        (("--host", "edge-01"), 1),
        (("--host", "edge-02"), 0),
        (("--host", "edge-02", "--label", "gpu=h100"), 1),
        (("--label", "gpu=a100"), 0),
    ):
        told = xmod("validate", specs, "--config", config, *words).stderr
        assert f"1 file, {count} service" in told, words


def test_a_name_twice_is_fine_for_different_hosts_and_a_ring_is_not(specs, xmod):
    write(specs, "a.yaml", FLEET.format(name="web", hosts="edge-01"))
    write(specs, "b.yaml", FLEET.format(name="web", hosts="edge-02"))
    assert xmod("validate", specs).exit_code == 0
    assert xmod("validate", specs, "--host", "edge-01").exit_code == 0
    write(specs, "c.yaml", GOOD.format(name="c") + "  dependsOn: [d]\n")
    file = write(specs, "d.yaml", GOOD.format(name="d") + "  dependsOn: [c]\n")
    result = xmod("validate", specs)
    assert f"{file}:1:1: spec.dependsOn: these wait for each other: c → d → c; one must not\n" in result.stdout
    assert result.exit_code == 1
