"""Stops go on in the background, and let things end in peace."""

import time
from pathlib import Path

import pytest

from agent.contracts import Mount, Placement, State
from shimlets.docker.shimlet import DockerShimlet
from tests.shimlets.docker.world import SLEEP, DockerPlace, until

pytestmark = pytest.mark.docker


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


def test_a_stop_that_goes_on_may_become_a_removal(place: DockerPlace, shimlet: DockerShimlet):
    service = place.of("a", place.workload("trap '' TERM; while :; do sleep 0.1; done", options='{"stopGrace":"1s"}'))
    place.up(shimlet, service, [Placement(0)])
    shimlet.apply(service, [], {})
    shimlet.remove(service.name, service.digest)
    assert place.one(shimlet, service).state is State.STOPPING
    until(lambda: not place.remains("a"), "it is gone")
    until(lambda: not shimlet._endings.known().stopping, "nothing is remembered of it")


def test_a_stop_of_what_is_gone_is_nothing(place: DockerPlace, shimlet: DockerShimlet):
    shimlet._endings.begin("0" * 64, grace=1.0, remove=True)
    until(lambda: not shimlet._endings.known().stopping, "it is done")


def test_what_is_gone_is_forgotten_by_the_next_list(place: DockerPlace, shimlet: DockerShimlet):
    service = place.of("a", place.workload(SLEEP))
    place.up(shimlet, service, [Placement(0)])
    shimlet.apply(service, [], {})
    until(lambda: shimlet._endings.known().stopped, "it is stopped")
    place.remove_containers()
    shimlet.list()
    assert not shimlet._endings.known().stopped
