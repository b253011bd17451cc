"""The sockets that the agent listens on, and the errors that say why it cannot.

The unix socket lies in a folder that is ours, has mode 0600 (0660 for a group that the operator named), and is guarded
by a lock file: whoever holds the lock may replace a socket that an agent left behind when it was killed, and nobody else.
"""

import contextlib
import errno
import fcntl
import grp
import os
import socket
import stat
from pathlib import Path

_LONGEST = 107  # bytes of a unix socket's path, Linux


class CannotListen(Exception):
    """Why the agent cannot be reached, and what to do."""


def tcp(bind: str, port: int, *, setting: str = "service.port") -> socket.socket:
    """A listening TCP socket; `setting`: what says its port. Raises CannotListen."""
    host = "127.0.0.1" if bind == "localhost" else bind
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise CannotListen(_tcp_sentence(error, f"cannot listen on {bind} port {port}", setting)) from error
    listener.setblocking(False)  # noqa: FBT003 – the socket's own signature
    return listener


def _tcp_sentence(error: OSError, where: str, setting: str) -> str:
    flag = "--port, XMOD_SERVICE__PORT or " if setting == "service.port" else ""
    if error.errno == errno.EADDRINUSE:
        return f"{where}: another program has the port; choose another with {flag}{setting}"
    if error.errno == errno.EACCES:
        return f"{where}: this user may not use ports below 1024; choose another with {flag}{setting}"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{where}: this host does not have that address ({setting.replace('port', 'bind')})"
    return f"{where}: {error.strerror or error}"


class UnixListener:
    """A listening unix socket, ours alone as long as it is open. `group`: whose members may speak to it too."""

    def __init__(self, path: Path, group: str = "") -> None:
        self.path = path
        self._group = group
        self._lock = -1
        self.socket: socket.socket | None = None

    def open(self) -> socket.socket:
        """Take the lock and listen. Raises CannotListen."""
        if len(os.fsencode(self.path)) > _LONGEST:
            raise CannotListen(
                f"{self.path}: a socket's path has at most {_LONGEST} bytes; set agent.socket to a shorter"
            )
        try:
            self._make_folder()
            self._take_lock()
            self._clear()
            self.socket = self._listening()
        except OSError as error:
            self.close()
            raise CannotListen(f"cannot listen on {self.path}: {error.strerror or error}") from error
        except CannotListen:
            self.close()
            raise
        return self.socket

    def close(self) -> None:
        """Stop listening, remove the socket and let go of the lock. The lock file stays: removing it would be a race."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None
            with contextlib.suppress(OSError):
                self.path.unlink()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _make_folder(self) -> None:
        folder = self.path.parent
        made = not folder.exists()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if made and self._group:
            self._share(folder, 0o750)
        status = folder.stat()
        if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise CannotListen(
                f"{folder}: others could put a socket of theirs there; the folder must belong to this user and be"
                " writable by no other (chmod 700), or set agent.socket elsewhere"
            )

    def _share(self, path: Path, mode: int) -> None:
        try:
            os.chown(path, -1, grp.getgrnam(self._group).gr_gid)
        except (KeyError, PermissionError) as error:
            raise CannotListen(
                f"agent.socketGroup: {self._group}: there is no such group, or this user is not in it"
            ) from error
        path.chmod(mode)

    def _take_lock(self) -> None:
        path = self.path.with_name(self.path.name + ".lock")
        self._lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CannotListen(
                f"another agent of this instance is running: it answers on {self.path}; stop it, or choose another"
                " --instance"
            ) from error

    def _clear(self) -> None:
        """Remove what an agent that was killed left behind, and nothing else."""
        try:
            mode = self.path.lstat().st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(mode):
            raise CannotListen(f"{self.path}: something that is no socket is there; remove it or set agent.socket")
        self.path.unlink()

    def _listening(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(str(self.path))
            self.path.chmod(0o600)  # before listen: nobody connected yet
            if self._group:
                self._share(self.path, 0o660)
            listener.listen(64)
        except (OSError, CannotListen):
            listener.close()
            raise
        listener.setblocking(False)  # noqa: FBT003 – the socket's own signature
        return listener
