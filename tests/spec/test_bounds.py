"""What a world cannot do is said when the spec is read; test_policy.py shows what an operator does not allow."""

import pytest

from tests.spec.making import says

VOLUME = {"hostPath": "/srv/a", "mountPath": "/a"}
SRV = {"hostPaths": [{"path": "/srv"}]}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (
            {"container": {"command": ["/bin/x"]}, "shimletName": "docker"},
            "spec.container.image: is missing: the shimlet docker runs an image",
        ),
        (
            {"container": {"image": "mini"}, "shimletName": "process"},
            "spec.container.command: is missing: the shimlet process runs a program, not an image",
        ),
        (
            {"container": {"command": ["sh"], "volumes": [VOLUME]}, "shimletName": "process"},
            (
                "spec.container.volumes[0].mountPath: the shimlet process cannot mount;"
                " make it the same as hostPath, or use another shimlet"
            ),
        ),
    ],
)
def test_what_its_world_cannot_do_is_refused(spec: dict, expected: str):
    assert says(spec, SRV) == [expected]


def test_an_engine_brings_image_and_program_for_either_world():
    spec = {"engine": "llama.cpp", "modelFile": "/models/a", "container": {"health": {"startupDeadline": "1h"}}}
    assert says({**spec, "shimletName": "docker"}) == []
    assert says({**spec, "shimletName": "process"}) == []


def test_a_program_may_see_the_hosts_own_path_where_it_is():
    same = {"hostPath": "/srv/a", "mountPath": "/srv/a"}
    assert says({"container": {"command": ["sh"], "volumes": [same]}, "shimletName": "process"}, SRV) == []


def test_a_program_is_not_bound_by_the_images_that_it_ignores():
    spec = {"container": {"image": "evil/x", "command": ["sh"]}, "shimletName": "process"}
    assert says(spec, {"images": ["only/*"]}) == []


def test_every_violation_is_said_at_once_beside_the_contradictions():
    spec = {
        "container": {"image": "evil/x", "volumes": [VOLUME], "health": {"tcp": True}},
        "hostPort": 1,
        "bindAddress": "0.0.0.0",
    }
    fields = [line.split(": ")[0] for line in says(spec, {"images": []})]
    assert sorted(fields) == [
        "spec.bindAddress",
        "spec.container.health.tcp",
        "spec.container.image",
        "spec.container.volumes[0].hostPath",
        "spec.hostPort",
        "spec.hostPort",
    ]


def test_an_archive_does_not_pass_as_a_reference():
    """The docker shimlet takes "archive:PATH" for an archive, however it was written."""
    spec = {"container": {"image": "archive:/etc/x.tar"}}
    assert "policy.hostPaths" in says(spec)[0]
    assert says(spec, {"hostPaths": [{"path": "/etc"}]}) == []


def test_a_program_is_named_outright():
    spec = {"container": {"command": ["{model}"]}, "modelFile": "/models/evil", "shimletName": "process"}
    assert "is named outright" in says(spec)[0]
