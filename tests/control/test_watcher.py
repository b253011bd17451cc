"""One world kept in sight by real threads: down, hung, without events, and back."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self

import pytest

from agent.contracts import Conflict, Observed, ServiceName
from agent.control import watcher as watching
from agent.control.intent import Keep
from agent.control.watcher import Watcher
from tests.fakes.agent import MiniAgent, clock_at_noon, service
from tests.fakes.memory import MemoryShimlet, World

WEB = service("web")


@dataclass
class Watch:
    """A watcher's two threads over an agent whose other parts the test drives."""

    shimlet: MemoryShimlet
    interval: float = 60.0
    stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        clock = clock_at_noon()
        self.agent = MiniAgent(self.shimlet.world, clock, shimlets={"memory": self.shimlet})
        self.watcher = Watcher(
            name="memory",
            shimlet=self.shimlet,
            world=self.agent.world,
            controller=self.agent.controller,
            interval=self.interval,
        )
        self.threads = [
            threading.Thread(target=work, args=(self.stop,)) for work in (self.watcher.watch, self.watcher.list)
        ]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join(5)
        assert not any(thread.is_alive() for thread in self.threads), "a stop is obeyed within a second or two"

    def error(self) -> str:
        return self.agent.world.sights()["memory"].error

    def until(self, holds: Callable[[], object], what: str) -> None:
        end = time.monotonic() + 8
        while not holds():
            assert time.monotonic() < end, f"never: {what}; {self.agent.world.sights()}"
            self.stop.wait(0.005)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pauses of production, shorter."""
    monkeypatch.setattr(watching, "_FIRST", 0.02)
    monkeypatch.setattr(watching, "_CAP", 0.1)
    monkeypatch.setattr(watching, "_SETTLE", 0.05)


def shimlet(kind: type[MemoryShimlet] = MemoryShimlet) -> MemoryShimlet:
    return kind(World(probes=False), "test")


def test_a_world_comes_in_sight() -> None:
    with Watch(shimlet()) as watch:
        watch.until(lambda: watch.error() == "", "in sight")
        watch.agent.want(WEB)
        watch.agent.pump()
        assert watch.agent.memory.observed("web").generations


def test_an_event_has_the_service_looked_at() -> None:
    with Watch(shimlet()) as watch:
        watch.until(lambda: watch.error() == "", "in sight")
        watch.agent.want(WEB)
        watch.agent.pump()
        watch.agent.memory.tick()
        watch.until(lambda: watch.agent.world.cached("memory", WEB.name) is None, "out of date by the event")

        def looked_at() -> bool:
            watch.agent.clock.advance(0.1)  # a flurry of events is waited for
            watch.agent.pump()
            return watch.agent.status("web").converged.holds

        watch.until(looked_at, "looked at")


def test_what_happened_before_events_flowed_is_seen_by_a_list_soon_after() -> None:
    class Deaf(MemoryShimlet):
        """Sends no event at all."""

        def watch(self, stop: threading.Event) -> Iterator[ServiceName]:
            stop.wait()
            return iter(())

    with Watch(shimlet(Deaf)) as watch:
        watch.until(lambda: watch.agent.memory.lists >= 2, "the list that backs a new stream")
        assert watch.agent.memory.lists == 2


def test_without_events_the_interval_finds_what_changed() -> None:
    class Deaf(MemoryShimlet):
        def watch(self, stop: threading.Event) -> Iterator[ServiceName]:
            stop.wait()
            return iter(())

    with Watch(shimlet(Deaf), interval=0.05) as watch:
        watch.until(lambda: watch.error() == "", "in sight")
        watch.agent.want(WEB)
        watch.agent.pump()
        watch.agent.memory.tick()
        watch.agent.memory.exit("web")
        watch.until(
            lambda: any(r.state == "exited" for r in _replicas(watch.agent)),
            "seen by a list",
        )


def _replicas(agent: MiniAgent) -> list[object]:
    services = agent.world.sights()["memory"].services or {}
    return [r for o in services.values() for g in o.generations for r in g.replicas]


@pytest.mark.parametrize("how", ["down", "hung"])
def test_a_world_that_is_lost_keeps_its_services_and_comes_back(how: str) -> None:
    with Watch(shimlet(), interval=0.05) as watch:
        watch.until(lambda: watch.error() == "", "in sight")
        watch.agent.want(WEB)
        watch.agent.pump()
        setattr(watch.agent.memory, how, True)
        watch.until(watch.error, "out of sight")
        intent = watch.agent.controller.intent(WEB.name)
        assert isinstance(intent, Keep)
        assert intent.reason == "WorldUnseen"
        setattr(watch.agent.memory, how, False)
        watch.until(lambda: watch.error() == "", "in sight again")
        assert not isinstance(watch.agent.controller.intent(WEB.name), Keep)


def test_a_stream_that_ends_silently_is_begun_again() -> None:
    class Short(MemoryShimlet):
        begun = 0

        def watch(self, stop: threading.Event) -> Iterator[ServiceName]:
            Short.begun += 1
            return iter(())

    with Watch(shimlet(Short)) as watch:
        watch.until(lambda: Short.begun >= 3, "begun three times")
        assert watch.agent.memory.lists >= 3, "each time it lists again"


def test_another_agents_lock_is_told_and_nothing_is_done_until_it_goes() -> None:
    world = World(probes=False)
    other = MemoryShimlet(world, "test")
    other.acquire()
    with Watch(MemoryShimlet(world, "test")) as watch:
        watch.until(lambda: "another agent" in watch.error(), "the conflict is told")
        watch.agent.want(WEB)
        watch.agent.pump()
        assert not world.log
        other.close()
        watch.until(lambda: watch.error() == "", "in sight")


def test_a_bug_in_a_stranger_s_shimlet_does_not_end_its_threads() -> None:
    """Whatever comes out of it, the world is out of sight, for a reason that is told."""

    class Buggy(MemoryShimlet):
        broken = True

        def list(self) -> Mapping[ServiceName, Observed]:
            if self.broken:
                raise KeyError("Labels")
            return super().list()

        def watch(self, stop: threading.Event) -> Iterator[ServiceName]:
            raise ZeroDivisionError("stream")

    buggy = Buggy(World(probes=False), "test")
    with Watch(buggy) as watch:
        watch.until(lambda: "Labels" in watch.error(), "the bug is told")
        buggy.broken = False
        watch.until(lambda: watch.error() == "", "in sight")
        assert all(thread.is_alive() for thread in watch.threads)


def test_a_refusal_while_following_is_survived() -> None:
    class Refusing(MemoryShimlet):
        def watch(self, stop: threading.Event) -> Iterator[ServiceName]:
            raise Conflict("not now")

    with Watch(shimlet(Refusing)) as watch:
        watch.until(lambda: watch.agent.memory.lists >= 3, "it lists again and again")
        assert all(thread.is_alive() for thread in watch.threads)
