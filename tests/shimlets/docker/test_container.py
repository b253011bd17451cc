"""Calls about containers and their network, on a real engine."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from agent.contracts import Placement, ServiceName, State
from shimlets.docker.shimlet import DockerShimlet
from tests.shimlets.docker.world import SLEEP, DockerPlace, until

pytestmark = pytest.mark.docker


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


def test_strangers_are_those_without_our_mark_whose_names_ours_could_be(place: DockerPlace, shimlet: DockerShimlet):
    service = place.of("a", place.workload(SLEEP))
    place.up(shimlet, service, [Placement(0)])
    name = f"xmod-{place.owner}-a-{service.digest[:8]}-7.failed"
    stranger = place.api.create_container(place.image, ["/bin/true"], name=name)["Id"]
    place.api.create_container(place.image, ["/bin/true"], name=f"xmod-{place.owner}-b-{service.digest[:8]}-0")
    assert shimlet._containers.strangers(service.name) == {name: stranger}


def test_a_label_alone_makes_nothing_ours(place: DockerPlace, shimlet: DockerShimlet):
    labels = {"xmod.dev/instance": place.owner, "xmod.dev/service": "a", "xmod.dev/mark": "{}"}
    name = f"xmod-{place.owner}-a-00000000-0"
    place.api.create_container(place.image, ["/bin/true"], name=name, labels=labels)
    assert shimlet.list() == {}
    assert name in shimlet._containers.strangers(ServiceName("a"))


def test_what_is_gone_is_nothing_to_inspect_stop_or_remove(shimlet: DockerShimlet):
    gone = "0" * 64
    assert shimlet._containers.inspected(gone, words=True) is None
    shimlet._containers.stop(gone, 1.0)
    shimlet._containers.remove(gone)


def test_a_network_that_several_workers_need_at_once_is_made_once(place: DockerPlace, shimlet: DockerShimlet):
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda _: shimlet._containers.ensure_network(), range(4)))
    assert len(place.api.networks(filters={"label": [f"xmod.dev/instance={place.owner}"]})) == 1
