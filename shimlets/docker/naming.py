"""What things of ours are called in the engine: names, labels, and the fate that a container's name tells.

A rename is atomic and outlives both the agent and its state folder; so the name is where a generation's fate is written:
`xmod-OWNER-SERVICE-DIGEST8-INDEX` served, the same with `.new` has yet to prove itself, with `.failed` it did not.
A name of ours that somebody changed counts as served: the one reading that can neither burn nor remove anything.
What was given up keeps its labels, which cannot change, and is called `….ID12.forgotten`: that is nobody's.
"""

import re

from agent.contracts import Digest, Fate, ServiceName

SERVICE = "xmod.dev/service"
INSTANCE = "xmod.dev/instance"
DIGEST = "xmod.dev/digest"
SOURCE = "xmod.dev/source-id"
MARK = "xmod.dev/mark"
SECRETS = "xmod.dev/secrets"
IMAGE = "xmod.dev/image-id"
LOCK = "xmod.dev/lock"
HOLDER = "xmod.dev/lock-holder"

_FORGOTTEN = ".forgotten"
_SUFFIXES = {Fate.SERVED: "", Fate.NEW: ".new", Fate.FAILED: ".failed"}
_OWNER = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def checked_owner(owner: str) -> str:
    """The owner, if container names can carry it. Raises ValueError otherwise."""
    if not _OWNER.fullmatch(owner):
        raise ValueError(f"instance {owner!r}: must be lower-case letters, digits and dashes, at most 63 characters")
    return owner


def container_name(owner: str, name: ServiceName, digest: Digest, *, index: int, fate: Fate) -> str:
    """What the container of that replica is called."""
    return f"xmod-{owner}-{name}-{digest[:8]}-{index}{_SUFFIXES[fate]}"


def every_name(owner: str, name: ServiceName, digest: Digest, *, index: int) -> frozenset[str]:
    """The names that a replica has in the course of its life."""
    return frozenset(container_name(owner, name, digest, index=index, fate=fate) for fate in Fate)


def name_pattern(owner: str, name: ServiceName) -> str:
    """A regular expression, as the engine's filter wants it, of all names that containers of a service can have."""
    return rf"^/?xmod-{re.escape(owner)}-{re.escape(name)}-[0-9a-f]{{8}}-[0-9]+(\.new|\.failed)?$"


def fate_of(container: str) -> Fate:
    """The fate that a container's name tells."""
    if container.endswith(_SUFFIXES[Fate.FAILED]):
        return Fate.FAILED
    return Fate.NEW if container.endswith(_SUFFIXES[Fate.NEW]) else Fate.SERVED


def forgotten_name(container: str, container_id: str) -> str:
    """What a container is called once it was given up; its id in it, so that a later one can be given up too."""
    return f"{container}.{container_id[:12]}{_FORGOTTEN}"


def is_forgotten(container: str) -> bool:
    """It was given up."""
    return container.endswith(_FORGOTTEN)


def network_name(owner: str) -> str:
    """The bridge network of all services of an owner."""
    return f"xmod-{owner}"
