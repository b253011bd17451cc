"""What to run: the Workload, the Service that wants it, and where the ledger put each replica.

All values are frozen. A Workload's placeholders ({port}, {host}, {model}, {name}) stay unfilled and its secrets stay
references until a shimlet starts a replica, so that neither a placement nor a secret can reach a digest.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NewType

ServiceName = NewType("ServiceName", str)
Digest = NewType("Digest", str)


@dataclass(frozen=True, slots=True)
class SecretRef:
    """Where a secret is found: source "file" and its path, or "env" and a name in the agent's environment.

    Source "sops": it was encrypted in the service's own document; its name is SERVICE/KEY.
    """

    source: str
    name: str


@dataclass(frozen=True, slots=True)
class ImageLogin:
    """Who pulls the image: a reference, as it stands in marks. In no digest: it decides nothing that runs."""

    username: str
    password: SecretRef


@dataclass(frozen=True, slots=True)
class Mount:
    """A path of the host, seen at `path` by the replica."""

    host_path: str
    path: str
    read_only: bool = True


@dataclass(frozen=True, slots=True)
class Model:
    """Model files: `source` is a host path for now ("/models/x" or "file:///models/x")."""

    source: str
    revision: str = ""
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Accelerators:
    """Devices as wanted. `memory`: bytes per device; `ids` pins them."""

    kind: str = ""
    count: int = 0
    memory: int = 0
    ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Check:
    """How a replica is asked whether it answers, and what its answers mean. Times in seconds.

    `path` asks HTTP GET, `tcp` only connects; with neither, a replica counts as healthy while it runs.
    `loading`: HTTP codes that mean "not yet". A refused connection always means "not yet".
    """

    path: str = ""
    tcp: bool = False
    interval: float = 2.0
    timeout: float = 2.0
    startup_deadline: float = 60.0
    loading: tuple[int, ...] = (503,)
    smoke: str = ""


@dataclass(frozen=True, slots=True)
class Workload:
    """What to run, in any world: no place, no count, no policy.

    `image` is a reference or "archive:PATH". `command` replaces the image's entrypoint; where it is empty, a world
    without images runs `program`. Argument vector: (command or entrypoint or program) + args.
    `cpu` in cores, `memory` and `shm` in bytes; 0 means unlimited or the world's default.
    `options`: the spec's block named like the shimlet, as canonical JSON.
    """

    image: str = ""
    program: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    port: int | None = None
    env: tuple[tuple[str, str | SecretRef], ...] = ()
    mounts: tuple[Mount, ...] = ()
    model: Model | None = None
    served_name: str = ""
    accelerators: Accelerators = Accelerators()
    check: Check = Check()
    cpu: float = 0.0
    memory: int = 0
    shm: int = 0
    options: str = "{}"


@dataclass(frozen=True, slots=True)
class Service:
    """A spec, resolved. Written whole on each replica it is our mark; only `digest` decides a replacement.

    `strategy`: "recreate" or "side-by-side". `port`: the fixed host port, None = the ledger assigns one per replica.
    `protected`: the spec said that it must not be pruned. `depends_on`: what serves before it starts. `host`: the name and
    labels of the host that its spec was read for, "" if unknown. `revision`, `source`, `file`, `host`: true when applied,
    never updated.
    """

    name: ServiceName
    workload: Workload
    digest: Digest
    spec_digest: Digest
    shimlet: str
    goalset: str
    replicas: int = 1
    port: int | None = None
    bind: str = "127.0.0.1"
    strategy: str = "recreate"
    priority: int = 0
    protected: bool = False
    image_login: ImageLogin | None = None
    depends_on: tuple[ServiceName, ...] = ()
    revision: str = ""
    source: str = ""
    file: str = ""
    host: str = ""


@dataclass(frozen=True, slots=True)
class Placement:
    """What the ledger gave one replica: its index, host port, device ids and the model's path on this host."""

    index: int
    port: int | None = None
    devices: tuple[str, ...] = ()
    model_path: str = ""


_PLACEHOLDER = re.compile(r"(?<!\{)\{(port|host|model|name)\}(?!\})")


def fill(text: str, values: Mapping[str, str]) -> str:
    """Fill {port}, {host}, {model} and {name}; every other brace, and {{port}}, is left as it stands."""
    return _PLACEHOLDER.sub(lambda match: values[match[1]], text)
