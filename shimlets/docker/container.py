"""Calls about containers and the network that they share, one engine request each."""

import contextlib
import threading
from collections.abc import Mapping

from agent.contracts import Service, ServiceName, Transient
from shimlets.docker import arguments, logs, naming, observing
from shimlets.docker.arguments import Json
from shimlets.docker.engine import Engine, Missing, Taken
from shimlets.docker.observing import Detail, Found

_SLACK = 15.0  # seconds that the engine may need for a stop, besides the grace
_LAST_LINES = 5


class Containers:
    """One owner's containers. Thread-safe."""

    def __init__(self, engine: Engine, owner: str) -> None:
        self._engine = engine
        self._owner = owner
        self._lock = threading.Lock()
        self._network_there = False

    def found(self, *labels: str) -> tuple[Found, ...]:
        """All of ours with these labels, oldest first."""
        filters = {"label": [f"{naming.INSTANCE}={self._owner}", *labels]}
        params = {"all": "true", "filters": filters}
        return observing.all_found(self._engine.call("GET", "/containers/json", "list containers", params=params))

    def strangers(self, name: ServiceName) -> Mapping[str, str]:
        """Names that replicas of a service could have, and the ids of those without our mark who have them."""
        filters = {"name": [naming.name_pattern(self._owner, name)]}
        params = {"all": "true", "filters": filters}
        there = self._engine.call("GET", "/containers/json", "look for strangers", params=params)
        return {
            observing.own_name(one): one["Id"]
            for one in there
            if (one.get("Labels") or {}).get(naming.INSTANCE) != self._owner or observing.found(one) is None
        }

    def inspected(self, container: str, *, words: bool) -> Detail | None:
        """What only an inspect tells, with its last words if it fails and `words` are wanted; None if it is gone."""
        doing = f"inspect container {container[:12]}"
        try:
            answer = self._engine.call("GET", f"/containers/{container}/json", doing)
        except Missing:
            return None
        seen = observing.detail(answer)
        if not words or not seen.failing:
            return seen
        return observing.detail(answer, logs.last_lines(self._engine, container, _LAST_LINES))

    def create(self, name: str, body: Json) -> str:
        """Create it; its id. Raises Taken if the name is in use."""
        answer = self._engine.call("POST", "/containers/create", f"create {name}", params={"name": name}, body=body)
        return str(answer["Id"])

    def start(self, container: str) -> None:
        """Start it, if it does not run."""
        self._engine.call("POST", f"/containers/{container}/start", f"start container {container[:12]}")

    def unpause(self, container: str) -> None:
        """Let it go on."""
        self._engine.call("POST", f"/containers/{container}/unpause", f"unpause container {container[:12]}")

    def update(self, container: str, changes: Json) -> None:
        """Change its limits and restart policy in place."""
        self._engine.call("POST", f"/containers/{container}/update", f"update container {container[:12]}", body=changes)

    def rename(self, container: str, name: str, *, end: bool = False) -> None:
        """Call it otherwise. Raises Taken if something else has that name.

        An engine cannot rename what waits to be restarted (it looks for a network sandbox that is not there); with `end`
        such a one is stopped then, which takes no time because nothing of it runs.
        """
        path, doing = f"/containers/{container}/rename", f"rename container {container[:12]} to {name}"
        try:
            self._engine.call("POST", path, doing, params={"name": name})
        except Missing as error:
            if "sandbox" not in str(error):
                raise
            if end:
                self.stop(container, 1.0)
            self._engine.call("POST", path, doing, params={"name": name})

    def stop(self, container: str, grace: float) -> None:
        """Stop it and wait for it. One that stopped or vanished is nothing."""
        path, doing = f"/containers/{container}/stop", f"stop container {container[:12]}"
        try:
            self._engine.call("POST", path, doing, params={"t": round(grace)}, timeout=grace + _SLACK)
        except Missing:
            return

    def remove(self, container: str) -> None:
        """Remove it, running or not. One that is gone or going is nothing.

        Anonymous volumes go with it, since nothing can lead to them again; a spec's mounts are paths of the host.
        """
        path, doing = f"/containers/{container}", f"remove container {container[:12]}"
        try:
            self._engine.call("DELETE", path, doing, params={"force": "true", "v": "true"})
        except Missing:
            return
        except Taken as error:
            if "already in progress" not in str(error):
                raise

    def ensure_network(self, *, look: bool = False) -> None:
        """The owner's network is there. It is looked for once, and again when someone says so."""
        with self._lock:
            if self._network_there and not look:
                return
            name = naming.network_name(self._owner)
            try:
                self._engine.call("GET", f"/networks/{name}", f"look for network {name}")
            except Missing:
                body = arguments.network(self._owner)
                with contextlib.suppress(Taken):  # someone was faster
                    self._engine.call("POST", "/networks/create", f"create network {name}", body=body)
            self._network_there = True

    def plug(self, container: str, service: Service) -> None:
        """Connect it to the owner's network, also if that is another one by the same name now."""
        self.ensure_network(look=True)
        path = f"/networks/{naming.network_name(self._owner)}"
        doing = f"connect container {container[:12]} to its network"
        try:
            self._engine.call("POST", f"{path}/disconnect", doing, body={"Container": container, "Force": True})
        except Transient as error:
            if not isinstance(error, Missing) and "is not connected" not in str(error):
                raise
        body = {"Container": container, "EndpointConfig": arguments.endpoint(service)}
        self._engine.call("POST", f"{path}/connect", doing, body=body)
