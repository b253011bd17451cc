"""The CLI's side of the local socket. Standard library only: `status` must answer at once.

Before it connects it checks that the socket belongs to this user or to root, or lies in a folder below /run, which only
root can have given to its owner: a stranger could have made one like it.
"""

import http.client
import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

_ROOTS = Path("/run")
_TIMEOUT = 35.0  # seconds; the agent bounds its own answers at service.writeTimeout

EVENTS = 10_000  # in one answer, at most


class NoAgent(Exception):
    """Nobody answers on the socket; the message says what to do."""


class Declined(Exception):
    """The agent would not take the word; the message is its own sentence. `unknown`: it knows no such service."""

    def __init__(self, message: str, *, unknown: bool = False) -> None:
        super().__init__(message)
        self.unknown = unknown


class Client:
    """Speaks to the agent behind one socket. Raises NoAgent and Declined."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def status(self, name: str | None = None) -> Mapping[str, Any]:
        """Everything, or one service: wire.status."""
        return self._ask("GET", "/api/v1/status" + (f"?{urlencode({'name': name})}" if name else ""))

    def events(
        self, name: str | None, *, since: datetime | None = None, after: int = 0, limit: int
    ) -> Mapping[str, Any]:
        """What happened: operations.History."""
        query = {"name": name, "since": since.isoformat() if since else None, "after": after, "limit": limit}
        return self._ask("GET", f"/api/v1/events?{urlencode({key: value for key, value in query.items() if value})}")

    def approve_prune(self, names: Sequence[str]) -> Sequence[str]:
        """Release these held removals (none named: all)."""
        return _names(self._ask("POST", "/local/v1/approve-prune", {"names": list(names)}))

    def restart(self, name: str) -> None:
        """Start a service's replicas again."""
        self._ask("POST", f"/local/v1/restart/{quote(name, safe='')}")

    def rollout(self, names: Sequence[str]) -> Sequence[str]:
        """Let these services (none named: all) take what their specs resolve to now."""
        return _names(self._ask("POST", "/local/v1/rollout", {"names": list(names)} if names else {"all": True}))

    def cancel_rollout(self, names: Sequence[str]) -> Sequence[str]:
        """Take back rollouts (none named: all) that are not through."""
        body = {"names": list(names)} if names else {"all": True}
        return _names(self._ask("POST", "/local/v1/cancel-rollout", body))

    def suspend(self, name: str | None, reason: str = "") -> None:
        """Leave a service (None: all, also those that come later) as it is."""
        self._ask("POST", "/local/v1/suspend", {**_meant(name), "reason": reason})

    def resume(self, name: str | None) -> Mapping[str, Any]:
        """Take back what was suspended by word: "names" follow git again, "by_spec" stay suspended by their file."""
        return self._ask("POST", "/local/v1/resume", _meant(name))

    def retry(self, name: str) -> None:
        """Try again now what failed, waits or backs off."""
        self._ask("POST", f"/local/v1/retry/{quote(name, safe='')}")

    def forget(self, name: str) -> Sequence[str]:
        """Give a service up; a sentence on each replica that is left."""
        return [str(sentence) for sentence in self._ask("POST", f"/local/v1/forget/{quote(name, safe='')}")["left"]]

    def adopt(self, source: str) -> int:
        """Treat another source's services as this one's; how many there are."""
        return int(self._ask("POST", "/local/v1/adopt", {"source": source})["adopted"])

    def rescan(self) -> None:
        """Read the source now."""
        self._ask("POST", "/local/v1/rescan")

    def logs(self, name: str, tail: int, *, follow: bool = False) -> Iterator[str]:
        """A service's log lines, without their line ends."""
        query = urlencode({"tail": tail, "follow": str(follow).lower()})
        connection = self._connected(None if follow else _TIMEOUT)
        try:
            response = self._answer(connection, "GET", f"/local/v1/logs/{quote(name, safe='')}?{query}", None)
            for line in response:
                yield line.decode("utf-8", "replace").rstrip("\r\n")
        except (OSError, http.client.HTTPException) as error:
            raise NoAgent(f"the agent on {self.path} went away: {error}") from error
        finally:
            connection.close()

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        connection = self._connected(_TIMEOUT)
        try:
            data: Mapping[str, Any] = json.loads(self._answer(connection, method, path, body).read())
        except TimeoutError as error:
            raise NoAgent(f"the agent on {self.path} does not answer; its log may say why") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise NoAgent(f"the agent on {self.path} went away before it answered: {error}") from error
        finally:
            connection.close()
        return data

    def _connected(self, timeout: float | None) -> "_Connection":
        try:
            owner = self.path.stat().st_uid
            trusted = owner in (0, os.geteuid()) or self.path.parent.parent == _ROOTS
            if not trusted and os.geteuid() != 0:
                raise NoAgent(f"{self.path} belongs to another user (uid {owner}); it is not asked")
            connection = _Connection(self.path, timeout)
            connection.connect()
        except PermissionError as error:
            raise NoAgent(
                f"this user may not speak to the agent on {self.path}; ask as its user, as root, or as a member of its"
                " agent.socketGroup"
            ) from error
        except OSError as error:
            raise NoAgent(
                f"no agent answers on {self.path}; is it running, under this user and instance?"
                " (xmod-agent run DIR; --instance or --socket choose another)"
            ) from error
        return connection

    def _answer(
        self, connection: "_Connection", method: str, path: str, body: Mapping[str, Any] | None
    ) -> http.client.HTTPResponse:
        data = None if body is None else json.dumps(body).encode()
        connection.request(method, path, data, {"content-type": "application/json", "host": "localhost"})
        response = connection.getresponse()
        if response.status >= 400:
            raise Declined(_sentence(response.read(), response.status), unknown=response.status == 404)
        return response


class _Connection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path, timeout: float | None) -> None:
        super().__init__("localhost")
        self._path = path
        self._patience = timeout

    def connect(self) -> None:
        """Connect to the path."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(self._patience)
        try:
            sock.connect(str(self._path))
        except OSError:
            sock.close()
            raise
        self.sock = sock


def _meant(name: str | None) -> Mapping[str, Any]:
    return {"all": True} if name is None else {"name": name}


def _names(answer: Mapping[str, Any]) -> Sequence[str]:
    return [str(name) for name in answer["names"]]


def _sentence(body: bytes, code: int) -> str:
    try:
        detail = json.loads(body)["detail"]
    except (ValueError, KeyError, TypeError):
        return f"the agent answered {code}: {body[:200].decode('utf-8', 'replace')}"
    return detail if isinstance(detail, str) else f"the agent answered {code}: {detail}"
