"""The wire between an agent and its Docker engine, which kills the agent after the n-th call that changes something.

The engine has done the call by then; its answer reaches nobody. That is the worst moment to be killed at.
"""

import contextlib
import os
import signal
import socket
import threading
from pathlib import Path
from typing import Self

_CHANGES = (b"POST /", b"PUT /", b"DELETE /")


class DeadlyWire:
    """Listens on `path`, leads to `engine`. `arm` before an agent's change, `changes` counts since then."""

    def __init__(self, path: Path, engine: str = "/var/run/docker.sock") -> None:
        self._path = path
        self._engine = engine
        self._lock = threading.Lock()
        self._socket = socket.socket(socket.AF_UNIX)
        self._victim = 0
        self._after = 0
        self.changes = 0

    def __enter__(self) -> Self:
        self._socket.bind(str(self._path))
        self._socket.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def arm(self, victim: int, after: int) -> None:
        """Kill this process after so many changes from now on; 0: never."""
        with self._lock:
            self._victim, self._after, self.changes = victim, after, 0

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            engine = socket.socket(socket.AF_UNIX)
            engine.connect(self._engine)
            threading.Thread(target=self._serve, args=(client, engine), daemon=True).start()

    def _serve(self, client: socket.socket, engine: socket.socket) -> None:
        asked = threading.Event()  # a change was asked for on this connection and is not answered yet
        back = threading.Thread(target=self._answers, args=(engine, client, asked), daemon=True)
        back.start()
        with contextlib.suppress(OSError):
            while data := client.recv(1 << 16):
                if data.startswith(_CHANGES):
                    asked.set()
                engine.sendall(data)
        with contextlib.suppress(OSError):
            engine.shutdown(socket.SHUT_WR)
        back.join(5)
        client.close()
        engine.close()

    def _answers(self, engine: socket.socket, client: socket.socket, asked: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := engine.recv(1 << 16):
                if asked.is_set():
                    asked.clear()
                    if self._deadly():
                        break
                client.sendall(data)
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)

    def _deadly(self) -> bool:
        with self._lock:
            self.changes += 1
            if self.changes != self._after:
                return False
            os.kill(self._victim, signal.SIGKILL)
            return True
