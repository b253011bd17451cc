"""What may be set about Docker: by the operator for the whole engine, and in a spec's `docker:` block for one service.

Small on purpose: every key here is one that the engine and the shimlet both honour; anything else is refused by name.
"""

import functools
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from agent.contracts import Permanent

T = TypeVar("T")

DEFAULT_HOST = "unix:///var/run/docker.sock"
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class RegistryLogin:
    """Who pulls from a registry. The file is read at each pull, so that it can be rotated."""

    username: str
    password_file: str


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """The operator's block. `timeout`: seconds for one call; `audit_interval`: seconds between two looks of the audit."""

    host: str = DEFAULT_HOST
    timeout: float = 5.0
    audit_interval: float = 5.0
    credentials_file: str = ""
    registries: tuple[tuple[str, RegistryLogin], ...] = ()
    log_max_size: str = "10m"
    log_max_files: int = 3

    @property
    def local(self) -> bool:
        """The engine runs on this host."""
        return self.host.startswith("unix://")


@dataclass(frozen=True, slots=True)
class WorkloadOptions:
    """A spec's `docker:` block. `stop_grace`: seconds from TERM to KILL; `shm_size` in bytes, 0 = as the workload says.

    `privileged`, `cap_add`, `network` host and `ipc` host weaken isolation: the operator's policy decides about them
    before a workload gets here.
    """

    restart: str = "unless-stopped"
    stop_grace: float = 10.0
    user: str = ""
    shm_size: int = 0
    runtime: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    ulimits: tuple[tuple[str, int], ...] = ()
    cap_add: tuple[str, ...] = ()
    privileged: bool = False
    network: str = "bridge"
    ipc: str = "private"
    log_max_size: str = ""
    log_max_files: int = 0


def engine_options(options: Mapping[str, Any]) -> EngineOptions:
    """Check the operator's block. Raises ValueError. Without `host`, DOCKER_HOST counts, as for every Docker tool."""
    values = {"host": os.environ.get("DOCKER_HOST", "") or DEFAULT_HOST, **options}
    try:
        checked = _read(EngineOptions, values, _ENGINE)
    except ValueError as error:
        raise ValueError(f"shimlets.docker: {error}") from error
    if not checked.host.startswith(("unix://", "tcp://")):
        raise ValueError(f"shimlets.docker: host: must begin with unix:// or tcp://, got {checked.host!r}")
    return checked


@functools.lru_cache(maxsize=1024)
def workload_options(text: str) -> WorkloadOptions:
    """Check a spec's block, given as JSON. Raises Permanent."""
    try:
        values = json.loads(text)
        if not isinstance(values, dict):
            raise ValueError(f"must be a mapping, got {values!r}")
        return _read(WorkloadOptions, values, _WORKLOAD)
    except ValueError as error:
        raise Permanent(f"docker: {error}", reason="InvalidOption") from error


def _read(cls: type[T], values: Mapping[str, Any], readers: Mapping[str, Any]) -> T:
    unknown = sorted(set(values) - set(readers))
    if unknown:
        raise ValueError(f"unknown option {unknown[0]!r}; known are {', '.join(sorted(readers))}")
    names = {re.sub("_(.)", lambda match: match[1].upper(), field.name): field.name for field in fields(cls)}  # type: ignore[arg-type]  # T is one of the two above
    read: dict[str, Any] = {}
    for key, value in values.items():
        try:
            read[names[key]] = readers[key](value)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{key}: {error}") from error
    return cls(**read)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be a text, got {value!r}")
    return value


def _registries(value: Any) -> tuple[tuple[str, RegistryLogin], ...]:
    if not isinstance(value, dict):
        raise ValueError(f"must be a mapping of registries to {{username, passwordFile}}, got {value!r}")
    return tuple((host, _registry(host, login)) for host, login in sorted(value.items()))


def _registry(host: str, login: Any) -> RegistryLogin:
    if not isinstance(login, dict) or set(login) != {"username", "passwordFile"}:
        raise ValueError(f"{host}: must be {{username, passwordFile}}")  # what is there instead may be a password
    if "/" in host:
        raise ValueError(
            f"{host}: must be a registry as it stands in an image's name, such as registry.example.com:5000"
        )
    username, file = _text(login["username"]), _text(login["passwordFile"])
    if not username or not file.startswith("/"):
        raise ValueError(f"{host}: needs a username, and an absolute path as passwordFile")
    return RegistryLogin(username, file)


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, got {value!r}")
    return value


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"must be a whole number above 0, got {value!r}")
    return value


def _one_of(*words: str) -> Any:
    def read(value: Any) -> str:
        if value not in words:
            raise ValueError(f"must be {' or '.join(words)}, got {value!r}")
        return str(value)

    return read


def _duration(value: Any) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h)?", str(value))
    if isinstance(value, bool) or match is None:
        raise ValueError(f"must be a duration like 10s, got {value!r}")
    return float(match[1]) * _SECONDS[match[2] or ""]


def _size(value: Any) -> int:
    match = re.fullmatch(r"(\d+)(k|M|G|Ki|Mi|Gi)?", str(value))
    if isinstance(value, bool) or match is None:
        raise ValueError(f"must be a size like 1Gi, got {value!r}")
    return int(match[1]) * _UNITS[match[2] or ""]


def _log_size(value: Any) -> str:
    if not re.fullmatch(r"[1-9]\d*[kmg]?", str(value)):
        raise ValueError(f"must be a size like 10m, got {value!r}")
    return str(value)


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError(f"must be a list, got {value!r}")
    return tuple(_text(item) for item in value)


def _labels(value: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, dict):
        raise ValueError(f"must be a mapping, got {value!r}")
    for key in value:
        if key.startswith("xmod.dev/"):
            raise ValueError(f"{key}: labels of xmod.dev/ are the agent's own")
    return tuple(sorted((key, _text(item)) for key, item in value.items()))


def _ulimits(value: Any) -> tuple[tuple[str, int], ...]:
    if not isinstance(value, dict) or any(isinstance(n, bool) or not isinstance(n, int) for n in value.values()):
        raise ValueError(f"must be a mapping of names to whole numbers (-1: unlimited), got {value!r}")
    return tuple(sorted(value.items()))


_ENGINE = {
    "host": _text,
    "timeout": _duration,
    "auditInterval": _duration,
    "credentialsFile": _text,
    "registries": _registries,
    "logMaxSize": _log_size,
    "logMaxFiles": _count,
}
_WORKLOAD = {
    "restart": _one_of("unless-stopped", "never"),
    "stopGrace": _duration,
    "user": _text,
    "shmSize": _size,
    "runtime": _text,
    "labels": _labels,
    "ulimits": _ulimits,
    "capAdd": _texts,
    "privileged": _truth,
    "network": _one_of("bridge", "host", "none"),
    "ipc": _one_of("private", "host"),
    "logMaxSize": _log_size,
    "logMaxFiles": _count,
}
