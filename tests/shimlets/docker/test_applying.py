"""What one apply does on a real engine: what it makes, what it is refused, what it takes over."""

import contextlib
import socket
from pathlib import Path

import pytest

from agent.contracts import Accelerators, Conflict, Mount, Permanent, Placement, SecretRef, State
from shimlets.docker.arguments import Engine as Known
from shimlets.docker.arguments import Image, creation
from shimlets.docker.options import EngineOptions
from shimlets.docker.shimlet import DockerShimlet
from tests.contract.shimlet_contract import SERVES
from tests.shimlets.docker.world import SLEEP, DockerPlace, free_port, import_image, until

pytestmark = pytest.mark.docker


def test_what_cannot_be_started_by_its_own_fault_is_seen_exited_and_apply_raises_nothing(
    place: DockerPlace, shimlet: DockerShimlet, tmp_path: Path
):
    (tmp_path / "file").touch()
    mounts = (Mount(str(tmp_path / "file"), "/bin"),)
    service = place.of("a", place.workload(SLEEP, mounts=mounts))
    shimlet.apply(service, [Placement(0)], {})
    seen = place.one(shimlet, service)
    assert (seen.state, seen.exit_code) == (State.EXITED, 127)
    assert "mount" in seen.message


def test_what_was_created_but_never_started_is_started_by_the_next_apply(place: DockerPlace, shimlet: DockerShimlet):
    """As a kill -9 between the two calls leaves it."""
    service = place.of("a", place.workload(SLEEP))
    body = creation(
        service,
        Placement(0),
        owner=place.owner,
        image=Image(place.image, place.api.inspect_image(place.image)["Id"]),
        secrets={},
        seal="",
        operator=EngineOptions(),
        engine=Known(),
    )
    shimlet._containers.ensure_network()
    shimlet._containers.create(f"xmod-{place.owner}-a-{service.digest[:8]}-0.new", body)
    assert place.one(shimlet, service).state is State.STOPPED
    shimlet.apply(service, [Placement(0)], {})
    assert place.one(shimlet, service).state is State.RUNNING
    assert len(place.remains("a")) == 1


def test_a_port_that_someone_else_has_is_a_conflict_and_nothing_of_ours_is_left(
    place: DockerPlace, shimlet: DockerShimlet
):
    service = place.service("a", SERVES)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(Conflict, match=f"127.0.0.1:{port} is taken by something else"):
            shimlet.apply(service, [Placement(0, port)], {})
        assert not place.remains("a")
    place.up(shimlet, service, [Placement(0, port)])


def test_one_replica_that_is_refused_does_not_hold_up_the_others(place: DockerPlace, shimlet: DockerShimlet):
    service = place.service("a", SERVES, 2)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        placements = [Placement(0, other.getsockname()[1]), Placement(1, free_port())]
        with pytest.raises(Conflict):
            shimlet.apply(service, placements, {})
        assert [r.placement for r in place.running(shimlet, service)] == placements[1:]


def test_a_missing_host_path_is_permanent_and_named(place: DockerPlace, shimlet: DockerShimlet):
    service = place.of("a", place.workload(SLEEP, mounts=(Mount("/no/such/path", "/x"),)))
    with pytest.raises(Permanent, match="bind source path does not exist: /no/such/path"):
        shimlet.apply(service, [Placement(0)], {})
    assert not place.remains("a")


def test_gpus_that_the_engine_cannot_give_are_permanent_with_what_to_do(place: DockerPlace, shimlet: DockerShimlet):
    workload = place.workload(SLEEP, accelerators=Accelerators(kind="NVIDIA GPU", count=1))
    service = place.of("a", workload)
    with pytest.raises(Permanent, match="install the NVIDIA Container Toolkit"):
        shimlet.apply(service, [Placement(0, None, ("GPU-1",))], {})
    assert place.one(shimlet, service).state is State.STOPPED, "the workload is not at fault"


def test_an_unknown_option_is_permanent_before_anything_is_done(place: DockerPlace, shimlet: DockerShimlet):
    with pytest.raises(Permanent, match="unknown option 'restrat'"):
        shimlet.apply(place.of("a", place.workload(SLEEP, options='{"restrat":1}')), [Placement(0)], {})


def test_a_lost_container_comes_back_from_the_image_of_its_siblings_though_the_tag_moved(
    place: DockerPlace, shimlet: DockerShimlet
):
    tag = f"xmod-test-{place.owner}:latest"
    first = import_image(place.api, tag, version=b"1")
    try:
        service = place.of("a", place.workload(SLEEP, image=tag), replicas=2)
        placements = [Placement(0), Placement(1)]
        assert place.up(shimlet, service, placements).notice == ""
        second = import_image(place.api, tag, version=b"2")
        assert second != first
        notice = shimlet.observe(service.name).generations[0].notice
        assert notice == f"{tag} has moved to {second[:19]}; this generation stays on {first[:19]}"
        place.api.remove_container(place.remains("a")[0], force=True)
        place.up(shimlet, service, placements)
        assert {one["ImageID"] for one in place.containers("a")} == {first}
        newer = place.of("b", place.workload(SLEEP, image=tag))
        place.up(shimlet, newer, [Placement(0)])
        assert place.containers("b")[0]["ImageID"] == second
    finally:
        place.remove_containers()
        for image in (tag, first):
            with contextlib.suppress(Exception):
                place.api.remove_image(image, force=True)


def test_a_service_without_an_image_is_refused_with_what_to_do(place: DockerPlace, shimlet: DockerShimlet):
    with pytest.raises(Permanent, match=r"names no image; give container\.image"):
        shimlet.apply(place.of("a", place.workload(SLEEP, image="")), [Placement(0)], {})


def test_env_secrets_model_mount_and_limits_reach_the_process(
    place: DockerPlace, shimlet: DockerShimlet, tmp_path: Path
):
    (tmp_path / "weights").write_text("42")
    script = (
        "echo $GREETING $TOKEN $(cat {model}/weights); (echo x > {model}/weights) 2>/dev/null || echo read-only; "
        + SLEEP
    )
    env = (("GREETING", "hello-{name}"), ("TOKEN", SecretRef("env", "T")))
    service = place.of("a", place.workload(script, env=env, memory=2**26, shm=2**20))
    place.up(shimlet, service, [Placement(0, None, (), str(tmp_path))], TOKEN="s3cret")
    lines = until(lambda: (told := list(shimlet.logs(service.name, 10))) and len(told) > 1 and told, "it spoke")
    assert lines[0] == "hello-a s3cret 42"
    assert lines[-1] == "read-only"
    host = place.api.inspect_container(place.remains("a")[0])["HostConfig"]
    assert (host["Memory"], host["ShmSize"], host["Init"]) == (2**26, 2**20, True)
    assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-file": "3", "max-size": "10m"}}
    assert host["SecurityOpt"] == ["no-new-privileges"]


def test_services_of_an_instance_reach_each_other_by_name(place: DockerPlace, shimlet: DockerShimlet):
    server = place.service("server", SERVES)
    place.up(shimlet, server, [place.placement(0)])
    client = place.of("client", place.workload(f"/bin/busybox wget -qO- http://server:8080/version; {SLEEP}"))
    place.up(shimlet, client, [Placement(0)])
    until(lambda: any("404" in line or "bin" in line for line in shimlet.logs(client.name, 5)), "an answer")
