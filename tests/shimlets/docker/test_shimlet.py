"""Behaviour on a real engine that only Docker has; what all shimlets share is in test_docker_contract."""

import contextlib
import socket
import time
from pathlib import Path

import pytest

from agent.contracts import (
    Accelerators,
    Conflict,
    Fate,
    Images,
    Mount,
    Observed,
    Permanent,
    Placement,
    SecretRef,
    ServiceName,
    Shimlet,
    State,
)
from shimlets.docker.arguments import Engine as Known
from shimlets.docker.arguments import Image, creation
from shimlets.docker.options import EngineOptions
from shimlets.docker.shimlet import DockerShimlet
from tests.contract.shimlet_contract import SERVES
from tests.shimlets.docker.world import DockerPlace, Watched, free_port, import_image, until

pytestmark = pytest.mark.docker

SLEEP = "trap 'exit 0' TERM; while :; do sleep 0.1; done"


def test_it_is_a_shimlet_with_images_on_this_host(shimlet: DockerShimlet):
    assert isinstance(shimlet, Images)
    typed: Shimlet = shimlet
    assert (typed.name, typed.local) == ("docker", True)


def test_a_list_is_one_request_whatever_runs(place: DockerPlace, shimlet: DockerShimlet):
    for name in ("a", "b"):
        place.up(shimlet, place.of(name, place.workload(SLEEP), replicas=2), [Placement(0), Placement(1)])
    sent: list[str] = []
    send = shimlet._engine._send

    def counting(method: str, path: str, *rest: object, **request: object) -> object:
        sent.append(f"{method} {path}")
        return send(method, path, *rest, **request)

    shimlet._engine._send = counting
    assert {name: len(seen.generations[0].replicas) for name, seen in shimlet.list().items()} == {"a": 2, "b": 2}
    assert sent == ["GET /containers/json"]


def test_a_kill_is_told_at_once_and_under_unless_stopped_the_next_apply_brings_it_back(
    place: DockerPlace, shimlet: DockerShimlet
):
    service = place.of("a", place.workload(SLEEP))
    before = place.up(shimlet, service, [Placement(0)]).replicas[0]
    with Watched(shimlet) as watched:
        until(lambda: "a" in watched.names or place.kill_if_running("a"), "the kill is told")
    assert place.one(shimlet, service).state is State.STOPPED
    after = place.up(shimlet, service, [Placement(0)]).replicas[0]
    assert after.started_at > before.started_at


def test_a_crash_loop_is_left_to_docker_and_told_with_code_and_last_lines(place: DockerPlace, shimlet: DockerShimlet):
    service = place.of("a", place.workload("echo loading; echo no such model; exit 7"))
    shimlet.apply(service, [Placement(0)], {})
    seen = until(
        lambda: (r := place.one(shimlet, service)).restarts >= 3 and r.state is State.STARTING and r, "it loops"
    )
    assert seen.exit_code == 7
    assert "exited with code 7" in seen.message
    assert "it last said: " in seen.message
    assert "loading | no such model" in seen.message
    shimlet.record(service.name, service.digest, Fate.FAILED)
    shimlet.apply(service, [], {})
    until(lambda: place.one(shimlet, service).state is State.STOPPED, "the loop is stopped")
    assert place.shimlet().list()[service.name].generations[0].fate is Fate.FAILED


def test_a_command_that_does_not_exist_is_a_crash_loop_that_says_so(place: DockerPlace, shimlet: DockerShimlet):
    service = place.of("a", place.workload("", command=("/bin/nothing-here",)))
    shimlet.apply(service, [Placement(0)], {})
    seen = until(
        lambda: (r := place.one(shimlet, service)).restarts >= 1 and r.state is State.STARTING and r, "it loops"
    )
    assert "exited with code 127" in seen.message
    assert "/bin/nothing-here" in seen.message


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


def test_a_stop_takes_its_grace_in_the_background_and_nothing_starts_it_meanwhile(
    place: DockerPlace, shimlet: DockerShimlet
):
    stubborn = "trap '' TERM; while :; do sleep 0.1; done"
    service = place.of("a", place.workload(stubborn, options='{"stopGrace":"1s"}'))
    place.up(shimlet, service, [Placement(0)])
    began = time.monotonic()
    shimlet.apply(service, [], {})
    assert time.monotonic() - began < 0.8
    assert place.one(shimlet, service).state is State.STOPPING
    assert shimlet.list()[service.name].generations[0].replicas[0].state is State.STOPPING
    shimlet.apply(service, [Placement(0)], {})
    assert place.one(shimlet, service).state is State.STOPPING
    until(lambda: place.one(shimlet, service).state is State.STOPPED, "it is stopped")
    place.up(shimlet, service, [Placement(0)])


def test_removing_what_runs_lets_it_end_in_peace(place: DockerPlace, shimlet: DockerShimlet, tmp_path: Path):
    tmp_path.chmod(0o777)
    script = f"trap 'echo > {tmp_path}/goodbye; exit 0' TERM; while :; do sleep 0.1; done"
    mounts = (Mount(str(tmp_path), str(tmp_path), read_only=False),)
    service = place.of("a", place.workload(script, mounts=mounts))
    place.up(shimlet, service, [Placement(0)])
    shimlet.remove(service.name, service.digest)
    until(lambda: not place.remains("a"), "it is gone")
    assert (tmp_path / "goodbye").exists()


def test_a_new_one_beside_a_served_one_is_told_apart_by_name_alone(place: DockerPlace, shimlet: DockerShimlet):
    old, new = place.of("a", place.workload(SLEEP)), place.of("a", place.workload(f"true; {SLEEP}"))
    place.up(shimlet, old, [Placement(0)])
    shimlet.record(old.name, old.digest, Fate.SERVED)
    place.up(shimlet, new, [Placement(0)])
    shimlet.record(new.name, new.digest, Fate.FAILED)
    names = sorted(one["Names"][0] for one in place.containers("a"))
    prefix = f"/xmod-{place.owner}-a-"
    assert names == sorted([f"{prefix}{old.digest[:8]}-0", f"{prefix}{new.digest[:8]}-0.failed"])
    fates = [g.fate for g in place.shimlet().observe(old.name).generations]
    assert fates == [Fate.SERVED, Fate.FAILED]


def test_a_stranger_with_the_name_that_a_record_needs_is_a_conflict(place: DockerPlace, shimlet: DockerShimlet):
    service = place.of("a", place.workload(SLEEP))
    place.up(shimlet, service, [Placement(0)])
    name = f"xmod-{place.owner}-a-{service.digest[:8]}-0"
    place.api.create_container(place.image, ["/bin/sleep", "1"], name=name)
    with pytest.raises(Conflict):
        shimlet.record(service.name, service.digest, Fate.SERVED)
    assert name in shimlet.observe(service.name).foreign


# Drift.


def test_changed_limits_and_policy_are_told_by_event_seen_as_drift_and_mended_without_a_restart(
    place: DockerPlace, shimlet: DockerShimlet
):
    service = place.of("a", place.workload(SLEEP, cpu=0.5, memory=2**26))
    before = place.up(shimlet, service, [Placement(0)])
    assert before.drift == ""
    (container,) = place.remains("a")
    with Watched(shimlet) as watched:
        time.sleep(0.3)
        place.api.update_container(
            container, mem_limit=2**27, memswap_limit=2**28, restart_policy={"Name": "no", "MaximumRetryCount": 0}
        )
        until(lambda: "a" in watched.names, "the change is told")
    drifted = shimlet.observe(service.name).generations[0]
    assert drifted.drift == (
        "replica 0 has memory 128Mi instead of 64Mi; replica 0 has restart policy no instead of unless-stopped"
    )
    shimlet.apply(service, [Placement(0)], {})
    mended = shimlet.observe(service.name).generations[0]
    assert mended.drift == ""
    assert mended.replicas[0].started_at == before.replicas[0].started_at
    host = place.api.inspect_container(container)["HostConfig"]
    assert (host["Memory"], host["NanoCpus"], host["RestartPolicy"]["Name"]) == (2**26, 5 * 10**8, "unless-stopped")


def test_a_limit_that_nobody_asked_for_costs_a_new_container(place: DockerPlace, shimlet: DockerShimlet):
    service = place.of("a", place.workload(SLEEP))
    place.up(shimlet, service, [Placement(0)])
    (container,) = place.remains("a")
    place.api.update_container(container, mem_limit=2**27, memswap_limit=2**28)
    until(lambda: not shimlet.apply(service, [Placement(0)], {}) and place.remains("a") != [container], "another one")
    place.up(shimlet, service, [Placement(0)])
    assert shimlet.observe(service.name).generations[0].drift == ""


def test_a_pause_is_drift_and_apply_ends_it(place: DockerPlace, shimlet: DockerShimlet):
    service = place.of("a", place.workload(SLEEP))
    before = place.up(shimlet, service, [Placement(0)])
    place.api.pause(place.remains("a")[0])
    assert shimlet.list()[service.name].generations[0].drift == "replica 0 is paused"
    assert place.one(shimlet, service).holds
    shimlet.apply(service, [Placement(0)], {})
    after = shimlet.observe(service.name).generations[0]
    assert (after.drift, after.replicas[0].started_at) == ("", before.replicas[0].started_at)


def test_a_container_taken_off_the_network_is_put_back(place: DockerPlace, shimlet: DockerShimlet):
    service = place.of("a", place.workload(SLEEP))
    place.up(shimlet, service, [Placement(0)])
    network = f"xmod-{place.owner}"
    place.api.disconnect_container_from_network(place.remains("a")[0], network)
    assert shimlet.observe(service.name).generations[0].drift == f"replica 0 is not in network {network}"
    shimlet.apply(service, [Placement(0)], {})
    assert shimlet.observe(service.name).generations[0].drift == ""
    assert "a" in place.api.inspect_container(place.remains("a")[0])["NetworkSettings"]["Networks"][network]["Aliases"]


def test_a_kept_replica_starts_again_although_its_network_was_pruned_and_made_anew(
    place: DockerPlace, shimlet: DockerShimlet
):
    service = place.of("a", place.workload(SLEEP))
    place.up(shimlet, service, [Placement(0)])
    shimlet.apply(service, [], {})
    until(lambda: place.one(shimlet, service).state is State.STOPPED, "it is stopped")
    place.api.remove_network(f"xmod-{place.owner}")
    kept = place.remains("a")
    place.up(shimlet, service, [Placement(0)])
    assert place.remains("a") == kept


def test_a_name_that_somebody_changed_is_changed_back_and_the_generation_counts_as_served(
    place: DockerPlace, shimlet: DockerShimlet
):
    service = place.of("a", place.workload(SLEEP))
    place.up(shimlet, service, [Placement(0)])
    place.api.rename(place.remains("a")[0], f"xmod-{place.owner}-hers")
    assert shimlet.list()[service.name].generations[0].fate is Fate.SERVED
    shimlet.apply(service, [Placement(0)], {})
    assert place.containers("a")[0]["Names"] == [f"/xmod-{place.owner}-a-{service.digest[:8]}-0"]


# Images.


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


# What the world refuses.


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


# What reaches the container.


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


def test_logs_of_several_replicas_say_which_one_wrote(place: DockerPlace, shimlet: DockerShimlet):
    service = place.of("a", place.workload(f"echo one; echo two; {SLEEP}"), replicas=2)
    place.up(shimlet, service, [Placement(0), Placement(1)])
    told = until(lambda: (lines := list(shimlet.logs(service.name, 4))) and len(lines) == 4 and lines, "they spoke")
    assert sorted(told) == ["[0] one", "[0] two", "[1] one", "[1] two"]


def test_an_instance_that_no_name_can_carry_is_refused_at_the_door(tmp_path: Path):
    with pytest.raises(ValueError, match="lower-case"):
        DockerShimlet("Not Me", {}, tmp_path)


def test_nothing_is_opened_by_making_one(tmp_path: Path):
    DockerShimlet("x", {"host": "unix:///nowhere.sock"}, tmp_path)


def test_what_is_observed_of_nobody_is_nothing(shimlet: DockerShimlet):
    assert shimlet.observe(ServiceName("nobody")) == Observed(ServiceName("nobody"))
