"""Behaviour on a real engine that only Docker has; what all shimlets share is in test_docker_contract."""

import re
import time
from pathlib import Path

import pytest

from agent.contracts import (
    Conflict,
    Fate,
    Images,
    Observed,
    Placement,
    ServiceName,
    Shimlet,
    State,
    Transient,
)
from shimlets.docker.shimlet import DockerShimlet
from tests.shimlets.docker.world import SLEEP, DockerPlace, Watched, until

pytestmark = pytest.mark.docker


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


def test_a_name_that_somebody_changed_is_changed_back_and_the_generation_counts_as_served(
    place: DockerPlace, shimlet: DockerShimlet
):
    service = place.of("a", place.workload(SLEEP))
    place.up(shimlet, service, [Placement(0)])
    place.api.rename(place.remains("a")[0], f"xmod-{place.owner}-hers")
    assert shimlet.list()[service.name].generations[0].fate is Fate.SERVED
    shimlet.apply(service, [Placement(0)], {})
    assert place.containers("a")[0]["Names"] == [f"/xmod-{place.owner}-a-{service.digest[:8]}-0"]


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


def test_what_is_given_up_keeps_its_port_its_restart_policy_and_its_state(place: DockerPlace, shimlet: DockerShimlet):
    service = place.of("a", place.workload(SLEEP), replicas=2)
    place.up(shimlet, service, [Placement(0), Placement(1)])
    shimlet.record(service.name, service.digest, Fate.SERVED)
    shimlet.apply(service, [Placement(0)], {})
    until(
        lambda: [r.state for r in shimlet.observe(service.name).generations[0].replicas][1] is State.STOPPED, "one is"
    )
    before = {one["Id"]: (one["State"], one["Ports"]) for one in place.containers("a")}
    left = shimlet.release(service.name)
    assert {one["Id"]: (one["State"], one["Ports"]) for one in place.containers("a")} == before
    assert sorted(re.findall(r", (running|exited)", " ".join(left))) == ["exited", "running"]
    for one in place.containers("a"):
        assert one["Names"][0].endswith(f".{one['Id'][:12]}.forgotten")
        assert place.api.inspect_container(one["Id"])["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"


def test_what_is_being_stopped_is_not_given_up_yet(place: DockerPlace, shimlet: DockerShimlet):
    service = place.of("a", place.workload("trap '' TERM; while :; do sleep 0.1; done"))
    place.up(shimlet, service, [Placement(0)])
    shimlet.remove(service.name, service.digest)
    with pytest.raises(Transient, match="still being stopped"):
        shimlet.release(service.name)
    assert not any("forgotten" in one["Names"][0] for one in place.containers("a"))


def test_half_given_up_the_rest_is_given_up_when_asked_again(place: DockerPlace, shimlet: DockerShimlet):
    service = place.of("a", place.workload(SLEEP), replicas=2)
    place.up(shimlet, service, [Placement(0), Placement(1)])
    first = place.containers("a")[0]
    place.api.rename(first["Id"], first["Names"][0].lstrip("/") + ".forgotten")
    assert len(shimlet.observe(service.name).generations[0].replicas) == 1
    assert len(shimlet.release(service.name)) == 1
    assert shimlet.release(service.name) == ()
