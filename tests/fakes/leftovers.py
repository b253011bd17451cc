"""Sees what tests may leave in this host: containers, networks, volumes, images and processes of theirs.

Theirs: of an instance named "t-…" or "demo-…", or with such a name themselves.
"""

import contextlib
import os
from pathlib import Path

import docker
import requests

_INSTANCE = "xmod.dev/instance"
_SOCKET = "/var/run/docker.sock"
_OWNERS = ("t-", "demo-")
_NAMES = ("t-", "xmod-t-", "xmod-test-")
_MARKS = tuple(f"XMOD_INSTANCE={owner}".encode() for owner in _OWNERS)


def leftovers() -> frozenset[str]:
    """One sentence's worth of each."""
    return frozenset(_in_docker()) | frozenset(_processes())


def _in_docker() -> list[str]:
    if not os.environ.get("DOCKER_HOST") and not os.access(_SOCKET, os.W_OK):
        return []  # the client library leaks its socket when it may not connect
    try:
        with contextlib.closing(docker.APIClient(version="1.41", timeout=20)) as api:
            found = [
                f"container {item['Names'][0].lstrip('/')}"
                for item in api.containers(all=True)
                if _ours(item["Labels"], item["Names"][0])
            ]
            found += [f"network {item['Name']}" for item in api.networks() if _ours(item["Labels"], item["Name"])]
            found += [
                f"image {tag}" for item in api.images() for tag in item["RepoTags"] or () if tag.startswith(_NAMES)
            ]
            volumes = api.volumes()["Volumes"] or []
            return found + [f"volume {item['Name']}" for item in volumes if _ours(item["Labels"], item["Name"])]
    except (docker.errors.DockerException, requests.RequestException):
        return []  # no engine: nothing can be left in it


def _ours(labels: dict[str, str] | None, name: str) -> bool:
    return (labels or {}).get(_INSTANCE, "").startswith(_OWNERS) or name.lstrip("/").startswith(_NAMES)


def _processes() -> list[str]:
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # it ended, or is someone else's
            words = environ.read_bytes().split(b"\0")
            if any(word.startswith(_MARKS) for word in words):
                command = (environ.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found.append(f"process {environ.parent.name} ({command.strip()})")
    return found
