"""What is wrong with a document is said at its place, in plain sentences, all of it at once."""

import pytest

from agent.spec.complaint import closest, field
from tests.spec.making import HEAD, problems

BODY = "spec:\n  container:\n    image: mini\n    port: 80\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- a\n", "1:1: a document must be a mapping that begins with apiVersion: xmod.dev/v1 and kind: DeploySpec"),
        ("hello\n", "1:1: a document must be a mapping that begins with apiVersion: xmod.dev/v1 and kind: DeploySpec"),
        (
            "kind: DeploySpec\n",
            "1:1: apiVersion: is missing: a document begins with apiVersion: xmod.dev/v1 and kind: DeploySpec",
        ),
        (
            "apiVersion: v1\nmetadata: {}\n",
            "1:1: kind: is missing: a document begins with apiVersion: xmod.dev/v1 and kind: DeploySpec",
        ),
        ("apiVersion: 1\nkind: DeploySpec\n", '1:13: apiVersion: must be "xmod.dev/v1"'),
        ("apiVersion: xmod.dev/v2\nkind: DeploySpec\n", '1:13: apiVersion: must be "xmod.dev/v1", not "xmod.dev/v2"'),
        ("apiVersion: xmod.dv/v1\nkind: DeploySpec\n", '1:13: apiVersion: must be "xmod.dev/v1", not "xmod.dv/v1"'),
        ("apiVersion: xmod.dev/v1\nkind: Deployspec\n", '2:7: kind: must be "DeploySpec", not "Deployspec"'),
        ("apiVersion: v1\nkind: DeploySpecs\n", '1:13: apiVersion: must be "xmod.dev/v1", not "v1"'),
        ("apiVersion: xmod.dv/v1\nkind: Other\n", '1:13: apiVersion: must be "xmod.dev/v1", not "xmod.dv/v1"'),
        ("apiVersion: xmod.dev/v1\nkind: Service\n", '2:7: kind: must be "DeploySpec", not "Service"'),
    ],
)
def test_a_typing_error_in_the_envelope_never_makes_it_another_kind_of_document(text: str, expected: str):
    assert expected in problems(text)


@pytest.mark.parametrize(("version", "kind"), [("apps/v1", "Deployment"), ("v1", "Service"), ("dev/v1", "DaemonSet")])
def test_kubernetes_own_kinds_are_not_taken_for_typing_errors(version: str, kind: str):
    assert problems(f"apiVersion: {version}\nkind: {kind}\nspec: {{}}\n") == []


def test_documents_of_other_kinds_are_left_alone():
    other = "apiVersion: v1\nkind: ConfigMap\ndata: {1: x, empty: }\n"
    assert problems(other) == []
    assert problems(f"{HEAD}{BODY}---\n{other}") == []


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("spec:\n  conatiner: {}\n", '5:3: spec.conatiner: is not a known field; did you mean "container"?'),
        ("spec:\n  model_file: /x\n", '5:3: spec.model_file: is not a known field; did you mean "modelFile"?'),
        ("spec:\n  dokcer: {}\n", '5:3: spec.dokcer: is not a known field; did you mean "docker"?'),
        ("spec:\n  image: mini\n", "5:3: spec.image: does not belong here but to spec.container"),
        ("spec:\n  container: {hostPort: 1}\n", "5:15: spec.container.hostPort: does not belong here but to spec"),
        (
            "spec:\n  rollout: {xyzzy: 1}\n",
            "5:13: spec.rollout.xyzzy: is not a known field; known are strategy",
        ),
        ("spec:\n  replicaCount: two\n", '5:17: spec.replicaCount: must be a whole number, not "two"'),
        (
            'spec:\n  replicaCount: "2"\n',
            '5:17: spec.replicaCount: must be a whole number, not "2": write 2, without quotes',
        ),
        (
            "spec:\n  replicaCount: 0\n",
            "5:17: spec.replicaCount: must be at least 1, not 0; to stop a service, delete its document",
        ),
        ("spec:\n  replicaCount: true\n", "5:17: spec.replicaCount: must be a whole number, not true"),
        ("spec:\n  hostPort: 70000\n", "5:13: spec.hostPort: must be at most 65535, not 70000"),
        ("spec:\n  container:\n    port: 0\n", "6:11: spec.container.port: must be at least 1, not 0"),
        ("spec:\n  env: {A: b}\n", "5:8: spec.env: must be a list, not a mapping"),
        ("spec:\n  env:\n    - A=b\n", '6:7: spec.env[0]: must be a mapping, not "A=b"'),
        ("spec:\n  env:\n    - value: x\n", "6:7: spec.env[0].key: is missing: its name"),
        (
            "spec:\n  env:\n    - {key: A, value: 8080}\n",
            '6:23: spec.env[0].value: must be a text, not 8080: write "8080", in quotes',
        ),
        (
            "spec:\n  env:\n    - {key: A, value: yes}\n    - {key: 1A, value: x}\n",
            "7:13: spec.env[1].key: must be the name of an environment variable (letters, digits and '_'), not \"1A\"",
        ),
        (
            "spec:\n  container:\n    command: /bin/x -f\n",
            '6:14: spec.container.command: must be a list, not "/bin/x -f": write ["/bin/x -f"]',
        ),
        (
            "spec:\n  container:\n    args: [-p, 80]\n",
            '6:16: spec.container.args[1]: must be a text, not 80: write "80", in quotes',
        ),
        (
            "spec:\n  container:\n    health: {startupDeadline: 60}\n",
            (
                "6:31: spec.container.health.startupDeadline: must be a duration with its unit,"
                ' such as "500ms", "60s" or "1h30m", not 60'
            ),
        ),
        (
            "spec:\n  container:\n    health: {tcp: yes}\n",
            '6:19: spec.container.health.tcp: must be true or false, not "yes": write true',
        ),
        (
            "spec:\n  container:\n    image: {archiv: /x}\n",
            '6:13: spec.container.image.archiv: is not a known field; did you mean "archive"?',
        ),
        (
            "spec:\n  container:\n    image: Bad Image\n",
            '6:12: spec.container.image: must be an image reference such as "repo/name:tag", not "Bad Image"',
        ),
        (
            "spec:\n  resourceRequirements: {memory: lots}\n",
            '5:34: spec.resourceRequirements.memory: must be an amount of memory such as "16Gi" or "512Mi", not "lots"',
        ),
        (
            "spec:\n  rollout: {strategy: blue-green}\n",
            '5:23: spec.rollout.strategy: must be "recreate" or "side-by-side", not "blue-green"',
        ),
        ("spec:\n  hostPort:\n", "5:3: spec.hostPort: is empty; give it a value or remove it"),
        (
            "spec:\n  container:\n    args: [a, ~]\n",
            "6:15: spec.container.args[1]: is empty; give it a value or remove it",
        ),
        ("spec:\n", "4:1: spec: is empty; give it a value or remove it"),
        ("", "1:1: spec: is missing: what to run"),
        ("spec: []\n", "4:7: spec: must be a mapping, not a list"),
        ("spec:\n  docker: [1]\n", "5:11: spec.docker: must be a mapping, the options of the shimlet docker"),
        ("spec:\n  docker:\n", "5:3: spec.docker: is empty; give it a value or remove it"),
        (
            "spec:\n  bindAddress: localhost\n",
            '5:16: spec.bindAddress: must be an IP address such as "127.0.0.1", not "localhost"',
        ),
        (
            "spec:\n  modelName: two words\n",
            "5:14: spec.modelName: must be a name without blanks, braces or a '-' in front, not \"two words\"",
        ),
        (
            "spec:\n  engineArgs: [" + "a, " * 5000 + "a]\n",
            "5:15: spec.engineArgs: must have at most 4096 entries, not 5001",
        ),
    ],
)
def test_each_mistake_has_a_place_and_a_sentence(body: str, expected: str):
    assert expected in problems(HEAD + body)


@pytest.mark.parametrize("name", ["Web", "a_b", "-a", "a-", "a.b", "ä", "a" * 64, "a/b", "..", "a b", '"a\\n"'])
def test_a_name_is_a_dns_label(name: str):
    text = f"apiVersion: xmod.dev/v1\nkind: DeploySpec\nmetadata:\n  name: {name}\n{BODY}"
    (problem,) = problems(text)
    assert problem.startswith("4:9: metadata.name: must be a DNS label (")


def test_all_errors_of_all_documents_are_said_at_once_in_order():
    first = "spec:\n  engin: x\n  hostPort: 0\n  replicaCount: a\n"
    text = f"{HEAD}{first}---\n{HEAD}spec:\n  container: {{prot: 1, volumes: 3}}\n"
    found = problems(text)
    assert [problem.split(": ")[0:2] for problem in found] == [
        ["5:3", "spec.engin"],
        ["6:13", "spec.hostPort"],
        ["7:17", "spec.replicaCount"],
        ["13:15", "spec.container.prot"],
        ["13:33", "spec.container.volumes"],
    ]


def test_a_hundred_problems_are_enough_and_are_found_quickly():
    text = HEAD + "spec:\n" + "".join(f"  unknown{n}: 1\n" for n in range(20_000))
    found = problems(text)
    assert len(found) == 101
    assert "more is wrong than these 100 problems" in "\n".join(found)


def test_paths_are_written_as_people_write_them():
    assert field(("spec", "env", 0, "key")) == "spec.env[0].key"
    assert field(("metadata", "annotations", "xmod.dev/x")) == 'metadata.annotations["xmod.dev/x"]'


def test_the_closest_word_ignores_case_and_underscores_but_is_not_far_fetched():
    assert closest("model_name", ["modelName", "model"]) == "modelName"
    assert closest("zzz", ["modelName", "model"]) == ""
