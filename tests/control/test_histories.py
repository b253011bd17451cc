"""Random histories over the real planner, ledger, goals and reconciler: promises 4, 6, 8 and 10 hold whatever happens.

One to three services share devices; specs come, change, fail, go and come back; the agent is killed after random side
effects, with its memory kept or lost. The world asserts at each start that no device and no port is used twice. At the end
everything is what the folder says, or the last proven generation runs, or there is truly no room.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from agent.contracts import Digest, Fate, Generation, Service
from agent.control.board import Phase, Status
from agent.control.controller import Limits
from tests.fakes.agent import MiniAgent, clock_at_noon, service
from tests.fakes.memory import Crash, World

_ANCHOR = service("anchor", listens=None)  # so that the folder is never empty


@dataclass
class History:
    """One random life of a few services."""

    seed: int
    chance: random.Random = field(init=False)
    kills: int = 0

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.names = ["a", "b", "c"][: self.chance.choice([1, 2, 3])]
        self.devices = tuple(f"g{i}" for i in range(self.chance.randint(1, 6)))
        self.bad = {f"v{i}" for i in range(2, 7) if self.chance.random() < 0.4}
        self.shapes: dict[tuple[str, str], Service] = {}
        self.clock = clock_at_noon()
        self.world = World(now=self.clock.now, probes=False, stops_at_once=self.chance.random() < 0.5)
        self.wanted: dict[str, Service | None] = dict.fromkeys(self.names)
        self.agent = self.new_agent(keep=False)

    def new_agent(self, *, keep: bool) -> MiniAgent:
        words = self.agent.controller._words if keep else None
        self.world.agent_died("test")
        agent = MiniAgent(self.world, self.clock, devices=self.devices, words=words, limits=Limits(1.0, timedelta()))
        agent.see()
        return agent

    def shape(self, name: str, version: str) -> Service:
        made = self.shapes.get((name, version))
        if made is None:
            strategy = self.chance.choice(["recreate", "recreate", "side-by-side"])
            replicas, count = self.chance.choice([1, 1, 2, 3]), self.chance.choice([1, 1, 2, 4])
            made = service(name, version, count=count, replicas=replicas, strategy=strategy)
            self.shapes[name, version] = made
            if version in self.bad:
                (self.world.crashing if self.chance.random() < 0.7 else self.world.mute).add(made.digest)
        return made

    def read(self) -> None:
        self.agent.want(_ANCHOR, *(wish for wish in self.wanted.values() if wish is not None))

    def alive(self, action: object, *, kill: bool) -> None:
        """Do something; perhaps the agent is killed after one of the next side effects, and starts anew."""
        assert callable(action)
        self.world.crash_at = len(self.world.log) + self.chance.randint(1, 4) if kill else None
        try:
            action()
        except Crash:
            self.kills += 1
            self.world.crash_at = None
            self.agent = self.new_agent(keep=self.chance.random() < 0.5)
            self.read()
        self.world.crash_at = None

    def run(self) -> None:
        self.read()
        for _ in range(self.chance.randint(5, 40)):
            if self.chance.random() < 0.3:
                name = self.chance.choice(self.names)
                version = self.chance.choice([None, *(f"v{i}" for i in range(1, 7))])
                self.wanted[name] = self.shape(name, version) if version else None
                self.read()
            if self.chance.random() < 0.05:
                self.upset()
            seconds = self.chance.choice([0.1, 1.0, 5.0, 70.0])
            self.alive(lambda seconds=seconds: self.agent.pass_time(seconds), kill=self.chance.random() < 0.15)
        self.agent.settle(80)

    def upset(self) -> None:
        """Something that served dies or disappears behind the agent's back; what never served would rightly be burnt."""
        for name in self.names:
            served = [g for g in self.world.observed(name, owner="test").generations if g.fate is Fate.SERVED]
            live = [r for g in served[:1] for r in g.live]
            if live and self.chance.random() < 0.5:
                self.world.exit(name, live[0].placement.index, digest=served[0].service.digest)
            elif live and self.chance.random() < 0.2:
                self.world.vanish(name)

    def faults(self) -> Iterator[str]:
        """What is not as it should be at the end."""
        yield from self.world.violations
        for name in self.names:
            yield from (f"{name}: {fault}" for fault in self._faults(name))

    def _faults(self, name: str) -> Iterator[str]:
        wish = self.wanted[name]
        running = {digest: count for digest, count in self.world.running(name).items() if count}
        if wish is None:
            if self.world.observed(name, owner="test").generations:
                yield f"not wanted, and {self.world.running(name)} is left"
            return
        generations = {g.service.digest: g for g in self.world.observed(name, owner="test").generations}
        bad = wish.digest in self.world.crashing | self.world.mute
        yield from _unfit(End(self.agent.status(name), wish, bad, running, generations))


@dataclass
class End:
    """How a wanted service ended: what is said of it, whether its wish can succeed, what runs and what is there."""

    status: Status
    wish: Service
    bad: bool
    running: dict[Digest, int]
    there: dict[Digest, Generation]


def _unfit(end: End) -> Iterator[str]:
    """What is said does not fit what is there, or something was stopped in vain."""
    verdict = _JUDGES.get(end.status.phase)
    fault = verdict(end) if verdict is not None else "no phase to end in"
    if fault:
        yield f"{fault}: {end.status.phase}, {end.running} of {list(end.there)} runs; {end.status}"
    served = [g for g in end.there.values() if g.fate is Fate.SERVED]
    if served and not end.running and all(r.state != "exited" for g in served for r in g.replicas):
        yield f"stopped in vain: {served[0].service.digest[:8]} served, and nothing runs; {end.status.converged}"


def _ready(end: End) -> str:
    whole = end.running == {end.wish.digest: end.wish.replicas} and len(end.there) == 1
    return "" if whole and not end.bad else f"not {end.wish.replicas} x {end.wish.digest}"


def _degraded(end: End) -> str:
    lost_its_place = end.status.converged.reason == "NoRoom" and not end.there
    if len(end.running) != 1 and not lost_its_place:
        return "not one generation runs"
    unsaid = end.wish.digest in end.running and not end.status.notices and end.status.goal == ""
    return "the wish runs" if unsaid else ""


def _failed(end: End) -> str:
    if not end.bad or end.running:
        return "it need not have failed"
    own = end.there.get(end.wish.digest)
    return "" if own is None or own.fate is Fate.FAILED else "the world does not say so"


def _progressing(end: End) -> str:
    return "" if end.status.converged.reason in ("NoRoom", "Retiring", "CrashLoop") else "not at rest"


_JUDGES = {Phase.READY: _ready, Phase.DEGRADED: _degraded, Phase.FAILED: _failed, Phase.PROGRESSING: _progressing}


@pytest.mark.parametrize("block", range(10))
def test_whatever_happens_all_ends_as_wished_or_as_it_was(block: int) -> None:
    """Forty histories a block; a failing seed is named."""
    kills = 0
    for seed in range(block * 40, block * 40 + 40):
        history = History(seed)
        history.run()
        kills += history.kills
        faults = list(history.faults())
        assert not faults, f"seed {seed}: {faults}; {history.world.log[-25:]}"
    assert kills, "no history was killed: this proves nothing"


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_twenty_thousand_histories() -> None:
    """The long form."""
    for seed in range(1000, 21000):
        history = History(seed)
        history.run()
        faults = list(history.faults())
        assert not faults, f"seed {seed}: {faults}; {history.world.log[-25:]}"
