"""Fields that contradict each other are refused at the field that a user would change."""

from datetime import UTC, datetime

import pytest

from tests.spec.making import document, reading, says

IMAGE = {"image": "mini", "port": 80}
MODEL = {"engine": "llama.cpp", "modelFile": "/models/a.gguf"}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"priority": 1}, "spec: says nothing that could run: give an engine with a modelFile, or a container"),
        ({"engine": "llama.cpp"}, "spec.engine: needs a model: give its path as modelFile"),
        ({"engine": "vlm", "modelFile": "/models/x"}, 'spec.engine: there is no "vlm" here; known are llama.cpp'),
        (
            {"engine": "llama-cpp", "modelFile": "/models/x"},
            'spec.engine: there is no "llama-cpp" here; did you mean "llama.cpp"?',
        ),
        (
            {"container": IMAGE, "engineArgs": ["-x"]},
            "spec.engineArgs: needs an engine; the arguments of a container are container.args",
        ),
        ({"container": IMAGE, "contextLength": 5}, "spec.contextLength: needs an engine; say it in container.args"),
        ({**MODEL, "model": {"source": "/models/b"}}, "spec.model: is given beside modelFile; one of them must go"),
        (
            {"engine": "llama.cpp", "model": {"source": "hf://org/model"}},
            (
                'spec.model.source: "hf://org/model": downloads are not supported by this version;'
                " fetch the files and give their path"
            ),
        ),
        (
            {"engine": "llama.cpp", "model": {"source": "file://models/b"}},
            'spec.model.source: must be a path, or file:// and an absolute one, not "file://models/b"',
        ),
        (
            {"container": IMAGE, "hostPort": 18080, "replicaCount": 2},
            "spec.hostPort: is one port, and 2 replicas need one each: leave it out to have them assigned",
        ),
        (
            {"container": IMAGE, "hostPort": 18080, "rollout": {"strategy": "side-by-side"}},
            "spec.hostPort: is one port, and side-by-side needs a second one: leave it out, or use strategy recreate",
        ),
        (
            {"container": {"image": "a"}, "hostPort": 18080},
            "spec.hostPort: needs container.port, the port that the service listens on",
        ),
        (
            {"container": {"image": "a", "health": {"path": "/"}}},
            "spec.container.health.path: needs container.port, the port to ask",
        ),
        (
            {"container": {"image": "a", "health": {"tcp": True}}},
            "spec.container.health.tcp: needs container.port, the port to ask",
        ),
        (
            {"container": {**IMAGE, "health": {"path": "/", "tcp": True}}},
            "spec.container.health: has path and tcp; give one of path, tcp and none",
        ),
        (
            {"container": IMAGE, "resourceRequirements": {"acceleratorIds": ["0", "1"], "acceleratorCount": 1}},
            "spec.resourceRequirements.acceleratorCount: is 1, but acceleratorIds names 2; one of them must go",
        ),
        (
            {"container": IMAGE, "resourceRequirements": {"acceleratorIds": ["0"]}, "replicaCount": 2},
            "spec.resourceRequirements.acceleratorIds: cannot be for 2 replicas at once: give acceleratorCount",
        ),
        (
            {"container": IMAGE, "resourceRequirements": {"acceleratorIds": ["0", "0"]}},
            "spec.resourceRequirements.acceleratorIds: names a device twice",
        ),
        (
            {"container": IMAGE, "resourceRequirements": {"acceleratorType": "NVIDIA GPU"}},
            "spec.resourceRequirements.acceleratorType: needs acceleratorCount, how many for each replica",
        ),
        (
            {"container": IMAGE, "env": [{"key": "A", "value": "1"}, {"key": "A", "value": "2"}]},
            'spec.env[1].key: "A" is already env[0]; one of them must go',
        ),
        (
            {"container": IMAGE, "env": [{"key": "XMOD_MARK", "value": "1"}]},
            'spec.env[0].key: "XMOD_MARK": names that begin with XMOD_ are the agent\'s own',
        ),
        ({"container": IMAGE, "env": [{"key": "A"}]}, 'spec.env[0]: "A": give one of value and valueFrom'),
        (
            {"container": IMAGE, "env": [{"key": "A", "value": "1", "valueFrom": {"env": "B"}}]},
            'spec.env[0]: "A": give one of value and valueFrom',
        ),
        (
            {"container": IMAGE, "env": [{"key": "A", "valueFrom": {}}]},
            "spec.env[0].valueFrom: give one of file and env",
        ),
        (
            {"container": {**IMAGE, "volumes": [{"hostPath": p, "mountPath": "/d"} for p in ("/a", "/b")]}},
            'spec.container.volumes[1].mountPath: "/d" is already volumes[0]; one of them must go',
        ),
        (
            {"container": {"image": "a", "args": ["-p", "{port}"]}},
            "spec.container.args[1]: uses {port}, which needs container.port",
        ),
        (
            {"container": IMAGE, "env": [{"key": "A", "value": "x{model}"}]},
            "spec.env[0].value: uses {model}, which needs modelFile",
        ),
        (
            {"container": IMAGE, "shimletName": "dokcer"},
            'spec.shimletName: there is no "dokcer" here; did you mean "docker"?',
        ),
        (
            {"container": IMAGE, "goalSetName": "x"},
            (
                'spec.goalSetName: there is no "x" here; known are llm-delete, llm-deploy,'
                " opensource-llm-deploy, service-delete, service-deploy"
            ),
        ),
    ],
)
def test_a_contradiction_is_named_at_its_field(spec: dict[str, object], expected: str):
    assert expected in says(spec)


@pytest.mark.parametrize(
    "spec",
    [
        {"container": {"image": "a", "health": {"none": True}}},
        {"container": {"image": "a", "args": ["{{port}}", "{other}", "{name}", "{host}", "${port"]}},
        {"container": {**IMAGE, "args": ["{port}"], "health": {"startupDeadline": "5m"}}},
        {"container": IMAGE, "modelFile": "/models/a", "env": [{"key": "M", "value": "{model}"}]},
        {"engine": "llama.cpp", "container": {"args": ["--help"]}},
        {"container": IMAGE, "resourceRequirements": {"acceleratorType": "NVIDIA GPU", "acceleratorCount": 0}},
        {"container": IMAGE, "hostPort": 18080},
        {"container": IMAGE, "replicaCount": 64, "rollout": {"strategy": "side-by-side"}},
        {"modelFile": "/models/a.gguf"},
    ],
)
def test_what_goes_together_is_taken(spec: dict[str, object]):
    assert says(spec) == []


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("xmod.dev/suspnd", "true", 'is not a known annotation; did you mean "xmod.dev/suspend"?'),
        ("xmod.dev/suspend", "yes", 'must be "true" or "false", not "yes"'),
        ("xmod.dev/prune", "false", 'must be "disabled" or "enabled", not "false"'),
        *(
            (
                "xmod.dev/restartedAt",
                text,
                f'must be a time with its zone such as "2026-11-01T12:00:00Z", not "{text}"',
            )
            for text in ("now", "2026-11-01", "2026-11-01T12:00:00", "0001-01-01T00:00:00+14:00", "")
        ),
    ],
)
def test_words_to_the_agent_are_checked(key: str, value: str, expected: str):
    found = says({"container": IMAGE}, metadata={"annotations": {key: value}})
    assert found == [f'metadata.annotations["{key}"]: {expected}']


def test_other_peoples_annotations_are_theirs():
    assert says({"container": IMAGE}, metadata={"annotations": {"example.com/x": "anything", "note": ""}}) == []


def test_annotations_are_heard():
    words = {
        "xmod.dev/suspend": "true",
        "xmod.dev/prune": "disabled",
        "xmod.dev/restartedAt": "2026-11-01T12:00:00+02:00",
    }
    (wanted,) = reading(document({"container": IMAGE}, annotations=words)).wanted
    assert wanted.suspended
    assert wanted.service.protected
    assert wanted.restarted_at == datetime(2026, 11, 1, 10, tzinfo=UTC)


LOGIN = {"username": "robot", "passwordFrom": {"file": "/p"}}


@pytest.mark.parametrize(
    ("container", "expected"),
    [
        ({**IMAGE, "imageCredentials": {"username": "x"}}, ": give one of password and passwordFrom"),
        ({**IMAGE, "imageCredentials": {**LOGIN, "password": "p"}}, ": give one of password and passwordFrom"),
        ({**IMAGE, "imageCredentials": {**LOGIN, "passwordFrom": {}}}, ".passwordFrom: give one of file and env"),
        ({"image": {"archive": "/srv/a.tar"}, "imageCredentials": LOGIN}, ": is for pulling, and there is no image"),
        ({"command": ["/bin/x"], "imageCredentials": LOGIN}, ": is for pulling, and there is no image"),
    ],
)
def test_image_credentials_are_one_password_for_one_reference(container: dict[str, object], expected: str) -> None:
    said = says({"container": container}, {"secretFiles": ["/p"], "hostPaths": [{"path": "/srv"}]})
    assert any(sentence.startswith(f"spec.container.imageCredentials{expected}") for sentence in said), said
