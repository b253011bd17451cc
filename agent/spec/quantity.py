"""The small languages inside a DeploySpec: durations, cores, bytes, names and paths, each with its own sentence.

Each is a pydantic type: what a user writes, checked, as the number or text that we count in (seconds, cores, bytes).
"""

import ipaddress
import re
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

_DURATION = re.compile(r"(?:\d{1,9}(?:\.\d{1,9})?(?:ms|s|m|h)){1,8}\Z")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_LONGEST = 24 * 3600.0

_CORES = re.compile(r"\d{1,9}(?:\.\d{1,18})?\Z|\d{1,9}m\Z")
_BYTES = re.compile(r"(\d{1,18}(?:\.\d{1,18})?)(Ki|Mi|Gi|Ti|k|K|M|G|T)?\Z")
_FACTOR = {None: 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_FACTOR |= {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}


def refused(expected: str, value: object) -> PydanticCustomError:
    """An error that says what was expected and what was found."""
    return PydanticCustomError("refused", "{sentence}", {"sentence": f"{expected}, not {shown(value)}"})


def shown(value: object) -> str:
    """A value as its writer would know it again, shortened."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else text[:70] + "…" + text[-1]


def seconds(value: object) -> float:
    """Read a duration such as 500ms, 60s, 5m or 1h30m."""
    if isinstance(value, str) and _DURATION.match(value):
        total = sum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(value))
        if 0 < total <= _LONGEST:
            return total
        raise refused("must be a duration of more than nothing and at most 24h", value)
    raise refused('must be a duration with its unit, such as "500ms", "60s" or "1h30m"', value)


def cores(value: object) -> float:
    """Read an amount of CPU: 4, 0.5, "4" or "500m"."""
    text = str(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else ""
    if _CORES.match(text):
        amount = float(text[:-1]) / 1000 if text.endswith("m") else float(text)
        if amount > 0:
            return amount
    raise refused('must be a number of cores such as "4", 0.5 or "500m"', value)


def size(value: object) -> int:
    """Read an amount of memory: 16Gi, 512Mi, 2G or a number of bytes."""
    text = str(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else ""
    found = _BYTES.match(text)
    if found and (amount := int(float(found[1]) * _FACTOR[found[2]])) > 0:
        return amount
    raise refused('must be an amount of memory such as "16Gi" or "512Mi"', value)


def _address(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise refused('must be an IP address such as "127.0.0.1"', value) from None


def _word(pattern: str, expected: str) -> tuple[Any, WithJsonSchema]:
    """A text that matches a pattern as a whole."""
    whole = re.compile(rf"(?:{pattern})\Z")

    def check(value: str) -> str:
        if not whole.match(value):
            raise refused(expected, value)
        return value

    return AfterValidator(check), WithJsonSchema({"type": "string", "pattern": f"^(?:{pattern})$"})


def _quantity(read: Callable[[object], object], *kinds: str, pattern: str) -> tuple[Any, WithJsonSchema]:
    return BeforeValidator(read), WithJsonSchema({"type": list(kinds), "pattern": pattern})


Seconds = Annotated[float, *_quantity(seconds, "string", pattern=r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$")]
Cores = Annotated[float, *_quantity(cores, "string", "number", pattern=r"^([0-9]+(\.[0-9]+)?|[0-9]+m)$")]
Bytes = Annotated[int, *_quantity(size, "string", "integer", pattern=r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|k|K|M|G|T)?$")]
Address = Annotated[str, AfterValidator(_address)]
Name = Annotated[
    str,
    *_word(
        "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?",
        "must be a DNS label (lower-case letters, digits and '-', at most 63, no '-' at either end)",
    ),
]
Word = Annotated[str, *_word("[A-Za-z0-9][-A-Za-z0-9_.]{0,127}", "must be a name of letters, digits, '.', '_' and '-'")]
HostPattern = Annotated[
    str,
    *_word(
        r"[A-Za-z0-9*?][A-Za-z0-9*?._-]{0,252}",
        'must be the name of a host or a glob with * and ?, such as "edge-01" or "edge-*"',
    ),
]
ModelName = Annotated[
    str,
    *_word(r"[^\s{}\x00-\x20-][^\s{}\x00-\x20]{0,254}", "must be a name without blanks, braces or a '-' in front"),
]
EnvKey = Annotated[
    str,
    *_word("[A-Za-z_][A-Za-z0-9_]*", "must be the name of an environment variable (letters, digits and '_')"),
]
HostPath = Annotated[str, *_word(r"/[^:\x00-\x1f]*", "must be an absolute path without ':'")]
ModelFile = Annotated[str, *_word(r"[^-\s:\x00-\x20][^:\x00-\x1f]*", "must be a path without ':'")]
UrlPath = Annotated[str, *_word(r"/[^\s\x00-\x20]*", "must be a path of the service that begins with '/'")]
ImageName = Annotated[
    str,
    *_word(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,511}", 'must be an image reference such as "repo/name:tag"'),
]
Sha256 = Annotated[str, *_word("[0-9a-f]{64}", "must be a SHA-256: 64 lower-case hex digits")]
Text = Annotated[str, *_word(r"[^\x00]+", "must not be empty")]
