"""DESIGN.md's promises 1, 2, 4, 8, 9, 10, 12 and 13 over the real core, from the bytes of files to what runs."""

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import pytest

from agent.contracts import Fate, Observed, Service, ServiceName, Shimlet, State
from agent.control.board import Phase, Status
from agent.control.intent import Keep, Run
from agent.control.words import UnknownNameError, Words
from tests.fakes.agent import MiniAgent, clock_at_noon
from tests.fakes.clock import VirtualClock
from tests.fakes.folder import Folder, document, service_of
from tests.fakes.memory import MemoryShimlet, World

BROKEN = "apiVersion: xmod.dev/v1\nkind: DeploySpec\nmetadata: {name: web\n"


@dataclass
class Host:
    """A folder, a world and an agent that may be restarted, with its words or without."""

    clock: VirtualClock = field(default_factory=clock_at_noon)
    environment: dict[str, str] = field(default_factory=dict)
    busy_ports: set[int] = field(default_factory=set)
    other: bool = False

    def __post_init__(self) -> None:
        self.world = World(now=self.clock.now, probes=False, stops_at_once=True)
        self.elsewhere = World(now=self.clock.now, probes=False, stops_at_once=True)
        self.folder = Folder(self.clock)
        self.agent = self._new(Words())

    def _new(self, words: Words) -> MiniAgent:
        shimlets: dict[str, Shimlet] = {"memory": MemoryShimlet(self.world, "test")}
        if self.other:
            shimlets["other"] = MemoryShimlet(self.elsewhere, "test", name="other", eager=True)
        return MiniAgent(
            self.world,
            self.clock,
            words=words,
            shimlets=shimlets,
            environment=self.environment,
            port_free=lambda bind, port: port not in self.busy_ports,
        )

    def has(self, **files: str | bytes | None) -> "Host":
        """The folder holds exactly these files now (`a` is a.yaml); settle."""
        self.folder.files = {f"{name}.yaml": content for name, content in files.items()}
        return self.settle()

    def settle(self, rounds: int = 10) -> "Host":
        self.folder.scan(self.agent)
        self.agent.settle(rounds)
        return self

    def restart(self, *, lost: bool = False) -> "Host":
        """Kill the agent and start another; `lost`: the state folder is gone, too."""
        words = Words() if lost else Words.from_plain(dict(self.agent.kept.data))
        self.world.agent_died("test")
        self.folder = self.folder.restarted()
        self.agent = self._new(words)
        self.folder.scan(self.agent)  # the folder may be read before the world is seen
        self.agent.see()
        return self.settle()

    def status(self, name: str = "web") -> Status:
        return self.agent.status(name)

    def held(self) -> dict[str, str]:
        return {name: held.reason for name, held in self.agent.controller.held().items()}

    def effects(self) -> list[str]:
        """What was done to the world since the last call, without digests."""
        done = [line for line in self.world.log if " " in line]
        self.world.log.clear()
        return [f"{line.split()[0]} {line.split()[1].partition('/')[0]}" for line in done]


def files(names: Iterable[str], version: str = "v1") -> dict[str, str | bytes | None]:
    return {name: document(name, version) for name in names}


def running(host: Host, *names: str) -> bool:
    return all(sum(host.world.running(name).values()) == 1 for name in names)


# 1. Identity is in the document.


@pytest.mark.parametrize(
    "then",
    [
        {"z": "a", "b": "b"},  # renamed
        {"deep/er/a": "a", "b": "b"},  # moved
        {"ab": "ab"},  # merged
        {"a": "b", "b": "a"},  # exchanged
    ],
)
def test_1_where_a_document_stands_does_not_matter(then: dict[str, str]) -> None:
    texts = {"a": document("web"), "b": document("api"), "ab": document("web") + "---\n" + document("api")}
    host = Host().has(a=texts["a"], b=texts["b"])
    host.effects()
    host.has(**{path: texts[key] for path, key in then.items()})
    assert host.effects() == []
    assert host.status().phase is Phase.READY
    assert host.held() == {}


def test_1_a_file_that_is_renamed_or_commented_is_no_change_that_anyone_waits_for() -> None:
    host = Host().has(a=document("web"))
    told: list[Status | None] = []
    host.agent.board.listen(lambda before, after: told.append(after))
    host.has(a=document("web") + "# a comment\n").has(b=document("web"))
    assert all(after is not None and after.phase is Phase.READY and after.wanted_since is None for after in told)
    assert (host.status().file, host.status().phase) == ("b.yaml", Phase.READY)


def test_1_splitting_a_file_changes_nothing() -> None:
    host = Host().has(all=document("web") + "---\n" + document("api"))
    host.effects()
    host.has(one=document("web"), two=document("api"))
    assert (host.effects(), host.held()) == ([], {})


@pytest.mark.parametrize("restarted", [False, True])
def test_1_a_name_in_two_files_is_reported_in_both_and_runs_on(restarted: bool) -> None:
    host = Host().has(a=document("web"))
    host.effects()
    host.has(a=document("web"), b=document("web", "v2"))
    if restarted:
        host.restart(lost=True)
    assert host.effects() == []
    desired = host.agent.controller.desired()
    assert desired is not None
    assert [bad.path for bad in desired.invalid] == ["a.yaml", "b.yaml"]
    assert all("web stands in a.yaml:" in bad.errors[0] and "b.yaml:" in bad.errors[0] for bad in desired.invalid)
    status = host.status()
    assert (status.phase, status.serving.holds, status.converged.reason) == (Phase.KEPT, True, "DuplicateName")
    assert status.blocked == "failed"
    host.has(b=document("web", "v2"))
    assert host.status().phase is Phase.READY
    assert host.effects() == ["stop web", "start web", "record web", "remove web"]


def test_1_a_name_in_two_files_from_the_beginning_starts_nothing() -> None:
    host = Host().has(a=document("web"), b=document("web", "v2"), c=document("api"))
    assert host.effects() == ["start api", "record api"]


# 2. A file is valid, invalid or confirmed absent.


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(BROKEN, id="half written, name in the bytes"),
        pytest.param("]: {", id="no name in it, its path is in the mark"),
        pytest.param(b"\x00\xff\xfe", id="binary"),
        pytest.param(None, id="unreadable"),
        pytest.param(document("web", "v2").replace("port: 8080", "port: 808080"), id="a wrong value"),
    ],
)
def test_2_an_invalid_file_keeps_its_services(content: str | bytes | None, restarted: bool) -> None:
    """Also when the agent is restarted and its state is lost."""
    host = Host().has(a=document("web"), b=document("api"))
    host.effects()
    host.has(a=content, b=document("api"))
    if restarted:
        host.restart(lost=True)
    assert host.effects() == []
    status = host.status()
    assert (status.phase, status.serving.holds) == (Phase.KEPT, True)
    assert (status.converged.holds, status.converged.reason) == (False, "SpecInvalid")
    assert "a.yaml" in status.converged.message
    assert status.wanted_since is not None


def test_2_an_invalid_file_under_another_path_keeps_whom_its_bytes_name() -> None:
    host = Host().has(a=document("web"), b=document("api"))
    host.has(z=BROKEN, b=document("api")).restart(lost=True)
    host.effects()
    assert host.settle().effects() == []
    assert host.status().converged.reason == "SpecInvalid"


def test_2_what_an_invalid_file_keeps_is_mended_as_it_was() -> None:
    host = Host().has(a=document("web")).has(a=BROKEN).restart(lost=True)
    host.world.exit("web")
    host.settle()
    assert running(host, "web")
    assert host.status().converged.reason == "SpecInvalid"


def test_2_a_new_service_in_an_invalid_file_does_not_start() -> None:
    assert Host().has(a=BROKEN).effects() == []


def test_2_an_invalid_file_that_is_deleted_is_absent() -> None:
    host = Host().has(a=document("web"), b=document("api")).has(a=BROKEN, b=document("api"))
    host.has(b=document("api"))
    assert not host.world.observed("web").generations


def test_2_while_a_file_cannot_be_read_nothing_is_pruned() -> None:
    host = Host().has(**files("abcdefgh"))
    host.has(**{**files("abcdefg"), "a": None})
    assert running(host, "a", "h")
    assert "a.yaml cannot be read" in host.status("h").converged.message
    with pytest.raises(UnknownNameError, match="h is not held"):
        host.agent.operator.approve([ServiceName("h")])
    host.has(**files("abcdefg"))
    assert not host.world.observed("h").generations
    assert running(host, "a")


# 4. The gate.


def test_4_another_source_prunes_nothing_until_it_is_adopted() -> None:
    """A mistyped folder."""
    host = Host().has(web=document("web"), api=document("api"))
    host.folder.source = "folder:/specks"
    host.folder.identity = "1:2"
    host.folder.files = {"x.yaml": document("x")}
    host.restart()
    assert running(host, "web", "api", "x")
    assert host.held() == {"web": "OtherSource", "api": "OtherSource"}
    assert "adopt --from folder:/specs" in host.status().converged.message
    with pytest.raises(UnknownNameError, match="OtherSource"):
        host.agent.operator.approve([])
    with pytest.raises(UnknownNameError):
        host.agent.operator.adopt("folder:/nobody")
    assert host.agent.operator.adopt("folder:/specs") == 2
    host.settle()
    assert running(host, "web", "api")
    assert host.held() == {"web": "OverBudget", "api": "OverBudget"}
    host.agent.operator.approve([])
    host.settle()
    assert not host.world.observed("web").generations
    assert running(host, "x")


def test_4_a_service_that_the_new_source_held_is_its_own() -> None:
    host = Host().has(web=document("web"), api=document("api"))
    host.folder.source = "folder:/new"
    host.restart().has(api=document("api"))
    assert not host.world.observed("web").generations


@pytest.mark.parametrize("count", [1, 2, 8])
def test_4_a_folder_that_is_empty_at_start_prunes_nothing(count: int) -> None:
    names = "abcdefgh"[:count]
    host = Host().has(**files(names))
    host.folder.files = {}
    host.restart()
    assert running(host, *names)
    assert set(host.held().values()) == {"SourceEmpty"}


def test_4_removing_the_last_file_of_a_living_source_is_ordinary_evidence() -> None:
    host = Host().has(a=document("web")).has()
    assert not host.world.observed("web").generations


def test_4_emptying_a_folder_while_the_agent_runs_is_held_by_the_budget() -> None:
    host = Host().has(**files("abcdefgh")).has()
    assert running(host, *"abcdefgh")
    assert set(host.held().values()) == {"OverBudget"}


def test_4_a_folder_swapped_for_another_prunes_nothing() -> None:
    host = Host().has(web=document("web"), api=document("api"))
    host.folder.identity = "1:99"
    host.has(x=document("x"))
    assert running(host, "web", "api", "x")
    assert set(host.held().values()) == {"SourceReplaced"}


def test_4_a_folder_swapped_for_an_empty_one_prunes_nothing() -> None:
    host = Host().has(web=document("web"))
    host.folder.identity = "1:99"
    host.has()
    assert running(host, "web")
    assert host.held() == {"web": "SourceEmpty"}


@pytest.mark.parametrize(("services", "gone", "held"), [(1, 1, 0), (3, 1, 0), (3, 2, 2), (8, 2, 0), (8, 3, 3)])
def test_4_a_quarter_may_go_at_once_and_a_larger_batch_is_held_whole(services: int, gone: int, held: int) -> None:
    names = [f"s{number}" for number in range(services)]
    host = Host().has(**files(names), keep=document("anchor"))
    host.clock.advance(3600)
    host.has(**files(names[gone:]), keep=document("anchor"))
    assert len(host.held()) == held
    assert sum(not host.world.observed(name).generations for name in names) == gone - held


def test_4_the_budget_is_for_the_whole_window() -> None:
    names = [f"s{number}" for number in range(8)]
    host = Host().has(**files(names))
    host.clock.advance(3600)
    host.has(**files(names[1:])).has(**files(names[2:])).has(**files(names[3:]))
    assert host.held() == {"s2": "OverBudget"}


def test_4_services_that_are_new_in_the_window_do_not_widen_it() -> None:
    """A quarter of those that there were at its start."""
    old, new = [f"old{number}" for number in range(4)], [f"new{number}" for number in range(8)]
    host = Host().has(**files(old))
    host.clock.advance(3600)
    host.has(**files([*old, *new]))
    host.has(**files(old[2:] + new))
    assert host.held() == {"old0": "OverBudget", "old1": "OverBudget"}


@pytest.mark.parametrize("restarted", [False, True])
def test_4_what_is_held_stays_held_when_time_passes(restarted: bool) -> None:
    host = Host().has(**files("abcd")).has(**files("ab"))
    since = host.agent.controller.held()[ServiceName("c")].since
    if restarted:
        host.restart()
    for _ in range(5):
        host.clock.advance(7200)
        host.settle()
    assert host.held() == {"c": "OverBudget", "d": "OverBudget"}
    assert host.agent.controller.held()[ServiceName("c")].since == since
    status = host.status("c")
    assert (status.phase, status.serving.holds, status.blocked) == (Phase.KEPT, True, "held")
    assert status.wanted_since == since


def test_4_a_held_batch_stays_whole_while_it_grows_within_the_budget() -> None:
    host = Host().has(**files("abcdefgh")).has(**files("abcde"))
    host.has(**files("abcd"))
    assert set(host.held()) == {"f", "g", "h"}
    assert not host.world.observed("e").generations, "one more fits by itself"


def test_4_a_part_of_what_is_held_can_be_approved() -> None:
    host = Host().has(**files("abcd")).has(**files("ab"))
    assert host.agent.operator.approve([ServiceName("d")]) == ("d",)
    host.settle()
    assert not host.world.observed("d").generations
    assert host.held() == {"c": "OverBudget"}
    assert running(host, "a", "b", "c")
    with pytest.raises(UnknownNameError, match="held are: c"):
        host.agent.operator.approve([ServiceName("a")])


def test_4_an_approval_is_void_when_the_file_comes_back() -> None:
    host = Host().has(**files("abcd"))
    host.folder.files = {f"{name}.yaml": document(name) for name in "ab"}
    host.agent.controller.take(host.folder.desired())
    host.agent.operator.approve([])  # no worker has taken it yet
    host.has(**files("abcd"))
    assert running(host, "c", "d")
    host.has(**files("ab"))
    assert running(host, "c", "d"), "the old approval does not count for the next deletion"


def test_4_an_approval_survives_a_restart() -> None:
    host = Host().has(**files("abcd"))
    host.folder.files = {f"{name}.yaml": document(name) for name in "ab"}
    host.agent.controller.take(host.folder.desired())
    host.agent.operator.approve([ServiceName("c")])
    host.restart()
    assert not host.world.observed("c").generations
    assert running(host, "d")


def test_4_prune_disabled_is_never_pruned() -> None:
    host = Host().has(a=document("web", prune="disabled"), b=document("api")).has(b=document("api"))
    assert running(host, "web")
    assert host.held() == {"web": "Protected"}
    with pytest.raises(UnknownNameError, match="Protected"):
        host.agent.operator.approve([])
    host.restart(lost=True)
    assert host.held() == {"web": "Protected"}


@pytest.mark.parametrize("restarted", [False, True])
def test_4_prune_disabled_counts_also_when_it_was_added_later(restarted: bool) -> None:
    """It changes no digest, so the mark does not know it."""
    host = Host().has(a=document("web"), b=document("api"))
    host.has(a=document("web", prune="disabled"), b=document("api"))
    if restarted:
        host.restart()
    host.has(b=document("api"))
    assert running(host, "web")
    assert host.held() == {"web": "Protected"}


@pytest.mark.parametrize("restarted", [False, True])
def test_4_prune_disabled_can_be_taken_back(restarted: bool) -> None:
    """As the message of the held removal says."""
    host = Host().has(a=document("web", prune="disabled"), b=document("api")).has(b=document("api"))
    host.has(a=document("web"), b=document("api"))
    if restarted:
        host.restart()
    host.has(b=document("api"))
    assert not host.world.observed("web").generations


def test_4_a_service_comes_back_before_its_removal_began() -> None:
    host = Host().has(a=document("web"), b=document("api"))
    host.effects()
    host.folder.files.pop("a.yaml")
    host.agent.controller.take(host.folder.desired())
    host.has(a=document("web"), b=document("api"))
    assert host.effects() == []


def test_4_a_removal_that_began_is_not_charged_twice() -> None:
    """The world goes down in between."""
    host = Host().has(**files("abcd"))
    host.clock.advance(3600)
    host.world.down = True
    host.has(**files("abc"))
    host.world.down = False
    host.settle(20)
    assert host.held() == {}
    assert not host.world.observed("d").generations


def test_4_an_approval_outlasts_a_world_that_is_down() -> None:
    host = Host().has(**files("abcd")).has(**files("ab"))
    host.world.down = True
    host.agent.operator.approve([])
    host.settle()
    host.world.down = False
    host.settle(20)
    assert host.held() == {}
    assert not host.world.observed("c").generations


# A changed shimlet.


def test_a_changed_shimlet_is_removal_there_then_deploy_here_and_no_prune() -> None:
    host = Host(other=True).has(a=document("web"), **files("bcd"))
    host.has(a=document("web", extra="shimletName: other"), **files("bcd"))
    assert not host.world.observed("web").generations
    assert sum(host.elsewhere.running("web").values()) == 1
    assert host.held() == {}
    assert host.agent.kept.data.get("pruned", []) == []
    assert host.status().shimlet == "other"


def test_a_changed_shimlet_waits_for_the_world_that_it_leaves() -> None:
    host = Host(other=True).has(a=document("web"))
    host.world.down = True
    host.has(a=document("web", extra="shimletName: other"))
    assert not host.elsewhere.observed("web").generations
    assert host.status().converged.reason in ("WorldUnseen", "Unreachable")
    host.world.down = False
    host.settle()
    assert sum(host.elsewhere.running("web").values()) == 1


# 8. The mark is in the world.


def test_8_a_restart_with_lost_state_changes_nothing() -> None:
    host = Host().has(a=document("web", extra="replicaCount: 3"), b=document("api", extra="hostPort: 18050"))
    host.effects()
    host.restart(lost=True).restart()
    assert host.effects() == []
    assert host.status().phase is Phase.READY
    assert host.status().replicas == 3


def test_8_a_foreign_thing_in_our_place_is_reported_and_the_old_one_untouched() -> None:
    """Lists do not tell of foreign things, only a closer look does."""

    class Lists(MemoryShimlet):
        def list(self) -> dict[ServiceName, Observed]:
            return {name: replace(seen, foreign="") for name, seen in super().list().items()}

    host = Host()
    host.agent = MiniAgent(host.world, host.clock, shimlets={"memory": Lists(host.world, "test")})
    host.has(a=document("web"))
    host.effects()
    host.world.foreign[ServiceName("web")] = "container xmod-web of somebody else"
    host.has(a=document("web", "v2"))
    assert host.effects() == []
    status = host.status()
    assert (status.serving.holds, status.converged.reason) == (True, "Conflict")
    assert "somebody else" in status.converged.message
    assert status.next_try is not None
    host.world.foreign.clear()
    host.settle(30)
    assert host.status().phase is Phase.READY


# 9. An upgrade restarts nothing.


def test_9_what_resolves_differently_runs_on_until_its_rollout() -> None:
    host = Host().has(a=document("web"))
    host.effects()
    host.folder.upgrade = "2"
    host.restart()
    assert host.effects() == []
    status = host.status()
    assert (status.phase, status.converged.holds, status.wanted_since) == (Phase.READY, True, None)
    assert any("ResolvesDifferently" in notice for notice in status.notices)
    with pytest.raises(UnknownNameError, match="those that do: web"):
        host.agent.operator.rollout([ServiceName("nobody")])
    assert host.agent.operator.rollout([ServiceName("web")]) == ("web",)
    host.settle()
    assert host.effects() == ["stop web", "start web", "record web", "remove web"]
    assert host.status().notices == ()
    assert host.agent.controller._words.rollouts == ()


def test_9_the_users_next_change_takes_what_resolves_now() -> None:
    host = Host().has(a=document("web"))
    host.folder.upgrade = "2"
    host.restart().has(a=document("web", "v2"))
    assert host.world.running("web") == {host.status().wanted: 1}
    assert host.status().notices == ()


def test_9_a_change_that_is_in_no_digest_does_not_lift_the_protection() -> None:
    """The mark then holds an older spec digest than the one that the old agent had put into effect."""
    host = Host().has(a=document("web")).has(a=document("web", extra="priority: 5"))
    host.effects()
    host.folder.upgrade = "2"
    host.restart()
    assert host.effects() == []


def test_9_what_resolves_differently_is_mended_as_it_was_applied() -> None:
    host = Host().has(a=document("web"))
    before = host.world.running("web")
    host.folder.upgrade = "2"
    host.restart()
    host.world.vanish("web")
    host.settle()
    assert host.world.running("web") != before, "nothing of the old one is left: the new one comes"
    host = Host().has(a=document("web"))
    host.folder.upgrade = "2"
    host.restart()
    host.world.exit("web")
    host.settle()
    assert {d: n for d, n in host.world.running("web").items() if n} == before


def test_9_a_rollout_of_all_goes_one_at_a_time() -> None:
    host = Host().has(**files("abc"))
    host.folder.upgrade = "2"
    host.restart()
    host.effects()
    assert host.agent.operator.rollout([]) == ("a", "b", "c")
    host.settle()
    done = [effect for effect in host.effects() if not effect.startswith("record")]
    assert done == [f"{what} {name}" for name in "abc" for what in ("stop", "start", "remove")]


@pytest.mark.parametrize("restarted", [False, True])
def test_9_a_failed_one_halts_the_rest(restarted: bool) -> None:
    host = Host().has(**files("abc"))
    host.folder.upgrade = "2"
    host.restart()
    new = host.folder.desired().wanted[ServiceName("a")].service.digest
    host.world.crashing.add(new)
    host.agent.operator.rollout([])
    host.settle(30)
    if restarted:
        host.restart()
    assert host.status("a").converged.reason == "RolledBack"
    assert host.status("a").serving.holds
    for name in "bc":
        intent = host.agent.controller.intent(ServiceName(name))
        assert isinstance(intent, Run)
        assert intent.note == "RolloutWaits"
    host.world.crashing.clear()
    host.agent.operator.restart(ServiceName("a"))
    host.settle(30)
    assert not any(host.status(name).notices for name in "abc")


def test_9_a_restart_of_what_resolves_differently_restarts_it_once_as_it_was() -> None:
    host = Host().has(a=document("web"))
    before = host.world.running("web")
    host.folder.upgrade = "2"
    host.restart()
    host.effects()
    host.clock.advance(60)
    host.agent.operator.restart(ServiceName("web"))
    host.settle(20)
    assert host.effects() == ["stop web", "start web"]
    assert host.world.running("web") == before
    assert host.agent.controller._words.restarts == {}


class Oldest(MemoryShimlet):
    """The oldest replica speaks for its generation, as a container's labels do: they are never written again."""

    def __init__(self, world: World) -> None:
        super().__init__(world, "test")
        self.first: dict[tuple[str, str], Service] = {}

    def list(self) -> dict[ServiceName, Observed]:
        return {name: self._old(seen) for name, seen in super().list().items()}

    def observe(self, name: ServiceName) -> Observed:
        return self._old(super().observe(name))

    def _old(self, seen: Observed) -> Observed:
        services = [self.first.setdefault((seen.name, g.service.digest), g.service) for g in seen.generations]
        return replace(
            seen, generations=tuple(replace(g, service=s) for g, s in zip(seen.generations, services, strict=True))
        )


def scaled(upgrade: str = "") -> Host:
    """A service that was made with one replica and has three by now."""
    host = Host()
    shimlet = Oldest(host.world)
    host.agent = MiniAgent(host.world, host.clock, shimlets={"memory": shimlet})
    host.has(a=document("web")).has(a=document("web", extra="replicaCount: 3"))
    assert host.status().ready == 3
    host.effects()
    host.folder = host.folder.restarted()
    host.folder.upgrade = upgrade
    words = Words.from_plain(dict(host.agent.kept.data)) if upgrade else Words()
    host.agent = MiniAgent(host.world, host.clock, shimlets={"memory": shimlet}, words=words)
    host.agent.see()
    return host


def test_2_an_invalid_file_keeps_as_many_replicas_as_there_are_although_marks_are_old() -> None:
    host = scaled().has(a=BROKEN)
    assert host.effects() == []
    assert (host.status().phase, host.status().ready) == (Phase.KEPT, 3)


def test_2_an_invalid_file_keeps_a_service_that_was_scaled_down() -> None:
    host = scaled().has(a=document("web", extra="replicaCount: 2"))
    host.effects()
    host.folder = host.folder.restarted()
    host.agent.controller._words = Words()
    assert host.has(a=BROKEN).effects() == []


def test_9_a_file_that_breaks_or_is_doubled_lifts_no_protection() -> None:
    host = Host().has(a=document("web"), b=document("api"))
    host.folder.upgrade = "2"
    host.restart().effects()
    host.has(a=BROKEN, b=document("api"), c=document("api"))
    assert host.effects() == []
    assert (host.status().converged.reason, host.status("api").converged.reason) == ("SpecInvalid", "DuplicateName")
    host.agent.operator.suspend(ServiceName("web"))
    host.agent.operator.resume(ServiceName("web"))
    assert host.settle().effects() == []
    host.has(a=document("web"), b=document("api"))
    assert host.effects() == []
    assert host.agent.operator.rollout([]) == ("api", "web")


def test_9_what_resolves_differently_keeps_its_replicas_and_still_follows_their_count() -> None:
    host = scaled("2").has(a=document("web", extra="replicaCount: 3"))
    assert host.effects() == []
    assert any("ResolvesDifferently" in notice for notice in host.status().notices)


# 10. The old one stays until the new one serves.


def failed(host: Host, version: str = "v2", *, extra: str = "") -> str:
    """The digest of a version that will crash."""
    digest = service_of(document("web", version, extra=extra)).digest
    host.world.crashing.add(digest)
    return digest


def fates(host: Host, name: str = "web") -> list[tuple[Fate, list[State]]]:
    return [(g.fate, [r.state for r in g.replicas]) for g in host.world.observed(name).generations]


@pytest.mark.parametrize("lost", [False, True])
def test_10_the_old_one_is_back_and_the_failed_one_is_not_tried_again(lost: bool) -> None:
    host = Host().has(a=document("web"))
    bad = failed(host)
    host.has(a=document("web", "v2"))
    assert fates(host) == [(Fate.SERVED, [State.RUNNING]), (Fate.FAILED, [State.EXITED])]
    status = host.status()
    assert (status.phase, status.serving.holds, status.converged.reason) == (Phase.DEGRADED, True, "RolledBack")
    assert (status.blocked, status.wanted, status.next_try is None) == ("failed", bad, False)
    host.effects()
    host.restart(lost=lost).settle(100)
    assert host.effects() == []
    assert host.status().phase is Phase.DEGRADED


def test_10_the_next_change_of_the_spec_clears_the_record() -> None:
    host = Host().has(a=document("web"))
    failed(host)
    host.has(a=document("web", "v2")).has(a=document("web", "v3"))
    assert fates(host) == [(Fate.SERVED, [State.RUNNING])]
    assert host.status().phase is Phase.READY


def test_10_taking_a_change_back_restarts_nothing() -> None:
    host = Host().has(a=document("web"))
    failed(host)
    host.has(a=document("web", "v2"))
    host.effects()
    host.has(a=document("web"))
    assert host.effects() == ["remove web"]
    assert (host.status().phase, host.status().wanted_since) == (Phase.READY, None)


@pytest.mark.parametrize("how", ["crashing", "mute"])
@pytest.mark.parametrize("lost", [False, True])
def test_10_someone_asks_for_another_try(how: str, lost: bool) -> None:
    host = Host().has(a=document("web"))
    digest = service_of(document("web", "v2")).digest
    getattr(host.world, how).add(digest)
    host.has(a=document("web", "v2")).settle(30)
    assert host.status().converged.reason == "RolledBack"
    if lost:
        host.restart(lost=True)
    getattr(host.world, how).clear()
    host.agent.operator.restart(ServiceName("web"))
    host.settle(30)
    assert fates(host) == [(Fate.SERVED, [State.RUNNING])]
    assert host.world.running("web") == {digest: 1}
    assert host.agent.controller._words.restarts == {}


def test_10_another_try_that_fails_is_rolled_back_again() -> None:
    host = Host().has(a=document("web"))
    bad = failed(host)
    host.has(a=document("web", "v2"))
    tries = host.world.starts[ServiceName("web"), bad]
    host.agent.operator.restart(ServiceName("web"))
    host.settle(50)
    assert host.world.starts[ServiceName("web"), bad] == tries + 1
    assert host.status().converged.reason == "RolledBack"
    assert host.status().serving.holds


@pytest.mark.parametrize("how", ["crashing", "mute"])
@pytest.mark.parametrize("lost", [False, True])
def test_10_restarted_at_asks_for_another_try(how: str, lost: bool) -> None:
    host = Host().has(a=document("web"))
    digest = service_of(document("web", "v2")).digest
    getattr(host.world, how).add(digest)
    host.has(a=document("web", "v2")).settle(30)
    if lost:
        host.restart(lost=True)
    getattr(host.world, how).clear()
    host.has(a=document("web", "v2", restartedAt=host.clock.now().isoformat())).settle(30)
    assert fates(host) == [(Fate.SERVED, [State.RUNNING])]
    assert host.status().phase is Phase.READY


def test_10_restarted_at_asks_for_one_try() -> None:
    host = Host().has(a=document("web"))
    bad = failed(host)
    host.has(a=document("web", "v2"))
    tries = host.world.starts[ServiceName("web"), bad]
    host.has(a=document("web", "v2", restartedAt=host.clock.now().isoformat())).settle(50)
    assert host.world.starts[ServiceName("web"), bad] == tries + 1
    assert host.status().serving.holds


def test_10_restarted_at_restarts_what_serves_once() -> None:
    host = Host().has(a=document("web"))
    host.effects()
    host.clock.advance(60)
    host.has(a=document("web", restartedAt=host.clock.now().isoformat())).settle(30)
    assert host.effects() == ["stop web", "start web"]
    host.restart(lost=True)
    assert host.effects() == []


def test_10_a_service_that_never_served_stays_stopped_as_its_record() -> None:
    host = Host()
    bad = failed(host)
    host.has(a=document("web", "v2"))
    host.restart(lost=True).settle(50)
    assert fates(host) == [(Fate.FAILED, [State.EXITED])]
    assert host.world.starts[ServiceName("web"), bad] == 1
    status = host.status()
    assert (status.phase, status.serving.holds, status.blocked) == (Phase.FAILED, False, "failed")


def test_10_a_deadline_that_passes_is_a_failure() -> None:
    host = Host().has(a=document("web"))
    digest = service_of(document("web", "v2")).digest
    host.world.mute.add(digest)
    host.has(a=document("web", "v2"))
    assert host.status().converged.reason == "Starting"
    host.settle(20)
    assert host.status().converged.reason == "RolledBack"
    assert "StartupDeadline" in host.status().converged.message


def test_10_side_by_side_starts_the_new_one_before_the_old_one_stops() -> None:
    side = "rollout: {strategy: side-by-side}"
    host = Host().has(a=document("web", extra=side))
    host.effects()
    host.has(a=document("web", "v2", extra=side))
    assert host.effects() == ["start web", "record web", "remove web"]


def test_10_stop_first_keeps_the_assigned_port() -> None:
    host = Host().has(a=document("web"))
    port = host.world.observed("web").generations[0].replicas[0].placement.port
    host.has(a=document("web", "v2"))
    assert [r.placement.port for g in host.world.observed("web").generations for r in g.replicas] == [port]


def test_10_a_fixed_port_that_a_stranger_has_does_not_stop_the_old_one() -> None:
    host = Host().has(a=document("web"))
    host.effects()
    host.busy_ports.add(18050)
    host.has(a=document("web", "v2", extra="hostPort: 18050"))
    assert host.effects() == []
    status = host.status()
    assert (status.serving.holds, status.converged.reason) == (True, "NoRoom")
    assert "port 18050 is in use by another program" in status.converged.message
    host.busy_ports.clear()
    host.settle(20)
    assert host.status().phase is Phase.READY
    assert host.status().endpoints == ("http://127.0.0.1:18050",)


def test_10_a_port_that_another_service_has_does_not_stop_the_old_one() -> None:
    host = Host().has(a=document("web"), b=document("api", extra="hostPort: 18050"))
    host.effects()
    host.has(a=document("web", extra="hostPort: 18050"), b=document("api", extra="hostPort: 18050"))
    assert host.effects() == []
    assert "port 18050 is held by service api" in host.status().converged.message
    assert host.status().serving.holds


def test_10_a_port_that_changes_without_the_digest_is_changed_in_place() -> None:
    host = Host().has(a=document("web", extra="hostPort: 18050"))
    host.effects()
    host.has(a=document("web", extra="hostPort: 18060"))
    assert host.effects() == ["stop web", "start web"]
    assert host.status().endpoints == ("http://127.0.0.1:18060",)


def test_10_a_bind_address_is_changed_in_place() -> None:
    host = Host().has(a=document("web", extra="hostPort: 18050"))
    host.effects()
    host.has(a=document("web", extra="hostPort: 18050\nbindAddress: 127.0.0.2"))
    assert host.effects() == ["stop web", "start web"]
    assert host.status().endpoints == ("http://127.0.0.2:18050",)


def test_10_replicas_come_and_go() -> None:
    host = Host().has(a=document("web"))
    host.effects()
    host.has(a=document("web", extra="replicaCount: 3"))
    assert host.effects() == ["start web", "start web"]
    assert host.status().ready == 3
    assert len(set(host.status().endpoints)) == 3
    host.has(a=document("web", extra="replicaCount: 1"))
    assert host.effects() == ["stop web", "stop web"]
    assert fates(host) == [(Fate.SERVED, [State.RUNNING])], "the extra replicas are removed, not kept"


def test_10_what_served_is_never_burnt() -> None:
    host = Host().has(a=document("web"))
    digest = service_of(document("web")).digest
    host.world.mute.add(digest)
    host.settle(50)
    status = host.status()
    assert (status.serving.holds, status.phase, status.converged.reason) == (False, Phase.DEGRADED, "Unhealthy")
    host.world.mute.clear()
    host.settle(20)
    assert host.status().phase is Phase.READY
    assert host.world.starts[ServiceName("web"), digest] == 1


def test_10_what_served_and_crashes_is_restarted_with_back_off() -> None:
    host = Host().has(a=document("web"))
    digest = service_of(document("web")).digest
    host.world.crashing.add(digest)
    host.world.exit("web")
    for _ in range(600):
        host.agent.pass_time(1.0)
    starts = host.world.starts[ServiceName("web"), digest]
    assert 8 <= starts <= 14, "about 1 s × 2 for ten minutes"
    status = host.status()
    assert (status.phase, status.converged.reason) == (Phase.DEGRADED, "CrashLoop")
    assert status.converged.message
    host.world.crashing.clear()
    for _ in range(400):
        host.agent.pass_time(1.0)
    assert host.status().phase is Phase.READY


def test_10_a_replica_that_dies_is_back_at_once() -> None:
    host = Host().has(a=document("web"))
    host.world.exit("web")
    host.agent.see()
    host.agent.pump()
    assert host.world.observed("web").generations[0].live


# 13. Nothing is silent; suspension.


def test_suspended_nothing_is_done_until_it_is_resumed() -> None:
    host = Host().has(a=document("web"))
    host.effects()
    host.has(a=document("web", "v2", suspend="true"))
    host.world.exit("web")
    host.settle()
    assert host.effects() == []
    status = host.status()
    assert (status.phase, status.blocked, status.converged.reason) == (Phase.SUSPENDED, "suspended", "Suspended")
    assert status.wanted_since is not None
    host.has(a=document("web", "v2"))
    assert host.status().phase is Phase.READY


def test_a_suspended_service_does_not_start() -> None:
    host = Host().has(a=document("web", suspend="true"))
    assert host.effects() == []
    assert host.status().phase is Phase.SUSPENDED


def test_a_world_that_is_down_is_kept_as_it_is_and_comes_back() -> None:
    host = Host().has(a=document("web"), b=document("api"), **files("cdefgh"))
    host.effects()
    host.world.down = True
    host.has(a=document("web", "v2"), **files("cdefgh"))
    assert host.effects() == []
    assert isinstance(host.agent.controller.intent(ServiceName("api")), Keep)
    for name in ("web", "api"):
        status = host.status(name)
        assert status.phase is Phase.KEPT
        assert status.converged.reason in ("WorldUnseen", "Unreachable")
        assert "down" in status.converged.message
        assert status.next_try is not None
    host.world.down = False
    host.settle(20)
    assert host.status().phase is Phase.READY
    assert not host.world.observed("api").generations


def test_nothing_of_a_removed_service_is_remembered() -> None:
    host = Host().has(a=document("web"), b=document("api")).has(b=document("api")).settle(20)
    agent, name = host.agent, ServiceName("web")
    assert agent.board.get(name) is None
    assert agent.controller.intent(name) is None
    assert agent.queue.next_at(name) is None
    assert agent.router.routed(name) is None
    assert name not in agent.ledger._seen
    assert name not in agent.ledger._digests
    assert name not in agent.reconciler._burnt
    assert name not in agent.reconciler._turn
    assert name not in agent.controller._born


def test_lag_grows_from_the_oldest_change_that_is_not_in_effect_and_ends_when_all_is() -> None:
    host = Host().has(a=document("web"))
    assert host.status().wanted_since is None
    failed(host, "v2")
    failed(host, "v3")
    host.folder.files["a.yaml"] = document("web", "v2")
    began = host.clock.now()
    host.settle()
    host.has(a=document("web", "v3"))
    assert host.status().wanted_since == began
    host.has(a=document("web", "v4"))
    assert host.status().wanted_since is None
    assert host.status().next_try is None


def test_a_service_in_two_worlds_is_one_removal() -> None:
    """The agent was killed in the middle of a move, and then the file was deleted."""
    host = Host(other=True).has(a=document("web"), b=document("api"))
    web = host.world.observed("web").generations[0]
    MemoryShimlet(host.elsewhere, "test", name="other").apply(
        replace(web.service, shimlet="other"), [web.replicas[0].placement], {}
    )
    host.settle().has(b=document("api"))
    assert host.held() == {}
    assert not host.world.observed("web").generations
    assert not host.elsewhere.observed("web").generations
    assert host.agent.board.get(ServiceName("web")) is None


# 7. No worker waits.


def test_7_a_world_that_hangs_delays_only_its_own_services() -> None:
    release, entered = threading.Event(), threading.Event()

    class Hanging(MemoryShimlet):
        def observe(self, name: ServiceName) -> Observed:
            entered.set()
            release.wait(10)
            return super().observe(name)

    host = Host()
    slow = Hanging(host.world, "test")
    good = MemoryShimlet(host.elsewhere, "test", name="other", eager=True)
    agent = MiniAgent(host.elsewhere, host.clock, shimlets={"memory": slow, "other": good})
    agent.see()
    host.folder.files = {"a.yaml": document("web"), "b.yaml": document("api", extra="shimletName: other")}
    agent.controller.take(host.folder.desired())
    stop = threading.Event()
    threads = [threading.Thread(target=worker.run, args=(stop,)) for worker in agent.workers.values()]
    try:
        for thread in threads:
            thread.start()
        assert entered.wait(5)
        end = time.monotonic() + 5
        while not agent.status("api").converged.holds and time.monotonic() < end:
            agent.see()
            stop.wait(0.01)
        assert agent.status("api").phase is Phase.READY
        assert agent.status("web").converged.reason == "Queued"
    finally:
        release.set()
        stop.set()
        agent.queue.shut_down()
        for thread in threads:
            thread.join(5)
    assert not any(thread.is_alive() for thread in threads)
