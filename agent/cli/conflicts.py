"""What is wrong between documents that are each right: one name twice, or services that wait for each other.

Without a host, only what would happen on a host that could be is a problem: two documents of one name for different hosts
are fine. Such hosts are made up from what the documents say of theirs, so not every overlap is found: naming a host
finds all of that host.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from agent.contracts import ServiceName
from agent.control.dependency import rings, told
from agent.spec.hosts import HostId, meeting, selects, witnesses
from agent.spec.resolve import Wanted


class Finding(NamedTuple):
    """One problem of one file, as it is printed."""

    file: str
    line: int
    column: int
    field: str
    message: str


class Found(NamedTuple):
    """A service, and the file that wants it."""

    file: str
    wanted: Wanted

    @property
    def place(self) -> str:
        """As FILE:LINE."""
        return f"{self.file}:{self.wanted.line}"


def together(found: Sequence[Found], host: HostId | None) -> Iterator[Finding]:
    """All that is wrong between these. `host`: the one that they were read for."""
    yield from _twice(found, host)
    yield from _in_a_ring(found, host)


def _twice(found: Sequence[Found], host: HostId | None) -> Iterator[Finding]:
    owners: dict[str, list[Found]] = {}
    for item in found:
        owners.setdefault(item.wanted.service.name, []).append(item)
    for name, items in owners.items():
        for item in items if len(items) > 1 else ():
            others = [o for o in items if o is not item and (host is not None or _meet(item, o))]
            if others:
                where = ", ".join(other.place for other in others)
                message = f"the name {name} is taken: it is also in {where}; a name is one service"
                yield Finding(item.file, item.wanted.line, 1, "metadata.name", message)


def _meet(one: Found, other: Found) -> bool:
    return meeting(one.wanted.hosts, other.wanted.hosts) is not None


def _in_a_ring(found: Sequence[Found], host: HostId | None) -> Iterator[Finding]:
    edges: dict[ServiceName, set[ServiceName]] = {}
    for item in found:
        edges.setdefault(item.wanted.service.name, set()).update(item.wanted.service.depends_on)
    suspects = rings(edges)
    doubtful = [item for item in found if item.wanted.service.name in suspects]
    if not doubtful:
        return
    hosts = [host] if host is not None else witnesses(*(item.wanted.hosts for item in doubtful))
    known: set[str] = set()
    for at in hosts:
        here = [item for item in doubtful if host is not None or selects(item.wanted.hosts, at)]
        needs = {item.wanted.service.name: item.wanted.service.depends_on for item in here}
        ring_of = rings(needs)
        for item in here:
            ring = ring_of.get(item.wanted.service.name)
            if ring is not None and item.place not in known:
                known.add(item.place)
                yield Finding(item.file, item.wanted.line, 1, "spec.dependsOn", told(ring))
