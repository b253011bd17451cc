"""What is asked of the engine, by equality."""

import json
from typing import Any

import pytest

from agent.contracts import (
    Accelerators,
    Digest,
    Mount,
    Permanent,
    Placement,
    SecretRef,
    Service,
    ServiceName,
    Workload,
    decode,
)
from shimlets.docker import naming
from shimlets.docker.arguments import Engine, Image, address, creation, limits, network, not_honoured, placeholders
from shimlets.docker.options import EngineOptions

IMAGE = Image("mini:latest", "sha256:" + "ab" * 32)
GPU = Accelerators(kind="NVIDIA GPU", count=1)


def service(*, bind: str = "127.0.0.1", docker: dict[str, Any] | None = None, **workload: Any) -> Service:
    whole = Workload(**{"image": "mini:latest", "options": json.dumps(docker or {})} | workload)
    return Service(
        ServiceName("web"),
        whole,
        Digest("d" * 64),
        Digest("s" * 64),
        "docker",
        "service-deploy",
        bind=bind,
        source="git:x",
    )


def body(
    one: Service,
    placement: Placement | None = None,
    *,
    engine: Engine | None = None,
    secrets: dict[str, str] | None = None,
) -> dict[str, Any]:
    return creation(
        one,
        placement or Placement(0),
        owner="edge",
        image=IMAGE,
        secrets=secrets or {},
        seal="salt:hash" if secrets else "",
        operator=EngineOptions(),
        engine=engine or Engine(),
    )


def test_a_service_with_a_port_is_a_bridged_container_with_all_that_every_container_has():
    one = service(command=("/bin/httpd", "-p", "{port}", "-h", "{host}"), args=("{name}", "{x}"), port=8080)
    placement = Placement(0, 18080)
    made = body(one, placement)
    assert decode(made["Labels"].pop(naming.MARK)) == (one, placement)
    assert made == {
        "Image": "mini:latest",
        "Entrypoint": ["/bin/httpd", "-p", "8080", "-h", "0.0.0.0"],
        "Cmd": ["web", "{x}"],
        "Env": [],
        "Labels": {
            "xmod.dev/service": "web",
            "xmod.dev/instance": "edge",
            "xmod.dev/digest": "d" * 64,
            "xmod.dev/source-id": "git:x",
            "xmod.dev/secrets": "",
            "xmod.dev/image-id": IMAGE.id,
        },
        "Healthcheck": {"Test": ["NONE"]},
        "StopTimeout": 10,
        "ExposedPorts": {"8080/tcp": {}},
        "HostConfig": {
            "NanoCpus": 0,
            "Memory": 0,
            "RestartPolicy": {"Name": "unless-stopped", "MaximumRetryCount": 0},
            "Init": True,
            "NetworkMode": "xmod-edge",
            "SecurityOpt": ["no-new-privileges"],
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}},
            "PortBindings": {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": "18080"}]},
        },
        "NetworkingConfig": {"EndpointsConfig": {"xmod-edge": {"Aliases": ["web"]}}},
    }


def test_where_nothing_is_said_the_image_decides_what_runs():
    made = body(service())
    assert not {"Entrypoint", "Cmd", "ExposedPorts", "User"} & made.keys()
    assert "PortBindings" not in made["HostConfig"]


def test_limits_are_nano_cpus_and_bytes():
    assert limits(service(cpu=1.5, memory=2**30, docker={"restart": "never"}), Engine()) == {
        "NanoCpus": 1_500_000_000,
        "Memory": 2**30,
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
    }


def test_a_limit_that_the_kernel_does_not_have_is_not_asked_for_and_told():
    one = service(cpu=1.5, memory=2**30)
    engine = Engine(memory_limits=False, cpu_limits=False)
    assert {key: limits(one, engine)[key] for key in ("NanoCpus", "Memory")} == {"NanoCpus": 0, "Memory": 0}
    memory, cpu = not_honoured(one, engine)
    assert "memory limit is not honoured" in memory
    assert "cpu limit is not honoured" in cpu
    assert not_honoured(one, Engine()) == not_honoured(service(), engine) == ()


def test_a_port_that_nothing_could_reach_is_refused():
    with pytest.raises(Permanent, match="network: none, but port 8080 is to be reached"):
        body(service(port=8080, docker={"network": "none"}))


def test_env_is_filled_in_and_secrets_are_not():
    env = (("URL", "http://{host}:{port}/{name}"), ("TOKEN", SecretRef("file", "/run/t")))
    made = body(service(env=env, port=80), secrets={"TOKEN": "{port}"})
    assert made["Env"] == ["URL=http://0.0.0.0:80/web", "TOKEN={port}"]
    assert "{port}" not in repr(made["Labels"]).replace("http://{host}:{port}/{name}", "")
    assert made["Labels"]["xmod.dev/secrets"] == "salt:hash"


def test_a_secret_that_was_not_handed_over_is_permanent():
    with pytest.raises(Permanent, match="env TOKEN: its secret was not handed over"):
        body(service(env=(("TOKEN", SecretRef("env", "T")),)))


def test_a_model_is_mounted_read_only_where_it_lies_and_a_mount_of_the_spec_comes_first():
    mounts = (Mount("/srv/data", "/data", read_only=False),)
    made = body(service(args=("-m", "{model}"), mounts=mounts), Placement(0, None, (), "/models/x"))
    assert made["Cmd"] == ["-m", "/models/x"]
    assert made["HostConfig"]["Mounts"] == [
        {"Type": "bind", "Source": "/srv/data", "Target": "/data", "ReadOnly": False},
        {"Type": "bind", "Source": "/models/x", "Target": "/models/x", "ReadOnly": True},
    ]
    own = (Mount("/elsewhere", "/models/x"),)
    assert len(body(service(mounts=own), Placement(0, None, (), "/models/x"))["HostConfig"]["Mounts"]) == 1


def test_nvidia_devices_are_asked_for_by_id_and_never_by_count():
    made = body(service(accelerators=GPU), Placement(0, None, ("GPU-3a9c", "GPU-77")))
    assert made["HostConfig"]["DeviceRequests"] == [
        {"Driver": "nvidia", "Count": 0, "DeviceIDs": ["GPU-3a9c", "GPU-77"], "Capabilities": [["gpu"]]}
    ]
    assert made["Env"] == ["CUDA_DEVICE_ORDER=PCI_BUS_ID"]


def test_a_service_without_devices_sees_none_where_the_default_runtime_would_show_all():
    assert body(service(), engine=Engine(runtime="nvidia"))["Env"] == ["NVIDIA_VISIBLE_DEVICES=void"]
    assert body(service(docker={"runtime": "nvidia"}))["Env"] == ["NVIDIA_VISIBLE_DEVICES=void"]
    assert body(service())["Env"] == []


def test_cdi_names_go_to_the_cdi_driver_and_an_engine_too_old_for_it_is_told_so():
    one, placement = service(accelerators=Accelerators(kind="AMD")), Placement(0, None, ("amd.com/gpu=0",))
    made = body(one, placement, engine=Engine(api=(1, 44)))
    assert made["HostConfig"]["DeviceRequests"] == [{"Driver": "cdi", "Count": 0, "DeviceIDs": ["amd.com/gpu=0"]}]
    with pytest.raises(Permanent, match=r"need Docker API 1\.44 \(CDI\); this engine speaks 1\.41"):
        body(one, placement)


def test_devices_of_a_kind_that_nobody_knows_are_refused_not_dropped():
    with pytest.raises(Permanent, match="accelerators Abacus: the docker shimlet knows NVIDIA and CDI names"):
        body(service(accelerators=Accelerators(kind="Abacus")), Placement(0, None, ("0",)))


def test_every_option_arrives():
    options = {
        "restart": "never",
        "stopGrace": "2.6s",
        "user": "7",
        "shmSize": "1Mi",
        "runtime": "runc",
        "labels": {"a": "b", "team": "x"},
        "ulimits": {"memlock": -1},
        "capAdd": ["SYS_PTRACE"],
        "privileged": True,
        "ipc": "host",
        "logMaxSize": "1m",
        "logMaxFiles": 9,
    }
    made = body(service(docker=options, shm=5))
    host = made["HostConfig"]
    assert (made["User"], made["StopTimeout"], made["Labels"]["team"]) == ("7", 3, "x")
    assert host["RestartPolicy"]["Name"] == "no"
    assert {key: host[key] for key in ("ShmSize", "Runtime", "Ulimits", "CapAdd", "Privileged", "IpcMode")} == {
        "ShmSize": 2**20,
        "Runtime": "runc",
        "Ulimits": [{"Name": "memlock", "Soft": -1, "Hard": -1}],
        "CapAdd": ["SYS_PTRACE"],
        "Privileged": True,
        "IpcMode": "host",
    }
    assert host["LogConfig"]["Config"] == {"max-size": "1m", "max-file": "9"}
    assert body(service(shm=5))["HostConfig"]["ShmSize"] == 5


def test_on_the_hosts_network_the_port_is_the_placements_and_nothing_is_published():
    one = service(port=8080, docker={"network": "host"})
    made = body(one, Placement(0, 18080))
    assert made["HostConfig"]["NetworkMode"] == "host"
    assert "PortBindings" not in made["HostConfig"]
    assert "NetworkingConfig" not in made
    assert placeholders(one, Placement(0, 18080)) == {"port": "18080", "host": "127.0.0.1", "model": "", "name": "web"}


@pytest.mark.parametrize(
    ("bind", "port", "host", "wanted"),
    [
        ("127.0.0.1", 1, "", "127.0.0.1:1"),
        ("0.0.0.0", 1, "", "127.0.0.1:1"),
        ("::", 1, "", "[::1]:1"),
        ("192.168.1.5", 1, "", "192.168.1.5:1"),
        ("127.0.0.1", 1, "far.example", "far.example:1"),
        ("127.0.0.1", None, "", ""),
    ],
)
def test_an_address_is_what_the_agent_can_reach(bind: str, port: int | None, host: str, wanted: str):
    assert address(service(bind=bind), Placement(0, port), host) == wanted


def test_the_network_is_the_owners_and_carries_its_label():
    assert network("edge") == {
        "Name": "xmod-edge",
        "Driver": "bridge",
        "CheckDuplicate": True,
        "Labels": {"xmod.dev/instance": "edge"},
    }
