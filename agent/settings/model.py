"""The settings themselves: their names, defaults, bounds and descriptions. `run --help` and docs/ show them.

The keys of the blocks `service`, `plugins` and `logging` are those of the reference implementation. A setting's name
in a file is `block.key`, its name in the environment XMOD_BLOCK__KEY.
"""

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZES = {None: 1, "K": 2**10, "M": 2**20, "G": 2**30}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


class PortRange(NamedTuple):
    """From `first` to `last`, both included."""

    first: int
    last: int


def _seconds(value: object) -> object:
    if not isinstance(value, str):
        return value
    parts = _DURATION.findall(value)
    if not parts or "".join(number + unit for number, unit in parts) != value:
        raise ValueError('must be a duration such as "30s", "1m30s" or "500ms"')
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def _ports(value: object) -> object:
    if isinstance(value, PortRange):
        return value
    found = re.fullmatch(r"\s*(\d{1,5})\s*-\s*(\d{1,5})\s*", value) if isinstance(value, str) else None
    if not found or not 1 <= int(found[1]) <= int(found[2]) <= 65535:
        raise ValueError('must be "FIRST-LAST", ports between 1 and 65535')
    return PortRange(int(found[1]), int(found[2]))


def _an_address(value: str) -> str:
    if value != "localhost":
        try:
            ipaddress.ip_address(value)
        except ValueError:
            raise ValueError('must be an IP address or "localhost"') from None
    return value


def _bytes(value: object) -> object:
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"(\d+)(?:([KMG])i?B?)?", value)
    if not found:
        raise ValueError('must be a size such as "64Mi" or "1Gi"')
    return int(found[1]) * _SIZES[found[2]]


Seconds = Annotated[float, BeforeValidator(_seconds), Field(gt=0, le=30 * 86400.0)]
Age = Annotated[float, BeforeValidator(_seconds), Field(gt=0, le=3650 * 86400.0)]
Bytes = Annotated[int, BeforeValidator(_bytes), Field(ge=2**20)]
Address = Annotated[str, AfterValidator(_an_address)]
Ports = Annotated[PortRange, BeforeValidator(_ports)]


class Block(BaseModel):
    """A group of settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class ServiceBlock(Block):
    """Where the agent itself answers."""

    port: int = Field(
        default=8080, ge=0, le=65535, description="TCP port of /healthz, /readyz, /metrics and /api/v1; 0: any"
    )
    bind: Address = Field(
        default="127.0.0.1", description="address to listen on; other than loopback needs service.allowRemote"
    )
    allow_remote: bool = Field(
        default=False, description="let other machines read status and metrics, which ask for no password"
    )
    read_timeout: Seconds = Field(default=30.0, description="how long a client may take to send its request")
    write_timeout: Seconds = Field(default=30.0, description="how long an answer may take to be made and taken")

    @property
    def loopback(self) -> bool:
        """Only this machine can reach it."""
        return self.bind == "localhost" or ipaddress.ip_address(self.bind).is_loopback

    @model_validator(mode="after")
    def _remote_is_meant(self) -> Self:
        if not self.loopback and not self.allow_remote:
            raise ValueError(
                f"bind {self.bind} lets other machines read status and metrics without a password;"
                " if that is meant, set service.allowRemote: true (XMOD_SERVICE__ALLOW_REMOTE=true)"
            )
        return self


class SourceBlock(Block):
    """Where the specs come from: DIR, or a repository that the agent syncs by itself."""

    mode: Literal["auto", "git", "folder"] = Field(
        default="auto",
        description="how DIR is read: git, the HEAD of its work tree; folder, plain files; auto, as fits",
    )
    repo: str = Field(default="", description="URL of a git repository to sync and read, instead of DIR")
    ref: str = Field(default="", description="branch, tag or full commit id of the repository; empty: its HEAD")
    path: str = Field(default="", description="folder of specs in the repository; empty: its root")
    interval: Seconds = Field(
        default=30.0, description="the repository is asked for news this often, give or take a tenth"
    )
    token_file: Path | None = Field(default=None, description="file with a token or password for https")
    ssh_key: Path | None = Field(default=None, description="private key for ssh; empty: as ssh is set up")
    known_hosts: Path | None = Field(default=None, description="host keys to trust for ssh; empty: as ssh is set up")
    verify: Literal["none", "commit", "tag"] = Field(
        default="none",
        description="what must bear a good signature to come into force: nothing, commits, or tags at them",
    )
    allowed_signers: Path | None = Field(
        default=None, description="whose ssh signatures count: ssh's allowed signers file"
    )
    keyring: Path | None = Field(
        default=None, description="whose gpg signatures count: keys as gpg --export writes them"
    )

    @model_validator(mode="after")
    def _all_of_one_repository(self) -> Self:
        if not self.repo:
            given = {"ref": self.ref, "path": self.path, "tokenFile": self.token_file, "sshKey": self.ssh_key}
            given["knownHosts"] = self.known_hosts
            if names := [f"source.{name}" for name, value in given.items() if value]:
                raise ValueError(f"{', '.join(names)}: only of use with source.repo (--repo)")
        elif self.mode == "folder":
            raise ValueError("source.mode folder (--source folder) is for DIR, not for source.repo (--repo)")
        return self

    @model_validator(mode="after")
    def _all_that_verifying_needs(self) -> Self:
        keys = {"source.allowedSigners": self.allowed_signers, "source.keyring": self.keyring}
        if self.verify == "none":
            if names := [name for name, file in keys.items() if file]:
                raise ValueError(f"{', '.join(names)}: only of use with source.verify (--verify commit or tag)")
        elif not any(keys.values()):
            raise ValueError(f"source.verify {self.verify}: needs {' or '.join(keys)}: whose signatures count?")
        elif self.mode == "folder":
            raise ValueError(
                f"source.verify {self.verify}: a folder has no commits; drop source.mode folder (--source)"
            )
        return self


class WebhookBlock(Block):
    """Where git servers say that something was pushed. Without a secret there is no such place."""

    secret_file: Path | None = Field(
        default=None,
        description="file with the secret of POST /webhook, two lines while it changes; empty: none is heard",
    )
    port: int | None = Field(
        default=None, ge=0, le=65535, description="TCP port that answers /webhook alone; empty: it is at service.port"
    )
    bind: Address = Field(
        default="127.0.0.1", description="address of webhook.port; any will do, for a secret is asked for"
    )


class NotifyBlock(Block):
    """Who is told of transitions: trouble, and its end."""

    url: str = Field(default="", repr=False, description="URL that is told of trouble and its end, as JSON")
    url_file: Path | None = Field(default=None, description="file with that URL, if it is secret itself")
    secret_file: Path | None = Field(default=None, description="file with the secret that signs what is told")
    interval: Seconds = Field(
        default=3600.0,
        description="the same trouble is told again after this long",
        json_schema_extra={"shown": "1h"},
    )


class ReportBlock(Block):
    """Who hears how this host is, all the time."""

    url: str = Field(default="", repr=False, description="URL that hears the state of everything, as JSON")
    url_file: Path | None = Field(default=None, description="file with that URL, if it is secret itself")
    secret_file: Path | None = Field(default=None, description="file with the secret that signs the reports")
    interval: Seconds = Field(
        default=60.0, description="a report is sent this often, give or take a tenth, and when something changes"
    )


class Preload(Block):
    """One plugin to load at start. `path`: a .py file with register(plugins), or "module:attribute"."""

    type: Literal["shimlet", "goalset", "pipeline"] = "goalset"
    path: str = Field(min_length=1)
    name: str = ""


class PluginsBlock(Block):
    """Which plugins there are and which is meant when a spec names none."""

    default_shimlet: str = Field(default="docker", min_length=1, description="shimlet of specs that name none")
    default_pipeline: str = Field(
        default="", description="goalset of specs that name none; empty: as the spec's engine says"
    )
    plugin_dir: Path | None = Field(default=None, description="folder of .py files, each with register(plugins)")
    preload: tuple[Preload, ...] = Field(
        default=(), description='list of {type: shimlet|goalset, path: a .py file or "module:attribute", name}'
    )


class LoggingBlock(Block):
    """What is logged, how and where."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        BeforeValidator(lambda value: "warning" if value == "warn" else value),
    ] = Field(default="info", description="least that is logged: debug, info, warning or error")
    format: Literal["auto", "text", "json"] = Field(
        default="auto", description="auto: text on a terminal, else JSON lines"
    )
    output: str = Field(default="stdout", min_length=1, description="stdout, stderr or a file's path")


class AgentBlock(Block):
    """Who this agent is, and how often it looks."""

    instance: str = Field(
        default="default",
        pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$",
        description="owner of all it starts; agents of other instances leave it alone",
    )
    state_dir: Path = Field(
        default=Path(),
        description="folder of its memory; losing it stops nothing that runs",
        json_schema_extra={"shown": "/var/lib/xmod-agent (root), ~/.local/state/xmod-agent; /INSTANCE unless default"},
    )
    socket: Path = Field(
        default=Path(),
        description="unix socket that carries the operator's words",
        json_schema_extra={"shown": "/run/xmod-agent/INSTANCE.sock (root), $XDG_RUNTIME_DIR/xmod-agent/INSTANCE.sock"},
    )
    socket_group: str = Field(
        default="", description="group whose members may speak to the agent too; empty: only its own user and root"
    )
    host: str = Field(
        default="",
        pattern=r"^([A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?)?$",
        description="this host's name, for hosts in specs",
        json_schema_extra={"shown": "the machine's name"},
    )
    labels: Mapping[str, str] = Field(
        default={},
        description="this host's labels, for hosts in specs: a mapping of texts; as a flag KEY=VALUE, repeatable",
    )
    rescan_interval: Seconds = Field(default=30.0, description="the source is read at least this often")
    resync_interval: Seconds = Field(default=30.0, description="each world is listed at least this often")
    workers: int = Field(default=4, ge=1, le=64, description="names worked on at once, for each shimlet")


class PortsBlock(Block):
    """Host ports that the agent may assign."""

    range: Ports = Field(
        default=PortRange(18000, 18999),
        description="ports for services that ask for none",
        json_schema_extra={"shown": "18000-18999"},
    )


class PruneBlock(Block):
    """How much may be removed without asking (approve-prune)."""

    fraction: float = Field(
        default=0.25, ge=0, le=1, description="share of the services that may go in a window; at least one"
    )
    window: Seconds = Field(
        default=600.0, description="length of the sliding window", json_schema_extra={"shown": "10m"}
    )


class JournalBlock(Block):
    """How much of what happened is remembered."""

    max_age: Age = Field(
        default=30 * 86400.0, description="events older than this are forgotten", json_schema_extra={"shown": "30d"}
    )
    max_size: Bytes = Field(
        default=64 * 2**20,
        description="the oldest events are forgotten when the journal's file is larger; at least 1Mi",
        json_schema_extra={"shown": "64Mi"},
    )


class AcceleratorsBlock(Block):
    """What GPUs this host has."""

    devices: tuple[str, ...] = Field(
        default=(), description="ids of the devices that may be given to services, as a list"
    )


class SecretsBlock(Block):
    """Where the keys of encrypted specs are."""

    age_key_file: Path | None = Field(
        default=None, description="age private keys for specs that sops encrypted; empty: where sops looks for them"
    )


class FileSettings(Block):
    """All that a settings file may say."""

    service: ServiceBlock = ServiceBlock()
    source: SourceBlock = SourceBlock()
    webhook: WebhookBlock = WebhookBlock()
    notify: NotifyBlock = NotifyBlock()
    report: ReportBlock = ReportBlock()
    plugins: PluginsBlock = PluginsBlock()
    logging: LoggingBlock = LoggingBlock()
    agent: AgentBlock = AgentBlock()
    ports: PortsBlock = PortsBlock()
    prune: PruneBlock = PruneBlock()
    journal: JournalBlock = JournalBlock()
    accelerators: AcceleratorsBlock = AcceleratorsBlock()
    secrets: SecretsBlock = SecretsBlock()
    policy: Mapping[str, Any] = Field(
        default={}, description="what specs may use: images, host paths, programs, addresses …"
    )
    shimlets: Mapping[str, Mapping[str, Any]] = Field(default={}, description="options of each shimlet, by its name")
    engines: Mapping[str, Any] = Field(default={}, description="rows that change or extend the engine table")


class Settings(FileSettings):
    """Everything that was set. `file`: the settings file, None if there was none.

    `directory`: where the specs are; with a repository, a name in the state folder that only says what lies beside it.
    """

    directory: Path
    file: Path | None = None
