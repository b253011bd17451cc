"""Tells a supervisor such as systemd how the agent is, in sd_notify's words; silence where there is none.

The watchdog has no timer: who has finished a pass over the source feeds it, and only while the agent is well. So a scan
thread that hangs, a dead thread and a stuck look all let it starve, and the agent is started anew. Services run on
meanwhile. A supervisor that does not listen is no reason to end.
"""

import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agent.surface.operations import AgentView

_log = logging.getLogger("xmod.daemon")
_PATIENCE = 1.0  # seconds that a full queue of the supervisor's may cost
_SHARE = 3  # feeds in the time that the watchdog grants
_LONGEST = 500  # characters of an error: systemd drops a message of more than 4096 bytes
_RELOAD = 5.0  # seconds that a reload waits for its pass; a slow remote goes on by itself


@dataclass(frozen=True, slots=True)
class Supervisor:
    """Who started us. `address`: of its socket, "" if it listens to nobody; `watchdog`: seconds, 0 if it has none."""

    address: str = ""
    watchdog: float = 0.0

    def tell(self, *words: str) -> None:
        """Say these `KEY=value` lines in one message."""
        if not self.address:
            return
        name = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.settimeout(_PATIENCE)
            try:
                out.sendto("\n".join(words).encode("utf-8", "backslashreplace"), name)
            except OSError as error:
                _log.warning("the supervisor cannot be told", extra={"error": str(error)})

    def interval(self, wanted: float) -> float:
        """Seconds between two passes, so that they feed the watchdog in time."""
        return min(wanted, self.watchdog / _SHARE) if self.watchdog else wanted


def supervisor_of(environ: Mapping[str, str], pid: int) -> Supervisor:
    """The supervisor that started this process. A watchdog that is meant for another process is none."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):  # others are for virtual machines
        return Supervisor()
    ours = environ.get("WATCHDOG_PID", str(pid)) == str(pid)
    microseconds = environ.get("WATCHDOG_USEC", "")
    return Supervisor(address, int(microseconds) / 1e6 if ours and microseconds.isdigit() else 0.0)


class Reports:
    """What the agent's supervisor is told. `alive`: why the agent is not well; `passed`: set by each pass over the source."""

    def __init__(
        self,
        supervisor: Supervisor,
        *,
        view: Callable[[], AgentView],
        alive: Callable[[], str],
        passed: threading.Event,
    ) -> None:
        self._supervisor = supervisor
        self._view = view
        self._alive = alive
        self._passed = passed
        self._status = ""

    def feed(self) -> None:
        """Called by the scan loop after each pass: the only food that the watchdog gets."""
        if self._supervisor.watchdog and not self._alive():
            self._supervisor.tell("WATCHDOG=1")

    def started(self) -> None:
        """The agent does its work."""
        self._supervisor.tell("READY=1")
        self.status()

    def status(self) -> None:
        """Tell how all is, if that changed."""
        if not self._supervisor.address:
            return
        line = status_line(self._view(), self._alive())
        if line != self._status:
            self._supervisor.tell(f"STATUS={line}")
            self._status = line

    def reload(self, read: Callable[[], None]) -> None:
        """Have the source read, and say when it was."""
        self._passed.clear()
        self._supervisor.tell("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
        read()
        if self._supervisor.address:
            self._passed.wait(_RELOAD)
        self._supervisor.tell("READY=1")
        self.status()

    def stopping(self) -> None:
        """The agent ends, and services run on."""
        self._supervisor.tell("STOPPING=1", "STATUS=services go on running")


def status_line(view: AgentView, wrong: str) -> str:
    """One line about the whole agent, for `systemctl status`."""
    services, source = view.services, view.source
    serving = sum(status.serving.holds for status in services)
    converged = sum(status.converged.holds for status in services)
    known = f"{len(services)} service{'' if len(services) == 1 else 's'}, {serving} serving, {converged} converged"
    read = f"at {source.revision[:20]}" if source.revision else "the source was not read yet"
    error = source.error if len(source.error) <= _LONGEST else f"{source.error[: _LONGEST - 1]}…"
    return " ".join("; ".join(part for part in (known, read, error, wrong) if part).split())
