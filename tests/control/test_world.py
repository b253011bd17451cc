"""What is known of the worlds, and how lists, looks and events that cross on their way are told apart."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pytest

from agent.contracts import Fate, Observed, Placement, Service, ServiceName, Transient
from agent.control.world import World
from tests.fakes.agent import clock_at_noon, service
from tests.fakes.memory import MemoryShimlet
from tests.fakes.memory import World as MemoryWorld

WEB, API = service("web"), service("api")


class Crossing(MemoryShimlet):
    """Does something after a list or a look was taken and before it is handed in."""

    meanwhile: Sequence[Callable[[], object]] = ()

    def list(self) -> Mapping[ServiceName, Observed]:
        seen = super().list()
        self._do()
        return seen

    def observe(self, name: ServiceName) -> Observed:
        seen = super().observe(name)
        self._do()
        return seen

    def _do(self) -> None:
        todo, self.meanwhile = self.meanwhile, ()
        for each in todo:
            each()


class Bench:
    def __init__(self) -> None:
        self.clock = clock_at_noon()
        self.memory = MemoryWorld(now=self.clock.now)
        self.shimlet = Crossing(self.memory, "test")
        self.news: list[tuple[str, Observed]] = []
        self.world = World(clock=self.clock, news=lambda shimlet, seen: self.news.append((shimlet, seen)))
        self.world.add("memory", self.shimlet)

    def start(self, what: Service) -> None:
        self.shimlet.apply(what, [Placement(0, 18000 if what is WEB else 18001)], {})

    def states(self, name: ServiceName = WEB.name) -> list[str]:
        seen = self.world.cached("memory", name)
        assert seen is not None
        return [r.state for g in seen.generations for r in g.replicas]


def test_what_was_never_listed_is_unknown_and_not_absent() -> None:
    bench = Bench()
    assert bench.world.cached("memory", WEB.name) is None
    sight = bench.world.sights()["memory"]
    assert (sight.services, sight.seen_at, sight.error) == (None, None, "it was not listed yet")


def test_what_is_not_in_a_list_is_absent() -> None:
    bench = Bench()
    assert bench.world.relist("memory") == frozenset()
    assert bench.world.cached("memory", WEB.name) == Observed(WEB.name)
    assert bench.world.sights()["memory"].seen_at == bench.clock.now()


def test_a_list_tells_what_changed_and_only_that() -> None:
    bench = Bench()
    bench.start(WEB)
    bench.start(API)
    assert bench.world.relist("memory") == {WEB.name, API.name}
    bench.news.clear()
    assert bench.world.relist("memory") == frozenset()
    bench.memory.tick()
    bench.memory.vanish("api")
    assert bench.world.relist("memory") == {WEB.name, API.name}
    assert bench.world.relist("memory") == frozenset()
    told = {seen.name: bool(seen.generations) for _, seen in bench.news}
    assert told == {"web": True, "api": False}, "gone is news, too"


def test_a_fate_that_changed_is_a_change() -> None:
    bench = Bench()
    bench.start(WEB)
    bench.world.relist("memory")
    bench.shimlet.record(WEB.name, WEB.digest, Fate.SERVED)
    assert bench.world.relist("memory") == {WEB.name}


def test_an_event_makes_what_is_known_out_of_date_until_someone_looks() -> None:
    bench = Bench()
    bench.start(WEB)
    bench.world.relist("memory")
    bench.world.touch("memory", WEB.name)
    assert bench.world.cached("memory", WEB.name) is None
    bench.world.observe("memory", WEB.name)
    assert bench.states() == ["starting"]
    bench.world.touch("memory", WEB.name)
    bench.world.relist("memory")
    assert bench.world.cached("memory", WEB.name) is None, "a list does not tell what a look does"
    bench.memory.vanish("web")
    bench.world.relist("memory")
    assert bench.states() == [], "but it tells what is gone"


def test_an_event_while_someone_looks_makes_the_look_out_of_date() -> None:
    bench = Bench()
    bench.start(WEB)
    bench.world.relist("memory")
    bench.shimlet.meanwhile = [lambda: bench.world.touch("memory", WEB.name)]
    bench.world.observe("memory", WEB.name)
    assert bench.world.cached("memory", WEB.name) is None


def test_an_event_while_a_list_is_on_its_way_makes_that_name_out_of_date() -> None:
    bench = Bench()
    bench.start(WEB)
    bench.start(API)
    bench.world.relist("memory")
    bench.shimlet.meanwhile = [bench.memory.tick, lambda: bench.world.touch("memory", WEB.name)]
    bench.world.relist("memory")
    assert bench.world.cached("memory", WEB.name) is None
    assert bench.world.cached("memory", API.name) is not None


def test_a_look_while_a_list_is_on_its_way_is_newer_than_the_list() -> None:
    bench = Bench()
    bench.start(WEB)
    bench.world.relist("memory")
    bench.shimlet.meanwhile = [bench.memory.tick, lambda: bench.world.observe("memory", WEB.name)]
    bench.world.relist("memory")
    assert bench.states() == ["running"]


def test_a_removal_that_is_seen_while_a_list_is_on_its_way_is_not_undone_by_it() -> None:
    bench = Bench()
    bench.start(WEB)
    bench.world.relist("memory")
    bench.shimlet.meanwhile = [lambda: bench.memory.vanish("web"), lambda: bench.world.observe("memory", WEB.name)]
    bench.world.relist("memory")
    assert bench.states() == []


def test_of_two_lists_that_cross_the_one_that_began_later_counts() -> None:
    bench = Bench()
    bench.start(WEB)
    bench.shimlet.meanwhile = [bench.memory.tick, lambda: bench.world.relist("memory")]
    assert bench.world.relist("memory") == frozenset(), "what is old by now changes nothing"
    assert bench.states() == ["running"]


def test_something_new_that_an_event_tells_of_while_a_list_is_on_its_way_is_known_and_out_of_date() -> None:
    bench = Bench()
    bench.world.relist("memory")
    bench.start(WEB)
    bench.shimlet.meanwhile = [lambda: bench.world.touch("memory", WEB.name)]
    bench.world.relist("memory")
    assert WEB.name in (bench.world.sights()["memory"].services or ())
    assert bench.world.cached("memory", WEB.name) is None


def test_a_look_before_the_first_list_takes_nothing_from_it() -> None:
    bench = Bench()
    bench.start(WEB)
    bench.shimlet.meanwhile = [lambda: bench.world.observe("memory", WEB.name)]
    bench.world.relist("memory")
    assert bench.states() == ["starting"]


def test_a_look_is_newer_than_two_lists_that_cross() -> None:
    bench = Bench()
    bench.start(WEB)
    bench.world.relist("memory")

    def inner() -> None:
        bench.shimlet.meanwhile = [bench.memory.tick, lambda: bench.world.observe("memory", WEB.name)]
        bench.world.relist("memory")

    bench.shimlet.meanwhile = [inner]
    bench.world.relist("memory")
    assert bench.states() == ["running"]


def test_a_lost_world_keeps_what_was_known_and_answers_nothing() -> None:
    bench = Bench()
    bench.start(WEB)
    bench.world.relist("memory")
    bench.world.lose("memory", "it is down")
    assert bench.world.cached("memory", WEB.name) is None
    sight = bench.world.sights()["memory"]
    assert (sight.error, set(sight.services or ())) == ("it is down", {WEB.name})
    bench.world.relist("memory")
    assert bench.world.sights()["memory"].error == ""
    assert bench.states() == ["starting"]


def test_a_look_that_fails_leaves_it_out_of_date() -> None:
    bench = Bench()
    bench.start(WEB)
    bench.world.relist("memory")
    bench.memory.down = True
    with pytest.raises(Transient):
        bench.world.observe("memory", WEB.name)
    with pytest.raises(Transient):
        bench.world.relist("memory")
    bench.memory.down = False
    assert bench.world.cached("memory", WEB.name) is None


def test_what_a_look_saw_more_closely_outlives_a_list_that_says_the_same() -> None:
    """Exit codes, drift and notices are not in a list."""

    class Closer(MemoryShimlet):
        def observe(self, name: ServiceName) -> Observed:
            seen = super().observe(name)
            return replace(seen, generations=tuple(replace(g, notice="seen closely") for g in seen.generations))

    bench = Bench()
    bench.world.add("close", Closer(bench.memory, "test"))
    bench.start(WEB)
    bench.world.relist("close")
    bench.world.observe("close", WEB.name)
    bench.world.relist("close")
    seen = bench.world.cached("close", WEB.name)
    assert seen is not None
    assert seen.generations[0].notice == "seen closely"


def test_a_world_without_a_shimlet_is_out_of_sight_and_says_why() -> None:
    bench = Bench()
    bench.world.add("docker", None, "cannot import docker")
    assert bench.world.sights()["docker"].error == "cannot import docker"
    assert "docker" not in bench.world.shimlets
