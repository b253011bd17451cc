"""A DeploySpec's words to the Workload that they mean, with its engine's row beneath them. Pure.

What a container says replaces what its engine's row says, field by field; engineArgs come last either way.
For a world that runs programs the image is left out, and the program is the path that the policy was asked about.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from agent.contracts import Accelerators, Check, ImageLogin, Model, Mount, SecretRef, Workload
from agent.spec.document import Archive, Container, DeploySpec, Health, Resources, Spec, ValueFrom
from agent.spec.encrypted import stands_in
from agent.spec.engine import Engine

ARCHIVE = "archive:"
IMAGE_PASSWORD = "image.password"  # noqa: S105 - a key that no variable can have
_NO_CONTAINER, _NO_HEALTH, _NO_RESOURCES = Container(), Health(), Resources()
_NO_ACCELERATORS, _USUAL = Accelerators(), Check()


class Found(NamedTuple):
    """A program or a model of this host: where it is, and why it may not be used ("" if it may)."""

    path: str
    denied: str = ""


@dataclass(frozen=True, slots=True)
class Words:
    """One document, and what its words stand for here.

    `row`: its engine. `block`: the options for its shimlet. `program`: what runs, in a world that runs programs.
    `model`: None if there is none.
    """

    document: DeploySpec
    shimlet: str
    goalset: str
    row: Engine | None
    block: Mapping[str, Any]
    program: Found | None
    model: Found | None

    @property
    def spec(self) -> Spec:
        """The document's body."""
        return self.document.spec

    @property
    def container(self) -> Container:
        """The body's container, an empty one if it has none."""
        return self.document.spec.container or _NO_CONTAINER

    @property
    def port(self) -> int | None:
        """The port that it listens on."""
        return self.container.port or (self.row.port if self.row is not None else None)

    @property
    def values(self) -> dict[str, str]:
        """What the engine table's {modelName} and {contextLength} stand for."""
        spec = self.spec
        values = {"modelName": spec.model_name or self.document.metadata.name}
        return values if spec.context_length is None else {**values, "contextLength": str(spec.context_length)}


def program_name(container: Container | None, row: Engine | None) -> str:
    """The program as the spec or its engine names it, "" if neither does."""
    if container is not None and container.command:
        return container.command[0]
    return row.program if row is not None else ""


def image_name(words: Words) -> str:
    """The image as a Workload says it, "" if there is none."""
    image = words.container.image
    if isinstance(image, Archive):
        return ARCHIVE + image.archive
    if image is not None:
        return image
    kind = words.spec.resource_requirements.accelerator_type or ""
    return words.row.image_of(kind) if words.row is not None else ""


def workload(words: Words) -> Workload:
    """What to run."""
    spec, row, container = words.spec, words.row, words.container
    args = container.args
    if args is None:
        args = row.arguments(words.values) if row is not None else ()
    wanted = spec.resource_requirements
    made = Workload(
        image=image_name(words),
        program=row.program if row is not None else "",
        command=container.command,
        args=(*args, *spec.engine_args),
        port=words.port,
        env=_env(words.document, row),
        mounts=tuple(Mount(volume.host_path, volume.mount_path, volume.read_only) for volume in container.volumes),
        model=_model(words),
        served_name=words.values["modelName"] if row is not None or spec.model_name is not None else "",
        accelerators=_accelerators(wanted),
        check=_check(words),
        cpu=wanted.cpu or 0.0,
        memory=wanted.memory or 0,
        shm=wanted.shared_memory or 0,
        options=json.dumps(words.block, sort_keys=True, separators=(",", ":")) if words.block else "{}",
    )
    if words.program is None:
        return made
    if made.command:
        return replace(made, image="", program="", command=(words.program.path, *made.command[1:]))
    return replace(made, image="", program=words.program.path)


def image_login(words: Words) -> ImageLogin | None:
    """Who pulls the image, None unless the spec says."""
    login = words.container.image_credentials
    if login is None:
        return None
    return ImageLogin(login.username, _secret(login.password_from, sealed_name(words.document, IMAGE_PASSWORD)))


def _secret(given: ValueFrom | None, sealed: str) -> SecretRef:
    """Where a secret is; without a place it is in the document itself."""
    if given is None:
        return SecretRef("sops", sealed)
    return SecretRef("file", given.file) if given.file is not None else SecretRef("env", given.env or "")


def sealed_name(document: DeploySpec, key: str) -> str:
    """What a SecretRef calls a value that is encrypted in the service's own document, wherever that lies."""
    return f"{document.metadata.name}/{key}"


def _env(document: DeploySpec, row: Engine | None) -> tuple[tuple[str, str | SecretRef], ...]:
    """Sorted, so that their order in the spec is in no digest."""
    values: dict[str, str | SecretRef] = dict(row.env) if row is not None else {}
    for variable in document.spec.env:
        if variable.value_from is None and not stands_in(variable.value):
            values[variable.key] = variable.value or ""
        else:
            values[variable.key] = _secret(variable.value_from, sealed_name(document, variable.key))
    return tuple(sorted(values.items(), key=lambda item: item[0]))


def _model(words: Words) -> Model | None:
    if words.model is None:
        return None
    said = words.spec.model
    return Model(words.model.path, (said and said.revision) or "", (said and said.sha256) or "")


def _accelerators(wanted: Resources) -> Accelerators:
    count = len(wanted.accelerator_ids) or wanted.accelerator_count or 0
    if not count:
        return _NO_ACCELERATORS
    return Accelerators(
        kind=wanted.accelerator_type or "",
        count=count,
        memory=wanted.accelerator_memory or 0,
        ids=wanted.accelerator_ids,
    )


def _check(words: Words) -> Check:
    """The service's own words, then those of its engine, then: a connection, if it has a port."""
    row = words.row
    own, usual = words.container.health or _NO_HEALTH, row.health if row is not None else _NO_HEALTH
    chosen = own if own.path or own.tcp or own.none else usual
    silent = not (chosen.path or chosen.tcp or chosen.none)
    return Check(
        path=chosen.path or "",
        tcp=chosen.tcp or (silent and words.port is not None),
        interval=own.interval or usual.interval or _USUAL.interval,
        timeout=own.timeout or usual.timeout or _USUAL.timeout,
        startup_deadline=own.startup_deadline or usual.startup_deadline or _USUAL.startup_deadline,
        loading=row.loading if row is not None else _USUAL.loading,
        smoke=row.smoke if row is not None and chosen is usual else "",
    )
