"""Reads secret references, and tells whether their values changed since a mark was made.

Values leave here only for the shimlet that starts a replica. Whether they changed is asked at each look but hashed
(slowly, on purpose) only for values not seen before: what was compared last is remembered under a key of this process.
Whether a reference may be read is asked of the policy at that moment: it may be a link that leads elsewhere by now.
What was encrypted in a spec is answered from memory, by service and key: `keep` tells what the newest specs hold.
"""

import hashlib
import hmac
import os
import threading
from collections.abc import Callable, Mapping

from agent.contracts import SecretRef, ServiceName, Transient, Workload, canonical, unsealed_by

_LARGEST = 64 * 1024  # bytes of one secret


class HostSecrets:
    """Secrets in files of this host, in the agent's own environment, and in encrypted specs. Thread-safe.

    `permits`: why one may not be handed to a replica now, "" if it may.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        permits: Callable[[SecretRef], str] = lambda ref: "",  # noqa: ARG005 - who has no policy
    ) -> None:
        self._environment = environment
        self._permits = permits
        self._key = os.urandom(32)
        self._lock = threading.Lock()
        self._known: dict[str, tuple[bytes, bool]] = {}
        self._kept: Mapping[ServiceName, Mapping[str, str]] = {}

    def keep(self, decrypted: Mapping[ServiceName, Mapping[str, str]]) -> None:
        """Remember what the newest specs of these services hold, by SecretRef.name.

        A value that the newest spec of a service holds no more is kept: its older generation may have to come back.
        """
        before = self._kept
        spoken = ((name, {**before.get(name, {}), **values}) for name, values in decrypted.items())
        self._kept = {name: values for name, values in spoken if values}

    def read(self, workload: Workload) -> Mapping[str, str]:
        """Values by environment key. Transient if one cannot or may not be read."""
        for key, ref in workload.env:
            if isinstance(ref, SecretRef) and (denied := self._permits(ref)):
                raise Transient(f"env {key}: {denied}", reason="PolicyRefused", delay=60.0)
        return self._values(workload)

    def reveal(self, ref: SecretRef, what: str) -> str:
        """One value that is for no environment. Transient if it cannot or may not be read."""
        if denied := self._permits(ref):
            raise Transient(f"{what}: {denied}", reason="PolicyRefused", delay=60.0)
        return self._value(what, ref)

    def _values(self, workload: Workload) -> Mapping[str, str]:
        return {key: self._value(f"env {key}", ref) for key, ref in workload.env if isinstance(ref, SecretRef)}

    def changed(self, workload: Workload, mark: str) -> bool:
        """The values of now are not those that `mark` was made of."""
        values = self._values(workload)
        if not values and not mark:
            return False
        keyed = hmac.digest(self._key, canonical(values).encode(), hashlib.sha256)
        with self._lock:
            known = self._known.get(mark)
        if known is None or known[0] != keyed:
            known = (keyed, not unsealed_by(values, mark))
            with self._lock:
                if len(self._known) > 10_000:
                    self._known.clear()
                self._known[mark] = known
        return known[1]

    def _value(self, what: str, ref: SecretRef) -> str:
        if ref.source == "sops":
            value = self._kept.get(ServiceName(ref.name.partition("/")[0]), {}).get(ref.name)
            if value is None:
                message = f"{what}: its encrypted spec was not decrypted since the agent started"
                raise Transient(message, reason="SecretUnreadable", delay=30.0)
            return value
        if ref.source == "env":
            if ref.name not in self._environment:
                message = f"{what}: the agent's environment has no {ref.name}"
                raise Transient(message, reason="SecretUnreadable", delay=30.0)
            return self._environment[ref.name]
        try:
            with open(ref.name, "rb", opener=_not_waiting) as file:
                data = file.read(_LARGEST + 1) or b""
            if len(data) > _LARGEST or b"\0" in data or not data:
                message = f"{what}: {ref.name} is no secret of 1 to {_LARGEST} bytes of text"
                raise Transient(message, reason="SecretUnreadable", delay=30.0)
            return data.decode().rstrip("\n")
        except (OSError, UnicodeDecodeError) as error:
            message = f"{what}: cannot read secret file {ref.name}: {error}"
            raise Transient(message, reason="SecretUnreadable", delay=30.0) from error


def _not_waiting(path: str, flags: int) -> int:
    """Open without waiting for the other end, should it be a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)
