"""What the operator says, what the controller remembers of the source, and whom it sends to be looked at."""

from dataclasses import replace
from datetime import timedelta

import pytest

from agent.contracts import ServiceName
from agent.control.board import Phase
from agent.control.controller import Limits
from agent.control.desired import Doubt
from agent.control.intent import Keep, Remove, Run
from agent.control.words import UnknownNameError, Words
from agent.spec.resolve import Wanted
from tests.fakes.agent import MiniAgent, clock_at_noon, service
from tests.fakes.memory import World

WEB, API = service("web"), service("api")


def made(*services: object, **options: object) -> MiniAgent:
    clock = clock_at_noon()
    agent = MiniAgent(World(now=clock.now, probes=False, stops_at_once=True), clock, **options)  # type: ignore[arg-type]
    agent.see()
    if services:
        agent.want(*services)  # type: ignore[arg-type]
        agent.settle(5)
    return agent


def queued(agent: MiniAgent) -> list[str]:
    taken = []
    while (name := agent.queue.take("memory", timeout=0)) is not None:
        taken.append(name)
        agent.queue.done(name)
    return taken


def test_a_change_queues_just_the_names_that_it_concerns() -> None:
    agent = made(WEB, API)
    queued(agent)
    agent.want(replace(WEB, replicas=2), API)
    assert queued(agent) == ["web"]
    agent.want(replace(WEB, replicas=2), API)
    assert queued(agent) == []


def test_what_failed_and_only_moved_is_thought_of_as_before() -> None:
    agent = made()
    agent.want(WEB)
    failed = replace(agent.board.get(WEB.name), phase=Phase.FAILED, since=agent.clock.now())  # type: ignore[type-var]
    agent.board.put(failed)
    agent.clock.advance(60)  # type: ignore[attr-defined]
    agent.want(replace(WEB, revision="r2", file="other.yaml"))
    assert agent.board.get(WEB.name) == failed
    agent.want(service("web", "v2"))
    assert agent.status("web").phase is Phase.PROGRESSING


def test_after_a_restart_what_is_right_is_in_no_hurry() -> None:
    agent = made(WEB, API)
    again = MiniAgent(agent.memory, agent.clock)  # type: ignore[arg-type]
    again.see()
    again.want(service("api", "v2"), WEB)
    assert queued(again) == ["api", "web"], "a fresh commit goes before what runs already"
    status = again.board.get(WEB.name)
    assert status is None or status.phase is not Phase.PROGRESSING


def test_a_name_that_nobody_wants_and_nobody_sees_has_no_intent() -> None:
    agent = made(WEB)
    assert agent.controller.intent(ServiceName("nobody")) is None
    agent.controller.hint([ServiceName("nobody")])
    assert queued(agent) == []


def test_a_hint_queues() -> None:
    agent = made(WEB)
    queued(agent)
    agent.controller.hint([WEB.name])
    assert queued(agent) == ["web"]


# Restart.


def test_a_restart_is_for_what_is_wanted() -> None:
    agent = made(Wanted(WEB, suspended=False, restarted_at=None, line=1).service, API)
    state = agent.controller.desired()
    assert state is not None
    agent.want(wanted={**state.wanted, API.name: replace(state.wanted[API.name], suspended=True)})
    with pytest.raises(UnknownNameError, match="it is kept: Suspended"):
        agent.operator.restart(API.name)
    with pytest.raises(UnknownNameError, match="no such service is wanted"):
        agent.operator.restart(ServiceName("nobody"))


def test_a_restart_is_taken_once_and_survives_the_agent_until_then() -> None:
    agent = made(WEB)
    agent.clock.advance(60)  # type: ignore[attr-defined]
    agent.operator.restart(WEB.name)
    again = MiniAgent(agent.memory, agent.clock, words=Words.from_plain(agent.kept.data))  # type: ignore[arg-type]
    agent.memory.agent_died("test")
    again.see()
    agent.memory.log.clear()
    again.want(WEB)
    again.settle(20)
    assert [line.split()[0] for line in agent.memory.log] == ["stop", "start"]
    assert Words.from_plain(again.kept.data).restarts == {}


def test_a_restart_of_what_is_in_doubt_restarts_what_runs() -> None:
    agent = made(WEB)
    agent.clock.advance(60)  # type: ignore[attr-defined]
    agent.want(doubts={WEB.name: Doubt("SpecInvalid", "web.yaml: 1:1: no")})
    agent.operator.restart(WEB.name)
    agent.memory.log.clear()
    agent.settle(20)
    assert [line.split()[0] for line in agent.memory.log] == ["stop", "start"]
    assert agent.controller._words.restarts == {}


# Rollout.


def test_a_rollout_of_nothing_is_refused_with_the_names_that_could() -> None:
    agent = made(WEB)
    with pytest.raises(UnknownNameError, match="those that do: none does"):
        agent.operator.rollout([WEB.name])
    assert agent.operator.rollout([]) == ()


def test_a_rollout_that_was_asked_for_twice_is_one() -> None:
    agent = made(WEB, API)
    new = [replace(s, digest=f"new-{s.name}") for s in (WEB, API)]
    agent.want(*new)
    agent.operator.rollout([])
    with pytest.raises(UnknownNameError):
        agent.operator.rollout([API.name])
    agent.operator.rollout([WEB.name])
    assert agent.controller._words.rollouts == ("api", "web")


# Prune words.


def test_approving_what_is_not_held_releases_nothing() -> None:
    names = [service(name) for name in "abcd"]
    agent = made(*names)
    agent.want(*names[:2])
    with pytest.raises(UnknownNameError, match="a is not held; held are: c, d"):
        agent.operator.approve([ServiceName("c"), ServiceName("a")])
    assert agent.controller._words.approved == frozenset()
    assert set(agent.controller.held()) == {"c", "d"}


def test_approving_nothing_when_nothing_is_held_is_nothing() -> None:
    assert made(WEB).operator.approve([]) == ()


def test_approving_all_releases_what_can_be_released_and_keeps_the_rest() -> None:
    names = [service("a"), service("b"), service("c"), service("d", protected=True)]
    agent = made(*names)
    agent.want(names[0])
    assert agent.operator.approve([]) == ("b", "c")
    assert agent.controller.held().keys() == {"d"}
    assert agent.controller._words.approved == {"b", "c"}
    agent.settle()
    assert agent.controller._words.approved == frozenset()


def test_the_budget_is_the_operators() -> None:
    names = [service(name) for name in "abcd"]
    agent = made(*names, limits=Limits(0.5, timedelta(minutes=1)))
    agent.clock.advance(3600)  # type: ignore[attr-defined]
    agent.want(*names[:2])
    assert agent.controller.held() == {}


def test_a_held_removal_is_over_when_the_service_is_gone_behind_our_back() -> None:
    names = [service(name) for name in "abcd"]
    agent = made(*names)
    agent.want(*names[:2])
    agent.memory.vanish("c")
    agent.settle(2)
    assert agent.controller.held().keys() == {"d"}
    assert agent.board.get(ServiceName("c")) is None


def test_a_candidate_while_another_services_shimlet_does_not_exist() -> None:
    agent = made(WEB, API, service("x"), service("y"))
    agent.want(API, service("x"), service("y"), service("other", shimlet="kubernetes"))
    agent.settle()
    assert not agent.memory.observed("web").generations
    intent = agent.controller.intent(ServiceName("other"))
    assert isinstance(intent, Keep)
    assert "there is no shimlet kubernetes" in intent.message


# Adopt.


def test_adopting_counts_and_lets_follow() -> None:
    agent = made(WEB, API)
    agent = MiniAgent(agent.memory, agent.clock)  # type: ignore[arg-type]
    agent.see()
    agent.want(API, source="folder:/new")
    assert agent.controller.held()[WEB.name].reason == "OtherSource"
    assert agent.operator.adopt("folder:/specs") == 2
    assert isinstance(agent.controller.intent(WEB.name), Remove)
    assert isinstance(agent.controller.intent(API.name), Run)


# Memory of the source.


def test_a_source_that_is_replaced_and_comes_back_goes_on() -> None:
    agent = made(WEB, API)
    agent.want(identity="9:9")
    assert {held.reason for held in agent.controller.held().values()} == {"SourceEmpty"}
    agent.want(WEB, API)
    assert agent.controller.held() == {}
    agent.want(API)
    agent.settle()
    assert not agent.memory.observed("web").generations, "it was seen in it after the swap"


def test_what_is_held_for_an_empty_source_does_not_go_when_the_first_file_comes() -> None:
    agent = made(WEB)
    again = MiniAgent(agent.memory, agent.clock)  # type: ignore[arg-type]
    agent.memory.agent_died("test")
    again.see()
    again.want()
    assert again.controller.held()[WEB.name].reason == "SourceEmpty"
    again.want(API)
    again.settle()
    assert sum(agent.memory.running("web").values()) == 1
    assert again.controller.held()[WEB.name].reason == "SourceEmpty"


# Retry.


def failed() -> tuple[MiniAgent, str]:
    """An agent whose web was rolled back from a version that crashed, and that version's digest."""
    agent = made(WEB)
    bad = service("web", "v2")
    agent.memory.crashing.add(bad.digest)
    agent.want(bad)
    agent.settle(10)
    assert agent.status("web").converged.reason == "RolledBack"
    agent.memory.log.clear()
    return agent, bad.digest


def test_a_retry_tries_what_is_burnt_once_more_and_only_that() -> None:
    agent, digest = failed()
    agent.operator.retry(WEB.name)
    agent.settle(10)
    assert agent.memory.starts[WEB.name, digest] == 2  # type: ignore[index]
    assert agent.status("web").converged.reason == "RolledBack", "it failed again, and is not tried for ever"
    assert agent.controller.words().retries == {}
    agent.memory.crashing.clear()
    agent.operator.retry(WEB.name)
    agent.settle(10)
    assert agent.status("web").phase is Phase.READY
    assert agent.status("web").routed == digest


def test_a_retry_survives_the_agent_until_it_is_taken() -> None:
    agent, digest = failed()
    agent.memory.crashing.clear()
    agent.operator.retry(WEB.name)
    again = MiniAgent(agent.memory, agent.clock, words=Words.from_plain(agent.kept.data))  # type: ignore[arg-type]
    agent.memory.agent_died("test")
    again.see()
    again.want(service("web", "v2"))
    again.settle(10)
    assert again.status("web").routed == digest
    assert Words.from_plain(again.kept.data).retries == {}


def test_a_retry_restarts_nothing_that_is_right() -> None:
    agent = made(replace(WEB, replicas=2))
    agent.memory.exit("web", 1)
    agent.memory.crashing.add(WEB.digest)
    agent.settle(20)
    assert agent.status("web").converged.reason == "CrashLoop"
    agent.memory.crashing.clear()
    agent.memory.log.clear()
    agent.operator.retry(WEB.name)
    agent.pump()
    assert [line.split()[0] for line in agent.memory.log] == ["start"], "at once, and only what was down"
    agent.settle(20)
    assert agent.status("web").phase is Phase.READY
    assert agent.memory.log[1:] == []


def test_a_back_off_ends_with_a_retry() -> None:
    agent = made(WEB)
    agent.memory.foreign[WEB.name] = "a stranger"
    agent.want(service("web", "v2"))
    agent.settle(5)
    assert agent.status("web").next_try is not None
    agent.memory.foreign.clear()
    agent.operator.retry(WEB.name)
    agent.pump()
    agent.pass_time(1)
    assert agent.status("web").converged.reason != "Conflict"


def test_a_retry_of_what_is_right_or_kept_is_refused_with_a_sentence() -> None:
    agent = made(WEB)
    with pytest.raises(UnknownNameError, match="there is nothing to retry: web is as it is wanted"):
        agent.operator.retry(WEB.name)
    with pytest.raises(UnknownNameError, match="cannot retry nobody: no such service is wanted"):
        agent.operator.retry(ServiceName("nobody"))
    agent.operator.suspend(WEB.name)
    with pytest.raises(UnknownNameError, match="cannot retry web: it is kept: Suspended"):
        agent.operator.retry(WEB.name)


# A halted rollout.


def halted() -> tuple[MiniAgent, str]:
    """An agent whose rollout of web and api halted at api, which failed; and what failed."""
    agent = made(WEB, API)
    new = replace(service("api", "v2"), spec_digest=API.spec_digest)
    agent.want(replace(service("web", "v2"), spec_digest=WEB.spec_digest), new)
    agent.settle(3)
    agent.memory.crashing.add(new.digest)
    assert agent.operator.rollout([]) == ("api", "web")
    agent.settle(10)
    assert agent.status("api").converged.reason == "RolledBack"
    assert "RolloutWaits: after api, which is not through yet" in agent.status("web").notices
    return agent, new.digest


def test_a_halted_rollout_goes_on_with_a_retry() -> None:
    agent, digest = halted()
    with pytest.raises(UnknownNameError, match=r"its rollout was begun: xmod-agent retry api"):
        agent.operator.rollout([API.name])
    agent.memory.crashing.clear()
    agent.operator.retry(API.name)
    agent.settle(20)
    assert agent.status("api").routed == digest
    assert agent.controller.words().rollouts == ()
    assert agent.status("web").notices == ()


def test_a_rollout_that_is_cancelled_leaves_things_as_they_were_applied_and_may_be_asked_for_again() -> None:
    agent, digest = halted()
    with pytest.raises(UnknownNameError, match="no rollout of nobody is under way; under way: api, web"):
        agent.operator.cancel_rollout([ServiceName("nobody")])
    agent.memory.log.clear()
    assert agent.operator.cancel_rollout([]) == ("api", "web")
    agent.settle(10)
    for name in ("api", "web"):
        assert agent.status(name).phase is Phase.READY
        assert any("ResolvesDifferently" in notice for notice in agent.status(name).notices)
    assert [line for line in agent.memory.log if line.startswith(("start", "stop"))] == []
    assert agent.operator.cancel_rollout([]) == ()
    agent.memory.crashing.clear()
    assert agent.operator.rollout([API.name]) == ("api",)
    agent.settle(10)
    assert agent.status("api").routed == digest


def test_one_rollout_may_be_cancelled_alone() -> None:
    agent, _ = halted()
    assert agent.operator.cancel_rollout([API.name]) == ("api",)
    agent.settle(10)
    assert agent.status("api").phase is Phase.READY
    assert agent.status("web").notices == (), "its turn came"


def test_what_was_begun_when_its_rollout_is_cancelled_is_finished() -> None:
    agent = made(WEB)
    new = replace(service("web", "v2"), spec_digest=WEB.spec_digest)
    agent.want(new)
    agent.settle(3)
    agent.operator.rollout([])
    while agent.memory.observed("web").generation(new.digest) is None:
        agent.pass_time(1)
    agent.operator.cancel_rollout([])
    agent.settle(10)
    assert agent.status("web").routed == new.digest
    assert agent.status("web").phase is Phase.READY
