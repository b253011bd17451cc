"""Where each service's one address leads.

Until a proxy that outlives the agent stands in front, an address is a replica's own: the route is what status reports as
the endpoint, rebuilt from the marks (a SERVED generation that runs) after a restart.
"""

import threading
from collections.abc import Sequence

from agent.contracts import Replica, Route, Service, ServiceName


class DirectRouter:
    """Keeps each service's route in memory; the world's SERVED record is what outlives us. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._routes: dict[ServiceName, Route] = {}

    def routed(self, name: ServiceName) -> Route | None:
        """Where it leads now; None if this agent has not proven anything yet."""
        with self._lock:
            return self._routes.get(name)

    def route(self, service: Service, replicas: Sequence[Replica]) -> None:
        """Lead it to these; none: drained."""
        with self._lock:
            self._routes[service.name] = Route(service.digest, frozenset(r.placement.index for r in replicas))

    def forget(self, name: ServiceName) -> None:
        """The service is gone."""
        with self._lock:
            self._routes.pop(name, None)
