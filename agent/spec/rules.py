"""What the fields of one DeploySpec must be together: every contradiction is a Fault at the field that a user would change."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime

from agent.spec.complaint import Fault, instead
from agent.spec.document import (
    ANNOTATION_PREFIX,
    ANNOTATIONS,
    Archive,
    Container,
    DeploySpec,
    Metadata,
    Resources,
    Spec,
)
from agent.spec.encrypted import stands_in
from agent.spec.engine import Engine

_PLACEHOLDER = re.compile(r"(?<!\{)\{(port|model)\}(?!\})")
_OWN_VARIABLES = "XMOD_"
_LATER = re.compile(r"(?:hf|huggingface|modelscope|https?|s3|oci|ollama)://")


def contradictions(document: DeploySpec, row: Engine | None, port: int | None) -> Iterator[Fault]:
    """Every contradiction in a document. `row`: its engine; `port`: the one it listens on, of its own or of the row."""
    spec = document.spec
    yield from _annotations(document.metadata)
    yield from _what_to_run(spec, row)
    yield from _model(spec)
    yield from _port(spec, port)
    yield from _health(spec, port)
    yield from _devices(spec.resource_requirements, spec.replica_count)
    yield from _env(spec)
    yield from _volumes(spec.container)
    yield from _image_credentials(spec.container, row)
    yield from _placeholders(spec, port)
    yield from _dependencies(document)


def restarted_at(metadata: Metadata) -> datetime | None:
    """The time that xmod.dev/restartedAt names. Raises ValueError if it names none."""
    text = metadata.annotations.get("xmod.dev/restartedAt")
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
        if time.tzinfo is not None and len(text) >= len("2026-11-01T12:00Z"):
            return time.astimezone(UTC)
    except (ValueError, OverflowError):  # the latter in the years 1 and 9999
        pass
    raise ValueError(text)


def model_path(spec: Spec) -> str:
    """The model's path as the spec says it, "" if there is none."""
    if spec.model_file is not None:
        return spec.model_file
    return spec.model.source.removeprefix("file://") if spec.model is not None else ""


def _annotations(metadata: Metadata) -> Iterator[Fault]:
    for key, value in metadata.annotations.items():
        if not key.startswith(ANNOTATION_PREFIX):
            continue
        path = ("metadata", "annotations", key)
        if key not in ANNOTATIONS:
            yield Fault(path, f"is not a known annotation; {instead(key, list(ANNOTATIONS))}", key=True)
        elif key == "xmod.dev/suspend" and value not in ("true", "false"):
            yield Fault(path, f'must be "true" or "false", not "{value}"')
        elif key == "xmod.dev/prune" and value not in ("disabled", "enabled"):
            yield Fault(path, f'must be "disabled" or "enabled", not "{value}"')
    try:
        restarted_at(metadata)
    except ValueError as error:
        path = ("metadata", "annotations", "xmod.dev/restartedAt")
        yield Fault(path, f'must be a time with its zone such as "2026-11-01T12:00:00Z", not "{error.args[0]}"')


def _what_to_run(spec: Spec, row: Engine | None) -> Iterator[Fault]:
    container = spec.container
    if row is None:
        if container is None:
            yield Fault(
                ("spec",), "says nothing that could run: give an engine with a modelFile, or a container", key=True
            )
        if spec.engine_args:
            yield Fault(
                ("spec", "engineArgs"), "needs an engine; the arguments of a container are container.args", key=True
            )
        if spec.context_length is not None:
            yield Fault(("spec", "contextLength"), "needs an engine; say it in container.args", key=True)
    elif not model_path(spec) and (container is None or container.args is None):
        yield Fault(("spec", "engine"), "needs a model: give its path as modelFile")


def _model(spec: Spec) -> Iterator[Fault]:
    if spec.model is None:
        return
    if spec.model_file is not None:
        yield Fault(("spec", "model"), "is given beside modelFile; one of them must go", key=True)
    source = spec.model.source
    path = source.removeprefix("file://")
    if _LATER.match(source):
        message = f'"{source}": downloads are not supported by this version; fetch the files and give their path'
        yield Fault(("spec", "model", "source"), message)
    elif ":" in path or (path != source and not path.startswith("/")):
        yield Fault(("spec", "model", "source"), f'must be a path, or file:// and an absolute one, not "{source}"')


def _port(spec: Spec, port: int | None) -> Iterator[Fault]:
    if spec.host_port is None:
        return
    path = ("spec", "hostPort")
    if port is None:
        yield Fault(path, "needs container.port, the port that the service listens on", key=True)
    if spec.replica_count > 1:
        yield Fault(
            path,
            f"is one port, and {spec.replica_count} replicas need one each: leave it out to have them assigned",
        )
    if spec.rollout.strategy == "side-by-side":
        yield Fault(path, "is one port, and side-by-side needs a second one: leave it out, or use strategy recreate")


def _health(spec: Spec, port: int | None) -> Iterator[Fault]:
    health = spec.container.health if spec.container is not None else None
    if health is None:
        return
    path = ("spec", "container", "health")
    given = [name for name, wanted in (("path", health.path), ("tcp", health.tcp), ("none", health.none)) if wanted]
    if len(given) > 1:
        yield Fault(path, f"has {' and '.join(given)}; give one of path, tcp and none")
    if port is None and given and given != ["none"]:
        yield Fault((*path, given[0]), "needs container.port, the port to ask", key=True)


def _devices(wanted: Resources, replicas: int) -> Iterator[Fault]:
    path = ("spec", "resourceRequirements")
    count, ids = wanted.accelerator_count, wanted.accelerator_ids
    if ids and count is not None and count != len(ids):
        yield Fault(
            (*path, "acceleratorCount"), f"is {count}, but acceleratorIds names {len(ids)}; one of them must go"
        )
    if ids and replicas > 1:
        yield Fault((*path, "acceleratorIds"), f"cannot be for {replicas} replicas at once: give acceleratorCount")
    if len(set(ids)) < len(ids):
        yield Fault((*path, "acceleratorIds"), "names a device twice")
    if not ids and count is None:
        for name, value in (
            ("acceleratorType", wanted.accelerator_type),
            ("acceleratorMemory", wanted.accelerator_memory),
        ):
            if value is not None:
                yield Fault((*path, name), "needs acceleratorCount, how many for each replica", key=True)


def _env(spec: Spec) -> Iterator[Fault]:
    first: dict[str, int] = {}
    for index, variable in enumerate(spec.env):
        path = ("spec", "env", index)
        if first.setdefault(variable.key, index) != index:
            yield Fault((*path, "key"), f'"{variable.key}" is already env[{first[variable.key]}]; one of them must go')
        if variable.key.startswith(_OWN_VARIABLES):
            yield Fault(
                (*path, "key"), f'"{variable.key}": names that begin with {_OWN_VARIABLES} are the agent\'s own'
            )
        if (variable.value is None) == (variable.value_from is None):
            yield Fault(path, f'"{variable.key}": give one of value and valueFrom')
        secret = variable.value_from
        if secret is not None and (secret.file is None) == (secret.env is None):
            yield Fault((*path, "valueFrom"), "give one of file and env")


def _image_credentials(container: Container | None, row: Engine | None) -> Iterator[Fault]:
    login = container.image_credentials if container is not None else None
    if container is None or login is None:
        return
    path = ("spec", "container", "imageCredentials")
    if isinstance(container.image, Archive) or (container.image is None and row is None):
        yield Fault(path, "is for pulling, and there is no image reference to pull", key=True)
    if (login.password is None) == (login.password_from is None):
        yield Fault(path, "give one of password and passwordFrom")
    elif login.password is not None and not stands_in(login.password):
        message = (
            "would be in git for all to read: encrypt it with sops, or give passwordFrom, and change it at the registry"
        )
        yield Fault((*path, "password"), message, key=True)
    secret = login.password_from
    if secret is not None and (secret.file is None) == (secret.env is None):
        yield Fault((*path, "passwordFrom"), "give one of file and env")


def _volumes(container: Container | None) -> Iterator[Fault]:
    first: dict[str, int] = {}
    for index, volume in enumerate(container.volumes if container is not None else ()):
        if first.setdefault(volume.mount_path, index) != index:
            message = f'"{volume.mount_path}" is already volumes[{first[volume.mount_path]}]; one of them must go'
            yield Fault(("spec", "container", "volumes", index, "mountPath"), message)


def _dependencies(document: DeploySpec) -> Iterator[Fault]:
    for index, name in enumerate(document.spec.depends_on):
        if name == document.metadata.name:
            yield Fault(("spec", "dependsOn", index), f'"{name}" is the service itself, which cannot wait for itself')


def _placeholders(spec: Spec, port: int | None) -> Iterator[Fault]:
    """A placeholder that nothing would fill. What is given in the engine table is its own business."""
    unfilled = {"port": ("container.port", port is None), "model": ("modelFile", not model_path(spec))}
    container = spec.container or Container()
    texts = [
        *((("spec", "container", "command", index), text) for index, text in enumerate(container.command)),
        *((("spec", "container", "args", index), text) for index, text in enumerate(container.args or ())),
        *((("spec", "engineArgs", index), text) for index, text in enumerate(spec.engine_args)),
        *((("spec", "env", index, "value"), item.value or "") for index, item in enumerate(spec.env)),
    ]
    for path, text in texts:
        for found in _PLACEHOLDER.finditer(text) if "{" in text else ():
            needs, missing = unfilled[found[1]]
            if missing:
                yield Fault(path, f"uses {found[0]}, which needs {needs}")
