"""Service and placement → argument vector and environment of a process; pure."""

import re
from collections.abc import Mapping

from agent.contracts import Placement, SecretRef, Service, Transient, fill

_BASE = ("PATH", "HOME", "LANG", "TZ", "USER")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def arguments(service: Service, placement: Placement) -> tuple[str, ...]:
    """The argument vector, placeholders filled; empty if the workload names nothing to run."""
    workload = service.workload
    command = workload.command or ((workload.program,) if workload.program else ())
    values = placeholders(service, placement)
    return tuple(fill(word, values) for word in command + workload.args) if command else ()


def environment(
    service: Service, placement: Placement, secrets: Mapping[str, str], base: Mapping[str, str]
) -> dict[str, str]:
    """A minimal base of the agent's own, the spec's variables, its secrets, and the devices that the ledger gave.

    SPT_NOENV keeps setproctitle, which engines use, from overwriting the environment, and with it the mark.
    """
    values = placeholders(service, placement)
    result = {key: base[key] for key in _BASE if key in base} | {"SPT_NOENV": "1"}
    for key, value in service.workload.env:
        if key.startswith("XMOD_"):
            continue  # these are the mark's
        if not isinstance(value, SecretRef):
            result[key] = fill(value, values)
        elif key in secrets:
            result[key] = secrets[key]
        else:
            raise Transient(f"{service.name}: the secret for {key} was not read", reason="SecretMissing")
    if placement.devices:
        result |= {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(placement.devices)}
    return result


def misfit(argv: tuple[str, ...], environ: Mapping[str, str]) -> str:
    """Why the system cannot start this, "" if it can."""
    if not argv:
        return "there is nothing to run: the spec names no program and no command"
    odd = next((key for key in environ if not _NAME.fullmatch(key)), None)
    if odd is not None:
        return f"env {odd!r}: a name must consist of letters, digits and _ to be handed to a process"
    nul = next((word for word in (*argv, *environ.values()) if "\0" in word), None)
    return "" if nul is None else "an argument or variable contains a NUL byte"


def placeholders(service: Service, placement: Placement) -> Mapping[str, str]:
    """What {port}, {host}, {model} and {name} mean for a process: it listens on the host itself."""
    model = service.workload.model
    port = placement.port if placement.port is not None else service.workload.port
    return {
        "port": "" if port is None else str(port),
        "host": service.bind,
        "model": placement.model_path or (model.source.removeprefix("file://") if model else ""),
        "name": service.name,
    }


def address(service: Service, placement: Placement) -> str:
    """Where the agent reaches the replica, "" if it has no port."""
    if placement.port is None:
        return ""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(service.bind, service.bind)  # noqa: S104  # compared, not bound
    return f"[{host}]:{placement.port}" if ":" in host else f"{host}:{placement.port}"


def notice(service: Service, *, limited: bool = False) -> str:
    """What of the workload a plain process cannot have, "" if nothing. `limited`: its limits are in force."""
    workload = service.workload
    asked = workload.cpu or workload.memory
    lacking = ["cpu and memory limits are not enforced"] if asked and not limited else []
    lacking += ["volumes are not mounted: the program sees the host's own paths"] if workload.mounts else []
    return f"a plain process: {'; '.join(lacking)}" if lacking else ""
