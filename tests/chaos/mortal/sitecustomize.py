"""Found by Python at its start when this folder is on PYTHONPATH: a process that is killed after its n-th change to processes.

A change: a process started, a signal sent, a record of the process shimlet written or removed. $MORTAL_AFTER: a file with
that number; who reads it takes it away, and counts from there on.
"""

import itertools
import os
import pathlib
import signal
from collections.abc import Callable
from typing import Any

_after = os.environ.get("MORTAL_AFTER", "")
_count = itertools.count(1)
_deadly = 0


def _changed() -> None:
    global _count, _deadly
    try:
        with open(_after) as file:  # noqa: PTH123 before pathlib is itself again
            _deadly = int(file.read())
        os.unlink(_after)  # noqa: PTH108 the same
        _count = itertools.count(1)
    except (OSError, ValueError):
        pass
    if next(_count) == _deadly:
        os.kill(os.getpid(), signal.SIGKILL)


def _mortal(deed: Callable[..., Any], counts: Callable[..., bool] = lambda *_: True) -> Callable[..., Any]:
    def done(*words: Any, **more: Any) -> Any:
        result = deed(*words, **more)
        if counts(*words):
            _changed()
        return result

    return done


def _a_record(path: pathlib.Path, *_: Any) -> bool:
    return "process" in path.parts


if _after:
    os.posix_spawn = _mortal(os.posix_spawn)
    signal.pidfd_send_signal = _mortal(signal.pidfd_send_signal, lambda _, number, *__: number != 0)
    pathlib.Path.replace = _mortal(pathlib.Path.replace, _a_record)  # type: ignore[method-assign]
    pathlib.Path.unlink = _mortal(pathlib.Path.unlink, _a_record)  # type: ignore[method-assign]
