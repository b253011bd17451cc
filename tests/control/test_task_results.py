"""Every end of a task is counted, by its kind and result: no failed pull is silent."""

import threading

import pytest

from agent.contracts import Cancelled, Permanent, ServiceName, Task, Transient
from agent.control.task import TaskPool


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (None, "ok"),
        (Transient("the registry is down"), "transient"),
        (Permanent("no such image"), "permanent"),
        (Cancelled("nobody wants it"), "cancelled"),
        (RuntimeError("a bug"), "error"),
    ],
)
def test_how_a_task_ended_is_told(error: Exception | None, result: str) -> None:
    told: list[tuple[str, str]] = []
    over = threading.Event()

    def ended(kind: str, how: str) -> None:
        told.append((kind, how))
        over.set()

    def work(task: Task) -> None:
        if error is not None:
            raise error

    pool = TaskPool(1, lambda name: None, ended=ended)
    try:
        pool.of(ServiceName("web")).start("image:mini:latest", work)
        assert over.wait(5)
        assert told == [("image", result)]
    finally:
        assert pool.close(5)
