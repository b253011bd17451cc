"""A folder of specs in memory: real bytes through the real reader and resolver, for a MiniAgent."""

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent.contracts import Digest, Service, digest_of
from agent.control.desired import DesiredReader, DesiredState
from agent.source.snapshot import Snapshot, SourceFile, revision_of
from agent.spec.engine import Engines
from agent.spec.hosts import HostId
from agent.spec.policy import Policy
from agent.spec.resolve import Defaults, FileReading, Resolver
from tests.fakes.agent import MiniAgent
from tests.fakes.clock import VirtualClock

RESOLVER = Resolver(
    Policy.load({}, specs=Path("/nowhere/specs"), search="/usr/bin:/bin", as_root=False),
    Engines.load(),
    Defaults(
        shimlet="memory",
        shimlets=frozenset({"memory", "other"}),
        goalsets=frozenset({"service-deploy", "llm-deploy"}),
    ),
)


def document(name: str, version: str = "v1", *, extra: str = "", **annotations: str) -> str:
    """One DeploySpec; `extra`: further lines of its spec; annotations: prune="disabled", suspend="true"."""
    noted = ", ".join(f'xmod.dev/{key}: "{value}"' for key, value in annotations.items())
    return (
        f"apiVersion: xmod.dev/v1\nkind: DeploySpec\nmetadata: {{name: {name}, annotations: {{{noted}}}}}\n"
        f"spec:\n  container: {{image: 'mini:{version}', command: [/bin/httpd], port: 8080, health: {{path: /}}}}\n"
        + "".join(f"  {line}\n" for line in extra.splitlines())
    )


def service_of(text: str, file: str = "a.yaml") -> Service:
    """What a document resolves to, with a digest."""
    read = RESOLVER.read_file(file, text.encode())
    assert not read.problems, read.problems
    return read.wanted[0].service


@dataclass
class Folder:
    """Files by path; None cannot be read. `upgrade` resolves every spec differently, as a newer agent may.

    `host`: for which host it is read; set it before a restart.
    """

    clock: VirtualClock
    files: dict[str, str | bytes | None] = field(default_factory=dict)
    source: str = "folder:/specs"
    identity: str = "1:1"
    upgrade: str = ""
    host: HostId | None = None

    def __post_init__(self) -> None:
        self.reader = DesiredReader(self.read_file, "" if self.host is None else str(self.host))

    def read_file(self, path: str, content: bytes) -> FileReading:
        """The real resolver; an upgraded one brings a new default into every workload."""
        return upgraded(replace(RESOLVER, host=self.host).read_file(path, content), self.upgrade)

    def snapshot(self) -> Snapshot:
        """As the source would hand it in."""
        files = tuple(_file(path, content) for path, content in sorted(self.files.items()))
        return Snapshot(self.source, "/specs", revision_of(files), self.identity, files, self.clock.now())

    def desired(self) -> DesiredState:
        """What it wants now."""
        return self.reader.read(self.snapshot())

    def scan(self, agent: MiniAgent) -> DesiredState:
        """Let the agent read it, and do all that can be done at once."""
        desired = self.desired()
        agent.controller.take(desired)
        agent.pump()
        return desired

    def restarted(self) -> "Folder":
        """The same folder, read by a new agent: nothing of earlier readings is remembered."""
        return Folder(self.clock, dict(self.files), self.source, self.identity, self.upgrade, self.host)


def upgraded(reading: FileReading, version: str) -> FileReading:
    """The same specs resolved by another version of the agent."""

    def anew(service: Service) -> Service:
        workload = replace(service.workload, env=(*service.workload.env, ("AGENT", version)))
        return replace(service, workload=workload, digest=Digest(digest_of(workload)))

    if not version:
        return reading
    return replace(reading, wanted=tuple(replace(w, service=anew(w.service)) for w in reading.wanted))


def _file(path: str, content: str | bytes | None) -> SourceFile:
    if content is None:
        return SourceFile(path, "", None, "Permission denied")
    data = content.encode() if isinstance(content, str) else content
    return SourceFile(path, hashlib.sha256(data).hexdigest(), data)
