"""The schema: what editors are told is what we take, and every field says what it is for."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from agent.spec.document import DeploySpec, schema

REFERENCE = {
    "modelName": "example-model",
    "modelFile": "/path/to/model",
    "resourceRequirements": {"acceleratorType": "NVIDIA GPU", "acceleratorCount": 1, "cpu": "4", "memory": "16Gi"},
    "replicaCount": 1,
    "env": [{"key": "A", "value": "b"}],
    "contextLength": 4096,
}


def whole(spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "xmod.dev/v1", "kind": "DeploySpec", "metadata": {"name": "a"}, "spec": spec}


def fields(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every field of a schema, with its path."""
    for name, field in node.get("properties", {}).items():
        yield f"{path}.{name}".lstrip("."), field


def test_the_references_body_is_a_valid_spec():
    assert DeploySpec.model_validate(whole(REFERENCE)).spec.model_name == "example-model"


def test_a_spec_cannot_be_changed_once_it_is_read():
    read = DeploySpec.model_validate(whole(REFERENCE))
    with pytest.raises(ValidationError):
        read.spec.replica_count = 2


def test_every_field_has_a_description():
    made = schema()
    assert made["$schema"].startswith("https://json-schema.org/")
    for definition in [made, *made["$defs"].values()]:
        for path, field in fields(definition):
            assert field.get("description") or "$ref" in field, path


def test_the_schema_knows_no_null_and_no_unknown_field():
    made = schema()
    override = made["$defs"]["Override"]["properties"]["spec"]
    assert '"null"' in json.dumps(override), "null takes a field away there, and nowhere else"
    assert override["properties"].keys() == made["$defs"]["Spec"]["properties"].keys() - {"hosts", "overrides"}
    override.clear()
    assert '"null"' not in json.dumps(made)
    for name, definition in made["$defs"].items():
        assert definition["additionalProperties"] is False, name


def test_each_shimlet_may_have_a_block():
    assert schema(frozenset({"mine"}))["$defs"]["Spec"]["properties"]["mine"]["type"] == "object"
    assert "docker" in schema()["$defs"]["Spec"]["properties"]
