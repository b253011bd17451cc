"""Serves the apps in one thread: the public one over TCP, the local one over a unix socket, the webhook beside the first.

uvicorn's main loop wakes ten times a second to see whether to stop; here it sleeps until it is told, so an idle agent's
surface costs nothing. A client that does not finish its request within `read_timeout` is cut off. `stop` is bounded.
"""

import asyncio
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from agent.surface.http import LOOPBACK_NAMES, Asgi, Streams, at, local, nothing, only_for, public, spoken, within
from agent.surface.metrics import Metrics
from agent.surface.operations import Operations
from agent.surface.socket_file import CannotListen, UnixListener, tcp
from agent.surface.speaker import speaker
from agent.surface.webhook import PATH as WEBHOOK

_START = 10.0  # seconds
_GRACE = 2  # seconds that answers under way have at a stop
_CONNECTIONS = 128


class Surface:
    """What the agent shows of itself, and where it hears `webhook`: at `webhook_at` (an address and a port) alone, if given.

    `hosts`: names under which it may be asked; None: any. The webhook may be asked by any name.
    """

    def __init__(
        self,
        operations: Operations,
        metrics: Metrics,
        *,
        bind: str,
        port: int,
        socket: Path,
        read_timeout: float = 30.0,
        write_timeout: float = 30.0,
        allow_remote: bool = False,
        webhook: Asgi | None = None,
        webhook_at: tuple[str, int] | None = None,
        group: str = "",
    ) -> None:
        self._operations = operations
        self._metrics = metrics
        self._bind = bind
        self._port = port
        self._unix = UnixListener(socket, group)
        self._read_timeout = read_timeout
        self._write_timeout = write_timeout
        self._hosts = None if allow_remote else LOOPBACK_NAMES | {bind, f"[{bind}]"}
        self._webhook = webhook
        self._webhook_at = webhook_at
        self._streams = Streams()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    @property
    def port(self) -> int:
        """The TCP port, once started."""
        return self._port

    @property
    def webhook_port(self) -> int:
        """The TCP port of the webhook, once started; 0 if there is none."""
        if self._webhook is None:
            return 0
        return self._port if self._webhook_at is None else self._webhook_at[1]

    @property
    def thread(self) -> threading.Thread:
        """The one that answers, once started."""
        assert self._thread is not None  # noqa: S101 - it was started
        return self._thread

    @property
    def running(self) -> bool:
        """It answers."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Listen, then answer. Raises CannotListen."""
        served = self._listening()
        up = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(served, up), name="http", daemon=True)
        self._thread.start()
        if not up.wait(_START) or not self.running:
            self.stop()
            raise CannotListen("the HTTP server did not start; its error is in the log")

    def stop(self) -> None:
        """Take nothing more, end log streams, give answers under way a moment."""
        self._streams.end_all()
        loop, stopping = self._loop, self._stopping
        if self.running and loop is not None and stopping is not None:
            loop.call_soon_threadsafe(stopping.set)
        if self._thread is not None:
            self._thread.join(_GRACE + 3.0)
        self._unix.close()

    def _listening(self) -> list[tuple[Asgi, socket.socket]]:
        """The apps, each with its open socket."""
        reading: Asgi = within(self._write_timeout, public(self._operations, self._metrics))
        if self._hosts is not None:
            reading = only_for(self._hosts, reading)
        words: Asgi = within(self._write_timeout, spoken(local(self._operations, self._metrics, self._streams)))
        served: list[tuple[Asgi, socket.socket]] = [(words, self._unix.open())]
        try:
            if self._webhook is not None:
                hears: Asgi = within(self._write_timeout, self._webhook)
                if self._webhook_at is None:
                    reading = at(WEBHOOK, hears, reading)
                else:
                    bind, port = self._webhook_at
                    served.append((at(WEBHOOK, hears, nothing), tcp(bind, port, setting="webhook.port")))
                    self._webhook_at = (bind, served[-1][1].getsockname()[1])
            served.append((reading, tcp(self._bind, self._port)))
        except CannotListen:
            for _, listener in served:
                listener.close()
            self._unix.close()
            raise
        self._port = served[-1][1].getsockname()[1]
        return served

    def _run(self, served: list[tuple[Asgi, socket.socket]], up: threading.Event) -> None:
        try:
            asyncio.run(self._serve(served, up))
        finally:
            up.set()
            for _, listener in served:
                listener.close()

    async def _serve(self, served: list[tuple[Asgi, socket.socket]], up: threading.Event) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        waiting = len(served)

        def one_is_up() -> None:
            nonlocal waiting
            waiting -= 1
            if not waiting:
                up.set()

        servers = [_Server(self._config(app), self._stopping, one_is_up) for app, _ in served]
        await asyncio.gather(*(server.serve(sockets=[sock]) for server, (_, sock) in zip(servers, served, strict=True)))

    def _config(self, app: Asgi) -> uvicorn.Config:
        class Protocol(_Protocol):
            read_timeout = self._read_timeout

        return uvicorn.Config(
            app,
            loop="asyncio",
            http=Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",  # whoever can reach a port could else write our log full with broken requests
            access_log=False,
            server_header=False,
            date_header=False,
            limit_concurrency=_CONNECTIONS,
            timeout_graceful_shutdown=_GRACE,
        )


class _Server(uvicorn.Server):
    """A uvicorn server that sleeps until it is to stop."""

    def __init__(self, config: uvicorn.Config, stopping: asyncio.Event, up: Callable[[], None]) -> None:
        super().__init__(config)
        self._stopping = stopping
        self._up = up

    async def main_loop(self) -> None:
        """Wait for the word to stop."""
        self._up()
        await self._stopping.wait()


class _Protocol(H11Protocol):
    """HTTP/1.1 that gives a client `read_timeout` seconds for each request."""

    read_timeout = 30.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Begin to count."""
        super().connection_made(transport)
        if who := speaker(transport.get_extra_info("socket")):
            self.client = (who, 0)
        self._patience: asyncio.TimerHandle | None = None
        self._count()

    def data_received(self, data: bytes) -> None:
        """Stop counting once the request is whole."""
        super().data_received(data)
        if self.conn.their_state in (h11.IDLE, h11.SEND_BODY):
            if self._patience is None:
                self._count()
        else:
            self._stop_counting()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop counting."""
        self._stop_counting()
        super().connection_lost(exc)

    def _count(self) -> None:
        self._patience = self.loop.call_later(self.read_timeout, self.transport.close)

    def _stop_counting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
