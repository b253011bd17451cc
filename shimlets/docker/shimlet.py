"""The Docker world: one container a replica, found again by its labels alone.

A list costs one request, whatever runs. The fate of a generation is written in its containers' names and its mark in
their labels, so that both outlive the agent and its state folder. Stops go on in the background; docker owns restarting
what crashes, the goals own what was stopped or burnt. A container without our mark is never touched.
"""

import hashlib
import hmac
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import urlsplit

from agent.contracts import (
    Credentials,
    Digest,
    Fate,
    Generation,
    Observed,
    Placement,
    SecretRef,
    Service,
    ServiceName,
    Task,
    Transient,
    XmodError,
    canonical,
    unsealed_by,
)
from shimlets.docker import arguments, logs, naming, observing
from shimlets.docker.applying import Applying, World, stranger
from shimlets.docker.container import Containers
from shimlets.docker.ending import Endings
from shimlets.docker.engine import Engine
from shimlets.docker.images import Images
from shimlets.docker.lock import Lock
from shimlets.docker.login import Logins
from shimlets.docker.observing import Found
from shimlets.docker.options import engine_options, workload_options
from shimlets.docker.steps import There, steps
from shimlets.docker.watching import Audit, Watch


class DockerShimlet:
    """One owner's containers on one engine. Implements Shimlet, Images and Ownership."""

    name = "docker"

    def __init__(self, owner: str, options: Mapping[str, Any], state_dir: Path) -> None:
        self._owner = naming.checked_owner(owner)
        self._options = engine_options(options)
        self.local = self._options.local
        self._host = "" if self.local else urlsplit(self._options.host).hostname or ""
        self._engine = Engine(self._options.host, self._options.timeout)
        self._containers = Containers(self._engine, owner)
        self._lock = Lock(self._engine, owner, local=self.local)
        memory = state_dir / "docker-archives.json"
        logins = Logins(self._options.credentials_file, self._options.registries)
        self._images = Images(self._engine, logins=logins, memory=memory)
        self._endings = Endings(self._containers)
        self._seals = _Seals()
        self._listed_at: float | None = None

    def acquire(self) -> None:
        """Take this owner's lock on the engine."""
        self._lock.acquire()

    def close(self) -> None:
        """Let go of the lock and of connections."""
        self._lock.release()
        self._engine.close()

    def list(self) -> Mapping[ServiceName, Observed]:
        """See everything of ours in one request."""
        began, known = time.time(), self._endings.known()
        there = self._containers.found()
        self._endings.keep_only(one.id for one in there)
        self._listed_at = began
        return observing.listed(there, known | self._endings.known(), self._host)

    def observe(self, name: ServiceName) -> Observed:
        """See one service, inspected."""
        known = self._endings.known()
        there = self._containers.found(f"{naming.SERVICE}={name}")
        looked = ((one.id, self._containers.inspected(one.id, words=True)) for one in there)
        seen = observing.observed(
            name,
            there,
            {container: detail for container, detail in looked if detail is not None},
            known | self._endings.known(),
            now=datetime.now(UTC),
            owner=self._owner,
            engine=self._engine.known(),
            host=self._host,
        )
        told = tuple(replace(g, notice="; ".join(self._notices(g, there))) for g in seen.generations)
        strangers = self._containers.strangers(name)
        return Observed(name, told, "; ".join(stranger(*one) for one in sorted(strangers.items())))

    def apply(self, service: Service, placements: Sequence[Placement], secrets: Mapping[str, str]) -> None:
        """Bring about exactly these replicas of this digest."""
        workload_options(service.workload.options)
        there = self._there(service, {placement.index for placement in placements})
        same = self._same(service, secrets)
        world = World(self._engine, self._containers, self._endings, self._images, self._options)
        Applying(world, service, there, secrets=secrets, same=same).run(steps(there, service, placements, same))

    def record(self, name: ServiceName, digest: Digest, fate: Fate) -> None:
        """Rename the generation's containers to what tells its fate."""
        for one in self._generation(name, digest):
            wanted = naming.container_name(self._owner, name, digest, index=one.placement.index, fate=fate)
            if one.name != wanted:
                self._containers.rename(one.id, wanted, end=fate is Fate.FAILED)

    def remove(self, name: ServiceName, digest: Digest) -> None:
        """Begin to stop what runs of it, and remove all of it."""
        for one in self._generation(name, digest):
            if one.holds or one.id in self._endings.known().stopping:
                grace = workload_options(one.service.workload.options).stop_grace
                self._endings.begin(one.id, grace=grace, remove=True)
            else:
                self._containers.remove(one.id)

    def release(self, name: ServiceName) -> tuple[str, ...]:
        """Rename its containers to what is nobody's; they run on as they are, in the owner's network too."""
        there = self._containers.found(f"{naming.SERVICE}={name}")
        stopping = self._endings.known().stopping
        if any(one.id in stopping for one in there):
            raise Transient(f"docker: a container of {name} is still being stopped", reason="Stopping", delay=1.0)
        left = []
        for one in there:
            new = naming.forgotten_name(one.name, one.id)
            self._containers.rename(one.id, new)
            address = arguments.address(one.service, one.placement, self._host) if one.holds else ""
            left.append(f"container {new} ({one.id[:12]}), {one.word}" + (f" at {address}" if address else ""))
        return tuple(left)

    def watch(self, stop: Event) -> Iterator[ServiceName]:
        """Names as they change, from the last list on."""
        audit = Audit(self._engine, self._containers, self._owner, self._lock)
        watch = Watch(self._engine, self._owner, audit.look, interval=self._options.audit_interval)
        return watch.names(stop, self._listed_at)

    def logs(self, name: ServiceName, tail: int, follow: Event | None = None) -> Iterator[str]:
        """What the newest live generation wrote; of several replicas, each line with the index before it."""
        since = time.time()
        containers = self._speaking(name)
        if tail > 0 and containers:
            yield from logs.merged(self._engine, containers, tail)
        while follow is not None and not follow.is_set():
            yield from logs.followed(self._engine, containers, follow.is_set, since=since)
            since = time.time()  # they ended: restarted, or replaced
            if not follow.wait(0.5):
                containers = self._speaking(name)

    def has_image(self, ref: str) -> bool:
        """It is here."""
        return self._images.has_image(ref)

    def pull_image(self, ref: str, task: Task, login: Credentials | None = None) -> None:
        """Pull it, or load the archive."""
        self._images.pull_image(ref, task, login)

    def _generation(self, name: ServiceName, digest: Digest) -> Sequence[Found]:
        return self._containers.found(f"{naming.SERVICE}={name}", f"{naming.DIGEST}={digest}")

    def _there(self, service: Service, wanted: set[int]) -> There:
        stopping = self._endings.known().stopping
        there = self._generation(service.name, service.digest)
        looked = (
            (one.id, self._containers.inspected(one.id, words=False)) for one in there if one.placement.index in wanted
        )
        details = {container: detail for container, detail in looked if detail is not None}
        return There(self._owner, self._engine.known(), there, details, stopping | self._endings.known().stopping)

    def _same(self, service: Service, secrets: Mapping[str, str]) -> Callable[[str], bool]:
        """Whether a seal was made of these secrets; where some were not handed over, nobody can tell that it was not."""
        wanted = {key for key, value in service.workload.env if isinstance(value, SecretRef)}
        if not wanted <= secrets.keys():
            return lambda _: True
        return lambda mark: self._seals.same(secrets, mark)

    def _notices(self, generation: Generation, there: Sequence[Found]) -> Sequence[str]:
        """What is worth telling of a generation that runs."""
        if not generation.live:
            return ()
        moved = self._moved(generation, there)
        return [*arguments.not_honoured(generation.service, self._engine.known()), *[moved] * bool(moved)]

    def _moved(self, generation: Generation, there: Sequence[Found]) -> str:
        """Whether the tag that a live generation came from means another image now."""
        ref = generation.service.workload.image
        runs = next((one.image_id for one in there if one.service.digest == generation.service.digest), "")
        if not runs or "@sha256:" in ref:
            return ""
        try:
            means = self._images.image_id(ref)
        except XmodError:
            return ""  # of no consequence for what runs
        if means is None or means == runs:
            return ""
        return f"{ref} has moved to {means[:19]}; this generation stays on {runs[:19]}"

    def _speaking(self, name: ServiceName) -> Sequence[tuple[str, str]]:
        """The containers whose lines are told, each with what to put before them."""
        groups = observing.generations(self._containers.found(f"{naming.SERVICE}={name}"))
        live = [group for group in groups if any(one.holds for one in group)]
        chosen = (live or groups)[-1:]
        group = sorted((one for group in chosen for one in group), key=lambda one: one.placement.index)
        return [(one.id, f"[{one.placement.index}] " if len(group) > 1 else "") for one in group]


class _Seals:
    """Remembers which seals were made of which secrets, under a key of this process: each comparison is slow on purpose."""

    def __init__(self) -> None:
        self._key = os.urandom(32)
        self._known: dict[str, tuple[bytes, bool]] = {}

    def same(self, secrets: Mapping[str, str], mark: str) -> bool:
        """Whether this seal was made of these secrets."""
        if not secrets or not mark:
            return not secrets and not mark
        keyed = hmac.digest(self._key, canonical(secrets).encode(), hashlib.sha256)
        known = self._known.get(mark)
        if known is None or known[0] != keyed:
            if len(self._known) > 10_000:
                self._known.clear()
            known = self._known[mark] = (keyed, unsealed_by(secrets, mark))
        return known[1]
