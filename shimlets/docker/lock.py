"""One agent of an instance on one engine: a lock that lies in the engine, so that it holds for all who reach it.

A named volume is an atomic test-and-set: creating one that exists gives back the existing one with its labels, so the
first wins. `xmod-lock-OWNER-N` is labelled with who holds it; the highest N counts. A holder whose process is gone is
succeeded by N+1, at once; one whose process cannot be judged from here (another machine or PID namespace) is believed.
"""

import logging
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.contracts import Conflict, XmodError
from shimlets.docker import naming
from shimlets.docker.engine import Engine, Missing, Taken

_log = logging.getLogger("xmod.docker")
_HIDDEN = "?"
_ROOT_NAMESPACE = "4026531836"  # the inode of the first PID namespace, fixed in the kernel


@dataclass(frozen=True, slots=True)
class Holder:
    """A process as others can check it. `nonce` tells apart what one process holds twice."""

    boot: str
    namespace: str
    pid: int
    started: str
    nonce: str = ""

    def __str__(self) -> str:
        return f"{self.boot}:{self.namespace}:{self.pid}:{self.started}:{self.nonce}"

    @staticmethod
    def read(text: str) -> "Holder | None":
        """Read what a label says; None if it says nothing of a process."""
        parts = [*text.split(":"), ""]
        if len(parts) < 5 or not parts[2].isdigit():
            return None
        return Holder(parts[0], parts[1], int(parts[2]), parts[3], parts[4])


@dataclass(frozen=True, slots=True)
class Proc:
    """What this machine says of its processes."""

    root: Path = Path("/proc")

    def me(self, nonce: str) -> Holder:
        """This process."""
        return Holder(self.boot(), self.namespace("self"), os.getpid(), self.started(os.getpid()) or "", nonce)

    def boot(self) -> str:
        """This boot of this machine."""
        return (self.root / "sys/kernel/random/boot_id").read_text().strip()

    def namespace(self, pid: str) -> str:
        """The PID namespace of a process, "" if it cannot be read."""
        try:
            return str((self.root / pid / "ns/pid").readlink()).partition("[")[2].rstrip("]")
        except OSError:
            return ""

    def started(self, pid: int) -> str | None:
        """When a process started, in ticks since boot; None if it is gone, or dead and only not yet waited for."""
        try:
            fields = (self.root / str(pid) / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            return _unseen(pid)
        return None if fields[0] in ("Z", "X") else fields[19]

    def alive(self, holder: Holder, *, same_machine: bool) -> bool | None:
        """Whether that process lives; None if that cannot be told from here."""
        if holder.boot != self.boot():
            return False if same_machine else None
        if holder.namespace == self.namespace("self"):
            return self.started(holder.pid) in (holder.started, _HIDDEN)
        if self.namespace("self") != _ROOT_NAMESPACE:
            return None
        spaces = {self.namespace(entry.name) for entry in self.root.iterdir() if entry.name.isdigit()}
        return None if holder.namespace in spaces else False  # from here, every namespace with a process is seen


def _unseen(pid: int) -> str | None:
    """What is known of a process that /proc does not show: mounted with hidepid, it shows a stranger's process to nobody."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return _HIDDEN
    except OSError:
        return None
    return _HIDDEN


class Lock:
    """The lock of one owner. Thread-safe; taking it again is nothing."""

    def __init__(self, engine: Engine, owner: str, *, local: bool, proc: Proc | None = None) -> None:
        self._engine = engine
        self._owner = owner
        self._local = local
        self._proc = proc or Proc()
        self._nonce = os.urandom(4).hex()
        self._guard = threading.Lock()
        self._held = 0

    def acquire(self) -> None:
        """Take it. Conflict if somebody who lives, or may live, has it."""
        with self._guard:
            me = str(self._proc.me(self._nonce))
            volumes = self._volumes()
            number = max(volumes, default=0)
            holder = volumes.get(number, "")
            if number and holder == me:
                self._held = number
                return
            if number:
                self._check(number, holder)
            while holder != me:  # each that turns out to be a dead one's is succeeded
                number += 1
                holder = self._create(number, me)
                self._check(number, holder, me)
            self._held = number
            self._tidy(me)

    def release(self) -> None:
        """Let go of it."""
        with self._guard:
            if self._held:
                self._remove(self._held)
                self._held = 0

    @property
    def held(self) -> bool:
        """It was taken here and not let go of."""
        return bool(self._held)

    def _tidy(self, me: str) -> None:
        """Remove what the dead left; give way to anyone alive who came by another way at the same moment."""
        for number, holder in self._volumes().items():
            if holder == me and number == self._held:
                continue
            try:
                self._check(number, holder)
            except Conflict:
                self._remove(self._held)
                self._held = 0
                raise
            self._remove(number)

    def _check(self, number: int, text: str, me: str | None = None) -> None:
        if text == me:
            return
        holder = Holder.read(text)
        alive = self._proc.alive(holder, same_machine=self._local) if holder is not None else None
        if alive is False:
            return
        free = f"docker volume rm {self._name(number)}"
        if holder is not None and alive:
            another = f"another agent of instance {self._owner} works on this engine"
            raise Conflict(f"{another}: pid {holder.pid}; stop it or use another --instance", reason="Locked")
        who = f"pid {holder.pid} of another machine or PID namespace" if holder is not None else f"{text!r}"
        message = f"instance {self._owner} is locked on this engine by {who}; if no agent runs there, free it: {free}"
        raise Conflict(message, reason="Locked")

    def _name(self, number: int) -> str:
        return f"xmod-lock-{self._owner}-{number}"

    def _volumes(self) -> Mapping[int, str]:
        filters = {"label": [f"{naming.LOCK}={self._owner}"]}
        answer = self._engine.call("GET", "/volumes", "look for the lock", params={"filters": filters})
        return {
            int(volume["Name"].rpartition("-")[2]): _holder(volume)
            for volume in answer.get("Volumes") or ()
            if volume["Name"] == self._name_like(volume["Name"])
        }

    def _name_like(self, name: str) -> str:
        number = name.rpartition("-")[2]
        return self._name(int(number)) if number.isdecimal() else ""

    def _create(self, number: int, me: str) -> str:
        labels = {naming.LOCK: self._owner, naming.HOLDER: me}
        body = {"Name": self._name(number), "Driver": "local", "Labels": labels}
        return _holder(self._engine.call("POST", "/volumes/create", "take the lock", body=body))

    def _remove(self, number: int) -> None:
        try:
            self._engine.call("DELETE", f"/volumes/{self._name(number)}", "let go of the lock")
        except (Missing, Taken):
            return
        except XmodError as error:
            _log.warning("lock not let go", extra={"shimlet": "docker", "reason": error.reason, "error": str(error)})


def _holder(volume: Mapping[str, Any]) -> str:
    return str((volume.get("Labels") or {}).get(naming.HOLDER, ""))
