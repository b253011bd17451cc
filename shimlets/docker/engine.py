"""One Docker engine over its API: the one door to it, and the one place where its errors become ours.

Connecting happens at the first call and again when the engine changes; an engine that is gone (nothing answers), hung
(nobody answers in time) and one that refuses are told apart. Every call but a stream is bounded by `timeout` seconds.
"""

import contextlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from agent.contracts import Conflict, Permanent, Transient, XmodError
from shimlets.docker.arguments import Engine as Known

if TYPE_CHECKING:
    from docker import APIClient

    from shimlets.docker.transport import Response

OLDEST, NEWEST = (1, 40), (1, 45)  # API versions that this shimlet was written against


class Missing(Transient):
    """It is not there, or not any more."""

    reason = "Missing"


class Taken(Conflict):
    """The name is in use, or the thing is busy with something else."""

    reason = "NameTaken"


class PortTaken(Conflict):
    """Somebody else has the host port."""

    reason = "PortTaken"


class Invalid(Permanent):
    """The engine says that what it was asked makes no sense."""

    reason = "Invalid"


class Stream:
    """An answer that goes on. Reading ends when the engine ends it, dies, or another thread hangs up.

    Its connection is its own and goes back to no pool: what is hung up can never be somebody else's next call.
    """

    def __init__(self, response: "Response", doing: str) -> None:
        self._response = response
        self._doing = doing
        self._lock = threading.Lock()
        self._hung_up = False

    def chunks(self) -> Iterator[bytes]:
        """What comes, as it comes. Raises Transient if the engine stops in the middle."""
        try:
            yield from self._response.iter_content(chunk_size=None)
        except (OSError, AttributeError, ValueError) as error:  # the last two: closed under the reader's hands
            if not self._hung_up:
                raise translated(error, self._doing) from error

    def objects(self) -> Iterator[Mapping[str, Any]]:
        """The JSON objects of a stream of lines."""
        rest = b""
        for chunk in self.chunks():
            *lines, rest = (rest + chunk).split(b"\n")
            yield from (json.loads(line) for line in lines if line.strip())
        if rest.strip():
            yield json.loads(rest)

    def hang_up(self) -> None:
        """End the reading, from another thread."""
        from shimlets.docker import transport

        with self._lock, contextlib.suppress(OSError, AttributeError, transport.SdkError):  # it ended meanwhile
            if not self._hung_up:
                self._hung_up = True
                transport.hang_up(self._response)

    def close(self) -> None:
        """Let go of the connection, in the reading thread."""
        with self._lock:
            self._hung_up = True
        self._response.close()


class Engine:
    """Calls the engine's API with raw JSON. Thread-safe. Raises only Transient, Permanent and Conflict."""

    def __init__(self, host: str, timeout: float) -> None:
        self.host = host
        self._timeout = timeout
        self._lock = threading.Lock()
        self._session: APIClient | None = None
        self._known: Known | None = None

    def call(
        self,
        method: str,
        path: str,
        doing: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> Any:
        """One request and its JSON answer, None if it has none. `doing`: what it is for, to say when it fails."""
        response = self._send(method, path, doing, params=params, body=body, timeout=timeout or self._timeout)
        try:
            return response.json() if response.content else None
        except ValueError as error:
            raise Transient(f"docker: cannot {doing}: the answer is not JSON", reason="EngineError") from error

    @contextlib.contextmanager
    def stream(self, method: str, path: str, doing: str, **request: Any) -> Iterator[Stream]:
        """One request whose answer goes on; closed at the end. `timeout`: seconds of silence, None = for ever."""
        timeout = (self._timeout, request.pop("timeout", None))
        request["headers"] = {"Connection": "close"} | request.get("headers", {})
        stream = Stream(self._send(method, path, doing, stream=True, timeout=timeout, **request), doing)
        try:
            yield stream
        finally:
            stream.close()

    def ping(self, timeout: float) -> None:
        """Raises Transient unless the engine answers at once."""
        self._send("GET", "/_ping", "ping the engine", timeout=timeout)

    def known(self) -> Known:
        """What this engine is. Asked for once a connection."""
        with self._lock:
            if self._known is not None and self._known.runtime:
                return self._known
        info = self.call("GET", "/info", "ask the engine what it is")
        with self._lock:
            self._known = Known(
                self._known.api if self._known else NEWEST,
                runtime=info.get("DefaultRuntime") or "runc",
                memory_limits=bool(info.get("MemoryLimit", True)),
                cpu_limits=bool(info.get("CpuCfsQuota", True)),
            )
            return self._known

    def close(self) -> None:
        """Let go of idle connections."""
        with self._lock:
            if self._session is not None:
                self._session.close()
            self._session = self._known = None

    def _send(self, method: str, path: str, doing: str, *, body: Any = None, **request: Any) -> "Response":
        from shimlets.docker import transport

        if body is not None:
            request["json"] = body
        if params := request.pop("params", None):
            request["params"] = {k: json.dumps(v) if isinstance(v, dict) else v for k, v in params.items()}
        try:
            session, version = self._connected(request["timeout"])
            url = f"{transport.base(session, streaming='stream' in request)}/v{version}{quote(path, safe='/:@')}"
            response = session.request(method, url, **request)
        except OSError as error:  # which all errors of requests are
            with self._lock:
                self._known = None  # what answers next may be another engine
            raise translated(error, doing, host=self.host) from error
        if response.status_code < 400:
            return response
        message = _message(response)
        if response.status_code == 400 and "client version" in message:
            self.close()  # the engine was exchanged for another
            raise Transient(f"docker: cannot {doing}: {message}", reason="EngineChanged", delay=0.1)
        raise refusal(response.status_code, message, doing)

    def _connected(self, timeout: Any) -> "tuple[APIClient, str]":
        """The session and the API version to speak. Opened and negotiated once."""
        with self._lock:
            session, known = self._session, self._known
        if session is None or known is None:
            from shimlets.docker import transport

            try:
                session = session or transport.session(self.host, self._timeout)
            except transport.SdkError as error:
                raise Permanent(f"docker: {self.host}: {error}", reason="InvalidHost") from error
            bounded = self._timeout if isinstance(timeout, tuple) else timeout
            answer = session.get(f"{session.base_url}/version", timeout=bounded).json()
            known = Known(_negotiated(answer), "")
            with self._lock:
                self._session, self._known = session, known
        return session, f"{known.api[0]}.{known.api[1]}"


def translated(error: BaseException, doing: str, *, host: str = "the engine") -> Transient:
    """A failure to speak with the engine as ours: it is hung, gone or closed to us."""
    from shimlets.docker import transport

    kind = transport.kind_of(error)
    if kind == "hung":
        return Transient(f"docker: cannot {doing}: {host} did not answer in time; it hangs or is busy", reason="Hung")
    if kind == "denied":
        message = f"docker: cannot {doing}: no permission for {host}; add the agent's user to its group (docker)"
        return Transient(message, reason="Denied", delay=30.0)
    return Transient(f"docker: cannot {doing}: nothing answers at {host} (is dockerd running?): {error}")


def refusal(status: int, message: str, doing: str) -> XmodError:
    """What an engine's answer of 400 and above means to us."""
    sentence = f"docker: cannot {doing}: {message}"
    if "port is already allocated" in message or "address already in use" in message:
        return PortTaken(f"docker: cannot {doing}: {_port(message)} is taken by something else: {message}")
    if status == 404:
        return Missing(sentence)
    if status == 409:
        return Taken(sentence)
    if "no space left on device" in message:
        return Transient(sentence, reason="DiskFull", delay=30.0)
    if "could not select device driver" in message:
        hint = "; install the NVIDIA Container Toolkit and restart the engine"
        return Permanent(sentence + hint, reason="NoDeviceDriver")
    if "non-overlapping IPv4 address pool" in message:
        hint = "; remove networks that nobody uses (docker network prune)"
        return Permanent(sentence + hint, reason="NoAddressPool")
    if status < 500:
        return Invalid(sentence)
    return Transient(sentence, reason="EngineError")


def _port(message: str) -> str:
    found = re.search(r"(?:for|tcp[46]?) (\S+:\d+)", message)
    return found[1] if found else "its port"


def _message(response: "Response") -> str:
    try:
        return str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        return response.text.strip() or f"HTTP {response.status_code}"


def _negotiated(answer: Mapping[str, Any]) -> tuple[int, int]:
    newest, oldest = _version(answer.get("ApiVersion")), _version(answer.get("MinAPIVersion", "1.0"))
    if newest < OLDEST or oldest > NEWEST:
        spoken = ".".join(map(str, NEWEST if oldest > NEWEST else OLDEST))
        message = (
            f"docker: the engine speaks API {oldest[0]}.{oldest[1]} to {newest[0]}.{newest[1]}, this agent {spoken}"
        )
        raise Permanent(message, reason="ApiVersion")
    return min(newest, NEWEST)


def _version(text: Any) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)\.(\d+)", str(text))
    if match is None:
        raise Transient(f"docker: what answers is no Docker engine (ApiVersion {text!r})", reason="EngineError")
    return int(match[1]), int(match[2])
