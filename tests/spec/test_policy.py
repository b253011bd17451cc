"""Specs cannot escape: each rule denies by default, says how to allow, follows links, and can be opened."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agent.contracts import SecretRef
from tests.spec.making import policy, says

IMAGE = {"image": "mini", "port": 80}
ALLOW = "to allow it, add to the settings  policy: "


def volume(path: str, **more: Any) -> dict[str, Any]:
    return {"container": {**IMAGE, "volumes": [{"hostPath": path, "mountPath": "/d", **more}]}}


@pytest.mark.parametrize(
    ("spec", "rule", "snippet", "rules"),
    [
        (
            {"container": {"image": "evil/x:1"}},
            "images",
            '{images: ["evil/x:1"]}',
            {"images": ["evil/*"]},
        ),
        (
            volume("/srv/data"),
            "hostPaths",
            "{hostPaths: [{path: /srv/data, readOnly: true}]}",
            {"hostPaths": [{"path": "/srv"}]},
        ),
        (
            volume("/srv/data", readOnly=False),
            "hostPaths",
            "{hostPaths: [{path: /srv/data, readOnly: false}]}",
            {"hostPaths": [{"path": "/srv", "readOnly": False}]},
        ),
        (
            {"container": {"image": {"archive": "/srv/x.tar"}}},
            "hostPaths",
            "{hostPaths: [{path: /srv/x.tar, readOnly: true}]}",
            {"hostPaths": [{"path": "/srv/"}]},
        ),
        (
            {"engine": "llama.cpp", "modelFile": "/etc/shadow"},
            "modelRoots",
            "{modelRoots: [/etc]}",
            {"modelRoots": ["/etc/shadow"]},
        ),
        (
            {"container": IMAGE, "bindAddress": "0.0.0.0"},
            "bindAddresses",
            '{bindAddresses: ["0.0.0.0"]}',
            {"bindAddresses": ["0.0.0.0"]},
        ),
        (
            {"container": IMAGE, "bindAddress": "10.1.2.3"},
            "bindAddresses",
            '{bindAddresses: ["10.1.2.3"]}',
            {"bindAddresses": ["10.0.0.0/8"]},
        ),
        (
            {"container": IMAGE, "hostPort": 22},
            "portRange",
            '{portRange: "22-18999"}',
            {"portRange": "20-30"},
        ),
        (
            {"container": IMAGE, "docker": {"privileged": True}},
            "privileges",
            '{privileges: ["docker.privileged"]}',
            {"privileges": ["docker.privileged"]},
        ),
        (
            {"container": IMAGE, "docker": {"capAdd": ["SYS_ADMIN"]}},
            "privileges",
            '{privileges: ["docker.capAdd=SYS_ADMIN"]}',
            {"privileges": ["docker.capAdd=SYS_ADMIN"]},
        ),
        (
            {"container": IMAGE, "docker": {"network": "host"}},
            "privileges",
            '{privileges: ["docker.network=host"]}',
            {"privileges": ["docker.network"]},
        ),
        (
            {"container": IMAGE, "docker": {"whatever": {"x": 1}}},
            "privileges",
            '{privileges: ["docker.whatever"]}',
            {"privileges": ["docker.whatever"]},
        ),
        (
            {"container": IMAGE, "env": [{"key": "A", "valueFrom": {"file": "/etc/shadow"}}]},
            "secretFiles",
            "{secretFiles: [/etc/shadow]}",
            {"secretFiles": ["/etc"]},
        ),
        (
            {"container": IMAGE, "env": [{"key": "A", "valueFrom": {"env": "AWS_KEY"}}]},
            "environment",
            "{environment: [AWS_KEY]}",
            {"environment": ["AWS_*"]},
        ),
        (
            {"container": {"command": ["/opt/x/run"]}, "shimletName": "process"},
            "programs",
            "{programs: [/opt/x/run]}",
            {"programs": ["/opt/x/"]},
        ),
        (
            {
                "container": {"command": ["sh"]},
                "shimletName": "process",
                "env": [{"key": "LD_PRELOAD", "value": "/tmp/x.so"}],
            },
            "privileges",
            '{privileges: ["process.LD_PRELOAD"]}',
            {"privileges": ["process.LD_PRELOAD"]},
        ),
    ],
)
def test_a_violation_names_its_rule_and_the_line_that_allows_it(
    spec: Mapping[str, Any], rule: str, snippet: str, rules: Mapping[str, Any]
):
    denied = {"images": ["only/*"]} if rule == "images" else {}
    (found,) = says(spec, denied)
    assert f"the rule policy.{rule} does not allow it: " in found
    assert found.endswith(ALLOW + snippet)
    assert says(spec, rules) == []


@pytest.mark.parametrize(
    "spec",
    [
        {"container": {"image": "anything/at:all"}},
        {"container": IMAGE, "bindAddress": "127.0.0.5"},
        {"container": IMAGE, "bindAddress": "::1"},
        {"container": IMAGE, "hostPort": 18500},
        {"container": IMAGE, "docker": {"stopGrace": "5s", "network": "bridge", "ipc": "private", "privileged": False}},
        {"engine": "llama.cpp", "modelFile": "/models/org/x.gguf"},
        {"engine": "llama.cpp", "modelFile": "/srv/models/x.gguf"},
    ],
)
def test_what_harms_nobody_is_allowed_without_asking(spec: Mapping[str, Any]):
    assert says(spec) == []


def test_a_root_covers_what_is_below_it_and_not_what_is_beside_it(tmp_path: Path):
    rules = policy({"hostPaths": [{"path": f"{tmp_path}/data"}]})
    assert rules.host_path(f"{tmp_path}/data", read_only=True) == ""
    assert rules.host_path(f"{tmp_path}/data/a/b", read_only=True) == ""
    assert rules.host_path(f"{tmp_path}/data2", read_only=True) != ""
    assert rules.host_path(f"{tmp_path}/data/../other", read_only=True) != ""
    assert rules.host_path("/", read_only=True) != ""


def test_a_root_that_may_only_be_read_is_not_written(tmp_path: Path):
    rules = policy({"hostPaths": [{"path": str(tmp_path)}]})
    assert "may only be read" in rules.host_path(str(tmp_path), read_only=False)
    both = policy({"hostPaths": [{"path": str(tmp_path)}, {"path": f"{tmp_path}/w", "readOnly": False}]})
    assert both.host_path(f"{tmp_path}/w/x", read_only=False) == ""


def test_links_are_followed_before_anything_is_compared(tmp_path: Path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "out").symlink_to("/etc")
    (tmp_path / "link").symlink_to(tmp_path / "data")
    rules = policy({"hostPaths": [{"path": f"{tmp_path}/link"}], "secretFiles": [f"{tmp_path}/data"]})
    assert rules.host_path(f"{tmp_path}/data/x", read_only=True) == ""
    assert "in truth /etc/passwd" in rules.host_path(f"{tmp_path}/data/out/passwd", read_only=True)
    assert "in truth /etc/shadow" in rules.secret(SecretRef("file", f"{tmp_path}/data/out/shadow"))


# ---- models


def place(tmp_path: Path) -> Path:
    """A folder with specs/, bin/ and models/ in it."""
    for name in ("specs", "bin", "models"):
        (tmp_path / name).mkdir()
    return tmp_path / "specs"


def test_a_model_may_lie_beside_the_specs_and_be_named_by_its_path_there(tmp_path: Path):
    specs = place(tmp_path)
    model = tmp_path / "models" / "tiny.gguf"
    model.write_bytes(b"")
    rules = policy(specs=specs)
    assert rules.model(str(model)) == (str(model), "")
    assert rules.model("tiny.gguf") == (str(model), "")
    assert rules.model("later.gguf") == (f"{tmp_path}/models/later.gguf", "")
    assert rules.model("../specs/a.yaml")[1] != ""
    assert rules.model("/etc/passwd")[1] != ""


def test_a_relative_model_is_looked_for_below_each_root(tmp_path: Path):
    (tmp_path / "b" / "org").mkdir(parents=True)
    rules = policy({"modelRoots": [f"{tmp_path}/a", f"{tmp_path}/b"]})
    assert rules.model("org") == (f"{tmp_path}/b/org", "")
    assert rules.model("none") == (f"{tmp_path}/a/none", "")


def test_models_beside_the_specs_cannot_be_a_link_to_everything(tmp_path: Path):
    (tmp_path / "specs").mkdir()
    (tmp_path / "models").symlink_to("/")
    rules = policy(specs=tmp_path / "specs")
    assert rules.model("etc/passwd")[1] != ""
    assert rules.model("/etc/passwd")[1] != ""


def test_a_link_in_models_leads_nowhere_else(tmp_path: Path):
    specs = place(tmp_path)
    (tmp_path / "models" / "x").symlink_to("/etc/passwd")
    assert "in truth /etc/passwd" in policy(specs=specs).model("x")[1]


def test_listed_model_roots_replace_the_usual_ones(tmp_path: Path):
    rules = policy({"modelRoots": [str(tmp_path)]}, specs=place(tmp_path))
    assert rules.model(f"{tmp_path}/x") == (f"{tmp_path}/x", "")
    assert rules.model("/models/x")[1] != ""
    assert policy({"modelRoots": []}).model("x")[1].endswith("{modelRoots: [/path/of/models]}")


# ---- programs


def install(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return str(path)


def test_an_ordinary_users_agent_runs_what_lies_in_bin_beside_the_specs_and_on_its_path(tmp_path: Path):
    rules = policy(specs=place(tmp_path), search=f"{tmp_path}/usr/bin:relative:")
    own = install(tmp_path / "bin" / "serve")
    system = install(tmp_path / "usr" / "bin" / "tool")
    other = install(tmp_path / "opt" / "tool")
    assert rules.program("serve") == (own, "")
    assert rules.program(own) == (own, "")
    assert rules.program("tool") == (system, "")
    assert rules.program(system) == (system, "")
    assert "lies neither in" in rules.program(other)[1]
    assert rules.program("./serve")[1] != ""
    assert rules.program(f"{tmp_path}/usr/bin/../../opt/tool")[1] != ""


def test_as_root_nothing_runs_unless_it_is_listed(tmp_path: Path):
    specs = place(tmp_path)
    own = install(tmp_path / "bin" / "serve")
    rules = policy(specs=specs, root=True)
    assert "as root only listed programs may run" in rules.program("serve")[1]
    assert "as root only listed programs may run" in rules.program("/bin/sh")[1]
    assert policy({"programs": [own]}, specs=specs, root=True).program("serve") == (own, "")


def test_a_list_of_programs_replaces_the_usual_ones(tmp_path: Path):
    specs = place(tmp_path)
    install(tmp_path / "bin" / "serve")
    listed = install(tmp_path / "opt" / "serve")
    rules = policy({"programs": [f"{tmp_path}/opt/"]}, specs=specs)
    assert rules.program("serve") == (listed, "")
    assert rules.program("/bin/sh")[1] != ""
    assert "none is listed" in policy({"programs": []}, specs=specs).program("serve")[1]


def test_programs_may_be_listed_by_glob(tmp_path: Path):
    tool = install(tmp_path / "v2" / "bin" / "llama-server")
    (tmp_path / "link").symlink_to(tmp_path / "v2")
    rules = policy({"programs": [f"{tmp_path}/*/bin/llama-*"]})
    assert rules.program(tool) == (tool, "")
    assert rules.program(f"{tmp_path}/v2/bin/other")[1] != ""
    assert policy({"programs": [f"{tmp_path}/link/bin/llama-*"]}).program(tool) == (tool, "")


def test_a_link_in_bin_cannot_lead_out_of_it(tmp_path: Path):
    rules = policy(specs=place(tmp_path), search="")
    (tmp_path / "bin" / "sh").symlink_to("/bin/sh")
    assert rules.program("sh")[1] != ""
    (tmp_path / "bin" / "sh").unlink()
    (tmp_path / "bin").rmdir()
    (tmp_path / "bin").symlink_to("/bin")
    assert rules.program("sh")[1] != ""


def test_a_forbidden_program_does_not_hide_an_allowed_one_of_its_name(tmp_path: Path):
    specs = place(tmp_path)
    install(tmp_path / "bin" / "serve")
    listed = install(tmp_path / "opt" / "serve")
    assert policy({"programs": [listed]}, specs=specs, root=True).program("serve") == (listed, "")


def test_a_program_that_is_not_installed_yet_is_the_worlds_to_report(tmp_path: Path):
    specs = place(tmp_path)
    assert policy(specs=specs, search="/usr/bin").program("not-there-yet") == ("not-there-yet", "")
    listed = f"{tmp_path}/opt/not-there-yet"
    assert policy({"programs": [listed]}, specs=specs, root=True).program("not-there-yet") == (listed, "")
    assert policy({"programs": [listed]}, specs=specs, root=True).program("other")[1] != ""


def test_a_program_that_was_not_found_cannot_be_chosen_by_a_path_of_the_specs_own(tmp_path: Path):
    spec = {
        "container": {"command": ["not-there-yet"]},
        "shimletName": "process",
        "env": [{"key": "PATH", "value": "/tmp"}],
    }
    (found,) = says(spec)
    assert found.startswith("spec.env[0].key: the rule policy.privileges does not allow it: process.PATH")
    assert says({**spec, "container": {"command": ["sh"]}}) == []


def test_a_file_that_is_not_executable_is_no_program(tmp_path: Path):
    rules = policy(specs=place(tmp_path), search=f"{tmp_path}/usr/bin")
    path = Path(install(tmp_path / "bin" / "serve"))
    path.chmod(0o644)
    if os.geteuid() != 0 or not os.access(path, os.X_OK):
        assert rules.program("serve") == ("serve", "")


# ---- the block itself


def test_mistakes_in_the_block_are_named_all_at_once():
    with pytest.raises(ValueError, match="policy") as caught:
        policy({"hostPath": [], "portRange": "9-1", "bindAddresses": ["all"], "programs": ["sh"]})
    assert sorted(str(caught.value).splitlines()) == [
        'policy.bindAddresses[0]: must be an address or a network such as "10.0.0.0/8", not "all"',
        'policy.hostPath: is not a known field; did you mean "hostPaths"?',
        'policy.portRange: must be "FIRST-LAST", ports between 1 and 65535, not "9-1"',
        "policy.programs[0]: must be an absolute path without ':', not \"sh\"",
    ]
