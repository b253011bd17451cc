"""Who says a word: the user at the other end of the local socket, as the kernel knows it."""

import pwd
import socket
import struct
from contextvars import ContextVar

SPEAKER: ContextVar[str] = ContextVar("speaker", default="")
"""The name of the user whose request is being answered; "" if nobody on this host asked."""

_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


def speaker(connection: socket.socket | None) -> str:
    """The user at its other end; "" if that cannot be known."""
    if connection is None or connection.family != socket.AF_UNIX:
        return ""
    _, uid, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
