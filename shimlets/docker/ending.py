"""Stops in the background: a container may take its whole grace to end, and no call may wait for it.

A stop that was begun goes on in the engine if the agent dies; whoever comes next sees a container that runs, or that
stopped. What this agent stopped itself is remembered until it is started or gone, for what cannot be seen otherwise.
"""

import logging
import threading
from collections.abc import Iterable

from agent.contracts import XmodError
from shimlets.docker.container import Containers
from shimlets.docker.observing import Ours

_log = logging.getLogger("xmod.docker")


class Endings:
    """Which containers are being stopped, and whether they are removed then. Thread-safe."""

    def __init__(self, containers: Containers) -> None:
        self._containers = containers
        self._lock = threading.Lock()
        self._stopping: dict[str, bool] = {}  # id → is to be removed once it stopped
        self._stopped: set[str] = set()

    def begin(self, container: str, *, grace: float, remove: bool) -> None:
        """Stop it, unless that goes on already; `remove` it then."""
        with self._lock:
            begun = container in self._stopping
            self._stopping[container] = remove or self._stopping.get(container, False)
        if not begun:
            arguments = (container, grace)
            threading.Thread(target=self._end, args=arguments, name=f"stop-{container[:12]}", daemon=True).start()

    def started(self, container: str) -> None:
        """It was started again: not stopped by us any more."""
        with self._lock:
            self._stopped.discard(container)

    def known(self) -> Ours:
        """What of the containers is our own doing, as of now."""
        with self._lock:
            return Ours(frozenset(self._stopping), frozenset(self._stopped))

    def keep_only(self, there: Iterable[str]) -> None:
        """Forget what is gone. `there`: all ids that a list showed."""
        with self._lock:
            self._stopped &= set(there)

    def _end(self, container: str, grace: float) -> None:
        try:
            self._containers.stop(container, grace)
            with self._lock:
                self._stopped.add(container)
        except XmodError as error:
            _log.warning("stop failed", extra={"shimlet": "docker", "reason": error.reason, "error": str(error)})
        with self._lock:
            remove = self._stopping.pop(container)
            if remove:
                self._stopping[container] = True  # until it is gone
        if remove:
            self._remove(container)

    def _remove(self, container: str) -> None:
        try:
            self._containers.remove(container)
        except XmodError as error:
            _log.warning("remove failed", extra={"shimlet": "docker", "reason": error.reason, "error": str(error)})
        finally:
            with self._lock:
                self._stopping.pop(container, None)
