"""The operator's block `shimlets.process`: where programs lie, how long a stop may take, how long logs may grow."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Options:
    """`path`: folders that are searched before PATH. `stop_grace`: seconds from TERM to KILL. `log_bytes`: per file, of two."""

    path: tuple[str, ...] = ()
    stop_grace: float = 10.0
    log_bytes: int = 10 << 20


def read(options: Mapping[str, Any]) -> Options:
    """Check the block. ValueError says what is wrong with it."""
    known = {"path": "path", "stopGrace": "stop_grace", "logBytes": "log_bytes"}
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(f"shimlets.process: unknown {', '.join(unknown)}; known: {', '.join(known)}")
    path, grace, size = options.get("path", ()), options.get("stopGrace", 10.0), options.get("logBytes", 10 << 20)
    if isinstance(path, str) or not all(isinstance(folder, str) and folder.startswith("/") for folder in path):
        raise ValueError("shimlets.process.path: a list of absolute folders is expected")
    if isinstance(grace, bool) or not isinstance(grace, int | float) or grace < 0:
        raise ValueError("shimlets.process.stopGrace: seconds are expected, 0 or more")
    if isinstance(size, bool) or not isinstance(size, int) or size < 4096:
        raise ValueError("shimlets.process.logBytes: bytes are expected, 4096 or more")
    return Options(tuple(path), float(grace), size)
