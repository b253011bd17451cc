"""A real surface over a fake agent, and a plain HTTP client."""

import http.client
from pathlib import Path

from agent.clock import SystemClock
from agent.surface.metrics import Metrics
from agent.surface.operations import Operations
from agent.surface.server import Surface


def a_surface(operations: Operations, folder: Path, **more: object) -> Surface:
    """On a free port, with its socket at folder/run/t.sock."""
    metrics = Metrics(clock=SystemClock(), shimlets=("process",))
    metrics.observe(operations.view)
    options = {"bind": "127.0.0.1", "port": 0, "socket": folder / "run" / "t.sock"} | more
    return Surface(operations, metrics, **options)


def get(surface: Surface, path: str, host: str = "localhost", method: str = "GET") -> tuple[int, bytes]:
    """One request to the public address."""
    connection = http.client.HTTPConnection("127.0.0.1", surface.port, timeout=10)
    try:
        connection.request(method, path, headers={"host": host})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
