"""Why a resolved service may not be started now, under the operator's policy. Links are followed at this very moment.

A spec is held to the policy when its file changes (bounds.py). The same service is started again much later: by then a
link may lead elsewhere, the policy may be narrower, and a service whose file is invalid or resolves differently is run
from its mark, which was held to no policy. So all of it is asked again before anything is started. The questions are
those of bounds.py, asked of a Service instead of a spec; every rule is Policy's own.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from agent.contracts import SecretRef, Service
from agent.spec.engine import Engines
from agent.spec.policy import Policy
from agent.spec.resolve import Defaults


@dataclass(frozen=True, slots=True)
class Permission:
    """What may be started under one policy. What a row of `engines` sets is the operator's word."""

    policy: Policy
    engines: Engines
    defaults: Defaults

    def refusal(self, service: Service) -> str:
        """Why it may not be started, with the rule and how to allow it; "" if it may. Never raises for a forged mark."""
        return next((sentence for sentence in self._refusals(service) if sentence), "")

    def _refusals(self, service: Service) -> Iterator[str]:
        workload, policy = service.workload, self.policy
        if service.shimlet in self.defaults.programs:
            yield from self._program(service)
        elif workload.image:
            yield policy.image(workload.image)
        for mount in workload.mounts:
            yield policy.host_path(mount.host_path, read_only=mount.read_only)
        if workload.model is not None:
            yield self._model(workload.model.source.removeprefix("file://"))
        for ref in _secrets(service):
            yield policy.secret(ref)
            if ref.source == "sops" and not ref.name.startswith(f"{service.name}/"):
                yield f"the secret {ref.name} is another service's"
        yield self._address(service.bind)
        if service.port is not None:
            yield policy.port(service.port, self.defaults.port_range)
        yield from self._options(service)

    def _program(self, service: Service) -> Iterator[str]:
        workload = service.workload
        name = workload.command[0] if workload.command else workload.program
        if name:
            yield self.policy.start(name)
        given = {pair for row in self.engines.rows.values() for pair in row.env.items()}
        for key, value in workload.env:
            if (key, value) not in given:
                yield self.policy.variable(service.shimlet, key, found=name.startswith("/"))

    def _model(self, path: str) -> str:
        if not path.startswith("/"):
            return f'the model "{path}" is no absolute path'
        return self.policy.model(path)[1]

    def _address(self, address: str) -> str:
        try:
            return self.policy.address(address)
        except ValueError:
            return f'"{address}" is no address to listen at'

    def _options(self, service: Service) -> Iterator[str]:
        try:
            block = json.loads(service.workload.options)
        except (ValueError, RecursionError):
            block = None
        if not isinstance(block, dict):
            yield f"the options for the shimlet {service.shimlet} cannot be read"
            return
        for _, denied in self.policy.options(service.shimlet, block):
            yield denied


def _secrets(service: Service) -> Iterator[SecretRef]:
    yield from (value for _, value in service.workload.env if isinstance(value, SecretRef))
    if service.image_login is not None:
        yield service.image_login.password
