"""A DeploySpec as its user writes it: the envelope, and the body with the reference implementation's field names.

* Every field of the JSON Schema is here with its description; specs-example shows each one.
* Unknown fields and wrong types are refused: nothing that a user wrote is ignored, no text becomes a number.
* What a field means together with others is said in rules.py, what it may be on this host in policy.py.
"""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from agent.spec.hosts import HOST_FORMS, Hosts
from agent.spec.part import Part
from agent.spec.quantity import (
    Address,
    Bytes,
    Cores,
    EnvKey,
    HostPath,
    ImageName,
    ModelFile,
    ModelName,
    Name,
    Seconds,
    Sha256,
    Text,
    UrlPath,
    Word,
)

API_VERSION = "xmod.dev/v1"
KIND = "DeploySpec"
ANNOTATION_PREFIX = "xmod.dev/"
ANNOTATIONS = {
    "xmod.dev/suspend": '"true": leave the service as it is, whatever the spec says, until this is removed',
    "xmod.dev/prune": '"disabled": keep the service running when its document disappears',
    "xmod.dev/restartedAt": "a time such as 2026-11-01T12:00:00Z: replicas that started earlier are started again",
}

Port = Annotated[int, Field(strict=True, ge=1, le=65535)]
_MOST_WORDS = 4096
_MOST_ENTRIES = 1000
Count = Annotated[int, Field(strict=True)]
Flag = Annotated[bool, Field(strict=True)]


class Archive(Part):
    """An image from a file, for hosts without a registry."""

    archive: HostPath = Field(description="path of a tar made by `docker save`")


def _form(value: object) -> str:
    return "<archive>" if isinstance(value, (dict, Archive)) else "<reference>"


FORMS = frozenset({"<archive>", "<reference>"}) | HOST_FORMS
"""Steps in pydantic's error paths that stand for no key of a document."""

Image = Annotated[
    Annotated[ImageName, Tag("<reference>")] | Annotated[Archive, Tag("<archive>")],
    Discriminator(_form),
]


class Health(Part):
    """How a replica is asked whether it answers: one of path, tcp and none."""

    path: UrlPath | None = Field(default=None, description="HTTP GET of it must answer 2xx or 3xx; 503: still loading")
    tcp: Flag = Field(default=False, description="true: a connection to the port is enough")
    none: Flag = Field(default=False, description="true: do not ask; it is healthy while it runs")
    startup_deadline: Seconds | None = Field(
        default=None, description="how long it may take until it first answers (60s)"
    )
    interval: Seconds | None = Field(default=None, description="time between two questions while it starts (2s)")
    timeout: Seconds | None = Field(default=None, description="how long one answer may take (2s)")


class Volume(Part):
    """A path of the host, seen inside the container; policy.hostPaths must allow it."""

    host_path: HostPath = Field(description="absolute path on the host")
    mount_path: HostPath = Field(description="absolute path inside the container")
    read_only: Flag = Field(default=True, description="false: the service may write there")


class ValueFrom(Part):
    """Where a secret value is read: one of file and env. It never reaches logs, labels or digests."""

    file: HostPath | None = Field(default=None, description="a file (policy.secretFiles), without its last newline")
    env: EnvKey | None = Field(default=None, description="a name in the agent's environment (policy.environment)")


class ImageCredentials(Part):
    """Who pulls the image; default: as the operator set it (shimlets.docker), or Docker's own login."""

    username: Text = Field(description="the registry's name for whoever pulls")
    password: str | None = Field(default=None, description="only in a file that sops encrypted, and encrypted there")
    password_from: ValueFrom | None = Field(default=None, description="where the password or token is read instead")


class Container(Part):
    """Any image or program as a service. Beside an engine, what is given here replaces what its row says."""

    image: Image | None = Field(default=None, description="image reference, or {archive: PATH}; programs need none")
    image_credentials: ImageCredentials | None = Field(
        default=None, description="who pulls the image, if not anyone may"
    )
    command: tuple[Text, ...] = Field(
        default=(),
        max_length=_MOST_WORDS,
        description="replaces the image's entrypoint; for a program, its path or name first",
    )
    args: tuple[str, ...] | None = Field(
        default=None,
        max_length=_MOST_WORDS,
        description="what follows it; {port}, {host}, {model} and {name} are filled in",
    )
    port: Port | None = Field(default=None, description="the port that it listens on")
    health: Health | None = Field(
        default=None, description="how it is asked whether it answers; default: tcp if it has a port"
    )
    volumes: tuple[Volume, ...] = Field(
        default=(), max_length=_MOST_ENTRIES, description="paths of the host that it sees"
    )


class EnvVar(Part):
    """One environment variable: key, and one of value and valueFrom."""

    key: EnvKey = Field(description="its name")
    value: str | None = Field(default=None, description="its value, in quotes if it looks like a number")
    value_from: ValueFrom | None = Field(default=None, description="where its value is read instead")


class ModelSource(Part):
    """A model by its source; this version runs models that are on the host."""

    source: Text = Field(description="a path as in modelFile, or file:// and an absolute one")
    revision: Text | None = Field(default=None, description="which revision of the source")
    sha256: Sha256 | None = Field(default=None, description="what the file's SHA-256 must be")


class Resources(Part):
    """What each replica may use."""

    accelerator_type: Text | None = Field(default=None, description='kind of device, such as "NVIDIA GPU"')
    accelerator_count: Count | None = Field(default=None, ge=0, le=64, description="devices for each replica")
    accelerator_ids: tuple[Text, ...] = Field(
        default=(), max_length=64, description="exactly these devices, by index or UUID"
    )
    accelerator_memory: Bytes | None = Field(default=None, description="memory that each device must have")
    cpu: Cores | None = Field(default=None, description='limit in cores: "4", 0.5 or "500m"')
    memory: Bytes | None = Field(default=None, description="limit, such as 16Gi")
    shared_memory: Bytes | None = Field(default=None, description="size of /dev/shm, such as 1Gi")


class Rollout(Part):
    """How a change replaces what runs."""

    strategy: Literal["recreate", "side-by-side"] = Field(
        default="recreate",
        description="recreate: the old stops first; side-by-side: it stays until the new answers",
    )


NOT_OVERRIDDEN = ("hosts", "overrides")


class Override(Part):
    """What the spec says otherwise on some hosts. Mappings are merged, lists replaced, and null takes a field away."""

    hosts: Hosts = Field(description="on which hosts: names, globs and label selectors, any of them")
    spec: dict[str, Any] = Field(description="any fields of spec but hosts and overrides")


_NO_RESOURCES = Resources()
_RECREATE = Rollout()  # frozen, and shared: a default that pydantic copies costs more than its check


class Spec(Part):
    """The body: what to run. Give an engine with a model, or a container."""

    model_name: ModelName | None = Field(default=None, description="the name that clients call (metadata.name)")
    model_file: ModelFile | None = Field(
        default=None, description="the model on this host: a path, absolute or below one of policy.modelRoots"
    )
    model: ModelSource | None = Field(default=None, description="the model by its source, instead of modelFile")
    engine: Text | None = Field(default=None, description="a row of the engine table, such as llama.cpp")
    context_length: Count | None = Field(default=None, ge=1, le=1 << 30, description="tokens of context to offer")
    engine_args: tuple[str, ...] = Field(
        default=(), max_length=_MOST_WORDS, description="further arguments for the engine"
    )
    container: Container | None = Field(default=None, description="any image or program")
    replica_count: Count = Field(default=1, ge=1, le=64, description="replicas, each with a port of its own")
    resource_requirements: Resources = Field(
        default_factory=lambda: _NO_RESOURCES, description="what each replica may use"
    )
    env: tuple[EnvVar, ...] = Field(
        default=(), max_length=_MOST_ENTRIES, description="environment variables; placeholders are filled in in values"
    )
    host_port: Port | None = Field(default=None, description="fixed port on the host; default: the agent assigns one")
    bind_address: Address = Field(
        default="127.0.0.1",
        description="address of the port; other than loopback: policy.bindAddresses",
    )
    rollout: Rollout = Field(default_factory=lambda: _RECREATE, description="how a change replaces what runs")
    shimlet_name: Word | None = Field(default=None, description="where it runs, such as docker or process")
    goal_set_name: Word | None = Field(default=None, description="its goals; default: as its engine says")
    priority: Count = Field(
        default=0, ge=-1000, le=1000, description="higher ones get accelerators and attention first"
    )
    hosts: Hosts | None = Field(
        default=None,
        description="which hosts it is for: names, globs and label selectors, any of them; default: every host",
    )
    depends_on: tuple[Name, ...] = Field(
        default=(),
        max_length=_MOST_ENTRIES,
        description="services that must serve before this one is created or replaced",
    )
    overrides: tuple[Override, ...] = Field(
        default=(), max_length=_MOST_ENTRIES, description="what is otherwise on some hosts, applied in this order"
    )


class Metadata(Part):
    """Who the service is."""

    name: Name = Field(description="the service's name and key: a DNS label")
    labels: dict[str, str] = Field(
        default_factory=dict, max_length=_MOST_ENTRIES, description="for people and selectors"
    )
    annotations: dict[str, str] = Field(
        default_factory=dict, max_length=_MOST_ENTRIES, description="notes, and words to the agent: xmod.dev/…"
    )


class DeploySpec(Part):
    """One service, as its user wants it."""

    api_version: Literal["xmod.dev/v1"] = Field(description="the version of this format")
    kind: Literal["DeploySpec"] = Field(description="what this document is")
    metadata: Metadata = Field(description="who the service is")
    spec: Spec = Field(description="what to run")


def schema(shimlets: frozenset[str] = frozenset({"docker", "process"})) -> dict[str, Any]:
    """JSON Schema of a DeploySpec, for editors. Each shimlet may have a block of its own name in `spec`."""
    made = _without_null(DeploySpec.model_json_schema(by_alias=True))
    properties = made["$defs"]["Spec"]["properties"]
    for name in sorted(shimlets):
        properties[name] = {"type": "object", "description": f"options that only the shimlet {name} knows"}
    made["$defs"]["Override"]["properties"]["spec"] |= _partial({"$ref": "#/$defs/Spec"}, made["$defs"])
    annotations = made["$defs"]["Metadata"]["properties"]["annotations"]
    annotations["properties"] = {name: {"type": "string", "description": text} for name, text in ANNOTATIONS.items()}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made, "title": KIND}


def _partial(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """A mapping of which any part may be given, and null stands for what is taken away."""
    name = node.get("$ref", "").rpartition("/")[2]
    whole = definitions.get(name, node)
    if "properties" not in whole:
        return node
    parts = {
        key: {"anyOf": [_partial(part, definitions), {"type": "null"}]}
        for key, part in whole["properties"].items()
        if key not in NOT_OVERRIDDEN
    }
    return {"type": "object", "properties": parts, "additionalProperties": False}


def _without_null(node: Any) -> Any:
    """None means "not given" in our models; in a document no field may be null."""
    if isinstance(node, list):
        return [_without_null(item) for item in node if item != {"type": "null"}]
    if not isinstance(node, dict):
        return node
    kept = {key: _without_null(item) for key, item in node.items() if (key, item) != ("default", None)}
    options = kept.get("anyOf")
    if isinstance(options, list) and len(options) == 1:
        del kept["anyOf"]
        kept = {**options[0], **kept}
    return kept
