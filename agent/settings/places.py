"""Where an agent keeps its memory and is spoken to unless that was set: the same for the agent and the CLI."""

import os
from collections.abc import Mapping
from pathlib import Path


def default_state_dir(instance: str, environ: Mapping[str, str], uid: int) -> Path:
    """Where the memory of an instance is unless it was set."""
    if uid == 0:
        base = Path("/var/lib")
    else:
        base = Path(environ.get("XDG_STATE_HOME") or Path(environ.get("HOME") or "~").expanduser() / ".local/state")
    return base / "xmod-agent" / ("" if instance == "default" else instance)


SYSTEM_FOLDER = Path("/run/xmod-agent")


def default_socket(instance: str, environ: Mapping[str, str] = os.environ, uid: int | None = None) -> Path:
    """Where the agent of that instance is spoken to unless it was set: the same for the agent and the CLI."""
    uid = os.getuid() if uid is None else uid
    if uid == 0:
        folder = SYSTEM_FOLDER
    elif runtime := environ.get("XDG_RUNTIME_DIR"):
        folder = Path(runtime) / "xmod-agent"
    else:
        folder = Path(f"/tmp/xmod-agent-{uid}")  # noqa: S108 – mode 0700, and both sides check its owner
    return folder / f"{instance}.sock"


def socket_to_ask(instance: str, environ: Mapping[str, str] = os.environ, uid: int | None = None) -> Path:
    """Where a person finds that agent: the user's own, else the one that is this host's service."""
    own = default_socket(instance, environ, uid)
    return SYSTEM_FOLDER / own.name if SYSTEM_FOLDER.is_dir() and not own.exists() else own
