"""What one spec asks of this host, against what the operator allows and its world can do: a Fault for each excess."""

from collections.abc import Iterator

from agent.contracts import SecretRef
from agent.spec.complaint import Fault
from agent.spec.document import Archive, ValueFrom
from agent.spec.policy import Policy
from agent.spec.reading import Path
from agent.spec.workload import Words, image_name

_CONTAINER: Path = ("spec", "container")


def excesses(words: Words, policy: Policy, assigned: tuple[int, int]) -> Iterator[Fault]:
    """Every excess of one document. `assigned`: the range that the agent assigns host ports from."""
    spec = words.spec
    yield from _impossible(words)
    yield from _program(words, policy) if words.program is not None else _image(words, policy)
    for index, volume in enumerate(words.container.volumes):
        denied = policy.host_path(volume.host_path, read_only=volume.read_only)
        yield from _if(denied, (*_CONTAINER, "volumes", index, "hostPath"))
    if words.model is not None:
        yield from _if(words.model.denied, ("spec", "modelFile") if spec.model_file else ("spec", "model", "source"))
    yield from _if(policy.address(spec.bind_address), ("spec", "bindAddress"))
    if spec.host_port is not None:
        yield from _if(policy.port(spec.host_port, assigned), ("spec", "hostPort"))
    for index, variable in enumerate(spec.env):
        yield from _secret(variable.value_from, ("spec", "env", index, "valueFrom"), policy)
    login = words.container.image_credentials
    if login is not None:
        yield from _secret(login.password_from, (*_CONTAINER, "imageCredentials", "passwordFrom"), policy)
    for key, denied in policy.options(words.shimlet, words.block):
        yield Fault(("spec", words.shimlet, key), denied)
    if spec.engine_args and words.row is not None and words.container.args is None:
        for index, message in words.row.quarrels(spec.engine_args, words.values):
            yield Fault(("spec", "engineArgs", index), message)


def _if(denied: str, path: Path) -> Iterator[Fault]:
    if denied:
        yield Fault(path, denied)


def _impossible(words: Words) -> Iterator[Fault]:
    """What the chosen world cannot do, or needs and is not given."""
    if words.spec.container is None:
        return
    container, world = words.container, f"the shimlet {words.shimlet}"
    if words.program is None:
        if container.image is None and words.row is None:
            yield Fault((*_CONTAINER, "image"), f"is missing: {world} runs an image", key=True)
        return
    if not words.program.path:
        yield Fault((*_CONTAINER, "command"), f"is missing: {world} runs a program, not an image", key=True)
    for index, volume in enumerate(container.volumes):
        if volume.host_path != volume.mount_path:
            message = f"{world} cannot mount; make it the same as hostPath, or use another shimlet"
            yield Fault((*_CONTAINER, "volumes", index, "mountPath"), message)


def _program(words: Words, policy: Policy) -> Iterator[Fault]:
    if words.program is not None:
        path = (*_CONTAINER, "command", 0) if words.container.command else ("spec", "engine")
        yield from _if(words.program.denied, path)
    found = words.program is not None and words.program.path.startswith("/")
    for index, variable in enumerate(words.spec.env):
        yield from _if(policy.variable(words.shimlet, variable.key, found=found), ("spec", "env", index, "key"))


def _image(words: Words, policy: Policy) -> Iterator[Fault]:
    image = words.container.image
    if isinstance(image, Archive):
        yield from _if(policy.image(image_name(words)), (*_CONTAINER, "image", "archive"))
    elif image is not None or words.row is not None:
        path = (*_CONTAINER, "image") if image is not None else ("spec", "engine")
        yield from _if(policy.image(image_name(words)), path)


def _secret(secret: ValueFrom | None, path: Path, policy: Policy) -> Iterator[Fault]:
    if secret is not None and secret.file is not None:
        yield from _if(policy.secret(SecretRef("file", secret.file)), (*path, "file"))
    if secret is not None and secret.env is not None:
        yield from _if(policy.secret(SecretRef("env", secret.env)), (*path, "env"))
