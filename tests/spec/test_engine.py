"""The engine table: data that a settings file may change, and arguments that a spec may not say again."""

import pytest

from agent.spec.engine import Engines
from tests.spec.making import ENGINES, says

MODEL = {"engine": "llama.cpp", "modelFile": "/models/a.gguf", "modelName": "a"}
VALUES = {"modelName": "a", "contextLength": "256"}


def test_llama_cpp_is_told_its_model_place_port_name_and_context():
    row = ENGINES.rows["llama.cpp"]
    assert row.arguments(VALUES) == (
        *("-m", "{model}", "--host", "{host}", "--port", "{port}", "-a", "a", "-c", "256", "--metrics"),
    )
    assert (row.program, row.port, row.goalset, row.smoke) == ("llama-server", 8080, "llm-deploy", "chat")
    assert (row.health.path, row.loading) == ("/health", (503,))


def test_an_argument_whose_value_the_spec_leaves_out_is_left_out():
    assert "-c" not in ENGINES.rows["llama.cpp"].arguments({"modelName": "a"})


@pytest.mark.parametrize(
    ("kind", "image"),
    [
        ("", "ghcr.io/ggml-org/llama.cpp:server"),
        ("NVIDIA GPU", "ghcr.io/ggml-org/llama.cpp:server-cuda"),
        ("AMD Instinct", "ghcr.io/ggml-org/llama.cpp:server-rocm"),
        ("something else", "ghcr.io/ggml-org/llama.cpp:server"),
    ],
)
def test_the_image_follows_the_kind_of_accelerator(kind: str, image: str):
    assert ENGINES.rows["llama.cpp"].image_of(kind) == image


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (
            ["--ctx-size=512"],
            ("spec.engineArgs[0]: --ctx-size contradicts -c 256, which comes from contextLength; change that instead"),
        ),
        (
            ["-ngl", "9", "--model", "/x"],
            ("spec.engineArgs[2]: --model contradicts -m {model}, which comes from modelFile; change that instead"),
        ),
        (
            ["--port", "1"],
            (
                "spec.engineArgs[0]: --port contradicts --port {port},"
                " which comes from container.port; change that instead"
            ),
        ),
        (
            ["--api-prefix", "/x"],
            "spec.engineArgs[0]: --api-prefix cannot be used: the agent asks /health and /v1 at the root",
        ),
    ],
)
def test_an_engine_argument_that_contradicts_ours_is_refused_with_both_named(args: list[str], expected: str):
    assert says({**MODEL, "contextLength": 256, "engineArgs": args}) == [expected]


def test_what_we_do_not_set_may_be_set():
    assert says({**MODEL, "engineArgs": ["--ctx-size", "512", "--metrics", "--threads=4"]}) == []


def test_settings_change_a_row_and_add_one():
    changed = Engines.load(
        {
            "llama.cpp": {"image": "mirror.example/llama:1"},
            "mine": {"image": "mine:1", "program": "mine", "port": 9000, "args": [{"argv": ["{model}"]}]},
        }
    )
    assert changed.rows["llama.cpp"].image == "mirror.example/llama:1"
    assert changed.rows["llama.cpp"].program == "llama-server"
    assert changed.rows["mine"].arguments({"modelName": "x"}) == ("{model}",)
    assert changed.default == "llama.cpp"


def test_mistakes_in_settings_are_named_all_at_once():
    with pytest.raises(ValueError, match="engines") as caught:
        Engines.load({"mine": {"image": "mine:1", "prot": 1}, "llama.cpp": 3})
    lines = str(caught.value).splitlines()
    assert 'engines.mine.prot: is not a known field; did you mean "port"?' in lines
    assert any(line.startswith("engines.mine.program: is missing") for line in lines)
    assert any(line.startswith("engines.llama.cpp: must be a mapping") for line in lines)
