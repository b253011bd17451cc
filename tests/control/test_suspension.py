"""What is suspended is left as it is: said by an operator or a spec, for one or for all, through changes and restarts."""

import contextlib
from collections.abc import Callable
from dataclasses import replace

import pytest

from agent.contracts import Fate, ServiceName
from agent.control.board import Phase
from agent.control.desired import Doubt
from agent.control.intent import Keep, Run
from agent.control.suspension import why
from agent.control.words import UnknownNameError, Words
from tests.control.test_promises import BROKEN, Host, files, running
from tests.fakes.folder import document
from tests.fakes.memory import Crash, MemoryShimlet

WEB = ServiceName("web")


def say(host: Host) -> Words:
    return host.agent.controller.words()


def is_suspended(host: Host, name: str = "web") -> bool:
    status = host.status(name)
    return (status.phase, status.blocked, status.converged.reason) == (Phase.SUSPENDED, "suspended", "Suspended")


def by_word(host: Host) -> None:
    host.agent.operator.suspend(WEB, "disk is full")


def by_word_for_all(host: Host) -> None:
    host.agent.operator.suspend(None)


def by_spec(host: Host) -> None:
    text = host.folder.files["a.yaml"]
    assert isinstance(text, str)
    host.folder.files["a.yaml"] = text.replace("annotations: {", 'annotations: {xmod.dev/suspend: "true"')


WAYS = [by_word, by_word_for_all, by_spec]


@pytest.mark.parametrize("suspend", WAYS)
@pytest.mark.parametrize("restarted", [False, True])
def test_whatever_git_says_and_whatever_happens_nothing_is_done(
    suspend: Callable[[Host], None], restarted: bool
) -> None:
    host = Host().has(a=document("web"))
    suspend(host)
    host.settle()
    host.effects()
    if restarted:
        host.restart()
    annotations = {"suspend": "true"} if suspend is by_spec else {}
    host.has(a=document("web", "v2", **annotations))
    host.world.exit("web")
    host.settle()
    assert host.effects() == []
    assert is_suspended(host)
    if restarted:
        host.restart()
    assert host.effects() == []
    assert is_suspended(host)


@pytest.mark.parametrize("suspend", [by_word, by_word_for_all])
def test_a_removal_is_held_and_spends_none_of_the_budget(suspend: Callable[[Host], None]) -> None:
    names = [f"s{number}" for number in range(3)]
    host = Host().has(a=document("web"), **files(names))
    host.clock.advance(3600)
    host.settle()
    suspend(host)
    host.has(**files(names))
    assert (host.held(), running(host, "web")) == ({"web": "Suspended"}, True)
    assert say(host).pruned == ()
    assert is_suspended(host)
    with pytest.raises(UnknownNameError, match="cannot be approved: Suspended"):
        host.agent.operator.approve([WEB])
    host.restart()
    assert (host.held(), running(host, "web")) == ({"web": "Suspended"}, True)
    if suspend is by_word:
        host.has(**files(names[1:]))
        assert not host.world.observed("s0").generations, "the budget is there for others"
        host.clock.advance(3600)
    assert host.agent.operator.resume(WEB if suspend is by_word else None)
    host.settle()
    assert not host.world.observed("web").generations
    assert say(host).suspended == {}


def test_a_suspended_service_is_not_converged_but_behind_only_if_git_says_something_else() -> None:
    host = Host().has(a=document("web"))
    host.agent.operator.suspend(WEB)
    host.settle()
    assert (host.status().converged.holds, host.status().wanted_since) == (False, None)
    host.has(a=document("web", "v2"))
    assert host.status().wanted_since is not None
    assert host.status().wanted != host.status().routed
    since = host.status().wanted_since
    host.settle()
    assert host.status().wanted_since == since, "the lag counts on"


def test_what_was_said_is_shown_with_its_reason_and_how_to_end_it() -> None:
    host = Host().has(a=document("web"))
    by_word(host)
    host.settle()
    assert host.status().converged.message == "an operator suspended it (disk is full); xmod-agent resume web"
    since = say(host).suspended[WEB].since
    host.clock.advance(60)
    host.agent.operator.suspend(WEB, "still full")
    assert (say(host).suspended[WEB].since, say(host).suspended[WEB].reason) == (since, "still full")


def test_a_name_that_does_not_exist_is_refused_with_those_that_do() -> None:
    host = Host().has(a=document("web"), b=document("api"))
    with pytest.raises(UnknownNameError, match="no service is called wbe; there are: api, web"):
        host.agent.operator.suspend(ServiceName("wbe"))
    host.agent.operator.suspend(None)
    with pytest.raises(UnknownNameError, match="no service is called wbe"):
        host.agent.operator.resume(ServiceName("wbe"))
    assert say(host).excepted == frozenset()


# Resume.


def test_resumed_it_follows_git_again() -> None:
    host = Host().has(a=document("web"))
    by_word(host)
    host.has(a=document("web", "v2"))
    assert host.agent.operator.resume(WEB) == (WEB,)
    host.settle()
    assert host.status().phase is Phase.READY
    assert host.status().wanted == host.status().routed
    assert (say(host).suspended, say(host).still) == ({}, {})


def test_what_is_not_suspended_cannot_be_resumed() -> None:
    host = Host().has(a=document("web"), b=document("api", suspend="true"))
    with pytest.raises(UnknownNameError, match="web is not suspended"):
        host.agent.operator.resume(WEB)
    with pytest.raises(UnknownNameError, match=r"by its spec: take xmod.dev/suspend out of b.yaml:1"):
        host.agent.operator.resume(ServiceName("api"))
    with pytest.raises(UnknownNameError, match="nothing is suspended by word"):
        host.agent.operator.resume(None)


def test_resuming_all_lifts_every_word_and_no_spec() -> None:
    host = Host().has(a=document("web"), b=document("api", suspend="true"), c=document("c"))
    by_word(host)
    host.agent.operator.suspend(None)
    host.settle()
    assert host.agent.operator.resume(None) == (ServiceName("c"), WEB)
    assert host.agent.operator.suspended_by_spec() == {ServiceName("api"): "b.yaml:1"}
    host.settle()
    assert not is_suspended(host)
    assert is_suspended(host, "api")


def test_a_word_on_top_of_a_spec_is_lifted_alone() -> None:
    host = Host().has(a=document("web", suspend="true"))
    by_word(host)
    host.settle()
    assert "its spec says xmod.dev/suspend, and an operator" in host.status().converged.message
    assert host.agent.operator.resume(WEB) == ()
    host.settle()
    assert host.status().converged.message == "its spec says xmod.dev/suspend"


# All.


def test_all_are_those_too_that_come_later_and_one_may_be_excepted() -> None:
    host = Host().has(a=document("web"), b=document("api"))
    host.agent.operator.suspend(None, "maintenance")
    host.has(a=document("web", "v2"), b=document("api", "v2"), c=document("late"))
    assert all(is_suspended(host, name) for name in ("web", "api", "late"))
    assert not host.world.observed("late").generations
    assert host.agent.operator.resume(WEB) == (WEB,)
    host.restart()
    assert (host.status().phase, host.status().wanted) == (Phase.READY, host.status().routed)
    assert is_suspended(host, "api")
    host.agent.operator.suspend(WEB)
    assert say(host).excepted == frozenset()
    host.agent.operator.resume(WEB)
    host.agent.operator.suspend(None)
    assert say(host).excepted == frozenset(), "all are all"


# Never stopped without a start.


def half_way(steps: int, way: Callable[[Host], None], after: Callable[[Host], object], new: str = "v2") -> Host:
    """Suspended so many looks into a replacement that interrupts; then `after`, and time."""
    host = Host()
    host.world.stops_at_once = False
    host.has(a=document("web"))
    host.folder.files = {"a.yaml": document("web", new)}
    host.folder.scan(host.agent)
    for _ in range(steps):
        host.agent.queue.take("memory", timeout=0)
        host.agent.workers["memory"].step(WEB)
        host.agent.queue.done(WEB)
        host.world.tick()
    way(host)
    host.folder.scan(host.agent)
    after(host)
    return host.settle(20)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "after", [lambda host: None, lambda host: host.restart(), lambda host: host.restart(lost=True)]
)
@pytest.mark.parametrize("steps", range(7))
def test_a_service_that_is_down_in_the_midst_of_a_change_serves_before_it_is_left_alone(
    steps: int, way: Callable[[Host], None], after: Callable[[Host], object]
) -> None:
    host = half_way(steps, way, after)
    assert sum(host.world.running("web").values()) == 1
    assert host.status().serving.holds
    lost = say(host).suspended == {} and say(host).all_suspended is None and way is not by_spec
    assert lost or is_suspended(host)
    host.effects()
    host.world.exit("web")
    host.settle()
    assert lost or host.effects() == [], "from then on it is left alone"


def test_what_has_begun_to_come_is_brought_to_its_end_and_what_has_not_is_not_begun() -> None:
    for steps in range(7):
        began: list[bool] = []

        def note(host: Host, began: list[bool] = began) -> None:
            new = [g for g in host.world.observed("web").generations if g.service.workload.image == "mini:v2"]
            began.append(bool(new))
            host.agent.operator.suspend(WEB)

        host = half_way(steps, note, lambda host: None)
        (image,) = {g.service.workload.image for g in host.world.observed("web").generations if g.live}
        assert image == ("mini:v2" if began[0] else "mini:v1"), steps


@pytest.mark.parametrize("steps", range(7))
def test_the_same_where_the_new_one_fails(steps: int) -> None:
    host = Host()
    host.world.crashing.add(host.folder.read_file("a.yaml", document("web", "bad").encode()).wanted[0].service.digest)
    half = half_way(steps, by_word, lambda h: h.world.crashing.update(host.world.crashing), new="bad")
    assert half.status().serving.holds
    assert is_suspended(half)


@pytest.mark.parametrize("effect", range(1, 8))
def test_a_kill_at_any_effect_of_a_change_and_a_suspension_while_down_leave_it_serving(effect: int) -> None:
    host = Host()
    host.world.stops_at_once = False
    host.has(a=document("web"))
    host.world.crash_at = len(host.world.log) + effect
    with contextlib.suppress(Crash):
        host.has(a=document("web", "v2"))
    host.world.crash_at = None
    host.folder.files = {"a.yaml": document("web", "v2", suspend="true")}
    host.restart().settle(20)
    assert sum(host.world.running("web").values()) == 1
    assert is_suspended(host)


def test_a_removal_that_has_begun_is_turned_back() -> None:
    host = Host()
    host.world.stops_at_once = False
    host.has(a=document("web"), b=document("b"))
    host.folder.files = {"b.yaml": document("b")}
    host.folder.scan(host.agent)
    host.agent.pump()
    assert not host.world.observed("web").generations[0].live
    by_word(host)
    host.settle()
    assert running(host, "web")
    assert (is_suspended(host), host.held()) == (True, {"web": "Suspended"})


def test_what_left_by_itself_or_never_served_is_not_started() -> None:
    host = Host().has(a=document("web"))
    host.world.exit("web")
    by_word(host)
    host.settle()
    assert sum(host.world.running("web").values()) == 0
    host.world.mute.add(host.folder.read_file("b.yaml", document("api").encode()).wanted[0].service.digest)
    host.has(a=document("web"), b=document("api"))
    host.agent.operator.suspend(ServiceName("api"))
    host.settle()
    assert host.world.observed("api").generations[0].fate is Fate.NEW
    assert is_suspended(host, "api")


# Doubts.


def test_a_file_that_breaks_changes_nothing_about_it() -> None:
    for way in WAYS:
        host = Host().has(a=document("web"))
        way(host)
        host.settle().has(a=BROKEN)
        host.world.exit("web")
        host.settle().restart()
        assert is_suspended(host), way
        assert sum(host.world.running("web").values()) == 0, way


def test_resumed_while_its_file_is_broken_it_runs_as_it_was() -> None:
    host = Host().has(a=document("web"))
    by_word(host)
    host.settle().has(a=BROKEN)
    host.world.exit("web")
    host.restart()
    host.agent.operator.resume(WEB)
    host.settle()
    assert running(host, "web")
    assert host.status().blocked == "failed"


def test_what_its_file_said_last_counts_while_that_cannot_be_read() -> None:
    assert (
        why(Words(still={WEB: True}), WEB, doubted=True) == "its spec said xmod.dev/suspend when it could last be read"
    )
    assert why(Words(still={WEB: True}), WEB) == ""
    assert why(Words(still={WEB: False}), WEB, doubted=True) == ""


# Words end with their service.


def test_a_word_about_a_service_that_is_gone_is_void_and_one_that_may_be_there_is_not() -> None:
    host = Host().has(a=document("web"), b=document("api"))
    by_word(host)
    host.settle()
    host.world.vanish("web")
    host.world.down = True
    host.has(b=document("api"))
    assert WEB in say(host).suspended, "its world is out of sight"
    host.world.down = False
    host.settle()
    assert say(host).suspended == {}
    host.has(a=document("web"), b=document("api"))
    assert host.status().phase is Phase.READY


def test_while_a_file_cannot_be_read_no_word_is_void() -> None:
    host = Host().has(a=document("web", suspend="true"), b=document("api"))
    host.agent.operator.suspend(WEB)
    host.has(a=None, b=document("api"))
    assert WEB in say(host).suspended
    host.restart()
    host.world.vanish("web")
    host.settle()
    assert WEB in say(host).suspended, "nothing is confirmed absent"


def test_the_plan_of_a_suspended_service_is_to_keep_it_where_it_is() -> None:
    host = Host(other=True).has(a=document("web"))
    by_word(host)
    host.has(a=document("web", extra="shimletName: other"))
    intent = host.agent.controller.intent(WEB)
    assert isinstance(intent, Keep)
    assert (intent.shimlet, intent.settle) == ("memory", False)
    assert intent.wanted is not None
    assert intent.wanted.shimlet == "other"
    host.agent.operator.resume(WEB)
    host.settle(20)
    assert isinstance(host.agent.controller.intent(WEB), Run)
    assert host.elsewhere.observed("web").generations


def test_a_doubt_with_a_last_word_is_suspended_by_that() -> None:
    host = Host().has(a=document("web", suspend="true"))
    state = host.agent.controller.desired()
    assert state is not None
    doubts = {WEB: Doubt("DuplicateName", "twice", state.wanted[WEB])}
    host.agent.controller.take(replace(state, wanted={}, doubts=doubts))
    host.agent.settle(2)
    assert is_suspended(host)


@pytest.mark.parametrize("way", WAYS)
def test_what_somebody_stops_while_it_is_suspended_stays_stopped_also_after_a_restart(
    way: Callable[[Host], None],
) -> None:
    host = Host().has(a=document("web"))
    way(host)
    host.settle()
    (generation,) = host.world.observed("web").generations
    MemoryShimlet(host.world, "test").apply(generation.service, (), {})
    host.effects()
    host.settle().restart()
    assert host.effects() == []
    assert is_suspended(host)
    assert not host.status().serving.holds
