"""The lock on this world: an abstract unix socket, which the kernel frees when its holder ends, however it ends."""

import hashlib
import os
import socket
import struct

from agent.contracts import Conflict


class Lock:
    """One owner's of one user, on this machine. Not thread-safe."""

    def __init__(self, owner: str, uid: int) -> None:
        self._owner = owner
        name = owner if len(owner) <= 64 else hashlib.sha256(owner.encode()).hexdigest()  # an address has 107 bytes
        self._address = f"\0xmod-agent/process/{uid}/{name}"
        self._socket: socket.socket | None = None

    @property
    def held(self) -> bool:
        """We hold it."""
        return self._socket is not None

    def acquire(self) -> None:
        """Take it, unless we have it. Conflict if another agent does."""
        if self._socket is not None:
            return
        mine = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            mine.bind(self._address)
            mine.listen(1)
        except OSError as error:
            mine.close()
            raise Conflict(
                f"another agent{_holder(self._address)} of instance {self._owner!r} runs processes on this machine; "
                "stop it, or give this one another --instance"
            ) from error
        self._socket = mine

    def release(self) -> None:
        """Let go of it."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _holder(address: str) -> str:
    """Who holds it, as the kernel says."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
            asking.settimeout(0.5)
            asking.connect(address)
            credentials = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    except OSError:
        return ""
    pid = struct.unpack("3i", credentials)[0]
    return " (this very process)" if pid == os.getpid() else f" (pid {pid})"
