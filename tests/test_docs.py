"""The documents say what is: tables are the code's, examples run, commands exist, links lead somewhere."""

import json
import re
import secrets
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from agent.control.board import Change, Phase
from agent.registry import Registry
from agent.settings import Settings
from agent.spec.engine import Engines
from agent.spec.policy import Policy, Rules
from agent.spec.resolve import Defaults, Resolver
from agent.surface.notice import Notice
from agent.surface.notify import Origin, payload
from agent.surface.trouble import Facts
from tests.fakes.program import eventually, program
from tools import tables

ROOT = Path(__file__).resolve().parent.parent
MANUAL = {str(page.relative_to(ROOT)): page.read_text() for page in tables.PAGES}  # the README, and docs/
DOCS = MANUAL | {name: (ROOT / name).read_text() for name in ("CONTRIBUTING.md", "CHANGELOG.md")}
README = MANUAL["README.md"]
LONGEST = 300  # lines of the README


def blocks(language: str) -> list[str]:
    found = (re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE) for text in MANUAL.values())
    return [block for page in found for block in page]


def prose(text: str) -> str:
    """A page without its blocks of code: what has headings and links."""
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w-]", "", line.lower().replace(" ", "-")) for line in headings}


def code(text: str) -> list[str]:
    """What stands between back-ticks, and lines of indented blocks."""
    return re.findall(r"`([^`\n]+)`", text) + re.findall(r"^ {4}(\S.*)$", text, re.MULTILINE)


@pytest.mark.parametrize("name", tables.TABLES)
def test_the_table_is_the_codes_and_on_one_page(name: str):
    table = f"<!-- {name} -->\n{tables.TABLES[name]()}\n<!-- end -->"
    assert sum(table in text for text in MANUAL.values()) == 1, "run: python -m tools.tables"


def test_the_readme_stays_short_and_leads_to_every_page():
    assert README.count("\n") < LONGEST
    assert README.startswith("# xmod-agent\n\n    make run ")
    assert set(MANUAL) - {"README.md"} <= set(re.findall(r"\]\(([\w/.]+)\)", README))


def test_every_phase_is_explained():
    rows = re.findall(r"^\| `(\w+)` \|", README.partition("| phase |")[2].partition("\n\n")[0], re.MULTILINE)
    assert set(rows) == {phase.value for phase in Phase}


def test_the_unit_is_what_is_installed():
    assert tables.UNIT.read_text() == tables.unit(), "run: python -m tools.tables"


def test_every_command_that_the_documents_name_exists():
    commands = tables.program().commands
    named = set()
    for text in DOCS.values():
        for snippet in code(text):
            for name, rest in re.findall(r"\bxmod-agent ([a-z-]+)([^#|;]*)", snippet):
                assert name in commands, snippet
                named.add(name)
                known = {flag for parameter in commands[name].params for flag in parameter.opts} | {"--help"}
                assert set(re.findall(r"(?<!\S)--?[a-z][a-z-]*", rest)) <= known, snippet
    assert named == set(commands)


def test_every_setting_that_the_documents_name_exists():
    known = {env for _, env, *_ in tables.settings_table()}
    assert set(re.findall(r"\bXMOD_[A-Z_]+\b", "".join(MANUAL.values()))) <= known


def test_every_make_target_that_the_documents_name_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for text in DOCS.values():
        assert {name for snippet in code(text) for name in re.findall(r"\bmake ([a-z]+)", snippet)} <= targets


@pytest.mark.parametrize("name", DOCS)
def test_every_link_leads_somewhere(name: str):
    here = ROOT / name
    for target in re.findall(r"\]\(([^)]+)\)", prose(DOCS[name])):
        path, _, anchor = target.partition("#")
        if "://" not in target:
            there = (here.parent / path).resolve() if path else here
            assert there.exists(), target
            assert not anchor or anchor in anchors(there.read_text()), target


def test_every_path_that_contributing_names_exists():
    for path in re.findall(
        r"`((?:agent|goalsets|shimlets|specs-example|tests|tools|bench)/[\w/.-]*)`", DOCS["CONTRIBUTING.md"]
    ):
        assert (ROOT / path).exists(), path


def test_every_spec_in_the_documents_is_valid(tmp_path: Path):
    registry = Registry()
    registry.load_entry_points()
    policy = Policy.load({}, specs=tmp_path, search="/usr/bin:/bin", as_root=False)
    specs = [block for block in blocks("yaml") if "kind: DeploySpec" in block]
    assert len(specs) >= 3
    for spec in specs:
        shimlet = "docker" if "image:" in spec else "process"
        defaults = Defaults(shimlet=shimlet, shimlets=registry.shimlets, goalsets=registry.goalsets)
        reading = Resolver(policy=policy, engines=Engines.load(), defaults=defaults).read_file("x.yaml", spec.encode())
        assert not reading.problems, reading.problems
        assert len(reading.wanted) == 1


def test_the_policy_in_the_documents_is_valid_and_shows_every_rule(tmp_path: Path):
    [block] = [yaml.safe_load(block) for block in blocks("yaml") if block.startswith("policy:")]
    Settings.model_validate({"directory": tmp_path, **block})
    policy = Policy.load(block["policy"], specs=tmp_path, search="", as_root=True)
    assert not policy.address("10.1.2.3")
    assert set(block["policy"]) == {field.alias or name for name, field in Rules.model_fields.items()}


def test_the_notification_in_the_documents_has_the_fields_of_one():
    [shown] = [json.loads(block) for block in blocks("json") if '"event"' in block]
    made = payload(Notice("service.failed", Facts()), Origin("h", "i"), number="1", now=datetime.now(UTC))
    assert list(shown) == list(made)
    assert list(shown["change"]) == list(Change.__slots__)


def test_the_plugin_in_the_documents_runs_a_service_and_removes_it(tmp_path: Path):
    [source] = blocks("python")
    (tmp_path / "files.py").write_text(source)
    site = {
        "apiVersion": "xmod.dev/v1",
        "kind": "DeploySpec",
        "metadata": {"name": "site"},
        "spec": {
            "goalSetName": "announced-deploy",
            "replicaCount": 2,
            "container": {"image": "any", "health": {"none": True}},
        },
    }
    with program("files", words=("--plugin-dir", str(tmp_path))) as agent:
        folder = agent.root / "state" / "files" / "files" / agent.instance
        (agent.specs / "site.yaml").write_text(yaml.safe_dump(site))
        agent.start()
        eventually(lambda: agent.service("site").get("phase") == "Ready", "the site is ready")
        assert len(list(folder.glob("site.*.json"))) == 2
        assert (tmp_path / "announced.txt").read_text() == "site\n"
        assert "files.py" in agent.says("plugins", "--plugin-dir", str(tmp_path))
        site["spec"]["env"] = [{"key": "COLOUR", "value": "red"}]
        (agent.specs / "site.yaml").write_text(yaml.safe_dump(site))
        eventually(lambda: any("COLOUR" in path.read_text() for path in folder.glob("site.*.json")), "it is replaced")
        assert "is in place" in agent.says("logs", "site")
        (agent.specs / "site.yaml").unlink()
        eventually(lambda: not list(folder.glob("*.json")), "it is gone")


def first_service(mentions: str) -> str:
    [spec] = [block for block in blocks("yaml") if "name: hello" in block and mentions in block]
    return spec


def test_the_first_service_in_the_readme_answers_as_a_plain_program():
    spec = first_service("http.server").replace("python3", sys.executable)
    with program("process", {"policy": {"programs": [sys.executable]}}) as agent:
        agent.start()
        (agent.specs / "hello.yaml").write_text(spec)
        assert agent.serving("hello")
        assert "GET / " in agent.says("logs", "hello")
        assert "nothing to do" in agent.says("plan", str(agent.specs), *agent.options)
        (agent.specs / "hello.yaml").unlink()
        eventually(lambda: not agent.service("hello"), "it is gone")


@pytest.fixture
def mini(tmp_path: Path) -> Iterator[str]:
    """The image that the README makes, by its own words but for the name."""
    name = f"t-mini-{secrets.token_hex(4)}:latest"
    [words] = [line for line in code(README) if "docker import - mini:latest" in line]
    subprocess.run(words.replace("mini:latest", name), shell=True, check=True, capture_output=True, cwd=tmp_path)
    yield name
    subprocess.run(["docker", "image", "rm", "-f", name], check=True, capture_output=True)


@pytest.mark.docker
def test_the_first_service_in_the_readme_answers_in_docker(mini: str):
    with program("docker") as agent:
        agent.start()
        (agent.specs / "hello.yaml").write_text(first_service("mini:latest").replace("mini:latest", mini))
        assert agent.serving("hello")
        (agent.specs / "hello.yaml").unlink()
        eventually(lambda: not agent.service("hello"), "it is gone")


def test_constraints_pin_versions_and_nothing_else():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line) for line in lines)
    pinned = {re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower() for line in lines}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(item for extra in project["optional-dependencies"].values() for item in extra),
    ]
    names = {re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", item)[0]).lower() for item in wanted}
    assert names - {"xmod-agent"} <= pinned


def test_the_changelog_begins_with_what_is_to_come():
    assert re.search(r"^## \[(Unreleased|\d+\.\d+\.\d+)\]", DOCS["CHANGELOG.md"], re.MULTILINE)
    assert version("xmod-agent")
