"""From a file's bytes to its services: whole or not at all, with digests that change when what runs does."""

import json
import time
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.spec.document import schema
from agent.spec.resolve import FileReading
from tests.spec.making import HEAD, document, problems, reading, resolver, service

IMAGE: dict[str, Any] = {"image": "mini", "port": 80, "command": ["/bin/x"], "args": ["a"]}
BASE: dict[str, Any] = {"container": IMAGE, "env": [{"key": "A", "value": "1"}]}


def test_a_file_with_any_problem_wants_nothing():
    found = reading(f"{document(BASE)}---\n{HEAD}spec: {{engin: x}}\n")
    assert found.wanted == ()
    assert len(found.problems) == 1


def test_a_file_may_want_many_services_and_each_knows_its_line():
    found = reading(f"# two\n{document(BASE, 'a')}---\n\n{document(BASE, 'b')}")
    assert [(wanted.service.name, wanted.line) for wanted in found.wanted] == [("a", 2), ("b", 19)]


def test_a_name_twice_in_one_file_is_refused():
    found = problems(f"{HEAD}spec: {{container: {{image: a}}}}\n---\n{HEAD}spec: {{container: {{image: b}}}}\n")
    assert found == ['8:18: metadata.name: "web" is already the name of the document on line 1; one of them must go']


def test_a_service_knows_its_file_and_leaves_source_and_revision_to_others():
    made = resolver().read_file("teams/web.yaml", document(BASE).encode()).wanted[0].service
    assert (made.file, made.source, made.revision) == ("teams/web.yaml", "", "")


def test_what_decides_where_and_how_often_is_on_the_service():
    spec = {
        **BASE,
        "replicaCount": 3,
        "rollout": {"strategy": "side-by-side"},
        "priority": 5,
        "bindAddress": "127.0.0.2",
    }
    made = service(spec)
    assert (made.replicas, made.strategy, made.priority, made.bind, made.port) == (
        3,
        "side-by-side",
        5,
        "127.0.0.2",
        None,
    )
    assert service({**BASE, "hostPort": 18080}).port == 18080


@pytest.mark.parametrize(
    ("spec", "goalset", "expected"),
    [
        (BASE, "", "service-deploy"),
        ({"engine": "llama.cpp", "modelFile": "/models/a"}, "", "llm-deploy"),
        ({"engine": "llama.cpp", "modelFile": "/models/a"}, "service-deploy", "service-deploy"),
        ({**BASE, "goalSetName": "opensource-llm-deploy"}, "service-deploy", "opensource-llm-deploy"),
    ],
)
def test_the_goalset_is_the_specs_else_the_settings_else_the_engines(spec: dict, goalset: str, expected: str):
    assert service(spec, goalset=goalset).goalset == expected


def test_the_shimlet_is_the_specs_else_the_settings():
    program = {"container": {**IMAGE, "command": ["sh"]}}
    assert service(program, shimlet="docker").shimlet == "docker"
    assert service(program, shimlet="process").shimlet == "process"
    assert service({**program, "shimletName": "docker"}, shimlet="process").shimlet == "docker"


# ---- digests


@pytest.mark.parametrize(
    "change",
    [
        {"replicaCount": 2},
        {"hostPort": 18080},
        {"bindAddress": "127.0.0.9"},
        {"priority": 9},
        {"rollout": {"strategy": "side-by-side"}},
        {"goalSetName": "llm-deploy"},
        {"process": {"anything": 1}},
        {"resourceRequirements": {}},
        {"container": {**IMAGE, "health": {"tcp": True, "timeout": "2s", "startupDeadline": "60s"}}},
        {"container": {**IMAGE, "volumes": []}},
        {"engineArgs": []},
    ],
)
def test_what_does_not_change_what_runs_is_not_in_the_digest(change: dict[str, Any]):
    assert service({**BASE, **change}).digest == service(BASE).digest


@pytest.mark.parametrize(
    "change",
    [
        {"env": [{"key": "A", "value": "2"}]},
        {"env": []},
        {"modelName": "m"},
        {"modelFile": "/models/m"},
        {"resourceRequirements": {"memory": "1Gi"}},
        {"resourceRequirements": {"acceleratorCount": 1}},
        {"docker": {"user": "1"}},
        *(
            {"container": {**IMAGE, **part}}
            for part in (
                {"image": "mini:2"},
                {"command": ["/bin/y"]},
                {"args": ["b"]},
                {"args": []},
                {"port": 81},
                {"health": {"path": "/"}},
                {"volumes": [{"hostPath": "/srv/a", "mountPath": "/a"}]},
            )
        ),
    ],
)
def test_what_changes_what_runs_changes_the_digest(change: dict[str, Any]):
    rules = {"hostPaths": [{"path": "/srv"}]}
    assert service({**BASE, **change}, rules).digest != service(BASE, rules).digest


def test_the_digest_of_a_plain_spec_never_changes_by_accident():
    """A new digest for an old spec is an agent that "resolves differently": promise 9. Change this on purpose only."""
    assert service(BASE).digest == "70d42590232a926dc02c1d14fcac5923fff99cfb65b6e234272e588d15a04a01"
    assert service(BASE).spec_digest == "78af4b4c84f40ad9e335ba732af974711bfb28b0ae97595864a06f9730ee818b"


def test_annotations_and_labels_are_in_neither_digest():
    plain = service(BASE)
    marked = service(BASE, metadata={"labels": {"a": "b"}, "annotations": {"xmod.dev/prune": "disabled"}})
    assert (marked.digest, marked.spec_digest) == (plain.digest, plain.spec_digest)
    assert marked.protected


def test_the_name_is_not_in_the_digest_of_a_container_and_is_in_the_spec_digest():
    assert service(BASE, name="a").digest == service(BASE, name="b").digest
    assert service(BASE, name="a").spec_digest != service(BASE, name="b").spec_digest


def test_comments_order_and_notation_are_in_no_digest():
    text = document(BASE)
    flow = json.dumps(yaml.safe_load(text))
    shuffled = yaml.safe_dump(yaml.safe_load(text), sort_keys=True)
    found = [reading(form).wanted[0].service for form in (text, flow, f"# a comment\n{shuffled}")]
    assert len({made.digest for made in found}) == len({made.spec_digest for made in found}) == 1


def test_any_change_of_the_body_changes_the_spec_digest():
    assert service({**BASE, "replicaCount": 2}).spec_digest != service(BASE).spec_digest


def test_a_default_written_out_is_no_other_workload():
    spelled = {
        **BASE,
        "replicaCount": 1,
        "rollout": {"strategy": "recreate"},
        "bindAddress": "127.0.0.1",
        "priority": 0,
    }
    assert service(spelled).digest == service(BASE).digest


# ---- whatever the file holds


def test_no_prefix_of_a_file_makes_it_raise():
    content = f"{document(BASE, 'a')}---\n{document({'engine': 'llama.cpp', 'modelFile': '/models/x'}, 'b')}".encode()
    read = resolver().read_file
    for end in range(len(content)):
        found = read("a.yaml", content[:end])
        assert found.wanted == () or not found.problems


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(
        ["docker", "process", "llama.cpp", "/models/x", "{port}", "{model}", "60s", "1Gi", "127.0.0.1", "a"]
    )
)
NAMES = {name for definition in schema()["$defs"].values() for name in definition["properties"]}
KEYS = st.sampled_from(sorted({*NAMES, "zzz"}))
TREES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=20
)


@settings(max_examples=300, deadline=None)
@given(TREES, st.dictionaries(st.sampled_from(["name", "labels", "annotations", "x"]), TREES, max_size=3))
def test_no_body_makes_it_raise(spec: object, metadata: object):
    whole = {"apiVersion": "xmod.dev/v1", "kind": "DeploySpec", "metadata": metadata, "spec": spec}
    found = resolver().read_file("a.json", json.dumps(whole).encode())
    assert isinstance(found, FileReading)
    assert bool(found.wanted) != bool(found.problems)
    for problem in found.problems:
        assert "input" not in problem.message.lower(), "no jargon"


def test_reading_a_spec_costs_little_more_than_the_bare_c_parser():
    """DESIGN §11: at most 1.6 times, as bench/ measures; here with room for a busy machine."""
    text = document(
        {
            "engine": "llama.cpp",
            "modelName": "qwen3-1.5b",
            "modelFile": "/models/qwen3-1.5b",
            "contextLength": 8192,
            "replicaCount": 1,
            "resourceRequirements": {
                "acceleratorType": "NVIDIA GPU",
                "acceleratorCount": 1,
                "cpu": "4",
                "memory": "16Gi",
            },
            "env": [{"key": key, "value": "info"} for key in "ABCDE"],
            "engineArgs": ["--threads", "4", "--flash-attn", "on"],
            "container": {
                "image": "mini:1",
                "port": 80,
                "health": {"path": "/", "startupDeadline": "60s", "timeout": "2s"},
            },
            "rollout": {"strategy": "recreate"},
        },
        labels={"a": "b", "c": "d"},
    ).encode()
    assert text.count(b"\n") >= 42
    read = resolver().read_file
    assert not read("a.yaml", text).problems

    def once(work: Any) -> float:
        began = time.process_time()
        for _ in range(30):
            work()
        return time.process_time() - began

    bare, ours = [], []
    for _ in range(15):
        bare.append(once(lambda: yaml.load(text, Loader=yaml.CSafeLoader)))
        ours.append(once(lambda: read("a.yaml", text)))
    assert min(ours) / min(bare) < 2.5
