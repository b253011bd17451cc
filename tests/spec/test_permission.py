"""What may be started now: a Service is held to the same rules as its spec, whatever became of links and rules since."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.contracts import Model, Mount, SecretRef, Service, Workload
from agent.spec.engine import Engines
from agent.spec.permission import Permission
from agent.spec.resolve import Defaults
from tests.spec.making import GOALSETS, policy, resolver, says, service

EXAMPLES = Path(__file__).resolve().parents[2] / "specs-example"
FILES = sorted(path for path in EXAMPLES.rglob("*") if path.suffix in (".yaml", ".json"))
IMAGE = {"image": "mini", "port": 80}
COMMAND = {"command": ["/bin/sh"]}
PROCESS = {"shimletName": "process"}


def permission(rules: Mapping[str, Any] | None = None, engines: Mapping[str, Any] | None = None, **more: Any):
    defaults = Defaults(shimlet="docker", goalsets=GOALSETS)
    return Permission(policy(rules, **more), Engines.load(engines), defaults).refusal


def refusal(wanted: Service, rules: Mapping[str, Any] | None = None, **more: Any) -> str:
    return permission(rules, **more)(wanted)


def with_workload(wanted: Service, **changes: Any) -> Service:
    return replace(wanted, workload=replace(wanted.workload, **changes))


def volume(path: str, **more: Any) -> dict[str, Any]:
    return {"container": {**IMAGE, "volumes": [{"hostPath": path, "mountPath": path, **more}]}}


def secret(**ref: str) -> dict[str, Any]:
    return {"container": IMAGE, "env": [{"key": "A", "valueFrom": ref}]}


LD = {"container": COMMAND, **PROCESS, "env": [{"key": "LD_PRELOAD", "value": "/tmp/x.so"}]}
TABLE: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"container": IMAGE}, {"images": []}, "images"),
    ({"container": {"image": {"archive": "/srv/a.tar"}}}, {}, "hostPaths"),
    (volume("/srv/a"), {}, "hostPaths"),
    (volume("/srv/a", readOnly=False), {"hostPaths": [{"path": "/srv"}]}, "hostPaths"),
    ({"container": IMAGE, "modelFile": "/opt/m"}, {}, "modelRoots"),
    ({"container": IMAGE, "bindAddress": "0.0.0.0"}, {}, "bindAddresses"),
    ({"container": IMAGE, "hostPort": 22}, {}, "portRange"),
    ({"container": IMAGE, "docker": {"privileged": True}}, {}, "privileges"),
    ({"container": IMAGE, "docker": {"capAdd": ["SYS_ADMIN"]}}, {}, "privileges"),
    (secret(file="/etc/shadow"), {}, "secretFiles"),
    (secret(env="AWS_KEY"), {}, "environment"),
    ({"container": COMMAND, **PROCESS}, {"programs": ["/usr/bin/true"]}, "programs"),
    (LD, {}, "privileges"),
]
OPEN = {
    "hostPaths": [{"path": "/", "readOnly": False}],
    "modelRoots": ["/"],
    "bindAddresses": ["0.0.0.0/0"],
    "portRange": "1-65535",
    "privileges": ["docker.privileged", "docker.capAdd", "process.LD_PRELOAD"],
    "secretFiles": ["/"],
    "environment": ["*"],
    "programs": ["/"],
}


@pytest.mark.parametrize(("spec", "rules", "rule"), TABLE, ids=lambda value: value if isinstance(value, str) else "")
def test_what_a_narrower_policy_forbids_is_not_started(spec: dict, rules: dict, rule: str):
    """Resolved while all was allowed, as a mark is; asked under the policy of now."""
    wanted = service(spec, OPEN)
    assert refusal(wanted, OPEN) == ""
    told = refusal(wanted, rules)
    assert told.startswith(f"the rule policy.{rule} does not allow it: ")
    assert f"to allow it, add to the settings  policy: {{{rule}: " in told


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_what_is_read_may_be_started(path: Path):
    """Both ask the same: else a spec would be taken that never runs."""
    blocks = re.findall(r"^#   policy: (\{.*\})$", path.read_text(), re.MULTILINE)
    rules = {key: value for block in blocks for key, value in yaml.safe_load(block).items()}
    for shimlet in ("docker", "process"):
        for wanted in resolver(rules, specs=EXAMPLES, shimlet=shimlet).read_file("a", path.read_bytes()).wanted:
            assert refusal(wanted.service, rules, specs=EXAMPLES) == ""


def test_links_are_followed_at_the_moment_of_asking(tmp_path: Path):
    """Model, mount, archive, secret and program: each was good when its file was read."""
    specs = tmp_path / "specs"
    for name in ("specs", "models", "data", "bin"):
        (tmp_path / name).mkdir()
    program = tmp_path / "bin" / "serve"
    for file in (tmp_path / "models" / "m", tmp_path / "data" / "d", program):
        file.write_text("#!/bin/sh\n")
        file.chmod(0o755)
    rules = {"hostPaths": [{"path": f"{tmp_path}/data"}], "secretFiles": [f"{tmp_path}/data"]}
    data = f"{tmp_path}/data/d"
    resolved = [
        service({"container": IMAGE, "modelFile": "m"}, rules, specs=specs),
        service(volume(data), rules, specs=specs),
        service({"container": {"image": {"archive": data}}}, rules, specs=specs),
        service(secret(file=data), rules, specs=specs),
        service({"container": {"command": ["serve"]}, **PROCESS}, rules, specs=specs, search=""),
    ]
    may = permission(rules, specs=specs, search="")
    assert [may(wanted) for wanted in resolved] == [""] * 5
    for file in (tmp_path / "models" / "m", tmp_path / "data" / "d", program):
        file.unlink()
        file.symlink_to("/bin/sh" if file == program else "/etc")
    told = [may(wanted) for wanted in resolved]
    assert ["in truth /etc" in sentence for sentence in told[:4]] == [True] * 4
    assert f"{program} lies neither in" in told[4]


def test_of_a_bare_name_every_program_that_it_may_stand_for_must_be_allowed(tmp_path: Path):
    """It was not installed when its spec was read; what starts is whatever is found first."""
    specs, search = tmp_path / "specs", tmp_path / "search"
    for folder in (specs, search, tmp_path / "bin"):
        folder.mkdir()
    wanted = service({"container": {"command": ["serve"]}, **PROCESS}, specs=specs, search=str(search))
    assert wanted.workload.command == ("serve",)
    may = permission(specs=specs, search=str(search))
    assert may(wanted) == ""
    (search / "serve").symlink_to("/bin/true")
    assert may(wanted) == "", "what the operator's PATH holds may run"
    (tmp_path / "bin" / "serve").symlink_to("/bin/sh")
    assert f"{tmp_path}/bin/serve lies neither in" in may(wanted)


def test_a_program_whose_name_is_filled_in_later_is_no_name():
    """{model} as a program would run whatever lies where models lie."""
    wanted = service({"container": {"command": ["sh"]}, **PROCESS})
    for name in ("{model}", "/usr/bin/{name}"):
        assert "is named outright" in refusal(with_workload(wanted, command=(name,)))
        assert "is named outright" in refusal(with_workload(wanted, command=(), program=name))


def test_an_image_that_is_an_archive_by_its_name_is_bound_like_one():
    wanted = service({"container": IMAGE})
    assert "policy.hostPaths" in refusal(with_workload(wanted, image="archive:/etc/shadow"))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"options": "nonsense"}, "cannot be read"),
        ({"options": "[1]"}, "cannot be read"),
        ({"options": "[" * 100_000}, "cannot be read"),
        ({"options": '{"privileged": true}'}, "policy.privileges"),
        ({"model": Model("etc/shadow")}, "no absolute path"),
        ({"model": Model("file:///etc/shadow")}, "policy.modelRoots"),
        ({"mounts": (Mount("../../etc", "/etc"),)}, "policy.hostPaths"),
        ({"env": (("A", SecretRef("other", "/etc/shadow")),)}, "policy.secretFiles"),
    ],
)
def test_a_forged_mark_is_refused_and_breaks_nothing(changes: dict, told: str):
    assert told in refusal(with_workload(service({"container": IMAGE}), **changes))


@pytest.mark.parametrize("bind", ["", "localhost", "nonsense"])
def test_a_forged_address_is_refused(bind: str):
    assert "is no address" in refusal(replace(service({"container": IMAGE}), bind=bind))


def test_what_an_engines_row_sets_is_the_operators_word():
    row = {"llama.cpp": {"env": {"LD_LIBRARY_PATH": "/opt/cuda"}}}
    wanted = service({"container": {"command": ["sh"]}, **PROCESS})
    wanted = with_workload(wanted, env=(("LD_LIBRARY_PATH", "/opt/cuda"),))
    assert refusal(wanted, engines=row) == ""
    assert "policy.privileges" in refusal(wanted)
    assert "policy.privileges" in refusal(with_workload(wanted, env=(("LD_LIBRARY_PATH", "/tmp"),)), engines=row)


def test_a_service_that_runs_nothing_is_its_shimlets_business():
    wanted = replace(service({"container": COMMAND, **PROCESS}), workload=Workload())
    assert refusal(wanted) == ""


def test_a_secret_of_an_encrypted_spec_is_its_own_services_alone() -> None:
    """A forged mark may name another's."""
    wanted = service({"container": IMAGE})
    own = with_workload(wanted, env=(("A", SecretRef("sops", "web/A")),))
    assert refusal(own) == ""
    assert "another service's" in refusal(with_workload(wanted, env=(("A", SecretRef("sops", "web-2/A")),)))


def test_an_image_password_is_held_to_the_policy_like_any_secret() -> None:
    given = {"username": "robot", "passwordFrom": {"file": "/etc/secret"}}
    wanted = service({"container": {**IMAGE, "imageCredentials": given}}, {"secretFiles": ["/etc/secret"]})
    assert refusal(wanted, {"secretFiles": ["/etc/secret"]}) == ""
    assert "policy.secretFiles" in refusal(wanted)
    assert "policy.secretFiles" in says({"container": {**IMAGE, "imageCredentials": given}})[0]
