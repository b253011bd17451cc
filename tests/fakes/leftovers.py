"""Sees what tests may leave in this host: containers, networks, volumes and processes of instances named "t-…"."""

import contextlib
from pathlib import Path

import docker
import requests

_INSTANCE = "xmod.dev/instance"


def leftovers() -> frozenset[str]:
    """One sentence's worth of each."""
    return frozenset(_in_docker()) | frozenset(_processes())


def _in_docker() -> list[str]:
    try:
        with contextlib.closing(docker.APIClient(version="1.41", timeout=20)) as api:
            found = [
                f"container {item['Names'][0].lstrip('/')}"
                for item in api.containers(all=True)
                if _ours(item["Labels"], item["Names"][0])
            ]
            found += [f"network {item['Name']}" for item in api.networks() if _ours(item["Labels"], item["Name"])]
            volumes = api.volumes()["Volumes"] or []
            return found + [f"volume {item['Name']}" for item in volumes if _ours(item["Labels"], item["Name"])]
    except (docker.errors.DockerException, requests.RequestException):
        return []  # no engine: nothing can be left in it


def _ours(labels: dict[str, str] | None, name: str) -> bool:
    return (labels or {}).get(_INSTANCE, "").startswith("t-") or name.lstrip("/").startswith(("t-", "xmod-t-"))


def _processes() -> list[str]:
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # it ended, or is someone else's
            words = environ.read_bytes().split(b"\0")
            if any(word.startswith(b"XMOD_INSTANCE=t-") for word in words):
                command = (environ.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found.append(f"process {environ.parent.name} ({command.strip()})")
    return found
