"""specs-example/ is the schema's manual: every file loads, every field is shown, and each says what it needs allowed."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.spec.document import ANNOTATIONS, schema
from agent.spec.reading import read
from tests.spec.making import resolver

FOLDER = Path(__file__).resolve().parents[2] / "specs-example"
FILES = sorted(path for path in FOLDER.rglob("*") if path.suffix in (".yaml", ".json"))
NEEDS = re.compile(r"^#   policy: (\{.*\})$", re.MULTILINE)
DEFINITIONS = schema()["$defs"]


def needed(path: Path) -> dict[str, Any]:
    """What the comments of a file say that an operator must allow."""
    rules: dict[str, Any] = {}
    for block in NEEDS.findall(path.read_text()):
        rules |= yaml.safe_load(block)
    return rules


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_example_loads_under_what_its_comments_ask_for(path: Path):
    found = resolver(needed(path), specs=FOLDER).read_file(path.name, path.read_bytes())
    assert [str(problem) for problem in found.problems] == []
    assert found.wanted


@pytest.mark.parametrize("path", [path for path in FILES if needed(path)], ids=lambda path: path.name)
def test_what_its_comments_ask_for_is_needed(path: Path):
    found = resolver({}, specs=FOLDER, root=True).read_file(path.name, path.read_bytes())
    denied = {match[1] for problem in found.problems if (match := re.search(r"rule policy\.(\w+)", problem.message))}
    assert denied == set(needed(path))


def used(node: Any, definition: dict[str, Any], path: str) -> Iterator[str]:
    """The fields of the schema that a document uses, as Definition.field."""
    if "$ref" in definition:
        name = definition["$ref"].rpartition("/")[2]
        yield from used(node, DEFINITIONS[name], name)
    for form in [*definition.get("anyOf", []), *definition.get("oneOf", [])]:
        yield from used(node, form, path)
    if isinstance(node, list):
        for item in node:
            yield from used(item, definition.get("items", {}), path)
    if isinstance(node, dict):
        for name, field in definition.get("properties", {}).items():
            if name in node:
                yield f"{path}.{name}"
                yield from used(node[name], field, f"{path}.{name}")


def test_every_field_and_annotation_is_shown_in_one():
    shown: set[str] = set()
    for path in FILES:
        for document in read(path.read_bytes()).documents:
            if document.data["kind"] == "DeploySpec":
                shown |= set(used(document.data, schema(), "DeploySpec"))
    every = {f"{name}.{field}" for name, definition in DEFINITIONS.items() for field in definition["properties"]}
    every |= {f"Metadata.annotations.{name}" for name in ANNOTATIONS}
    every -= {"ImageCredentials.password"}  # only where sops encrypted it: docs/security.md shows that
    every -= {"Spec.process"}  # it has no options of its own yet
    assert every - shown == set()


def test_names_are_used_once_in_all_examples():
    names = [
        document.data["metadata"]["name"]
        for path in FILES
        for document in read(path.read_bytes()).documents
        if document.data["kind"] == "DeploySpec"
    ]
    assert len(names) == len(set(names))


def test_what_lies_at_the_top_runs_anywhere_with_one_program_and_one_model():
    top = sorted(path.name for path in FOLDER.glob("*.yaml"))
    assert top == ["tiny-llama.yaml"], "`make run` copies these; what needs an engine or an operator goes to more/"
    rules = {"programs": ["/opt/llama-server"]}
    found = resolver(rules, shimlet="process", specs=FOLDER, root=True).read_file(
        top[0], (FOLDER / top[0]).read_bytes()
    )
    (wanted,) = found.wanted
    assert wanted.service.workload.program == "/opt/llama-server"
    assert wanted.service.workload.model is not None
    assert wanted.service.workload.model.source == str(FOLDER.parent / "models" / "tiny.gguf")
