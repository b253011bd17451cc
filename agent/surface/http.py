"""What is answered over HTTP: by the public address only what may be read, by the local socket the operator's words too.

A word that cannot be taken is 409 with a sentence, an unknown service 404. Every answer is bounded in time (a hung
agent is a 503 of /healthz, not a probe that hangs). On loopback only loopback's names are accepted as Host, so that a
web page in the operator's browser cannot read the agent by DNS rebinding.
"""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Annotated, Any, TypeAlias

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from agent.contracts import XmodError
from agent.surface import wire
from agent.surface.client import EVENTS
from agent.surface.metrics import Metrics
from agent.surface.operations import Operations, Refused, UnknownName
from agent.surface.speaker import SPEAKER
from agent.surface.stream import Tap

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Asgi: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_STREAMS = "/local/v1/logs/"
_PATIENCE = 1.0  # seconds until a log stream begins although there is no line yet


class Streams:
    """The log streams that are being read, so that a stop can end them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stops: set[threading.Event] = set()
        self._closed = False

    def begin(self) -> threading.Event:
        """A new stream's stop."""
        stop = threading.Event()
        with self._lock:
            self._stops = {other for other in self._stops if not other.is_set()} | {stop}
            if self._closed:
                stop.set()
        return stop

    def end_all(self) -> None:
        """End every stream, also those that begin later."""
        with self._lock:
            self._closed = True
            for stop in self._stops:
                stop.set()


class Names(BaseModel):
    """Which services are meant."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    names: tuple[str, ...] = ()
    all: bool = False


class Suspend(BaseModel):
    """Which service is meant, or all, and why."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str | None = None
    all: bool = False
    reason: Annotated[str, Field(max_length=500)] = ""


class Resume(BaseModel):
    """Which service is meant, or all."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str | None = None
    all: bool = False


class From(BaseModel):
    """Which source is meant."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    source: str


def public(operations: Operations, metrics: Metrics) -> FastAPI:
    """The app of the public address: nothing in it changes anything."""
    app = FastAPI(title="xmod-agent", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(XmodError, _refused)

    @app.get("/healthz")
    def healthz() -> Response:
        return _claim(operations.alive(), "healthy")

    @app.get("/readyz")
    def readyz() -> Response:
        return _claim(operations.ready(), "ready")

    @app.get("/metrics")
    def scrape() -> Response:
        page, kind = metrics.render()
        return Response(page, headers={"content-type": kind})

    @app.get("/api/v1/status")
    def status(name: str | None = None) -> Response:
        found = wire.status(operations.view(), name)
        if found is None:
            raise UnknownName(f"no service is called {name}; those there are: xmod-agent status")
        return _json(found)

    @app.get("/api/v1/events")
    def events(
        name: str = "",
        since: AwareDatetime | None = None,
        after: Annotated[int, Query(ge=0)] = 0,
        limit: Annotated[int, Query(ge=1, le=EVENTS)] = 100,
    ) -> Response:
        return _json(wire.plain(operations.events(name, since, after, limit)))

    return app


def local(operations: Operations, metrics: Metrics, streams: Streams) -> FastAPI:
    """The app of the local socket: the same, and the operator's words."""
    app = public(operations, metrics)

    @app.post("/local/v1/approve-prune")
    def approve_prune(body: Names) -> Response:
        return _json({"names": list(operations.approve_prune(body.names))})

    @app.post("/local/v1/restart/{name}")
    def restart(name: str) -> Response:
        operations.restart(name)
        return _json({"names": [name]})

    @app.post("/local/v1/rollout")
    def rollout(body: Names) -> Response:
        _check_meant(bool(body.names), all_of_them=body.all)
        return _json({"names": list(operations.rollout(body.names))})

    @app.post("/local/v1/cancel-rollout")
    def cancel_rollout(body: Names) -> Response:
        _check_meant(bool(body.names), all_of_them=body.all)
        return _json({"names": list(operations.cancel_rollout(body.names))})

    @app.post("/local/v1/suspend")
    def suspend(body: Suspend) -> Response:
        _check_meant(body.name is not None, all_of_them=body.all)
        operations.suspend(body.name, body.reason)
        return _json({})

    @app.post("/local/v1/resume")
    def resume(body: Resume) -> Response:
        _check_meant(body.name is not None, all_of_them=body.all)
        return _json(wire.plain(operations.resume(body.name)))

    @app.post("/local/v1/retry/{name}")
    def retry(name: str) -> Response:
        operations.retry(name)
        return _json({"names": [name]})

    @app.post("/local/v1/forget/{name}")
    def forget(name: str) -> Response:
        return _json({"left": list(operations.forget(name))})

    @app.post("/local/v1/adopt")
    def adopt(body: From) -> Response:
        return _json({"adopted": operations.adopt(body.source)})

    @app.post("/local/v1/rescan")
    def rescan() -> Response:
        operations.rescan()
        return _json({})

    @app.get(_STREAMS + "{name}")
    async def logs(name: str, tail: Annotated[int, Query(ge=0, le=100_000)] = 100, *, follow: bool = False) -> Response:
        stop = streams.begin()
        tap = Tap(lambda: operations.logs(name, tail, stop if follow else None), stop)
        await tap.open(_PATIENCE)
        return StreamingResponse(tap.chunks(), media_type="text/plain; charset=utf-8")

    return app


def _check_meant(named: bool, *, all_of_them: bool) -> None:  # noqa: FBT001 – the claim that is checked
    if named == all_of_them:
        raise Refused("name the services that are meant, or say that all are")


def _claim(why_not: str, word: str) -> Response:
    if why_not:
        return _json({"status": f"not {word}", "reason": why_not}, 503)
    return _json({"status": word})


def _json(value: Any, code: int = 200) -> Response:
    return Response(wire.encoded(value), code, media_type="application/json")


async def _refused(request: Request, error: Exception) -> Response:  # noqa: ARG001 – starlette's signature
    return _json({"detail": str(error)}, 404 if isinstance(error, UnknownName) else 409)


def only_for(hosts: frozenset[str], app: Asgi) -> Asgi:
    """Answer only requests whose Host header is one of these names (or missing: no browser leaves it out)."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        host = next((value.decode("latin-1") for key, value in scope.get("headers", ()) if key == b"host"), "")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if host and name.lower() not in hosts:
            await answer(send, 421, f"this agent is not called {name}; ask for localhost")
        else:
            await app(scope, receive, send)

    return guarded


def spoken(app: Asgi) -> Asgi:
    """Let what answers a request know whose it is: SPEAKER."""

    async def known(scope: Scope, receive: Receive, send: Send) -> None:
        client = scope.get("client")
        SPEAKER.set(client[0] if client else "")
        await app(scope, receive, send)

    return known


def within(seconds: float, app: Asgi) -> Asgi:
    """Bound every answer but log streams; 503 if it had not begun by then, else the connection is cut."""

    async def bounded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("path", "").startswith(_STREAMS):
            await app(scope, receive, send)
            return
        begun = False

        async def noting(message: MutableMapping[str, Any]) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            async with asyncio.timeout(seconds):
                await app(scope, receive, noting)
        except TimeoutError:
            if begun:
                raise
            await answer(send, 503, f"no answer within {seconds:g} s")

    return bounded


def at(path: str, app: Asgi, others: Asgi) -> Asgi:
    """Let one app answer at that path, and another everywhere else."""

    async def chosen(scope: Scope, receive: Receive, send: Send) -> None:
        await (app if scope.get("path") == path else others)(scope, receive, send)

    return chosen


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 – ASGI's signature
    """Answer that there is nothing here."""
    await answer(send, 404, "Not Found")


async def answer(send: Send, code: int, sentence: str, *, close: bool = False) -> None:
    """Answer with one sentence. `close`: whatever the client still sends is not waited for."""
    body = json.dumps({"detail": sentence}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": code, "headers": headers})
    await send({"type": "http.response.body", "body": body})
