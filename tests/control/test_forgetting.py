"""What is forgotten runs on and is never touched again; when that is refused, and what it leaves in memory."""

from concurrent.futures import Future

import pytest

from agent.contracts import Fate, ServiceName, Shimlet
from agent.control.words import UnknownNameError, Words
from tests.control.test_promises import BROKEN, Host, files, running
from tests.fakes.agent import MiniAgent, clock_at_noon, service
from tests.fakes.folder import document
from tests.fakes.memory import MemoryShimlet, World

WEB = ServiceName("web")


def forget(host: Host, name: str = "web") -> tuple[str, ...]:
    giving = host.agent.operator.forget(ServiceName(name))
    host.settle()
    return giving.done.result(timeout=0)


def held() -> Host:
    """A host on which web runs, is wanted by no file, and whose removal is held."""
    host = Host().has(a=document("web"), b=document("api"))
    host.agent.operator.suspend(WEB)
    host.has(b=document("api"))
    host.effects()
    return host


def test_what_is_held_is_given_up_and_runs_on() -> None:
    host = held()
    (left,) = forget(host)
    assert left.startswith("web/")
    assert "running at 127.0.0.1:" in left
    assert host.effects() == ["forget web"]
    assert host.world.forgotten[0][1].live
    assert (host.held(), host.agent.board.get(WEB), host.agent.controller.words().suspended) == ({}, None, {})
    for lost in (False, True):
        host.restart(lost=lost)
        assert (host.effects(), host.held()) == ([], {})
    assert host.agent.controller.words().pruned == (), "no part of the budget"


@pytest.mark.parametrize("lost", [False, True])
def test_a_later_service_of_that_name_runs_beside_it(lost: bool) -> None:
    host = held()
    forget(host)
    taken = host.world.forgotten[0][1].replicas[0].placement.port
    assert taken is not None
    host.busy_ports.add(taken)
    host.restart(lost=lost).has(a=document("web"), b=document("api"))
    assert running(host, "web")
    (generation,) = host.world.observed("web").generations
    assert generation.replicas[0].placement.port != taken
    host.has(b=document("api"))
    assert not host.world.observed("web").generations
    assert host.world.forgotten[0][1].live
    assert host.world.violations == []


def test_what_a_file_names_is_forgotten_only_while_it_is_suspended() -> None:
    host = Host().has(a=document("web"))
    with pytest.raises(UnknownNameError, match=r"web stands in a.yaml:1, .* xmod-agent suspend web"):
        host.agent.operator.forget(WEB)
    assert running(host, "web")
    host.agent.operator.suspend(WEB)
    host.settle()
    forget(host)
    assert not host.world.observed("web").generations
    assert host.agent.controller.words().suspended.keys() == {WEB}, "else it would be created again at once"
    assert host.status().serving.holds is False
    assert host.agent.router.routed(WEB) is None
    host.restart()
    assert not host.world.observed("web").generations
    host.busy_ports.add(host.world.forgotten[0][1].replicas[0].placement.port or 0)
    host.agent.operator.resume(WEB)
    host.settle()
    assert running(host, "web")
    assert host.world.violations == []


def test_refusals_say_what_to_do() -> None:
    host = Host().has(a=document("web"), b=document("b"), **files("cd"))
    host.clock.advance(3600)
    with pytest.raises(UnknownNameError, match="nothing is there of a service wbe; there are: b, c, d, web"):
        host.agent.operator.forget(ServiceName("wbe"))
    host.has(a=BROKEN, b=document("b"), **files("cd"))
    with pytest.raises(UnknownNameError, match=r"may stand in a file that is not in effect \(a.yaml"):
        host.agent.operator.forget(WEB)
    host.has(a=document("web"), b=document("b"), **files("cd"))
    host.world.stops_at_once = False
    host.folder.files.pop("a.yaml")
    host.folder.scan(host.agent)
    with pytest.raises(UnknownNameError, match=r"web is being removed; .*xmod-agent suspend web"):
        host.agent.operator.forget(WEB)
    unread = MiniAgent(host.world, host.clock)
    unread.see()
    with pytest.raises(UnknownNameError, match="the source was not read yet"):
        unread.operator.forget(WEB)


def test_while_its_world_is_out_of_sight_it_is_refused() -> None:
    host = held()
    host.world.down = True
    host.settle(1)
    with pytest.raises(UnknownNameError, match="while memory is out of sight"):
        host.agent.operator.forget(WEB)


def test_what_is_being_removed_is_brought_back_and_then_given_up() -> None:
    host = Host()
    host.world.stops_at_once = False
    host.has(a=document("web"), b=document("api"))
    host.folder.files = {"b.yaml": document("api")}
    host.folder.scan(host.agent)
    host.agent.pump()  # the removal begins
    host.agent.operator.suspend(WEB)
    giving = host.agent.operator.forget(WEB)
    host.agent.pump()
    assert not giving.done.done()
    host.settle()
    assert len(giving.done.result(timeout=0)) == 1
    assert not host.world.observed("web").generations
    ((_, left),) = host.world.forgotten
    assert left.live


@pytest.mark.parametrize("steps", range(6))
def test_in_the_midst_of_a_change_it_serves_before_it_is_given_up(steps: int) -> None:
    host = Host()
    host.world.stops_at_once = False
    host.has(a=document("web"))
    host.folder.files = {"a.yaml": document("web", "v2")}
    host.folder.scan(host.agent)
    for _ in range(steps):
        host.agent.pass_time(0.5)
    host.agent.operator.suspend(WEB)
    giving = host.agent.operator.forget(WEB)
    host.agent.settle(10)
    assert giving.done.result(timeout=0)
    served = [left for _, left in host.world.forgotten if left.fate is Fate.SERVED and left.live]
    assert len(served) == 1
    assert not host.world.observed("web").generations


class Stranger:
    """A shimlet without that ability."""

    def __init__(self, inner: MemoryShimlet) -> None:
        for name in ("acquire", "list", "observe", "apply", "record", "remove", "watch", "logs", "close"):
            setattr(self, name, getattr(inner, name))
        self.name, self.local = inner.name, inner.local


def test_a_world_that_cannot_do_it_says_so_and_nothing_changes() -> None:
    clock = clock_at_noon()
    world = World(now=clock.now, probes=False, stops_at_once=True)
    stranger: Shimlet = Stranger(MemoryShimlet(world, "test"))  # type: ignore[assignment]
    agent = MiniAgent(world, clock, shimlets={"memory": stranger}, words=Words())
    agent.see()
    agent.want(service("web"), service("api"))
    agent.settle(5)
    agent.operator.suspend(WEB)
    agent.want(service("api"))
    agent.settle(2)
    done: Future[tuple[str, ...]] = agent.operator.forget(WEB).done
    agent.settle(2)
    with pytest.raises(UnknownNameError, match="cannot forget web: shimlet memory cannot give up what it runs"):
        done.result(timeout=0)
    assert agent.controller.held()[WEB].reason == "Suspended"
    assert world.observed("web").generations[0].live


def test_what_was_not_done_in_time_can_be_taken_back() -> None:
    host = held()
    host.world.hung = True
    giving = host.agent.operator.forget(WEB)
    host.agent.pump()
    assert not giving.done.done()
    host.agent.controller.keep_on(WEB)
    host.world.hung = False
    host.settle()
    assert host.world.forgotten == []
    assert host.held() == {"web": "Suspended"}


def test_a_service_in_two_worlds_is_given_up_in_both() -> None:
    host = Host(other=True)
    host.has(a=document("web"), b=document("api"))
    (generation,) = host.world.observed("web").generations
    placement = generation.replicas[0].placement
    MemoryShimlet(host.elsewhere, "test", name="other").apply(generation.service, [placement], {})
    host.agent.operator.suspend(WEB)
    host.has(b=document("api"))
    assert len(forget(host)) == 2
    assert len(host.world.forgotten) == len(host.elsewhere.forgotten) == 1
