"""The last list of each shimlet, kept fresh by lists, observations and events.

A service seen by a list is as good as observed until an event, an action of ours or a lost connection says otherwise;
so a pass over services that are right costs one list. What was never seen, or is out of sight, is None: unknown, not absent.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from agent.clock import Clock
from agent.contracts import Observed, ServiceName, Shimlet

News: TypeAlias = Callable[[str, Observed], None]
"""news(shimlet, observed): what is known of a service is this now; no generations: it is gone."""


@dataclass(frozen=True, slots=True)
class Sight:
    """One shimlet's world. `services` is None until it was seen once; `error`: why it is out of sight now."""

    services: Mapping[ServiceName, Observed] | None = None
    seen_at: datetime | None = None
    error: str = ""


@dataclass(slots=True)
class _Memory:
    services: dict[ServiceName, Observed] | None = None
    seen_at: datetime | None = None
    error: str = ""
    began: int = 0  # when the list that counts began
    touched: dict[ServiceName, int] = field(default_factory=dict)  # what is known of these is out of date, since when
    observed: dict[ServiceName, int] = field(default_factory=dict)  # looked at since the list that counts began


class World:
    """Remembers what the shimlets see, and tells `news` what changed. Thread-safe; `news` must not call back."""

    def __init__(self, *, clock: Clock, news: News) -> None:
        self.shimlets: Mapping[str, Shimlet] = {}
        self._clock = clock
        self._news = news
        self._lock = threading.Lock()
        self._memories: dict[str, _Memory] = {}
        self._sequence = 0

    def add(self, name: str, shimlet: Shimlet | None, error: str = "it was not listed yet") -> None:
        """Know one world more; without a shimlet it stays out of sight, for this reason."""
        with self._lock:
            self._memories[name] = _Memory(error=error)
            if shimlet is not None:
                self.shimlets = {**self.shimlets, name: shimlet}

    def relist(self, shimlet: str) -> frozenset[ServiceName]:
        """See everything anew; the names that differ from what was known. Transient: the world is out of sight."""
        memory = self._memories[shimlet]
        with self._lock:
            self._sequence += 1
            began = self._sequence
        listed = self.shimlets[shimlet].list()
        with self._lock:
            if began < memory.began:
                return frozenset()  # another thread began later and was heard sooner
            memory.began = began
            before = memory.services or {}
            memory.observed = {name: sequence for name, sequence in memory.observed.items() if sequence > began}
            newer = memory.observed.keys()
            after = {name: seen for name, seen in listed.items() if name not in newer}
            after.update({name: before[name] for name in newer if name in before})
            memory.touched = {n: at for n, at in memory.touched.items() if at > began or n in after}
            changed = {n for n in before.keys() | after.keys() if _essence(before.get(n)) != _essence(after.get(n))}
            memory.services = {n: after[n] if n in changed else before[n] for n in after}
            memory.seen_at, memory.error = self._clock.now(), ""
            for name in changed:
                self._news(shimlet, memory.services.get(name, Observed(name)))
            return frozenset(changed)

    def lose(self, shimlet: str, error: str) -> None:
        """It cannot be seen now: what was known stays known, but nothing is acted upon until it is seen again."""
        with self._lock:
            self._memories[shimlet].error = error

    def touch(self, shimlet: str, name: ServiceName) -> None:
        """Something happened to it: what is known of it is out of date."""
        with self._lock:
            self._sequence += 1
            self._memories[shimlet].touched[name] = self._sequence

    def cached(self, shimlet: str, name: ServiceName) -> Observed | None:
        """What is known of it, if that is not out of date."""
        memory = self._memories[shimlet]
        with self._lock:
            if memory.error or memory.services is None or name in memory.touched:
                return None
            return memory.services.get(name, Observed(name))

    def unseen(self, shimlet: str, name: ServiceName) -> Observed | None:
        """What was last known of it, if its world is out of sight now."""
        memory = self._memories[shimlet]
        with self._lock:
            return (memory.services or {}).get(name, Observed(name)) if memory.error else None

    def observe(self, shimlet: str, name: ServiceName) -> Observed:
        """Look at it now. Raises what the shimlet raises."""
        memory = self._memories[shimlet]
        with self._lock:
            memory.touched.pop(name, None)  # an event from here on makes it out of date again
        try:
            seen = self.shimlets[shimlet].observe(name)
        except BaseException:
            self.touch(shimlet, name)
            raise
        with self._lock:
            if memory.services is not None:
                self._sequence += 1
                memory.observed[name] = self._sequence
                if seen.generations:
                    memory.services[name] = seen
                else:
                    memory.services.pop(name, None)
            self._news(shimlet, seen)
        return seen

    def sights(self) -> dict[str, Sight]:
        """Every world as it is known now."""
        with self._lock:
            return {
                name: Sight(dict(m.services) if m.services is not None else None, m.seen_at, m.error)
                for name, m in self._memories.items()
            }


def _essence(observed: Observed | None) -> object:
    """What a list and an observation of the same thing have in common."""
    if observed is None:
        return ()
    return [
        (
            g.service.digest,
            g.fate,
            [(r.placement, r.state) for r in sorted(g.replicas, key=lambda r: r.placement.index)],
        )
        for g in observed.generations
    ]
