"""Promise 13, of the agent itself: a dead thread, a silent source, a look that hangs and a world out of sight are told."""

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from agent.contracts import ServiceName
from agent.control.provenance import Place
from agent.control.workqueue import Priority, WorkQueue
from agent.daemon.answers import Answers
from agent.daemon.threads import Threads
from tests.fakes.agent import MiniAgent, clock_at_noon, service
from tests.fakes.clock import VirtualClock
from tests.fakes.memory import World

RESCAN = 30.0


def answers(clock: VirtualClock, **parts: Any) -> Answers:
    """Of an agent that is well, but for these parts."""
    agent = MiniAgent(World(now=clock.now, probes=False, stops_at_once=True), clock)
    agent.see()
    agent.want(service("web"))
    settings = SimpleNamespace(
        agent=SimpleNamespace(rescan_interval=RESCAN, state_dir=Path("/nowhere"), instance="t-a", host="a", labels={})
    )
    plain: dict[str, Any] = {
        "settings": settings,
        "clock": clock,
        "started_at": clock.now(),
        "threads": Threads(),
        "source": SimpleNamespace(id="folder:/specs", location="/specs", notice="", unverified="", kick=lambda: None),
        "scanner": SimpleNamespace(beat=clock.monotonic(), error=""),
        "provenance": SimpleNamespace(place=Place(), trouble=""),
        "controller": agent.controller,
        "operator": agent.operator,
        "world": agent.world,
        "board": agent.board,
        "queue": WorkQueue(clock=clock),
        "journal": SimpleNamespace(notices=()),
        "chronicle": None,
        "remembers": True,
    }
    return Answers(**{**plain, **parts})


def _waits(stop: threading.Event) -> None:
    stop.wait(5)


def test_an_agent_that_is_well_says_so() -> None:
    well = answers(clock_at_noon())
    assert (well.alive(), well.ready()) == ("", "")


def test_a_thread_that_ended_is_told_by_its_name() -> None:
    threads = Threads()
    threads.start("worker-docker-0", lambda stop: None)
    threads.start("source", _waits)
    threads.all[0].join(5)
    told = answers(clock_at_noon(), threads=threads).alive()
    threads.stop.set()
    threads.join(5)
    assert told == "dead thread: worker-docker-0"


def test_a_source_that_does_not_beat_is_told_and_the_heartbeat_stands_still() -> None:
    clock = clock_at_noon()
    agent = answers(clock)
    beat = agent.view().heartbeat
    clock.advance(3 * RESCAN)
    assert agent.alive() == ""
    clock.advance(1)
    assert agent.alive() == "source thread: no heartbeat for 91 s"
    assert agent.view().heartbeat == beat


def test_a_first_clone_is_no_silence_although_passes_are_short() -> None:
    clock = clock_at_noon()
    settings = SimpleNamespace(agent=SimpleNamespace(rescan_interval=1.0))
    agent = answers(clock, settings=settings)
    clock.advance(61)
    assert agent.alive() == ""
    clock.advance(30)
    assert agent.alive() == "source thread: no heartbeat for 91 s"


def test_a_look_that_hangs_is_told_with_its_lane() -> None:
    clock = clock_at_noon()
    queue = WorkQueue(clock=clock)
    agent = answers(clock, queue=queue, scanner=SimpleNamespace(beat=clock.monotonic() + 1e6, error=""))
    queue.add(ServiceName("web"), lane="docker", priority=Priority.CHANGE)
    assert queue.take("docker", timeout=0) == "web"
    clock.advance(121)
    assert "in lane docker" in agent.alive()
    queue.done(ServiceName("web"))
    assert agent.alive() == ""


def test_a_source_that_was_never_read_and_a_world_out_of_sight_are_not_ready() -> None:
    clock = clock_at_noon()
    unread = SimpleNamespace(desired=lambda: None)
    error = SimpleNamespace(beat=clock.monotonic(), error="/specs: no folder there")
    assert answers(clock, controller=unread, scanner=error).ready() == (
        "the source was not read yet: /specs: no folder there"
    )
    blind = answers(clock)
    blind.world.lose("memory", "the engine is hung")
    assert blind.ready() == "out of sight: memory: the engine is hung"
