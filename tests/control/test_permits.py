"""What the policy refuses at the moment of starting: it burns nothing, ends nothing, and is said. Links are swapped here."""

from dataclasses import replace

import pytest

from agent.contracts import Fate, Service, ServiceName, digest_of
from agent.control.board import Phase
from agent.control.desired import Doubt, InvalidFile
from tests.control.test_promises import Host
from tests.fakes.agent import MiniAgent, clock_at_noon, service
from tests.fakes.folder import document
from tests.fakes.memory import World

WHY = "the rule policy.modelRoots does not allow it: x; to allow it, add to the settings  policy: {modelRoots: [/x]}"


class Rule:
    """A policy that refuses images by name, from one moment to the next, and counts who asked it."""

    def __init__(self) -> None:
        self.refused: set[str] = set()
        self.asked: list[str] = []

    def __call__(self, wanted: Service) -> str:
        self.asked.append(wanted.workload.image)
        return WHY if wanted.workload.image in self.refused else ""


@pytest.fixture
def rule() -> Rule:
    return Rule()


@pytest.fixture
def agent(rule: Rule) -> MiniAgent:
    clock = clock_at_noon()
    made = MiniAgent(World(now=clock.now, probes=False), clock, permits=rule, ports=range(18000, 18004))
    made.see()
    return made


def wants(agent: MiniAgent, *services: Service, rounds: int = 20) -> None:
    agent.want(*services)
    agent.settle(rounds)


def test_what_is_refused_is_not_started_and_the_rule_is_said(agent: MiniAgent, rule: Rule) -> None:
    rule.refused = {"web:v1"}
    wants(agent, service("web"))
    assert agent.memory.log == []
    status = agent.status("web")
    assert (status.phase, status.blocked, status.converged.reason) == (Phase.KEPT, "policy", "PolicyRefused")
    assert WHY in status.converged.message
    assert status.next_try is not None
    rule.refused.clear()
    agent.settle(20)
    assert agent.status("web").phase is Phase.READY, "nothing was burnt"
    assert agent.status("web").blocked == "none"


@pytest.mark.parametrize("strategy", ["recreate", "side-by-side"])
def test_a_refused_change_leaves_the_old_one_as_it_is_and_sees_to_it(
    agent: MiniAgent, rule: Rule, strategy: str
) -> None:
    old, new = service("web", strategy=strategy, replicas=2), service("web", "v2", strategy=strategy, replicas=2)
    wants(agent, old)
    before = list(agent.memory.log)
    rule.refused = {"web:v2"}
    wants(agent, new)
    assert agent.memory.log == before
    status = agent.status("web")
    assert (status.phase, status.blocked, status.serving.holds) == (Phase.KEPT, "policy", True)
    assert status.revision == agent.memory.observed("web").generations[0].service.revision
    agent.memory.exit("web")
    agent.settle(20)
    assert agent.memory.running("web") == {old.digest: 2}
    assert agent.memory.observed("web").generation(old.digest).fate is Fate.SERVED
    rule.refused.clear()
    agent.settle(40)
    assert agent.memory.running("web") == {new.digest: 2}


@pytest.mark.parametrize("replicas", [1, 2])
def test_what_is_refused_once_the_old_one_made_way_brings_the_old_one_back(
    agent: MiniAgent, rule: Rule, replicas: int
) -> None:
    """The link is swapped while the old one stops: the new one may not start any more."""
    old = service("web", replicas=replicas)
    wants(agent, old)
    agent.want(service("web", "v2", replicas=replicas))
    while not any(line.startswith("stop") for line in agent.memory.log):
        agent.pass_time(0.1)
    assert not any("v2" in line for line in agent.memory.log)
    rule.refused = {"web:v2"}
    agent.settle(60)
    assert agent.memory.running("web") == {old.digest: replicas}
    status = agent.status("web")
    assert (status.blocked, status.serving.holds) == ("policy", True)
    assert any("web:v2" in asked for asked in rule.asked)


def test_what_runs_is_left_alone_when_it_would_be_refused(agent: MiniAgent, rule: Rule) -> None:
    """A look asks for no leave; once it has ended, it is not started again."""
    wants(agent, service("web"))
    before, rule.refused = list(agent.memory.log), {"web:v1"}
    rule.asked.clear()
    agent.settle(20)
    assert (agent.memory.log, rule.asked, agent.status("web").phase) == (before, [], Phase.READY)
    agent.memory.exit("web")
    agent.settle(20)
    assert sum(agent.memory.running("web").values()) == 0
    status = agent.status("web")
    assert (status.phase, status.blocked, status.serving.holds) == (Phase.DEGRADED, "policy", False)
    assert agent.memory.observed("web").generations[0].fate is Fate.SERVED, "it is not burnt"
    rule.refused.clear()
    agent.settle(20)
    assert agent.status("web").phase is Phase.READY


def test_a_restart_that_is_refused_ends_nothing(agent: MiniAgent, rule: Rule) -> None:
    wants(agent, service("web"))
    before, rule.refused = list(agent.memory.log), {"web:v1"}
    agent.clock.advance(60)
    agent.operator.restart(ServiceName("web"))
    agent.settle(20)
    assert agent.memory.log == before
    assert agent.status("web").blocked == "policy"


def test_going_back_to_what_is_refused_by_then_starts_nothing(agent: MiniAgent, rule: Rule) -> None:
    old, new = service("web"), service("web", "v2")
    wants(agent, old)
    agent.memory.crashing.add(new.digest)
    agent.want(new)
    while new.digest not in agent.memory.running("web"):
        agent.pass_time(0.5)
    rule.refused = {"web:v1"}
    agent.settle(40)
    assert agent.memory.running("web") == {old.digest: 0, new.digest: 0}
    assert agent.status("web").blocked == "policy"
    rule.refused.clear()
    agent.settle(40)
    assert agent.memory.running("web") == {old.digest: 1, new.digest: 0}


def test_a_mark_is_held_to_the_policy_before_anything_of_it_is_started(agent: MiniAgent, rule: Rule) -> None:
    """Its file is invalid, so it is run as its mark says: with more replicas, or as something else altogether."""
    wants(agent, service("web"))
    found = agent.memory.observed("web").generations[0]
    evil = replace(found.service.workload, image="evil:v1")
    forged = replace(
        found.service, name=ServiceName("evil"), file="draft.yaml", workload=evil, digest=digest_of(evil), replicas=2
    )
    agent.memory.apply("test", forged, [replace(found.replicas[0].placement, port=18001)], {})
    agent.memory.record("test", forged.name, forged.digest, Fate.SERVED)
    agent.memory.tick()
    rule.refused = {"evil:v1"}
    draft = InvalidFile("draft.yaml", ("1:1: kind: is missing",), b"apiVersion: xmod.dev/v1")
    agent.want(service("web"), invalid=(draft,), doubts={forged.name: Doubt("SpecInvalid", "draft.yaml: 1:1: no")})
    agent.settle(10)
    agent.memory.exit("evil")
    before = list(agent.memory.log)
    agent.settle(20)
    assert agent.memory.log == before
    assert agent.memory.running("evil") == {forged.digest: 0}
    status = agent.status("evil")
    assert (status.blocked, status.converged.reason) == ("policy", "PolicyRefused")
    assert agent.status("web").phase is Phase.READY


def test_removal_asks_nobody(agent: MiniAgent, rule: Rule) -> None:
    wants(agent, service("web"), service("api"), service("db"))
    rule.refused = {"web:v1"}
    rule.asked.clear()
    wants(agent, service("api"), service("db"))
    assert agent.memory.observed("web").generations == ()
    assert rule.asked == []


def test_one_look_asks_once(agent: MiniAgent, rule: Rule) -> None:
    agent.want(service("web"))
    agent.pump()
    assert rule.asked == ["web:v1"]
    assert len(agent.memory.log) == 1


def test_a_move_to_a_world_where_it_may_not_start_takes_nothing_away() -> None:
    """The policy is asked before the old world lets go."""
    host = Host(other=True).has(a=document("web"))
    host.agent.reconciler._permits = lambda service: "the rule policy.images" if service.shimlet == "other" else ""
    host.effects()
    host.has(a=document("web", extra="shimletName: other"))
    assert host.effects() == []
    assert "policy.images" in host.status().converged.message
