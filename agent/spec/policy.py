"""What specs may use of this host: the operator's word, from the settings' `policy:` block. Denied unless allowed.

A spec is written by whoever may commit; a policy by whoever runs the agent. So a spec can never widen it, links inside
a spec's repository are followed before anything is compared, and each refusal names its rule and the line to add.
It is asked when a file changes (bounds.py), and again before anything is started (permission.py).

Programs, unless listed: an ordinary user's agent may run what lies in `bin/` beside the spec folder and on its own
PATH, since who commits there could do no more than that user. As root nothing may run: a commit would be root.
Listing an interpreter (/bin/sh, python) allows everything that it can do.
Models may lie in `models/` beside the spec folder, /models and /srv/models: they are only read.
"""

import fnmatch
import ipaddress
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError

from agent.contracts import SecretRef, fill
from agent.spec.complaint import faults, field
from agent.spec.document import Flag
from agent.spec.part import Part
from agent.spec.quantity import HostPath, Text, refused
from agent.spec.workload import ARCHIVE

_GLOB = re.compile(r"[*?\[]")
_RANGE = re.compile(r"(\d{1,5})-(\d{1,5})\Z")


def _ports(value: object) -> tuple[int, int]:
    found = _RANGE.match(value) if isinstance(value, str) else None
    if found and 1 <= int(found[1]) <= int(found[2]) <= 65535:
        return int(found[1]), int(found[2])
    raise refused('must be "FIRST-LAST", ports between 1 and 65535', value)


def _network(value: object) -> str:
    try:
        return str(ipaddress.ip_network(str(value), strict=False))
    except ValueError:
        raise refused('must be an address or a network such as "10.0.0.0/8"', value) from None


class HostRoot(Part):
    """A folder of the host that specs may mount, with all below it."""

    path: HostPath
    read_only: Flag = True


class Rules(Part):
    """The `policy:` block of the settings, as written."""

    images: tuple[Text, ...] = Field(default=("*",), description="globs of image references")
    host_paths: tuple[HostRoot, ...] = Field(default=(), description="folders for volumes and image archives")
    model_roots: tuple[HostPath, ...] | None = Field(default=None, description="folders of model files")
    programs: tuple[HostPath, ...] | None = Field(default=None, description="programs, folders of them, or globs")
    bind_addresses: tuple[Annotated[str, BeforeValidator(_network)], ...] = Field(
        default=(), description="besides loopback"
    )
    port_range: Annotated[tuple[int, int], BeforeValidator(_ports)] | None = Field(
        default=None, description='"FIRST-LAST"'
    )
    privileges: tuple[Text, ...] = Field(
        default=(), description="SHIMLET.KEY or SHIMLET.KEY=VALUE of a shimlet's block"
    )
    secret_files: tuple[HostPath, ...] = Field(default=(), description="files, or folders of them, for valueFrom")
    environment: tuple[Text, ...] = Field(
        default=(), description="globs of names in the agent's environment, for valueFrom"
    )


_HARMLESS: Mapping[str, frozenset[str]] = {
    "docker": frozenset({"restart", "stopGrace", "user", "shmSize", "labels", "ulimits", "logMaxSize", "logMaxFiles"}),
}
_HARMLESS_VALUES = frozenset(
    {"docker.network=bridge", "docker.network=none", "docker.ipc=private", "docker.privileged=false"}
)
_FILLED = {"port": "", "host": "", "model": "", "name": ""}
_USUAL_MODEL_ROOTS = ("/models", "/srv/models")


@dataclass(frozen=True, slots=True)
class Policy:
    """Answers what a spec may use; "" means that it may, else a sentence that names the rule and how to allow it.

    `beside`: the folder that holds the spec folder. `search`: folders in which a bare program name is looked for.
    """

    rules: Rules
    beside: str
    search: tuple[str, ...]
    as_root: bool

    @classmethod
    def load(cls, block: Mapping[str, Any], *, specs: Path, search: str, as_root: bool) -> "Policy":
        """Read the settings' block. `specs`: the spec folder; `search`: PATH. Raises ValueError, a sentence a mistake."""
        try:
            rules = Rules.model_validate(dict(block))
        except ValidationError as error:
            sentences = [f"policy.{field(fault.path)}: {fault.message}" for fault in faults(error, Rules)]
            raise ValueError("\n".join(sentences)) from error
        beside = os.path.realpath(specs.absolute().parent)
        folders = tuple(
            dict.fromkeys(os.path.normpath(part) for part in search.split(os.pathsep) if part.startswith("/"))
        )
        return cls(rules, beside, folders, as_root)

    def image(self, reference: str) -> str:
        """Whether an image, as a Workload says it, may be used."""
        if reference.startswith(ARCHIVE):
            return self.host_path(reference.removeprefix(ARCHIVE), read_only=True)
        if any(fnmatch.fnmatchcase(reference, glob) for glob in self.rules.images):
            return ""
        return _denied("images", f"no glob matches {reference}", f'["{reference}"]')

    def host_path(self, path: str, *, read_only: bool) -> str:
        """Whether a path of the host may be mounted."""
        inside = [root for root in self.rules.host_paths if _inside(path, root.path)]
        if any(read_only or not root.read_only for root in inside):
            return ""
        if inside:
            what = f"{inside[0].path} may only be read, and the volume is not readOnly"
            return _denied("hostPaths", what, f"[{{path: {inside[0].path}, readOnly: false}}]")
        what = _outside(path, [root.path for root in self.rules.host_paths])
        return _denied("hostPaths", what, f"[{{path: {path}, readOnly: {'true' if read_only else 'false'}}}]")

    def model(self, path: str) -> tuple[str, str]:
        """Where a model is, and why it may not be read. A relative path is looked for below each root."""
        own, listed = f"{self.beside}/models", self.rules.model_roots
        roots = (own, *_USUAL_MODEL_ROOTS) if listed is None else listed
        if not roots:
            return path, _denied("modelRoots", f"{path}: no folder of models is listed", "[/path/of/models]")
        places = [path] if path.startswith("/") else [os.path.normpath(f"{root}/{path}") for root in roots]
        place = next((place for place in places if os.path.exists(place)), places[0])  # noqa: PTH110
        real = os.path.realpath(place)
        if any(_own(real, own) if root == own else _below(real, os.path.realpath(root)) for root in roots):
            return place, ""
        return place, _denied("modelRoots", _outside(place, roots), f"[{os.path.dirname(place)}]")  # noqa: PTH120  # a text

    def address(self, address: str) -> str:
        """Whether a port may be published on an address."""
        if address == "127.0.0.1":  # nearly always
            return ""
        wanted = ipaddress.ip_address(address)
        networks = (ipaddress.ip_network(network) for network in self.rules.bind_addresses)
        if wanted.is_loopback or any(_within(wanted, network) for network in networks):
            return ""
        return _denied("bindAddresses", f"{address} can be reached from other machines", f'["{address}"]')

    def port(self, port: int, assigned: tuple[int, int]) -> str:
        """Whether a host port may be asked for. `assigned`: the range that the agent assigns from."""
        first, last = self.rules.port_range or assigned
        if first <= port <= last:
            return ""
        return _denied("portRange", f"port {port} is not in {first}-{last}", f'"{min(first, port)}-{max(last, port)}"')

    def secret(self, ref: SecretRef) -> str:
        """Whether a secret may be read. What a spec brings with it, encrypted, needs nobody's leave."""
        if ref.source == "sops":
            return ""
        return self._environment(ref.name) if ref.source == "env" else self._secret_file(ref.name)

    def _secret_file(self, path: str) -> str:
        if any(_inside(path, root) for root in self.rules.secret_files):
            return ""
        return _denied("secretFiles", _outside(path, self.rules.secret_files), f"[{path}]")

    def _environment(self, name: str) -> str:
        if any(fnmatch.fnmatchcase(name, glob) for glob in self.rules.environment):
            return ""
        return _denied("environment", f"{name} of the agent's environment is not listed", f"[{name}]")

    def options(self, shimlet: str, block: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Which keys of a shimlet's block may not be used, each with its sentence."""
        for key, value in block.items():
            if key not in _HARMLESS.get(shimlet, frozenset()):
                for wanted in value if isinstance(value, list) else [value]:
                    denied = self._privilege(f"{shimlet}.{key}", wanted)
                    if denied:
                        yield key, denied

    def variable(self, shimlet: str, name: str, *, found: bool) -> str:
        """Whether a program may be given a variable that decides what code runs: LD_…, and PATH until it is `found`."""
        decides = name.startswith("LD_") or (name == "PATH" and not found)
        return self._privilege(f"{shimlet}.{name}", None) if decides else ""

    def program(self, name: str) -> tuple[str, str]:
        """The path of a program of the host, and why it may not run.

        A bare name is looked for in `bin/` beside the specs, in listed folders and on PATH; the first one that may run
        is taken. One that is not installed yet stays a bare name, if it may run wherever it will be found.
        """
        if "/" in name and not name.startswith("/"):
            return name, f'a program is a bare name or an absolute path, not "{name}"'
        if fill(name, _FILLED) != name:
            return name, f"a program is named outright; what {name} stands for is known only when it starts"
        places = (name,) if "/" in name else self._places(name)
        found = _installed(places)
        permitted = next((place for place in found if self._may_run(place)), "")
        if permitted:
            return permitted, ""
        listed = next((place for place in places if place in (self.rules.programs or ())), "")
        if not found and listed:
            return listed, ""
        if not found and places and all(self._may_run(place) for place in places):
            return name, ""
        return name, self._program_denied(found[0] if found else name)

    def start(self, name: str) -> str:
        """Whether a program may be started now. Of a bare name, every program that it may stand for must be allowed."""
        _, denied = self.program(name)
        if denied or "/" in name:
            return denied
        other = next((place for place in _installed(self._places(name)) if not self._may_run(place)), "")
        return self._program_denied(other) if other else ""

    def _places(self, name: str) -> tuple[str, ...]:
        """Where a bare name may lie, in the order in which it is looked for."""
        listed = self.rules.programs or ()
        exact = [entry for entry in listed if os.path.basename(entry) == name]  # noqa: PTH119  # a text
        folders = [f"{self.beside}/bin", *(entry.rstrip("/") for entry in listed if os.path.isdir(entry)), *self.search]  # noqa: PTH112
        return tuple(dict.fromkeys([*exact, *(f"{folder}/{name}" for folder in folders)]))

    def _may_run(self, place: str) -> bool:
        if self.rules.programs is not None:
            return any(_inside(place, entry) or _matches(place, entry) for entry in self.rules.programs)
        if self.as_root:
            return False
        return _own(os.path.realpath(place), f"{self.beside}/bin") or os.path.dirname(place) in self.search  # noqa: PTH120  # a text

    def _program_denied(self, name: str) -> str:
        if self.rules.programs:
            what = f"{name} is none of {', '.join(self.rules.programs)}"
        elif self.as_root and self.rules.programs is None:
            what = f"{name}: as root only listed programs may run"
        elif self.rules.programs is None:
            what = f"{name} lies neither in {self.beside}/bin nor on the agent's PATH"
        else:
            what = f"{name}: none is listed"
        return _denied("programs", what, f"[{name if name.startswith('/') else '/path/of/' + name}]")

    def _privilege(self, key: str, value: Any) -> str:
        text = str(value).lower() if isinstance(value, bool) else str(value)
        exact = key if value is None or value is True or isinstance(value, dict) else f"{key}={text}"
        if f"{key}={text}" in _HARMLESS_VALUES or key in self.rules.privileges or exact in self.rules.privileges:
            return ""
        return _denied("privileges", f"{exact} is not listed", f'["{exact}"]')


def _denied(rule: str, what: str, snippet: str) -> str:
    return f"the rule policy.{rule} does not allow it: {what}; to allow it, add to the settings  policy: {{{rule}: {snippet}}}"


def _installed(places: Sequence[str]) -> list[str]:
    return [place for place in places if os.path.isfile(place) and os.access(place, os.X_OK)]  # noqa: PTH113


def _outside(path: str, roots: Sequence[str]) -> str:
    real = os.path.realpath(path)
    place = path if real == os.path.normpath(path) else f"{path} (in truth {real})"
    return (
        f"{place} lies in none of {', '.join(roots)}"
        if roots
        else f"{place} lies in no listed place, for none is listed"
    )


def _inside(path: str, root: str) -> bool:
    """Links are followed on both sides: a root is the operator's, a path may come through a link in a repository."""
    return _below(os.path.realpath(path), os.path.realpath(root))


def _below(real: str, root: str) -> bool:
    return real == root or real.startswith(root.rstrip("/") + "/")


def _own(real: str, root: str) -> bool:
    """Whether it is below a folder beside the specs, which may be from the repository, so that it must not be a link."""
    return _below(real, root) and os.path.realpath(root) == root


def _matches(path: str, glob: str) -> bool:
    folder, _, name = glob.rpartition("/")
    base = folder if _GLOB.search(folder) else os.path.realpath(folder)  # /bin may be a link to /usr/bin
    return fnmatch.fnmatchcase(os.path.realpath(path), f"{base}/{name}")


def _within(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, network: ipaddress.IPv4Network | ipaddress.IPv6Network
) -> bool:
    return address.version == network.version and address in network
