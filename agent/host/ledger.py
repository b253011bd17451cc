"""The ledger: who has which port and device on this host.

It knows the marks of all local worlds, kept replicas too, as they are seen (`note`), plus claims that are not in any world
yet; so no file can lie. Three rules that random histories taught: a kept replica holds its port and devices against
*other* services, else going back has no room (the stopped record of a failure does not); an exited replica does not
hold a device that has a new holder; what a service's own older generations still use is a swap, not room.
"""

import itertools
import socket
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from agent.contracts import Digest, Fate, Generation, Observed, Placement, Replica, Room, Service, ServiceName, State


def port_is_free(bind: str, port: int) -> bool:
    """Nobody on this host listens there."""
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((bind, port))
        except OSError:
            return False
    return True


def address_is_here(bind: str) -> bool:
    """This host can listen at that address."""
    return port_is_free(bind, 0)


@dataclass(slots=True)
class _Books:
    """What a service's own replicas use. Devices and ports in one set: device ids are str, ports int."""

    held: list[Placement] = field(default_factory=list)
    old: set[str | int] = field(default_factory=set)
    old_live: int = 0
    binds: set[str] = field(default_factory=set)  # where own replicas listen already
    there: dict[int, Placement] = field(default_factory=dict)  # own digest's placements by index
    before: dict[int, Placement] = field(default_factory=dict)  # older digests' placements by index


class HostLedger:
    """Implements Ledger. `devices`: ids of this host's inventory. Thread-safe: each question is one critical section."""

    def __init__(
        self,
        *,
        ports: range,
        devices: Sequence[str] = (),
        port_free: Callable[[str, int], bool] = port_is_free,
        address_here: Callable[[str], bool] = address_is_here,
    ) -> None:
        self._ports = ports
        self._devices = tuple(devices)
        self._port_free = port_free
        self._address_here = address_here
        self._lock = threading.RLock()
        self._seen: dict[ServiceName, dict[str, tuple[Generation, ...]]] = defaultdict(dict)
        self._holders: dict[str | int, dict[ServiceName, int]] = defaultdict(dict)  # and how many of its replicas
        self._claims: dict[tuple[ServiceName, Digest], tuple[Placement, ...]] = {}
        self._digests: dict[ServiceName, frozenset[Digest]] = {}  # that have claims
        self._claimers: dict[str | int, ServiceName] = {}

    def note(self, shimlet: str, observed: Observed) -> None:
        """What one local world knows of a service now."""
        with self._lock:
            worlds = self._seen[observed.name]
            for placement in _placements(worlds.get(shimlet, ())):
                self._count(observed.name, placement, -1)
            for placement in _placements(observed.generations):
                self._count(observed.name, placement, 1)
            worlds[shimlet] = observed.generations
            if not observed.generations:
                del worlds[shimlet]
            if not worlds:
                del self._seen[observed.name]

    def room(self, service: Service) -> Room:
        """What is held and what would fit."""
        with self._lock:
            return self._room(service, self._books(service))

    def claim(self, service: Service) -> None:
        """Take what `room` says fits, up to `replicas`."""
        with self._lock:
            books = self._books(service)
            room = self._room(service, books)
            claimed = [p for p in self._claims.get((service.name, service.digest), ()) if p in room.held]
            new, _ = self._fitting(service, books, room.more, books.old)
            self._set_claims((service.name, service.digest), (*claimed, *new))

    def busy(self, name: ServiceName) -> str:
        """What of its is still in use."""
        with self._lock:
            using = [r.placement for g in self._generations(name) for r in g.replicas if r.holds]
        return ", ".join(
            [f"port {p.port}" for p in using if p.port is not None] + [d for p in using for d in p.devices]
        )

    def keep_only(self, name: ServiceName, digest: Digest | None) -> None:
        """Claims for other digests of this service are void: it walks elsewhere now, or is gone."""
        with self._lock:
            for stale in self._digests.get(name, frozenset()) - {digest}:
                self._set_claims((name, stale), ())

    def _generations(self, name: ServiceName) -> list[Generation]:
        return [g for generations in self._seen.get(name, {}).values() for g in generations]

    def _count(self, name: ServiceName, placement: Placement, step: int) -> None:
        for thing in _things(placement):
            holders = self._holders[thing]
            holders[name] = holders.get(name, 0) + step
            if not holders[name]:
                del holders[name]
            if not holders:
                del self._holders[thing]

    def _owner(self, thing: str | int, name: ServiceName) -> ServiceName | None:
        """Which other service holds or claims it."""
        holder = next((holder for holder in self._holders.get(thing, ()) if holder != name), None)
        claimer = self._claimers.get(thing)
        return holder or (claimer if claimer != name else None)

    def _set_claims(self, key: tuple[ServiceName, Digest], placements: tuple[Placement, ...]) -> None:
        name, digest = key
        for placement in self._claims.pop(key, ()):
            for thing in _things(placement):
                self._claimers.pop(thing, None)
        digests = self._digests.pop(name, frozenset()) - {digest}
        if placements:
            self._claims[key] = placements
            digests |= {digest}
            self._claimers.update({thing: name for placement in placements for thing in _things(placement)})
        if digests:
            self._digests[name] = digests

    def _books(self, service: Service) -> _Books:
        books = _Books()
        mine: list[Replica] = []
        for generation in self._generations(service.name):
            own = generation.service.digest == service.digest
            for replica in generation.replicas:
                (books.there if own else books.before)[replica.placement.index] = replica.placement
                if own:
                    mine.append(replica)
                    books.binds.add(generation.service.bind)
                elif replica.holds:
                    books.old |= _things(replica.placement)
                    books.old_live += 1
        books.held = self._holding(service, books, mine)
        return books

    def _holding(self, service: Service, books: _Books, mine: Sequence[Replica]) -> list[Placement]:
        """The placements that its replicas and claims may go on using, by index."""
        held = {r.placement.index: r.placement for r in mine if r.holds and self._valid(service, r.placement)}
        idle = [r.placement for r in mine if r.state is State.EXITED]
        for placement in (*idle, *self._claims.get((service.name, service.digest), ())):
            if placement.index in held or not self._valid(service, placement):
                continue
            assigned = placement.port if service.port is None else None  # kept while it is free
            free = assigned is None or self._port_free(service.bind, assigned)
            if free and self._uncontested(service, books, placement):
                held[placement.index] = placement
        return [held[index] for index in sorted(held)]

    def _uncontested(self, service: Service, books: _Books, placement: Placement) -> bool:
        things = _things(placement)
        return not things & books.old and all(self._owner(thing, service.name) is None for thing in things)

    def _valid(self, service: Service, placement: Placement) -> bool:
        """It still is what the spec wants, though not necessarily what would be chosen today."""
        if placement.index >= service.replicas or (placement.port is None) != (service.workload.port is None):
            return False
        return service.port is None or placement.port == service.port

    def _room(self, service: Service, books: _Books) -> Room:
        listens = service.workload.port is not None
        if listens and books.binds != {service.bind} and not self._address_here(service.bind):
            return Room(need=f"this host cannot listen at {service.bind}")
        lack = max(0, service.replicas - len(books.held))
        if not lack:
            return Room(tuple(books.held))
        now, need = self._fitting(service, books, lack, books.old)
        then, need_then = self._fitting(service, books, lack, frozenset())
        more = len(now)
        if service.strategy != "side-by-side":  # for each new one, an old one has made way
            more = min(more, max(0, service.replicas - len(books.held) - books.old_live))
        swap = max(0, len(then) - more) if books.old_live else 0
        return Room(tuple(books.held), more, swap, "" if more else need_then or need)

    def _fitting(
        self, service: Service, books: _Books, lack: int, avoid: set[str | int] | frozenset[str | int]
    ) -> tuple[list[Placement], str]:
        """Placements for up to `lack` replicas that use nothing of `avoid`, and what the next one lacks."""
        taken: set[str | int] = set(avoid)
        for placement in books.held:
            taken |= _things(placement)
        used = {placement.index for placement in books.held}
        found: list[Placement] = []
        for index in [i for i in range(service.replicas) if i not in used][:lack]:
            port, need = self._port(service, books, index, taken, avoid)
            devices, need_devices = self._pick(service, books, index, taken)
            if need or need_devices:
                return found, need or need_devices
            placement = Placement(index, port, devices, _model_path(service))
            taken |= _things(placement)
            found.append(placement)
        return found, ""

    def _port(
        self,
        service: Service,
        books: _Books,
        index: int,
        taken: set[str | int],
        avoid: set[str | int] | frozenset[str | int],
    ) -> tuple[int | None, str]:
        if service.workload.port is None:
            return None, ""
        if service.port is not None:
            owner = self._owner(service.port, service.name)
            if owner is not None:
                return None, f"port {service.port} is held by service {owner}"
            if service.port in taken:
                return None, f"port {service.port} is still used by the older generation"
            if service.port not in books.old and not self._port_free(service.bind, service.port):
                return None, f"port {service.port} is in use by another program"
            return service.port, ""
        earlier = [p.port for p in (books.there.get(index), books.before.get(index)) if p is not None]
        free = (port for port in self._ports if port not in self._holders and port not in self._claimers)
        for port in itertools.chain(earlier, free):
            if port is None or port in taken or self._owner(port, service.name) is not None:
                continue
            if (not avoid and port in books.old) or self._port_free(service.bind, port):
                return port, ""
        return None, f"every port of {self._ports.start}-{self._ports.stop - 1} is taken"

    def _pick(self, service: Service, books: _Books, index: int, taken: set[str | int]) -> tuple[tuple[str, ...], str]:
        wanted = service.workload.accelerators
        count = max(wanted.count, len(wanted.ids))
        if not count:
            return (), ""
        free = [
            d
            for d in (wanted.ids or self._devices)
            if d in self._devices and d not in taken and self._owner(d, service.name) is None
        ]
        earlier = [p.devices for p in (books.there.get(index), books.before.get(index)) if p is not None]
        for devices in earlier:
            if len(devices) == count and set(devices) <= set(free):
                return devices, ""
        if len(free) >= count:
            return tuple(free[:count]), ""
        owners = {device: self._owner(device, service.name) for device in self._devices}
        holders = [f"{device} is held by service {owner}" for device, owner in owners.items() if owner is not None]
        have = f"this host has {len(self._devices)}, {len(free)} of them free"
        return (), "; ".join([f"needs {count} accelerator(s), {have}", *holders])


def _placements(generations: Sequence[Generation]) -> list[Placement]:
    """What is held against other services: nobody goes back to what failed, so once stopped it holds nothing."""
    return [r.placement for g in generations for r in g.replicas if r.holds or g.fate is not Fate.FAILED]


def _things(placement: Placement) -> set[str | int]:
    things: set[str | int] = set(placement.devices)
    return things if placement.port is None else things | {placement.port}


def _model_path(service: Service) -> str:
    model = service.workload.model
    return "" if model is None else model.source.removeprefix("file://")
