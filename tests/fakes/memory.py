"""A world in memory, and the shimlet that sees it: the one fake world; it passes the shimlet contract suite.

The World outlives its shimlets as a Docker engine outlives agents: an agent's restart is a new MemoryShimlet on the same
World. Nothing moves by itself: `tick()` lets what starts run or exit and what stops stop; a shimlet made `eager` ticks
at each look. Time is what `now` says. Every side effect is a line in `log`; with `crash_at=n` the n-th one is the last:
it takes place and then Crash, a BaseException as sudden as kill -9, is raised. A device or port that two replicas would
hold at once raises AssertionError and stays in `violations`, should someone swallow it. What was given up is `forgotten`.
"""

import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any

from agent.contracts import (
    Conflict,
    Digest,
    Fate,
    Generation,
    Observed,
    Placement,
    Replica,
    Service,
    ServiceName,
    State,
    Transient,
    seal,
    unsealed_by,
)


class Crash(BaseException):
    """The agent was killed at this instant."""


@dataclass(frozen=True)
class _Key:
    """Whose generation it is."""

    owner: str
    name: ServiceName
    digest: Digest

    def __str__(self) -> str:
        return f"{self.name}/{self.digest}"


def wall_clock() -> datetime:
    """The machine's own time, for tests that do not care."""
    return datetime.now(UTC)


class World:
    """What exists. Thread-safe; the controls are plain attributes.

    `crashing`: digests that exit when started, with `crash_code` and `last_words`; `mute`: digests that run and never
    answer (`ready` False);
    `probes=False`: `ready` stays None, and a dial is asked. `down`, `hung`: every call raises Transient.
    `stops_at_once`: STOPPING is skipped. `foreign`: what stands in a service's place without a mark, by name.
    """

    def __init__(
        self,
        *,
        now: Callable[[], datetime] = wall_clock,
        crash_at: int | None = None,
        probes: bool = True,
        stops_at_once: bool = False,
    ) -> None:
        self.now = now
        self.crash_at = crash_at
        self.probes = probes
        self.stops_at_once = stops_at_once
        self.crashing: set[Digest] = set()
        self.crash_code = 1
        self.last_words = ""
        self.mute: set[Digest] = set()
        self.down = False
        self.hung = False
        self.foreign: dict[ServiceName, str] = {}
        self.log: list[str] = []
        self.violations: list[str] = []
        self.starts: Counter[tuple[ServiceName, Digest]] = Counter()
        self.lists = 0
        self.lock = threading.RLock()
        self._generations: dict[str, dict[ServiceName, dict[Digest, Generation]]] = {}
        self._doomed: set[tuple[_Key, int]] = set()
        self._given: dict[tuple[_Key, int], tuple[str, str]] = {}
        self.forgotten: list[tuple[ServiceName, Generation]] = []
        self._lines: dict[tuple[str, ServiceName], list[str]] = {}
        self._holders: dict[str, object] = {}
        self._watchers: dict[str, list[queue.Queue[ServiceName]]] = {}

    # What a test does to the world.

    def tick(self) -> None:
        """Time passes: STARTING → RUNNING or EXITED, STOPPING → STOPPED, or gone if it was being removed."""
        with self.lock:
            for key in self._keys():
                before = self._at(key)
                assert before is not None
                after = replace(before, replicas=tuple(self._moved(key.digest, r) for r in before.replicas))
                if after != before:
                    self._put(key, after)
                    self._bury(key)

    def exit(self, name: str, index: int = 0, *, digest: str = "", code: int = 137, owner: str = "") -> None:
        """A live replica dies behind the agent's back. Digest, owner: of the first that has it, unless given."""
        with self.lock:
            key, replica = next(
                (key, r)
                for key in self._keys()
                if key.name == name and digest in ("", key.digest) and owner in ("", key.owner)
                for r in self._replicas(key)
                if r.live and r.placement.index == index
            )
            self._set(key, self._exited(replica, code))

    def vanish(self, name: str, *, owner: str = "") -> None:
        """Everything of a service is gone behind the agent's back."""
        with self.lock:
            for key in self._keys():
                if key.name == name and owner in ("", key.owner):
                    self._erase(key)

    def say(self, name: str, line: str, *, owner: str = "") -> None:
        """A service writes a line to its log."""
        with self.lock:
            for key in self._keys():
                if key.name == name and owner in ("", key.owner):
                    self._lines.setdefault((key.owner, key.name), []).append(line)
                    return

    def agent_died(self, owner: str) -> None:
        """The lock of a killed agent is free again."""
        with self.lock:
            self._holders.pop(owner, None)

    def answers(self, digest: str) -> bool:
        """Whether a running replica of that digest answers, for a fake dial."""
        return digest not in self.mute

    def observed(self, name: str, *, owner: str = "") -> Observed:
        """What truly is, whether the world can be reached or not."""
        with self.lock:
            who = owner or next((key.owner for key in self._keys() if key.name == name), "")
            return self._observed(who, ServiceName(name))

    def running(self, name: str) -> dict[Digest, int]:
        """How many replicas run, by digest, for any owner."""
        with self.lock:
            return {
                key.digest: sum(r.state is State.RUNNING for r in self._replicas(key))
                for key in self._keys()
                if key.name == name
            }

    def text(self) -> str:
        """Everything that the world carries as text about its generations."""
        with self.lock:
            return repr(self._generations)

    # What a shimlet does.

    def all(self, owner: str) -> dict[ServiceName, Observed]:
        with self.lock:
            self.reach()
            self.lists += 1
            return {name: self._observed(owner, name) for name in self._generations.get(owner, {})}

    def one(self, owner: str, name: ServiceName) -> Observed:
        with self.lock:
            self.reach()
            return self._observed(owner, name)

    def apply(self, owner: str, service: Service, placements: Sequence[Placement], secrets: Mapping[str, str]) -> None:
        with self.lock:
            self.reach()
            if placements and service.name in self.foreign:
                raise Conflict(f"{service.name}: {self.foreign[service.name]} stands in its place; remove it")
            key = _Key(owner, service.name, service.digest)
            wanted = {placement.index: placement for placement in placements}
            self._doom(key, lambda index: index >= service.replicas and index not in wanted)
            afresh = self._begin_afresh(key, set(wanted))
            for replica in self._replicas(key):
                if replica.live and (afresh or self._differs(key, replica, wanted, (service.bind, secrets))):
                    self._stop(key, replica)
            self._bury(key)
            for index in sorted(wanted):
                there = next((r for r in self._replicas(key) if r.placement.index == index), None)
                if there is None or not there.holds:
                    self._start(key, service, wanted[index], there, secrets)

    def record(self, owner: str, name: ServiceName, digest: Digest, fate: Fate) -> None:
        with self.lock:
            self.reach()
            key = _Key(owner, name, digest)
            there = self._at(key)
            if there is not None and there.fate is not fate:
                self._put(key, replace(there, fate=fate))
                self._effect(f"record {key} {fate}")

    def remove(self, owner: str, name: ServiceName, digest: Digest) -> None:
        with self.lock:
            self.reach()
            key = _Key(owner, name, digest)
            if all((key, r.placement.index) in self._doomed for r in self._replicas(key)):
                return
            self._doom(key, lambda _: True)
            for replica in self._replicas(key):
                if replica.live:
                    self._set(key, self._stopping(replica))
            self._bury(key)
            self._effect(f"remove {key}")

    def release(self, owner: str, name: ServiceName) -> tuple[str, ...]:
        with self.lock:
            self.reach()
            keys = [key for key in self._keys() if (key.owner, key.name) == (owner, name)]
            if any(replica.state is State.STOPPING for key in keys for replica in self._replicas(key)):
                raise Transient(f"{name} is being stopped", reason="Stopping")
            left = []
            for key in keys:
                there = self._at(key)
                assert there is not None
                self.forgotten.append((name, there))
                left += [f"{key}#{r.placement.index}, {r.state} at {r.address}" for r in there.replicas]
                self._erase(key)
                self._effect(f"forget {key}")
            return tuple(left)

    def lines(self, owner: str, name: ServiceName) -> list[str]:
        with self.lock:
            self.reach()
            return list(self._lines.get((owner, name), ()))

    def watcher(self, owner: str) -> "queue.Queue[ServiceName]":
        with self.lock:
            self.reach()
            names: queue.Queue[ServiceName] = queue.Queue()
            self._watchers.setdefault(owner, []).append(names)
            return names

    def unwatch(self, owner: str, names: "queue.Queue[ServiceName]") -> None:
        with self.lock:
            self._watchers[owner].remove(names)

    def hold(self, owner: str, holder: object) -> None:
        with self.lock:
            self.reach()
            if self._holders.setdefault(owner, holder) is not holder:
                raise Conflict(f"another agent of instance {owner} works in this world; stop it or use --instance")

    def let_go(self, owner: str, holder: object) -> None:
        with self.lock:
            if self._holders.get(owner) is holder:
                del self._holders[owner]

    def reach(self) -> None:
        if self.down:
            raise Transient("the world in memory is down; set down=False")
        if self.hung:
            raise Transient("the world in memory did not answer in 5 s; set hung=False", reason="Hung")

    # How it keeps house.

    def _keys(self) -> list[_Key]:
        return [
            _Key(owner, name, digest)
            for owner, names in self._generations.items()
            for name, generations in names.items()
            for digest in generations
        ]

    def _at(self, key: _Key) -> Generation | None:
        return self._generations.get(key.owner, {}).get(key.name, {}).get(key.digest)

    def _replicas(self, key: _Key) -> tuple[Replica, ...]:
        there = self._at(key)
        return there.replicas if there else ()

    def _observed(self, owner: str, name: ServiceName) -> Observed:
        generations = self._generations.get(owner, {}).get(name, {})
        return Observed(name, tuple(generations.values()), self.foreign.get(name, ""))

    def _put(self, key: _Key, generation: Generation) -> None:
        self._generations.setdefault(key.owner, {}).setdefault(key.name, {})[key.digest] = generation
        self._tell(key)

    def _erase(self, key: _Key) -> None:
        self._doomed = {doomed for doomed in self._doomed if doomed[0] != key}
        generations = self._generations[key.owner][key.name]
        del generations[key.digest]
        if not generations:
            del self._generations[key.owner][key.name]
            self._lines.pop((key.owner, key.name), None)
        self._tell(key)

    def _doom(self, key: _Key, which: Callable[[int], bool]) -> None:
        """Say which replicas are to be gone once they have stopped; the others are kept."""
        self._doomed = {doomed for doomed in self._doomed if doomed[0] != key}
        self._doomed |= {(key, r.placement.index) for r in self._replicas(key) if which(r.placement.index)}

    def _bury(self, key: _Key) -> None:
        there = self._at(key)
        if there is None:
            return
        left = tuple(r for r in there.replicas if r.holds or (key, r.placement.index) not in self._doomed)
        if not left:
            self._erase(key)
        elif left != there.replicas:
            self._put(key, replace(there, replicas=left))

    def _begin_afresh(self, key: _Key, wanted: set[int]) -> bool:
        """Whether a FAILED generation is to be tried again: wanted, and not merely shrunk."""
        there = self._at(key)
        if there is None or there.fate is not Fate.FAILED or not wanted:
            return False
        if not wanted.issuperset(r.placement.index for r in there.live):
            return False
        self._put(key, replace(there, fate=Fate.NEW))
        return True

    def _differs(
        self,
        key: _Key,
        replica: Replica,
        wanted: Mapping[int, Placement],
        now: tuple[str, Mapping[str, str]],
    ) -> bool:
        bind, sealed = self._given[(key, replica.placement.index)]
        if wanted.get(replica.placement.index) != replica.placement:
            return True
        return bind != now[0] or not unsealed_by(now[1], sealed)

    def _tell(self, key: _Key) -> None:
        for names in self._watchers.get(key.owner, ()):
            names.put(key.name)

    def _set(self, key: _Key, replica: Replica) -> None:
        there = self._at(key)
        assert there is not None
        rest = (r for r in there.replicas if r.placement.index != replica.placement.index)
        self._put(key, replace(there, replicas=tuple(sorted((*rest, replica), key=lambda r: r.placement.index))))

    def _stop(self, key: _Key, replica: Replica) -> None:
        self._set(key, self._stopping(replica))
        self._effect(f"stop {key}#{replica.placement.index}")

    def _stopping(self, replica: Replica) -> Replica:
        if self.stops_at_once:
            return replace(replica, state=State.STOPPED, finished_at=self.now(), ready=None)
        return replace(replica, state=State.STOPPING, ready=None)

    def _start(
        self,
        key: _Key,
        service: Service,
        placement: Placement,
        there: Replica | None,
        secrets: Mapping[str, str],
    ) -> None:
        self._claim_alone(key, placement)
        restarts = there.restarts + 1 if there is not None and there.state is State.EXITED else 0
        before = self._at(key)
        fate = before.fate if before is not None and before.fate is not Fate.FAILED else Fate.NEW
        sealed = seal(secrets)
        self._given[(key, placement.index)] = (service.bind, sealed)
        self._put(key, Generation(service, self._replicas(key), fate, secrets=sealed))
        address = f"{service.bind}:{placement.port}" if placement.port is not None else ""
        self._set(key, Replica(placement, State.STARTING, self.now(), restarts=restarts, address=address))
        self.starts[(key.name, key.digest)] += 1
        self._effect(f"start {key}#{placement.index}")

    def _claim_alone(self, key: _Key, placement: Placement) -> None:
        held = [(other, self._replicas(other)) for other in self._keys()]
        held += [(_Key("", name, there.service.digest), there.replicas) for name, there in self.forgotten]
        for other, replicas in held:
            for replica in replicas:
                if not replica.holds or (other == key and replica.placement.index == placement.index):
                    continue
                devices = set(replica.placement.devices) & set(placement.devices)
                port = placement.port is not None and placement.port == replica.placement.port
                if devices or port:
                    what = f"devices {sorted(devices)}" if devices else f"port {placement.port}"
                    self.violations.append(f"{what}: {other}#{replica.placement.index} and {key}#{placement.index}")
                    raise AssertionError(self.violations[-1])

    def _moved(self, digest: Digest, replica: Replica) -> Replica:
        if replica.state is State.STARTING and digest in self.crashing:
            return self._exited(replica, self.crash_code, self.last_words)
        if replica.state is State.STARTING:
            return replace(replica, state=State.RUNNING, ready=digest not in self.mute if self.probes else None)
        if replica.state is State.STOPPING:
            return replace(replica, state=State.STOPPED, finished_at=self.now())
        return replica

    def _exited(self, replica: Replica, code: int, words: str = "") -> Replica:
        message = f"exited with code {code}" + (f": {words}" if words else "")
        return replace(replica, state=State.EXITED, finished_at=self.now(), exit_code=code, ready=None, message=message)

    def _effect(self, what: str) -> None:
        self.log.append(what)
        if self.crash_at == len(self.log):
            raise Crash


class MemoryShimlet:
    """One owner's view of a World. Implements contracts.Shimlet."""

    def __init__(
        self, world: World, owner: str = "test", *, name: str = "memory", local: bool = True, eager: bool = False
    ) -> None:
        self.world = world
        self.owner = owner
        self.name = name
        self.local = local
        self.eager = eager

    def acquire(self) -> None:
        """Take the owner's lock."""
        self.world.hold(self.owner, self)

    def list(self) -> Mapping[ServiceName, Observed]:
        """See everything of the owner's."""
        self._tick()
        return self.world.all(self.owner)

    def observe(self, name: ServiceName) -> Observed:
        """See one name."""
        self._tick()
        return self.world.one(self.owner, name)

    def apply(self, service: Service, placements: Sequence[Placement], secrets: Mapping[str, str]) -> None:
        """Run exactly these."""
        self.world.apply(self.owner, service, placements, secrets)

    def record(self, name: ServiceName, digest: Digest, fate: Fate) -> None:
        """Write a fate in the world."""
        self.world.record(self.owner, name, digest, fate)

    def remove(self, name: ServiceName, digest: Digest) -> None:
        """Take a generation away."""
        self.world.remove(self.owner, name, digest)

    def release(self, name: ServiceName) -> tuple[str, ...]:
        """Give a service up."""
        return self.world.release(self.owner, name)

    def watch(self, stop: Event) -> Iterator[ServiceName]:
        """Yield names that changed; ends when the world is down."""
        names = self.world.watcher(self.owner)
        try:
            while not (stop.is_set() or self.world.down):
                try:
                    yield names.get(timeout=0.02)
                except queue.Empty:
                    continue
        finally:
            self.world.unwatch(self.owner, names)

    def logs(self, name: ServiceName, tail: int, follow: Event | None = None) -> Iterator[str]:
        """Yield what was said."""
        lines = self.world.lines(self.owner, name)
        yield from lines[-tail:] if tail else ()
        seen = len(lines)
        while follow is not None and not follow.wait(0.01):
            lines = self.world.lines(self.owner, name)
            yield from lines[seen:]
            seen = len(lines)

    def close(self) -> None:
        """Let go of the lock."""
        self.world.let_go(self.owner, self)

    def _tick(self) -> None:
        if self.eager:
            self.world.tick()


WORLDS: dict[str, World] = {}
"""Worlds that `factory` made, by the `world` option, else by state folder: an agent's restart finds its own again."""


def factory(owner: str, options: Mapping[str, Any], state_dir: Path) -> MemoryShimlet:
    """The ShimletFactory of this fake. Options: {"world": str}. Its shimlets are eager, so that a whole agent can run."""
    unknown = sorted(set(options) - {"world"})
    if unknown:
        raise ValueError(f"shimlets.memory: unknown options {unknown}; known: world")
    return MemoryShimlet(WORLDS.setdefault(options.get("world", str(state_dir)), World()), owner, eager=True)
