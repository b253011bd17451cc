"""Who pulls an image: the service's spec says, else the operator for its registry, else Docker's own login.

Passwords are read when a pull begins and go into its one header; what the engine or a registry says of it is told
without them, should it echo them.
"""

import base64
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from agent.contracts import Credentials, Permanent, Transient, XmodError
from shimlets.docker.options import RegistryLogin

_LARGEST = 64 * 1024  # bytes of one password
_HIDDEN = "…"
E = TypeVar("E", bound=XmodError)


class Logins:
    """The operator's. `credentials_file`: in Docker's form, "" for that of the agent's user."""

    def __init__(self, credentials_file: str, registries: Sequence[tuple[str, RegistryLogin]]) -> None:
        self._credentials_file = credentials_file
        self._registries = dict(registries)

    def of(self, ref: str) -> Credentials | None:
        """What the operator set for an image's registry. Transient if it cannot be read, Permanent if `ref` is none."""
        found = self._registries.get(_registry(ref)) if self._registries else None
        if found is None:
            return None
        return Credentials(found.username, _password(_registry(ref), found.password_file))

    def header(self, ref: str, login: Credentials | None) -> dict[str, str]:
        """The header of a pull: of this login, else of Docker's own."""
        from shimlets.docker import transport

        if login is not None:
            _registry(ref)
            return transport.login_header(ref, login.username, login.password)
        if self._credentials_file and not Path(self._credentials_file).is_file():
            raise Transient(f"docker: credentialsFile {self._credentials_file}: no such file", reason="Credentials")
        try:
            return transport.registry_header(ref, self._credentials_file)
        except (transport.SdkError, OSError, ValueError) as error:
            raise Transient(f"docker: credentials for {ref}: {error}", reason="Credentials") from error


def carried(headers: Mapping[str, str]) -> Credentials | None:
    """What the header of a pull shows, so also what Docker's own login is: its words for that are several."""
    try:
        said = json.loads(base64.urlsafe_b64decode(headers.get("X-Registry-Auth", "")))
    except ValueError:
        return None
    found = {key.lower(): value for key, value in said.items() if isinstance(value, str)}
    password = found.get("password") or found.get("identitytoken") or found.get("registrytoken") or ""
    return Credentials(found.get("username", ""), password)


def discreet(error: E, login: Credentials | None) -> E:
    """The same without the password, in plain and as it goes over the wire."""
    message = str(error)
    for secret in _forms(login) if login is not None else ():
        message = message.replace(secret, _HIDDEN)
    if message != str(error):
        error.args = (message, *error.args[1:])
    return error


def _forms(login: Credentials) -> Iterator[str]:
    if login.password:
        yield base64.b64encode(f"{login.username}:{login.password}".encode()).decode()
        yield base64.b64encode(login.password.encode()).decode()
        yield login.password


def _registry(ref: str) -> str:
    from shimlets.docker import transport

    try:
        return transport.registry_of(ref)
    except transport.SdkError as error:
        raise Permanent(f"docker: image {ref}: {error}", reason="ImageInvalid") from error


def _password(registry: str, path: str) -> str:
    where = f"docker: registries: {registry}: passwordFile {path}"
    try:
        with open(path, "rb", opener=_not_waiting) as file:
            data = file.read(_LARGEST + 1) or b""
        text = data.decode().rstrip("\n")
    except OSError as error:
        raise Transient(f"{where}: {error.strerror}", reason="Credentials", delay=30.0) from error
    except UnicodeDecodeError:
        raise Transient(f"{where}: is no text", reason="Credentials", delay=30.0) from None
    if not text or len(data) > _LARGEST:
        raise Transient(f"{where}: must hold 1 to {_LARGEST} bytes", reason="Credentials", delay=30.0)
    return text


def _not_waiting(path: str, flags: int) -> int:
    """Open without waiting for the other end, should it be a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)
