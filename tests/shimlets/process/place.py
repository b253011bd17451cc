"""A world of real processes under an owner of its own, which ends all of them, and a shimlet's ContractPlace in it."""

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, Self

from agent.contracts import Check, Fate, Observed, Placement, SecretRef, Service, ServiceName, State, Workload
from shimlets.process.finding import stat_of
from shimlets.process.shimlet import ProcessShimlet
from tests.contract.shimlet_contract import (
    DIES,
    SECRETIVE,
    SERVES,
    SERVES_TOO,
    TALKS,
    rival_in_a_process,
    service_of,
)

FACTORY = "shimlets.process.shimlet:ProcessShimlet"
TALK = 'for i in $(seq 1 30); do echo "line $i"; done; while :; do echo again; sleep 0.2; done'
COMMANDS = {
    SERVES: ("/bin/sleep", "1000"),
    SERVES_TOO: ("/bin/sleep", "1001"),
    TALKS: ("/bin/sh", "-c", TALK),
    DIES: ("/bin/sh", "-c", "echo last words; exit 3"),
    SECRETIVE: ("/bin/sleep", "1002"),
}
PORTS = itertools.count(21000 + os.getpid() % 1000 * 10)


def environ_of(pid: int) -> dict[str, str]:
    """A process's environment; empty if it is gone."""
    block = b""
    with contextlib.suppress(OSError):
        for _ in range(10):  # in the midst of an exec there is none
            block = Path(f"/proc/{pid}/environ").read_bytes()
            if block or not Path(f"/proc/{pid}/exe").readlink():
                break
            time.sleep(0.002)
    words = block.decode(errors="replace").split("\0")
    return dict(word.split("=", 1) for word in words if "=" in word)


def pids_of(owner: str, name: str = "") -> list[int]:
    """Living processes that carry an owner's mark, seen without the shimlet's help."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        pid = int(folder.name)
        environ = environ_of(pid)
        if environ.get("XMOD_INSTANCE") == owner and environ.get("XMOD_SERVICE") in (name, environ.get("XMOD_SERVICE")):
            stat = stat_of(pid)
            if stat is not None and stat.alive and (not name or environ.get("XMOD_SERVICE") == name):
                found.append(pid)
    return sorted(found)


def alive(pid: int) -> bool:
    """It runs, and is no zombie."""
    stat = stat_of(pid)
    return stat is not None and stat.alive


class ProcessPlace:
    """ContractPlace over real processes. Use it as a context manager: it ends every process of its owners."""

    patience = 15.0
    conflicts = False

    def __init__(self, state_dir: Path, **options: Any) -> None:
        self.owner = f"t-{uuid.uuid4().hex[:10]}"
        self.state_dir = state_dir
        self.options = {"stopGrace": 3.0, **options}
        self.shimlets: list[ProcessShimlet] = []
        self.strangers: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for shimlet in self.shimlets:
            shimlet.close()
        for stranger in self.strangers:
            stranger.kill()
            stranger.wait()
        deadline = time.monotonic() + 10
        while self.all_pids() and time.monotonic() < deadline:
            for pid in self.all_pids():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
        for shimlet in self.shimlets[:1]:
            with contextlib.suppress(Exception):
                shimlet.list()  # reaps our zombies
        assert not self.all_pids()

    def all_pids(self) -> list[int]:
        return pids_of(self.owner) + pids_of(self.owner + "-other")

    def shimlet(self, owner: str | None = None) -> ProcessShimlet:
        shimlet = ProcessShimlet(owner or self.owner, self.options, self.state_dir)
        self.shimlets.append(shimlet)
        return shimlet

    def service(self, name: str, workload: str, replicas: int = 1) -> Service:
        env = (("TOKEN", SecretRef("env", "TOKEN")),) if workload == SECRETIVE else ()
        return self.running(*COMMANDS[workload], name=name, replicas=replicas, env=env)

    def running(self, *command: str, name: str = "a", replicas: int = 1, **fields: Any) -> Service:
        """A service that runs this command."""
        workload = Workload(command=command, check=Check(tcp=False), **fields)
        return service_of(name, workload, shimlet="process", goalset="service-deploy", replicas=replicas)

    def placement(self, index: int) -> Placement:
        while True:
            port = next(PORTS)
            with socket.socket() as probe, contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return Placement(index, port)

    def step(self) -> None:
        time.sleep(0.02)

    def until(self, holds: Callable[[], Any], what: str = "it holds") -> Any:
        """Wait for something; what it answered."""
        deadline = time.monotonic() + self.patience
        while not (answer := holds()):
            assert time.monotonic() < deadline, f"not within {self.patience} s: {what}"
            self.step()
        return answer

    def up(self, shimlet: ProcessShimlet, service: Service, *placements: Placement) -> int:
        """Apply one service, and wait until its first replica is the program itself; its pid."""
        placements = placements or (self.placement(0),)
        shimlet.apply(service, placements, {})
        self.until(
            lambda: (
                [r.state for g in shimlet.observe(service.name).generations for r in g.live]
                == [State.RUNNING] * len(placements)
            ),
            "it runs",
        )
        return self.leader(service.name)

    def leader(self, name: str = "a") -> int:
        """The pid of the one leader of a service, once it has become the program."""

        def leaders() -> list[int]:
            return [pid for pid in pids_of(self.owner, name) if environ_of(pid).get("XMOD_PID") == str(pid)]

        (pid,) = self.until(leaders, f"{name} has a leader")
        return pid

    def state(self, shimlet: ProcessShimlet, name: str = "a") -> list[State]:
        return [r.state for g in shimlet.observe(ServiceName(name)).generations for r in g.replicas]

    def fates(self, observed: Observed) -> list[Fate]:
        return [g.fate for g in observed.generations]

    def remains(self, name: str) -> Collection[str]:
        pids = [str(pid) for pid in pids_of(self.owner, name)]
        root = self.state_dir / "process" / self.owner / name
        return pids or [str(path) for path in root.glob("**/*") if path.is_file()]

    def kill(self, name: str) -> None:
        os.kill(self.leader(name), signal.SIGKILL)

    def stranger(self, service: Service, index: int) -> Callable[[], bool]:
        environ = {"XMOD_INSTANCE": "t-nobody", "XMOD_SERVICE": service.name, "XMOD_PID": "1"}
        stranger = subprocess.Popen(service.workload.command, env=environ, start_new_session=True)
        self.strangers.append(stranger)
        return lambda: stranger.poll() is None

    def text(self, name: str) -> str:
        root = self.state_dir / "process" / self.owner / name
        files = [path.read_text() for path in root.glob("**/*") if path.is_file()]
        marks = [
            f"{key}={value}"
            for pid in pids_of(self.owner, name)
            for key, value in environ_of(pid).items()
            if key.startswith("XMOD_")
        ]
        words = [Path(f"/proc/{pid}/cmdline").read_text() for pid in pids_of(self.owner, name)]
        return "\n".join([*files, *marks, *words])

    def rival(self, owner: str) -> contextlib.AbstractContextManager[str]:
        return rival_in_a_process(FACTORY, owner, self.options, self.state_dir)


@contextlib.contextmanager
def folder_that_refuses(folder: Path) -> Iterator[None]:
    """Nobody, root included, can write into the folder: a file stands in its place."""
    aside = folder.with_name(folder.name + "-aside")
    folder.rename(aside)
    folder.write_text("in the way")
    try:
        yield
    finally:
        folder.unlink()
        aside.rename(folder)
