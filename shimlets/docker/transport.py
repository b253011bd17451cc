"""The docker SDK, as far as we need it: its transports and its reading of registry credentials.

Imported when an engine is first spoken to: it is slow to import. The SDK's adapter keys its connection pools by full
URL, so that each container's path would open connections of its own; one key for all is measured to be a third faster.
"""

import socket
from collections.abc import Mapping
from typing import Any

import docker.auth
import docker.errors
import requests
from docker import APIClient
from docker.transport.unixconn import UnixHTTPAdapter, UnixHTTPConnection, UnixHTTPConnectionPool
from docker.types.daemon import CancellableStream

_STREAMS = "http+docker://streams"
POOL = 32  # connections kept: workers, watchers, followers of logs

SdkError = docker.errors.DockerException
Response = requests.Response


class _Connection(UnixHTTPConnection):
    def connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(self.timeout)
        try:
            sock.connect(self.unix_socket)
        except OSError:
            sock.close()  # which the SDK's own forgets, with each try while no engine is there
            raise
        self.sock = sock


class _Pool(UnixHTTPConnectionPool):
    def _new_conn(self) -> Any:
        timeout: Any = self.timeout
        return _Connection(self.base_url, self.socket_path, timeout)


class _OnePool(UnixHTTPAdapter):
    def get_connection(self, url: Any, proxies: Any = None) -> Any:  # noqa: ARG002  # the signature is the SDK's
        with self.pools.lock:
            pool = self.pools.get("one")
            if pool is None:
                pool = self.pools["one"] = _Pool(url, self.socket_path, self.timeout, maxsize=self.max_pool_size)
        return pool


class _OwnPool(_OnePool):
    """A connection for each answer that goes on: hanging up on it can never hit somebody else's next call."""

    def get_connection(self, url: Any, proxies: Any = None) -> Any:  # noqa: ARG002  # the signature is the SDK's
        return _Pool(url, self.socket_path, self.timeout, maxsize=1)


def session(host: str, timeout: float) -> APIClient:
    """An SDK client on that engine; opens nothing. Raises SdkError if the host cannot be understood."""
    client = APIClient(base_url=host, version="1.41", timeout=timeout, max_pool_size=POOL)  # type: ignore[arg-type]  # any number
    client.trust_env = False  # proxies and netrc are not for engines, and cost half a millisecond a call
    if host.startswith("unix://"):
        path = "http+unix://" + host.removeprefix("unix://")
        client.mount("http+docker://", _OnePool(path, timeout, max_pool_size=POOL))  # type: ignore[arg-type]  # the same
        client.mount(_STREAMS, _OwnPool(path, timeout))  # type: ignore[arg-type]  # the same
    return client


def base(session: APIClient, *, streaming: bool) -> str:
    """What URLs begin with. Over TCP a stream's connection is kept from the pool by its `Connection: close`."""
    return _STREAMS if streaming and session.base_url.startswith("http+docker://") else str(session.base_url)


def hang_up(response: Response) -> None:
    """End a streaming answer from another thread than the one that reads it."""
    CancellableStream(iter(()), response).close()


def kind_of(error: BaseException) -> str:
    """What a failed call says of the engine: "hung", "gone", "denied", or "" if it is none of these."""
    if isinstance(error, requests.exceptions.Timeout) or "timed out" in str(error):
        return "hung"
    if "PermissionError" in str(error):
        return "denied"
    return "gone" if isinstance(error, requests.exceptions.RequestException) else ""


def registry_of(ref: str) -> str:
    """The registry that an image comes from, "docker.io" unless its name says another. Raises SdkError."""
    return str(docker.auth.resolve_repository_name(ref)[0])


def registry_header(ref: str, credentials_file: str) -> dict[str, str]:
    """The header that carries Docker's own credentials for an image, {} if there are none. Raises SdkError, OSError."""
    config = docker.auth.load_config(config_path=credentials_file or None)
    found = docker.auth.resolve_authconfig(config, registry_of(ref))
    return _header(found) if found else {}


def login_header(ref: str, username: str, password: str) -> dict[str, str]:
    """The header that carries these credentials. Raises SdkError."""
    return _header({"username": username, "password": password, "serveraddress": registry_of(ref)})


def _header(credentials: Mapping[str, str]) -> dict[str, str]:
    return {"X-Registry-Auth": docker.auth.encode_header(dict(credentials)).decode()}
