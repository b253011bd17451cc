"""A third party's shimlet that only pretends: it remembers what it is told, and stamps each call into a file.

A line of that file: nanoseconds of CLOCK_MONOTONIC, the call, the service. Option `calls`: the file's path.
"""

import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent.contracts import (
    Digest,
    Fate,
    Generation,
    Observed,
    Placement,
    Plugins,
    Replica,
    Service,
    ServiceName,
    State,
    seal,
)


class PretendShimlet:
    """A world without ports, devices and images, in which everything works at once."""

    name = "pretend"
    local = False

    def __init__(self, _owner: str, options: Mapping[str, Any], _state_dir: Path) -> None:
        if not isinstance(options.get("calls"), str):
            raise ValueError("shimlets.pretend.calls: the path of the file to stamp calls into")
        self._path = options["calls"]
        self._lock = threading.Lock()
        self._worlds: dict[ServiceName, dict[Digest, Generation]] = {}

    def acquire(self) -> None:
        self._stamp("acquire")

    def list(self) -> Mapping[ServiceName, Observed]:
        self._stamp("list")
        with self._lock:
            return {name: Observed(name, tuple(world.values())) for name, world in self._worlds.items() if world}

    def observe(self, name: ServiceName) -> Observed:
        self._stamp("observe", name)
        with self._lock:
            return Observed(name, tuple(self._worlds.get(name, {}).values()))

    def apply(self, service: Service, placements: Sequence[Placement], secrets: Mapping[str, str]) -> None:
        self._stamp("apply", service.name)
        now = datetime.now(UTC)
        with self._lock:
            world = self._worlds.setdefault(service.name, {})
            old = world.get(service.digest)
            kept = {r.placement: r for r in old.replicas} if old is not None else {}
            running = tuple(
                kept[place] if place in kept and kept[place].live else Replica(place, State.RUNNING, now, ready=True)
                for place in placements
            )
            stopped = tuple(
                replace(replica, state=State.STOPPED, finished_at=now)
                for place, replica in kept.items()
                if place not in placements
            )
            fate = old.fate if old is not None and old.fate is Fate.SERVED else Fate.NEW
            world[service.digest] = Generation(service, running + stopped, fate, secrets=seal(secrets))

    def record(self, name: ServiceName, digest: Digest, fate: Fate) -> None:
        self._stamp("record", name)
        with self._lock:
            world = self._worlds.get(name, {})
            if digest in world:
                world[digest] = replace(world[digest], fate=fate)

    def remove(self, name: ServiceName, digest: Digest) -> None:
        self._stamp("remove", name)
        with self._lock:
            world = self._worlds.get(name, {})
            world.pop(digest, None)
            if not world:
                self._worlds.pop(name, None)

    def watch(self, stop: threading.Event) -> Iterator[ServiceName]:
        self._stamp("watch")
        stop.wait()
        yield from ()

    def logs(self, name: ServiceName, tail: int, follow: threading.Event | None = None) -> Iterator[str]:  # noqa: ARG002 - the contract's
        self._stamp("logs", name)
        yield from ()

    def close(self) -> None:
        self._stamp("close")

    def _stamp(self, call: str, name: str = "") -> None:
        line = f"{time.monotonic_ns()} {call} {name}\n".encode()
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)


def register(plugins: Plugins) -> None:
    plugins.shimlet("pretend", PretendShimlet)
