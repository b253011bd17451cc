"""Argument vectors and environments, by equality."""

import pytest

from agent.contracts import Model, Mount, Placement, SecretRef, Service, Transient, Workload
from shimlets.process.arguments import address, arguments, environment, misfit, notice
from tests.contract.shimlet_contract import service_of


def service(*, bind: str = "127.0.0.1", **fields: object) -> Service:
    return service_of("a", Workload(**fields), shimlet="process", goalset="service-deploy", bind=bind)


def test_the_command_comes_before_the_args_and_replaces_the_program():
    both = service(program="prog", command=("cmd", "x"), args=("y",))
    assert arguments(both, Placement(0)) == ("cmd", "x", "y")
    assert arguments(service(program="prog", args=("y",)), Placement(0)) == ("prog", "y")
    assert arguments(service(args=("y",)), Placement(0)) == ()


def test_placeholders_are_filled_in_arguments_and_variables():
    words = ("{port}", "{host}", "{model}", "{name}", "{{port}}", "{other}")
    one = service(command=words, env=(("URL", "http://{host}:{port}"),), bind="10.0.0.1")
    placement = Placement(0, 18001, model_path="/models/x")
    assert arguments(one, placement) == ("18001", "10.0.0.1", "/models/x", "a", "{{port}}", "{other}")
    assert environment(one, placement, {}, {})["URL"] == "http://10.0.0.1:18001"


def test_the_model_is_where_it_was_placed_else_where_it_comes_from():
    one = service(command=("{model}",), model=Model("file:///models/y"))
    assert arguments(one, Placement(0)) == ("/models/y",)
    assert arguments(one, Placement(0, model_path="/store/y")) == ("/store/y",)


def test_without_a_placed_port_the_workloads_own_is_meant():
    assert arguments(service(command=("{port}",), port=8080), Placement(0)) == ("8080",)
    assert arguments(service(command=("{port}",)), Placement(0)) == ("",)


def test_the_environment_is_a_small_base_and_what_the_spec_says():
    one = service(command=("x",), env=(("A", "1"), ("TOKEN", SecretRef("file", "/run/t")), ("HOME", "/srv")))
    base = {"PATH": "/bin", "HOME": "/root", "SSH_AUTH_SOCK": "/x", "AWS_SECRET": "y"}
    assert environment(one, Placement(0), {"TOKEN": "s"}, base) == {
        "PATH": "/bin",
        "HOME": "/srv",
        "SPT_NOENV": "1",
        "A": "1",
        "TOKEN": "s",
    }


def test_placed_devices_are_the_only_ones_seen():
    env = environment(service(command=("x",)), Placement(0, devices=("GPU-1", "GPU-2")), {}, {})
    assert env["CUDA_VISIBLE_DEVICES"] == "GPU-1,GPU-2"
    assert "CUDA_VISIBLE_DEVICES" not in environment(service(command=("x",)), Placement(0), {}, {})


def test_a_spec_cannot_write_a_mark():
    one = service(command=("x",), env=(("XMOD_INSTANCE", "another"), ("XMOD_PID", "1")))
    assert not [key for key in environment(one, Placement(0), {}, {}) if key.startswith("XMOD_")]


def test_a_secret_that_was_not_read_keeps_it_from_starting():
    with pytest.raises(Transient, match="TOKEN"):
        environment(service(command=("x",), env=(("TOKEN", SecretRef("env", "T")),)), Placement(0), {}, {})


@pytest.mark.parametrize(
    ("argv", "environ", "said"),
    [
        ((), {}, "nothing to run"),
        (("x",), {"a.b": "1"}, "a.b"),
        (("x", "a\0b"), {}, "NUL"),
        (("x",), {"A": "a\0b"}, "NUL"),
        (("x",), {"A": "b"}, ""),
    ],
)
def test_what_the_system_cannot_start_is_said(argv, environ, said):
    assert said in misfit(argv, environ)
    assert bool(said) == bool(misfit(argv, environ))


def test_the_address_is_one_that_the_agent_can_reach():
    for bind, expected in (
        ("127.0.0.1", "127.0.0.1:1"),
        ("0.0.0.0", "127.0.0.1:1"),
        ("::", "[::1]:1"),
        ("10.1.1.1", "10.1.1.1:1"),
    ):
        assert address(service(bind=bind), Placement(0, 1)) == expected
    assert address(service(), Placement(0)) == ""


def test_what_a_plain_process_cannot_have_is_noticed():
    assert notice(service(command=("x",))) == ""
    assert "limits are not enforced" in notice(service(memory=1 << 30))
    assert "volumes" in notice(service(mounts=(Mount("/a", "/b"),)))
