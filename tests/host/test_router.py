"""Where an address leads."""

from agent.contracts import Placement, Replica, Route, State
from agent.host.router import DirectRouter
from tests.fakes.agent import service

WEB = service("web")


def replicas(*indices: int) -> list[Replica]:
    return [Replica(Placement(index, 18000 + index), State.RUNNING) for index in indices]


def test_nothing_is_proven_at_first() -> None:
    assert DirectRouter().routed(WEB.name) is None


def test_the_last_route_counts_and_drained_is_a_route() -> None:
    router = DirectRouter()
    router.route(WEB, replicas(0, 2))
    assert router.routed(WEB.name) == Route(WEB.digest, frozenset({0, 2}))
    router.route(service("web", "v2"), ())
    assert router.routed(WEB.name) == Route(service("web", "v2").digest)


def test_what_is_gone_leads_nowhere() -> None:
    router = DirectRouter()
    router.route(WEB, replicas(0))
    router.forget(WEB.name)
    router.forget(WEB.name)
    assert router.routed(WEB.name) is None
