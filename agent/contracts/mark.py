"""The mark: a service as applied, whole, as canonical JSON that any world can carry as text.

Fields that hold their default are left out, and unknown keys are ignored on reading, so that an older or newer agent
reads the same mark and computes the same digest. Secret values never get here: a SecretRef is only a reference.
"""

import dataclasses
import functools
import hashlib
import hmac
import json
import os
import types
import typing
from collections.abc import Hashable, Mapping
from typing import Any, TypeVar

from agent.contracts.workload import Digest, Placement, Service, Workload

T = TypeVar("T")


def canonical(value: object) -> str:
    """One text for one value: sorted keys, no blanks, defaults left out."""
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest_of(workload: Workload) -> Digest:
    """SHA-256 of the canonical workload, 64 hex digits."""
    return Digest(hashlib.sha256(canonical(workload).encode()).hexdigest())


def encode(service: Service, placement: Placement) -> str:
    """The mark of one replica."""
    return canonical({"placement": placement, "service": service})


def decode(text: str) -> tuple[Service, Placement]:
    """Read a mark. Raises ValueError if it is none."""
    try:
        data = json.loads(text)
        return _built(Service, data["service"]), _built(Placement, data["placement"])
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a mark: {error!r}") from error


_LEAVES = frozenset({str, int, float, bool, type(None)})


def _plain(value: object) -> object:
    if type(value) in _LEAVES:  # most values are: a digest costs half
        return value
    if dataclasses.is_dataclass(value):
        return {
            name: _plain(getattr(value, name))
            for name, default in _fields(typing.cast("Hashable", type(value)))
            if default is dataclasses.MISSING or getattr(value, name) != default
        }
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value


@functools.cache
def _fields(cls: Hashable) -> tuple[tuple[str, Any], ...]:
    return tuple((field.name, field.default) for field in dataclasses.fields(typing.cast("type[Any]", cls)))


def seal(secrets: Mapping[str, str]) -> str:
    """A salted slow hash (scrypt) of secret values, "" for none: tells later whether they changed, and nothing else."""
    return _sealed(secrets, os.urandom(16)) if secrets else ""


def unsealed_by(secrets: Mapping[str, str], mark: str) -> bool:
    """Whether `mark` was made of exactly these values. About 50 ms: ask it about news only."""
    if not secrets or not mark:
        return not secrets and not mark
    try:
        salt = bytes.fromhex(mark.partition(":")[0])
    except ValueError:
        return False  # somebody tampered with it
    return hmac.compare_digest(mark.encode(), _sealed(secrets, salt).encode())


def _sealed(secrets: Mapping[str, str], salt: bytes) -> str:
    return f"{salt.hex()}:{hashlib.scrypt(canonical(secrets).encode(), salt=salt, n=2**14, r=8, p=1).hex()}"


@functools.cache
def _hints(cls: Hashable) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _built(cls: type[T], data: Mapping[str, Any]) -> T:
    hints = _hints(typing.cast("Hashable", cls))
    return cls(**{key: _typed(hints[key], item) for key, item in data.items() if key in hints})


def _typed(hint: Any, value: Any) -> Any:
    """Turn plain JSON back into the type that the field declares."""
    if value is None:
        return None
    origin = typing.get_origin(hint)
    if origin is tuple:
        inner = typing.get_args(hint)
        if len(inner) == 2 and inner[1] is Ellipsis:
            return tuple(_typed(inner[0], item) for item in value)
        return tuple(_typed(kind, item) for kind, item in zip(inner, value, strict=True))
    if origin in (typing.Union, types.UnionType):
        kinds = [kind for kind in typing.get_args(hint) if kind is not type(None)]
        classes = [kind for kind in kinds if dataclasses.is_dataclass(kind)]
        return _built(typing.cast("type[Any]", classes[0]), value) if classes and isinstance(value, dict) else value
    if dataclasses.is_dataclass(hint):
        return _built(typing.cast("type[Any]", hint), value)
    return value
