"""Promise 10 where the wish changes no digest: another port or address that cannot be had leaves what serves alone."""

from dataclasses import replace

from agent.contracts import Fate, Placement, State
from agent.control.board import Phase
from tests.control.test_promises import Host
from tests.fakes.folder import document


def placement(host: Host) -> Placement:
    """Where the one live replica is."""
    (generation,) = host.world.observed("web", owner="test").generations
    (replica,) = generation.live
    return replica.placement


def test_an_address_that_this_host_lacks_touches_nothing() -> None:
    """Not even though the change is made in place."""
    host = Host().has(a=document("web"))
    host.agent.ledger._address_here = lambda bind: bind == "127.0.0.1"
    host.effects()
    service = host.agent.controller.intent("web").service
    host.agent.want(replace(service, bind="10.9.8.7"))
    host.agent.settle(10)
    assert host.effects() == []
    status = host.status()
    assert (status.serving.holds, status.converged.reason) == (True, "NoRoom")
    assert "10.9.8.7" in status.converged.message


def test_a_port_that_is_taken_leaves_the_old_one_and_mends_it_when_it_dies() -> None:
    """The wish waits; what served is started again where it was."""
    host = Host().has(a=document("web"))
    old = placement(host)
    host.busy_ports.add(18050)
    service = host.agent.controller.intent("web").service
    host.agent.want(replace(service, port=18050))
    host.agent.settle(5)
    assert host.status().converged.reason == "NoRoom"
    host.world.exit("web")
    host.agent.settle(5)
    assert placement(host) == old
    assert host.status().serving.holds
    host.busy_ports.clear()
    host.agent.settle(10)
    assert placement(host).port == 18050
    assert host.status().phase is Phase.READY


def test_an_assigned_port_is_kept_only_while_it_is_free() -> None:
    """A replica that exited, and whose port somebody else took meanwhile, gets another one."""
    host = Host().has(a=document("web"))
    old = placement(host)
    assert old.port is not None
    host.busy_ports.add(old.port)
    host.world.exit("web")
    host.agent.settle(10)
    assert placement(host).port != old.port
    assert host.status().phase is Phase.READY


def test_what_served_and_crashes_again_and_again_is_not_ready_while_it_happens_to_run() -> None:
    """A crash loop that the world itself restarts is told, and burns nothing."""
    host = Host().has(a=document("web"))
    for _ in range(4):
        host.world.exit("web")
        host.agent.settle(2)
    host.agent.pass_time(20)
    host.agent.settle(2)
    (generation,) = host.world.observed("web", owner="test").generations
    assert generation.fate is Fate.SERVED
    if generation.replicas[0].state is State.RUNNING:
        assert host.status().converged.reason == "CrashLoop"
    host.clock.advance(400)
    host.agent.settle(20)
    assert host.status().phase is Phase.READY
