"""The ledger: who has which port and device on this host.

It is rebuilt at each question from the marks of all local worlds, kept replicas too, plus claims that are not in any
world yet; so no file can lie. Three rules that random histories taught: a kept replica holds its port and devices against
*other* services, else going back has no room; an exited replica does not hold a device that has a new holder; what a
service's own older generations still use is a swap, not room.
"""

import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from agent.contracts import Digest, Generation, Placement, Replica, Room, Service, ServiceName, State

Marks: TypeAlias = Callable[[], Iterable[tuple[ServiceName, Generation]]]


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


@dataclass(slots=True)
class _Books:
    """Who holds what, as one service sees it. Devices and ports in one set: device ids are str, ports int."""

    alien: dict[str | int, ServiceName] = field(default_factory=dict)
    old: set[str | int] = field(default_factory=set)
    old_live: int = 0
    there: dict[int, Placement] = field(default_factory=dict)  # own digest's placements by index
    before: dict[int, Placement] = field(default_factory=dict)  # older digests' placements by index
    held: list[Placement] = field(default_factory=list)


class HostLedger:
    """Implements Ledger. `devices`: ids of this host's inventory. Thread-safe: each question is one critical section."""

    def __init__(
        self,
        *,
        marks: Marks,
        ports: range,
        devices: Sequence[str] = (),
        port_free: Callable[[str, int], bool] = port_is_free,
    ) -> None:
        self._marks = marks
        self._ports = ports
        self._devices = tuple(devices)
        self._port_free = port_free
        self._lock = threading.RLock()
        self._claims: dict[tuple[ServiceName, Digest], tuple[Placement, ...]] = {}

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
            self._claims[service.name, service.digest] = (*claimed, *new)

    def busy(self, name: ServiceName) -> str:
        """What of its is still in use."""
        using = [p for owner, g in self._marks() if owner == name for p in (r.placement for r in g.replicas if r.holds)]
        words = [f"port {p.port}" for p in using if p.port is not None] + [d for p in using for d in p.devices]
        return ", ".join(words)

    def keep_only(self, name: ServiceName, digest: Digest | None) -> None:
        """Claims for other digests of this service are void: it walks elsewhere now, or is gone."""
        with self._lock:
            for key in [key for key in self._claims if key[0] == name and key[1] != digest]:
                del self._claims[key]

    def _books(self, service: Service) -> _Books:
        books = _Books()
        mine: list[Replica] = []
        for name, generation in self._marks():
            for replica in generation.replicas:
                placement = replica.placement
                if name != service.name:
                    books.alien.update(dict.fromkeys(_things(placement), name))
                elif generation.service.digest == service.digest:
                    mine.append(replica)
                    books.there[placement.index] = placement
                else:
                    books.before[placement.index] = placement
                    if replica.holds:
                        books.old.update(_things(placement))
                        books.old_live += 1
        for (name, _), claims in self._claims.items():
            if name != service.name:
                for placement in claims:
                    books.alien.update(dict.fromkeys(_things(placement), name))
        books.held = self._holding(service, books, mine)
        return books

    def _holding(self, service: Service, books: _Books, mine: Sequence[Replica]) -> list[Placement]:
        """The placements that its replicas and claims may go on using, by index."""
        contested = books.old | books.alien.keys()
        held: dict[int, Placement] = {}
        for replica in mine:
            exited = replica.state is State.EXITED and not _things(replica.placement) & contested
            if (replica.holds or exited) and self._valid(service, replica.placement):
                held[replica.placement.index] = replica.placement
        for placement in self._claims.get((service.name, service.digest), ()):
            if not _things(placement) & contested and self._valid(service, placement):
                held.setdefault(placement.index, placement)
        return [held[index] for index in sorted(held)]

    def _valid(self, service: Service, placement: Placement) -> bool:
        """It still is what the spec wants, though not necessarily what would be chosen today."""
        if placement.index >= service.replicas or (placement.port is None) != (service.workload.port is None):
            return False
        return service.port is None or placement.port == service.port

    def _room(self, service: Service, books: _Books) -> Room:
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
        taken: set[str | int] = set(avoid) | books.alien.keys()
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
            owner = books.alien.get(service.port)
            if owner is not None:
                return None, f"port {service.port} is held by service {owner}"
            if service.port in taken:
                return None, f"port {service.port} is still used by the older generation"
            if service.port not in books.old and not self._port_free(service.bind, service.port):
                return None, f"port {service.port} is in use by another program"
            return service.port, ""
        earlier = [p.port for p in (books.there.get(index), books.before.get(index)) if p is not None]
        for port in (*earlier, *self._ports):
            if port is None or port in taken:
                continue
            if (not avoid and port in books.old) or self._port_free(service.bind, port):
                return port, ""
        return None, f"every port of {self._ports.start}-{self._ports.stop - 1} is taken"

    def _pick(self, service: Service, books: _Books, index: int, taken: set[str | int]) -> tuple[tuple[str, ...], str]:
        wanted = service.workload.accelerators
        count = max(wanted.count, len(wanted.ids))
        if not count:
            return (), ""
        free = [d for d in (wanted.ids or self._devices) if d in self._devices and d not in taken]
        earlier = [p.devices for p in (books.there.get(index), books.before.get(index)) if p is not None]
        for devices in earlier:
            if len(devices) == count and set(devices) <= set(free):
                return devices, ""
        if len(free) >= count:
            return tuple(free[:count]), ""
        holders = sorted({f"{d} is held by service {books.alien[d]}" for d in self._devices if d in books.alien})
        have = f"this host has {len(self._devices)}, {len(free)} of them free"
        return (), "; ".join([f"needs {count} accelerator(s), {have}", *holders])


def _things(placement: Placement) -> set[str | int]:
    things: set[str | int] = set(placement.devices)
    return things if placement.port is None else things | {placement.port}


def _model_path(service: Service) -> str:
    model = service.workload.model
    return "" if model is None else model.source.removeprefix("file://")
