"""A shimlet as goals are handed it: it notes whether anything was done to its world.

A look sees the world anew only after something was done to it; a goal that claims, begins a task or only waits costs no
round trip.
"""

from typing import Any

from agent.contracts import Shimlet

_LOOKS = frozenset({"name", "local", "list", "observe", "logs", "watch"})


class Noting:
    """Passes everything on. `acted`: something else than a look was asked for, a stranger's own ability included."""

    def __init__(self, shimlet: Shimlet) -> None:
        self._shimlet = shimlet
        self.acted = False

    def __getattr__(self, name: str) -> Any:
        if name not in _LOOKS:
            self.acted = True
        return getattr(self._shimlet, name)
