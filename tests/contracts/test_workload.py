"""Placeholders, and values that nobody can change."""

from dataclasses import FrozenInstanceError

import pytest

from agent.contracts import Check, Placement, Workload, fill

VALUES = {"port": "18000", "host": "127.0.0.1", "model": "/models/x", "name": "web"}


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("{port}", "18000"),
        ("--url=http://{host}:{port}/{name}", "--url=http://127.0.0.1:18000/web"),
        ("{model}{model}", "/models/x/models/x"),
        ("{{port}}", "{{port}}"),
        ("{{port}", "{{port}"),
        ("{port}}", "{port}}"),
        ('{"a": "{other}"}', '{"a": "{other}"}'),
        ("{ port }", "{ port }"),
        ("{}", "{}"),
        ("{PORT}", "{PORT}"),
        ("plain", "plain"),
        ("", ""),
    ],
)
def test_only_the_four_placeholders_are_filled(text: str, filled: str) -> None:
    assert fill(text, VALUES) == filled


def test_what_is_filled_in_is_not_filled_again() -> None:
    assert fill("{name}", {**VALUES, "name": "{port}"}) == "{port}"


def test_a_placeholder_without_a_value_is_a_bug() -> None:
    with pytest.raises(KeyError):
        fill("{port}", {})


@pytest.mark.parametrize("value", [Workload(), Check(), Placement(0)])
def test_values_are_frozen(value: object) -> None:
    with pytest.raises((FrozenInstanceError, AttributeError, TypeError)):
        value.port = 1  # type: ignore[attr-defined]
    hash(value)
