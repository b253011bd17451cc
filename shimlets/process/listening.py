"""Whose a port is: what the kernel says of who takes connections where the agent asks.

An answer proves a replica only if it is the replica's own. Sockets are told apart by inode; one is a replica's if a
process of its session, with its run's mark, or born of these has it open. What cannot be told (no right to see) speaks
against nobody, and only who still listens after a second look is a stranger. A replica that was once seen to listen is
asked for one link a look.
"""

import errno
import ipaddress
import os
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

from agent.contracts import Conflict, Placement, Service, State, Transient
from shimlets.process import arguments
from shimlets.process.finding import Found, Sight, Who
from shimlets.process.observing import Seen

_LISTEN = "0A"
_GONE = (FileNotFoundError, ProcessLookupError)
_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


class Listening:
    """Judges who listens in a replica's place. Not thread-safe: the shimlet's lock is around it."""

    def __init__(self, look: Callable[[], Sight]) -> None:
        self._look = look
        self._proofs: dict[Who, tuple[str, int]] = {}

    def stranger(self, seen: Seen) -> str:
        """A sentence on who else takes the connections to its port; "" if it does, nobody does or it cannot be told."""
        if not _asked(seen) or self._proven(seen):
            return ""
        place = arguments.address(seen.service, seen.placement)
        first = listeners(place)
        if not first or self._is_one(seen, self._look(), first) is not False:
            return ""
        again = listeners(place)
        sight = self._look()
        if not again or not again <= first or self._is_one(seen, sight, again) is not False:
            return ""  # what came since the first look may be the replica's
        return f"port {seen.placement.port} is answered by another program ({_holder(again, sight)})"

    def unproven(self, seen: Seen) -> str:
        """Why an answer from its address cannot have been its own, "" if it can."""
        stranger = self.stranger(seen)
        if stranger or not _asked(seen) or self._proven(seen):
            return stranger
        nobody = _can_tell(seen) and not listeners(arguments.address(seen.service, seen.placement))
        return f"nobody listens on port {seen.placement.port}" if nobody else ""

    def keep_only(self, leaders: Iterable[Who]) -> None:
        """No others live."""
        self._proofs = {who: self._proofs[who] for who in leaders if who in self._proofs}

    def _proven(self, seen: Seen) -> bool:
        link, inode = self._proofs.get(seen.leader.stat.who, ("", 0)) if seen.leader is not None else ("", 0)
        try:
            return bool(inode) and _linked(link) == inode
        except OSError:  # we lost the right to see it
            return False

    def _is_one(self, seen: Seen, sight: Sight, inodes: frozenset[int]) -> bool | None:
        """Whether it has one of these sockets open; None: it cannot be told."""
        told = True
        for pid in _family(seen.processes, sight):
            try:
                for link, inode in _sockets(pid):
                    if inode in inodes and seen.leader is not None:
                        self._proofs[seen.leader.stat.who] = (link, inode)
                        return True
            except _GONE:
                continue
            except OSError:
                told = False
        return False if told else None


def refuse_if_taken(service: Service, placement: Placement, look: Callable[[], Sight]) -> None:
    """Conflict if another program listens where this replica has to; Transient if something of ours does."""
    if placement.port is None or not _in_use(service.bind, placement.port):
        return
    inodes = listeners(arguments.address(service, placement), anywhere=service.bind in ("0.0.0.0", "::", ""))  # noqa: S104  # compared, not bound
    if not inodes:
        return  # it is bound and not listened on: the program may well get it
    sight = look()
    for found in sight.ours:
        if any(inode in inodes for _, inode in _visible(found.stat.who.pid)):
            message = f"port {placement.port} is still used by {found.carried.service.name} (pid {found.stat.who.pid})"
            raise Transient(message, reason="PortTaken", delay=1.0)
    raise Conflict(
        f"{service.name}: port {placement.port} is in use by another program ({_holder(inodes, sight)}); "
        "stop it, or give the service another hostPort",
        reason="PortTaken",
    )


def listeners(place: str, *, anywhere: bool = False) -> frozenset[int]:
    """Inodes of the sockets that take connections to host:port, or to that port of any address."""
    host, _, port = place.rpartition(":")
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return frozenset()  # a name: it cannot be told
    return frozenset(
        inode
        for local, at, inode in _listening()
        if at == int(port) and inode and (anywhere or local.is_unspecified or local == address)
    )


def _asked(seen: Seen) -> bool:
    """The agent asks there whether it answers."""
    check = seen.service.workload.check
    return seen.state is State.RUNNING and seen.placement.port is not None and bool(check.path or check.tcp)


def _family(of: tuple[Found, ...], sight: Sight) -> set[int]:
    """Who may listen for it. A run's name is known to nobody but those who were born with it."""
    runs = {found.carried.run for found in of if found.carried.run}
    sessions = {found.stat.session for found in of if found.stat.session == found.stat.who.pid}
    pids = {found.stat.who.pid for found in of}
    pids |= {found.stat.who.pid for found in (*sight.ours, *sight.claimed) if found.carried.run in runs}
    pids |= {pid for pid, stat in sight.stats.items() if stat.session in sessions}
    born: dict[int, list[int]] = {}
    for pid, stat in sight.stats.items():
        born.setdefault(stat.parent, []).append(pid)
    parents = list(pids)
    while parents:
        children = [child for parent in parents for child in born.get(parent, ()) if child not in pids]
        pids.update(children)
        parents = children
    return {pid for pid in pids if pid in sight.stats and sight.stats[pid].alive}


def _listening() -> Iterator[tuple[_Address, int, int]]:
    """(address, port, inode) of every listening socket in our network."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:  # no such protocol, or no right
            continue
        for line in lines:
            words = line.split(maxsplit=10)
            if words[3] == _LISTEN:
                host, _, port = words[1].partition(":")
                yield _address(host), int(port, 16), int(words[9])


def _can_tell(seen: Seen) -> bool:
    """We see the table that would show it."""
    return os.access("/proc/net/tcp6" if ":" in seen.service.bind else "/proc/net/tcp", os.R_OK)


def _address(text: str) -> _Address:
    """The kernel prints words of four bytes, each in its own order."""
    data = bytes.fromhex(text)
    if sys.byteorder == "little":
        data = b"".join(data[at : at + 4][::-1] for at in range(0, len(data), 4))
    address = ipaddress.ip_address(data)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _sockets(pid: int) -> Iterator[tuple[str, int]]:
    """(link, inode) of its open sockets."""
    for name in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208  # half the time of Path
        link = f"/proc/{pid}/fd/{name}"
        inode = _linked(link)
        if inode:
            yield link, inode


def _visible(pid: int) -> Iterator[tuple[str, int]]:
    """The same, as far as we have the right to see it."""
    try:
        yield from _sockets(pid)
    except OSError:
        return


def _linked(link: str) -> int:
    """The inode of the socket that a link leads to, 0 if it is none."""
    try:
        target = os.readlink(link)  # noqa: PTH115  # half the time of Path
    except _GONE:
        return 0
    return int(target[8:-1]) if target.startswith("socket:[") else 0


def _holder(inodes: frozenset[int], sight: Sight) -> str:
    """Who has one of them open, as far as we can see."""
    for pid in sight.stats:
        if any(inode in inodes for _, inode in _visible(pid)):
            try:
                return f"pid {pid}, {Path(f'/proc/{pid}/comm').read_text().strip()}"
            except OSError:
                return f"pid {pid}"
    return "not to be seen from here"


def _in_use(bind: str, port: int) -> bool:
    """A program that binds there is told that it is in use."""
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((bind, port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False
