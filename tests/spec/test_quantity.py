"""Durations, cores, bytes and names: what is read, and what is refused."""

import pytest
from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from agent.spec.quantity import Address, HostPath, ImageName, ModelFile, ModelName, cores, seconds, shown, size


@pytest.mark.parametrize(
    ("text", "value"),
    [("60s", 60), ("5m", 300), ("1h30m", 5400), ("500ms", 0.5), ("1.5s", 1.5), ("24h", 86400)],
)
def test_a_duration_has_a_unit(text: str, value: float):
    assert seconds(text) == value


@pytest.mark.parametrize(
    "text", [60, "60", "0s", "-1s", "25h", "1d", "s", "", "1 s", "9" * 400 + "h", None, True, "1s\n"]
)
def test_what_is_no_duration_is_refused(text: object):
    with pytest.raises(PydanticCustomError):
        seconds(text)


@pytest.mark.parametrize(("text", "value"), [("4", 4), (4, 4), (0.5, 0.5), ("500m", 0.5), ("1.5", 1.5)])
def test_cores_may_be_a_number_or_millicores(text: object, value: float):
    assert cores(text) == value


@pytest.mark.parametrize("text", ["0", 0, "-1", "4 cores", "", True, float("nan"), float("inf"), "9" * 400, [], "1e3"])
def test_what_is_no_amount_of_cores_is_refused(text: object):
    with pytest.raises(PydanticCustomError):
        cores(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [("16Gi", 16 << 30), ("512Mi", 512 << 20), ("1.5Gi", 3 << 29), ("2G", 2 * 10**9), (1024, 1024), ("64k", 64_000)],
)
def test_memory_has_binary_and_decimal_units(text: object, value: int):
    assert size(text) == value


@pytest.mark.parametrize("text", ["0", 0, "16GB", "16 Gi", "-1Gi", True, 1.5, "9" * 400 + "Gi", "", None, "0.1"])
def test_what_is_no_amount_of_memory_is_refused(text: object):
    with pytest.raises(PydanticCustomError):
        size(text)


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (HostPath, ["/", "/srv/a b"], ["srv", "", "/a:/b", "/a\nb", "~/x"]),
        (ModelFile, ["/models/x", "tiny.gguf", "org/model"], ["-m", "", "hf:x", "a\nb"]),
        (ModelName, ["qwen3-1.5b", "org/model:tag", "模型"], ["-a", "a b", "{port}", "", "a\n"]),
        (ImageName, ["mini:latest", "r.example:5000/a/b@sha256:ab"], ["-v", "a b", "", "archive: x"]),
        (Address, ["127.0.0.1", "::1", "0.0.0.0"], ["localhost", "1.2.3", "", "127.1"]),
    ],
)
def test_names_and_paths_cannot_be_taken_for_something_else(kind: object, good: list[str], bad: list[str]):
    adapter = TypeAdapter(kind)
    for text in good:
        assert adapter.validate_python(text) == text
    for text in bad:
        with pytest.raises(ValidationError):
            adapter.validate_python(text)


def test_a_value_is_shown_as_its_writer_knows_it():
    assert [shown(value) for value in ("a", 1, True, None, [], {})] == [
        '"a"',
        "1",
        "true",
        "nothing",
        "a list",
        "a mapping",
    ]
    assert len(shown("x" * 1000)) <= 80
