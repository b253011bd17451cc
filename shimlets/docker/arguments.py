"""A service, a placement and an image as what the engine's API is asked for; pure.

Raw API fields, because the SDK silently drops those it does not know. What the engine's API version cannot honour is
refused by name, never dropped. Count allocates nothing in Docker, so devices are always asked for by their ids.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from agent.contracts import Permanent, Placement, Service, encode, fill
from shimlets.docker import naming
from shimlets.docker.options import EngineOptions, WorkloadOptions, workload_options

Json: TypeAlias = dict[str, Any]

_OLDEST_CDI = (1, 44)
_POLICIES = {"unless-stopped": "unless-stopped", "never": "no"}


@dataclass(frozen=True, slots=True)
class Engine:
    """What must be known of the engine. `api`: the version spoken; `runtime`: its default one; which limits its kernel has."""

    api: tuple[int, int] = (1, 41)
    runtime: str = "runc"
    memory_limits: bool = True
    cpu_limits: bool = True


@dataclass(frozen=True, slots=True)
class Image:
    """An image as a generation runs it: what to create from, and the id that this resolved to."""

    ref: str
    id: str


def creation(
    service: Service,
    placement: Placement,
    *,
    owner: str,
    image: Image,
    secrets: Mapping[str, str],
    seal: str,
    operator: EngineOptions,
    engine: Engine,
) -> Json:
    """The body of `POST /containers/create`. Raises Permanent if this engine cannot do what is asked for."""
    workload, options = service.workload, workload_options(service.workload.options)
    if options.network == "none" and workload.port is not None:
        message = f"docker: network: none, but port {workload.port} is to be reached; leave one of them out"
        raise Permanent(message, reason="InvalidOption")
    values = placeholders(service, placement)
    body: Json = {
        "Image": image.ref,
        "Env": _environment(service, placement, values=values, secrets=secrets, engine=engine),
        "Labels": _labels(service, placement, owner=owner, image=image, seal=seal),
        "Healthcheck": {"Test": ["NONE"]},  # the agent asks itself; an image's own check would only label
        "StopTimeout": round(options.stop_grace),
        "HostConfig": _host(service, placement, owner=owner, operator=operator, engine=engine),
    }
    if workload.command:
        body["Entrypoint"] = [fill(word, values) for word in workload.command]
    if workload.args:
        body["Cmd"] = [fill(word, values) for word in workload.args]
    if options.user:
        body["User"] = options.user
    if _published(service, placement):
        body["ExposedPorts"] = {f"{workload.port}/tcp": {}}
    if options.network == "bridge":
        body["NetworkingConfig"] = {"EndpointsConfig": {naming.network_name(owner): endpoint(service)}}
    return body


def endpoint(service: Service) -> Json:
    """How a container stands in its owner's network: under the service's name."""
    return {"Aliases": [service.name]}


def network(owner: str) -> Json:
    """The body of `POST /networks/create`."""
    name = naming.network_name(owner)
    return {"Name": name, "Driver": "bridge", "CheckDuplicate": True, "Labels": {naming.INSTANCE: owner}}


def limits(service: Service, engine: Engine) -> Json:
    """What can be changed of a container that runs, as its HostConfig ought to say it.

    An engine whose kernel lacks a kind of limit forgets it; asking for it again and again would be no help.
    """
    workload = service.workload
    policy = _POLICIES[workload_options(workload.options).restart]
    return {
        "NanoCpus": round(workload.cpu * 1e9) if engine.cpu_limits else 0,
        "Memory": workload.memory if engine.memory_limits else 0,
        "RestartPolicy": {"Name": policy, "MaximumRetryCount": 0},
    }


def not_honoured(service: Service, engine: Engine) -> tuple[str, ...]:
    """Sentences about limits that this engine cannot keep."""
    told = []
    if service.workload.memory and not engine.memory_limits:
        told.append("the memory limit is not honoured: the engine's kernel has no memory cgroup")
    if service.workload.cpu and not engine.cpu_limits:
        told.append("the cpu limit is not honoured: the engine's kernel has no cpu quota")
    return tuple(told)


def placeholders(service: Service, placement: Placement) -> Mapping[str, str]:
    """What {port}, {host}, {model} and {name} mean inside the container."""
    workload = service.workload
    hosted = workload_options(workload.options).network == "host"
    port = placement.port if hosted and placement.port is not None else workload.port
    return {
        "port": "" if port is None else str(port),
        "host": service.bind if hosted else "0.0.0.0",  # noqa: S104  # inside its own network namespace
        "model": placement.model_path,
        "name": service.name,
    }


def address(service: Service, placement: Placement, host: str = "") -> str:
    """Where the agent reaches a replica, "" if nowhere. `host`: the engine's, if it is another machine."""
    if placement.port is None:
        return ""
    bind = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(service.bind, service.bind)  # noqa: S104  # compared
    target = host or bind
    return f"[{target}]:{placement.port}" if ":" in target else f"{target}:{placement.port}"


def _published(service: Service, placement: Placement) -> bool:
    bridged = workload_options(service.workload.options).network == "bridge"
    return bridged and service.workload.port is not None and placement.port is not None


def _labels(service: Service, placement: Placement, *, owner: str, image: Image, seal: str) -> Json:
    return {
        **dict(workload_options(service.workload.options).labels),
        naming.SERVICE: service.name,
        naming.INSTANCE: owner,
        naming.DIGEST: service.digest,
        naming.SOURCE: service.source,
        naming.MARK: encode(service, placement),
        naming.SECRETS: seal,
        naming.IMAGE: image.id,
    }


def _environment(
    service: Service, placement: Placement, *, values: Mapping[str, str], secrets: Mapping[str, str], engine: Engine
) -> list[str]:
    environment: dict[str, str] = {}
    runtime = workload_options(service.workload.options).runtime or engine.runtime
    if placement.devices and _is_nvidia(service):
        environment["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    elif not placement.devices and runtime == "nvidia":
        environment["NVIDIA_VISIBLE_DEVICES"] = "void"  # images say "all" themselves, and that runtime obeys
    for key, value in service.workload.env:
        if isinstance(value, str):
            environment[key] = fill(value, values)
        elif key in secrets:
            environment[key] = secrets[key]
        else:
            raise Permanent(f"env {key}: its secret was not handed over", reason="SecretMissing")
    return [f"{key}={value}" for key, value in environment.items()]


def _host(service: Service, placement: Placement, *, owner: str, operator: EngineOptions, engine: Engine) -> Json:
    workload, options = service.workload, workload_options(service.workload.options)
    host: Json = {
        **limits(service, engine),
        "Init": True,
        "NetworkMode": naming.network_name(owner) if options.network == "bridge" else options.network,
        "SecurityOpt": ["no-new-privileges"],
        "LogConfig": {
            "Type": "json-file",
            "Config": {
                "max-size": options.log_max_size or operator.log_max_size,
                "max-file": str(options.log_max_files or operator.log_max_files),
            },
        },
    }
    if _published(service, placement):
        binding = {"HostIp": service.bind, "HostPort": str(placement.port)}
        host["PortBindings"] = {f"{workload.port}/tcp": [binding]}
    if options.shm_size or workload.shm:
        host["ShmSize"] = options.shm_size or workload.shm
    if mounts := _mounts(service, placement):
        host["Mounts"] = mounts
    if placement.devices:
        host["DeviceRequests"] = [_devices(service, placement, engine)]
    return host | _isolation(options)


def _isolation(options: WorkloadOptions) -> Json:
    isolation: Json = {}
    if options.runtime:
        isolation["Runtime"] = options.runtime
    if options.ulimits:
        isolation["Ulimits"] = [{"Name": name, "Soft": n, "Hard": n} for name, n in options.ulimits]
    if options.cap_add:
        isolation["CapAdd"] = list(options.cap_add)
    if options.privileged:
        isolation["Privileged"] = True
    if options.ipc != "private":
        isolation["IpcMode"] = options.ipc
    return isolation


def _mounts(service: Service, placement: Placement) -> list[Json]:
    mounts = [_bind(m.host_path, m.path, read_only=m.read_only) for m in service.workload.mounts]
    model = placement.model_path
    if model.startswith("/") and model not in {m.path for m in service.workload.mounts}:
        mounts.append(_bind(model, model, read_only=True))
    return mounts


def _bind(source: str, target: str, *, read_only: bool) -> Json:
    return {"Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only}


def _is_nvidia(service: Service) -> bool:
    return "nvidia" in service.workload.accelerators.kind.lower()


def _devices(service: Service, placement: Placement, engine: Engine) -> Json:
    ids = list(placement.devices)
    if all("/" in device and "=" in device for device in ids):  # CDI names, of any vendor
        if engine.api < _OLDEST_CDI:
            message = f"devices {', '.join(ids)} need Docker API 1.44 (CDI); this engine speaks {engine.api[0]}.{engine.api[1]}"
            raise Permanent(message, reason="NotHonoured")
        return {"Driver": "cdi", "Count": 0, "DeviceIDs": ids}
    if not _is_nvidia(service):
        kind = service.workload.accelerators.kind or "of no kind"
        raise Permanent(f"accelerators {kind}: the docker shimlet knows NVIDIA and CDI names", reason="NotHonoured")
    return {"Driver": "nvidia", "Count": 0, "DeviceIDs": ids, "Capabilities": [["gpu"]]}
