"""What a spec's words mean: the workload that a world is told to run."""

import pytest

from agent.contracts import Accelerators, Check, Model, Mount, SecretRef
from tests.spec.making import workload

MODEL = {"engine": "llama.cpp", "modelFile": "/models/a.gguf"}
RULES = {"hostPaths": [{"path": "/srv", "readOnly": False}], "secretFiles": ["/s"], "environment": ["*"]}


def test_a_container_is_taken_as_it_is():
    made = workload(
        {
            "container": {
                "image": "mini:1",
                "command": ["/bin/httpd", "-p", "{port}"],
                "args": ["-h", "{other}"],
                "port": 8080,
                "volumes": [{"hostPath": "/srv/a", "mountPath": "/a"}],
            },
            "resourceRequirements": {"cpu": "500m", "memory": "1Gi", "sharedMemory": "64Mi"},
            "docker": {"user": "1000", "labels": {"b": "1", "a": "2"}},
            "process": {"left": "out"},
        },
        RULES,
    )
    assert (made.image, made.program) == ("mini:1", "")
    assert made.command == ("/bin/httpd", "-p", "{port}")
    assert made.args == ("-h", "{other}")
    assert made.port == 8080
    assert made.mounts == (Mount("/srv/a", "/a", read_only=True),)
    assert (made.cpu, made.memory, made.shm) == (0.5, 1 << 30, 64 << 20)
    assert made.options == '{"labels":{"a":"2","b":"1"},"user":"1000"}'
    assert made.model is None
    assert made.served_name == ""


def test_an_archive_is_an_image_by_its_path():
    assert workload({"container": {"image": {"archive": "/srv/x.tar"}}}, RULES).image == "archive:/srv/x.tar"


def test_an_engine_keeps_the_images_entrypoint_and_appends_the_users_arguments():
    made = workload({**MODEL, "modelName": "a", "engineArgs": ["--threads", "4"], "contextLength": 256})
    assert made.image == "ghcr.io/ggml-org/llama.cpp:server"
    assert made.command == ()
    assert made.args[-5:] == ("-c", "256", "--metrics", "--threads", "4")
    assert made.model == Model("/models/a.gguf")
    assert made.port == 8080
    assert made.check == Check("/health", interval=2, timeout=5, startup_deadline=600, loading=(503,), smoke="chat")


def test_clients_call_the_services_name_unless_the_spec_names_the_model():
    assert workload(MODEL, name="web").served_name == "web"
    assert workload({**MODEL, "modelName": "qwen"}).served_name == "qwen"
    assert "-a" in workload(MODEL).args


def test_a_container_replaces_what_its_engine_says_field_by_field():
    made = workload({**MODEL, "container": {"image": "mine:1", "port": 9000, "health": {"startupDeadline": "20m"}}})
    assert (made.image, made.port) == ("mine:1", 9000)
    assert made.check.path == "/health"
    assert made.check.startup_deadline == 1200
    assert made.check.smoke == "chat"
    assert made.args[0] == "-m"
    assert workload({**MODEL, "engineArgs": ["-x"], "container": {"args": ["-m", "{model}"]}}).args == (
        "-m",
        "{model}",
        "-x",
    )


def test_another_check_than_the_engines_is_not_followed_by_its_smoke_test():
    check = workload({**MODEL, "container": {"health": {"tcp": True}}}).check
    assert (check.tcp, check.path, check.smoke) == (True, "", "")


@pytest.mark.parametrize(
    ("container", "check"),
    [
        ({"image": "a", "port": 1}, Check(tcp=True)),
        ({"image": "a"}, Check()),
        ({"image": "a", "port": 1, "health": {"none": True}}, Check()),
        ({"image": "a", "port": 1, "health": {"path": "/x", "timeout": "1s"}}, Check(path="/x", timeout=1)),
        ({"image": "a", "port": 1, "health": {"interval": "500ms"}}, Check(tcp=True, interval=0.5)),
    ],
)
def test_a_service_with_a_port_is_asked_for_a_connection_unless_it_says_otherwise(container: dict, check: Check):
    assert workload({"container": container}).check == check


def test_the_reference_body_needs_no_engine():
    made = workload({"modelName": "m", "modelFile": "/models/m.gguf"})
    assert made.args[:2] == ("-m", "{model}")


def test_environment_is_sorted_and_secrets_stay_references():
    env = [
        {"key": "Z", "value": "{port}"},
        {"key": "A", "valueFrom": {"file": "/s/a"}},
        {"key": "M", "valueFrom": {"env": "TOKEN"}},
        {"key": "E", "value": ""},
    ]
    made = workload({"container": {"image": "a", "port": 1}, "env": env}, RULES)
    assert made.env == (("A", SecretRef("file", "/s/a")), ("E", ""), ("M", SecretRef("env", "TOKEN")), ("Z", "{port}"))


@pytest.mark.parametrize(
    ("wanted", "accelerators"),
    [
        ({}, Accelerators()),
        ({"acceleratorType": "NVIDIA GPU", "acceleratorCount": 0}, Accelerators()),
        ({"acceleratorCount": 2, "acceleratorMemory": "1Gi"}, Accelerators("", 2, 1 << 30)),
        ({"acceleratorType": "NVIDIA GPU", "acceleratorIds": ["a", "b"]}, Accelerators("NVIDIA GPU", 2, 0, ("a", "b"))),
    ],
)
def test_accelerators_are_counted_for_each_replica(wanted: dict, accelerators: Accelerators):
    assert workload({"container": {"image": "a"}, "resourceRequirements": wanted}).accelerators == accelerators


def test_a_model_may_say_its_revision_and_digest():
    model = {"source": "file:///models/a", "revision": "r1", "sha256": "0" * 64}
    assert workload({"engine": "llama.cpp", "model": model}).model == Model("/models/a", "r1", "0" * 64)


def test_a_world_of_programs_gets_a_program_by_its_path_and_no_image():
    made = workload(
        {"container": {"image": "mini", "command": ["sh", "-c", "x"]}, "shimletName": "process"}, search="/bin"
    )
    assert (made.image, made.program, made.command) == ("", "", ("/bin/sh", "-c", "x"))


def test_an_engines_program_is_found_and_its_command_stays_empty():
    rules = {"programs": ["/opt/llama/llama-server"]}
    made = workload({**MODEL, "shimletName": "process"}, rules)
    assert (made.image, made.program, made.command) == ("", "/opt/llama/llama-server", ())
