"""A stranger's shimlet: replicas are folders in a spool that somebody's supervisor runs, as runit or s6 would.

    SPOOL/OWNER/SERVICE/DIGEST.INDEX/unit.json     ours: the mark, "run" or "stop", a turn that changes with each start
                                     env.json      ours, mode 0600: the secrets' values
                                     state.json    the supervisor's: what became of which turn
                                     log           the supervisor's: what the replica said

It imports agent.contracts, and some of the built-in goals. A folder of a service in which anything lies that has no mark
is not ours: it is reported, and nothing in it is touched.
"""

import fcntl
import json
import os
import shutil
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

from agent.contracts import (
    Achieved,
    Conflict,
    Fate,
    Generation,
    Observed,
    Pending,
    Replica,
    State,
    Transient,
    compose,
    decode,
    encode,
    seal,
    unsealed_by,
)
from goalsets.deploy import Exposed, Placed, Retired

_POLL = 0.02  # seconds


class SpoolShimlet:
    """One owner's part of a spool. Options: {"spool": folder}."""

    name = "spool"
    local = True

    def __init__(self, owner, options, state_dir):
        if unknown := sorted(set(options) - {"spool"}):
            raise ValueError(f"shimlets.spool: unknown options {unknown}; known: spool")
        self._spool = Path(options.get("spool", state_dir / "spool"))
        self._root = self._spool / owner
        self._lock = -1

    def acquire(self):
        if self._lock >= 0:
            return
        self._root.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._root.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise Conflict(f"{self._root} belongs to another agent that is running") from None
        self._lock = lock

    def list(self):
        try:
            names = sorted(path.name for path in self._root.iterdir()) if self._root.exists() else []
        except OSError as error:
            raise Transient(f"{self._root}: {error.strerror}") from error
        seen = {name: self.observe(name) for name in names}
        return {name: observed for name, observed in seen.items() if observed.generations}

    def observe(self, name):
        found, foreign = {}, ""
        for folder in self._units(name):
            unit = _read(folder / "unit.json")
            if unit is None:
                foreign = f"{folder} is not ours"
                continue
            service, _ = decode(unit["mark"])
            replicas, since, _ = found.get(service.digest, ((), unit["created"], None))
            found[service.digest] = ((*replicas, _replica(folder, unit)), min(since, unit["created"]), (service, unit))
        generations = [
            Generation(service, replicas, Fate(unit["fate"]), secrets=unit["secrets"])
            for replicas, _, (service, unit) in sorted(found.values(), key=lambda item: item[1])
        ]
        return Observed(name, tuple(generations), foreign)

    def apply(self, service, placements, secrets):
        observed = self.observe(service.name)
        if observed.foreign:
            raise Conflict(observed.foreign)
        wanted = {placement.index: placement for placement in placements}
        for folder in self._units(service.name, service.digest):
            index = int(folder.name.split(".")[1])
            if index not in wanted and index >= service.replicas:
                shutil.rmtree(folder)
            elif index not in wanted:
                _write(folder / "unit.json", _read(folder / "unit.json") | {"want": "stop"})
        for placement in placements:
            self._start(service, placement, secrets)
        if placements:
            self._rewrite(service.name, service.digest, lambda unit: Fate(unit["fate"]) is Fate.FAILED, fate=Fate.NEW)

    def record(self, name, digest, fate):
        self._rewrite(name, digest, lambda unit: True, fate=fate)

    def remove(self, name, digest):
        for folder in self._units(name, digest):
            shutil.rmtree(folder)
        if (self._root / name).exists() and not any((self._root / name).iterdir()):
            (self._root / name).rmdir()

    def watch(self, stop):
        before = self._look()
        while not stop.wait(_POLL):
            now = self._look()
            yield from sorted({name for name, _ in before.items() ^ now.items()})
            before = now

    def logs(self, name, tail, follow=None):
        live = [generation for generation in self.observe(name).generations if generation.live]
        if not live:
            return
        files = [folder / "log" for folder in self._units(name, live[-1].service.digest)]
        lines = [line for file in files for line in _lines(file)]
        yield from lines[-tail:] if tail else ()
        while follow is not None and not follow.wait(_POLL):
            now = [line for file in files for line in _lines(file)]
            yield from now[len(lines) :]
            lines = now

    def close(self):
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _start(self, service, placement, secrets):
        folder = self._root / service.name / f"{service.digest}.{placement.index}"
        unit = _read(folder / "unit.json")
        asked = unit is not None and unit["want"] == "run" and decode(unit["mark"])[1] == placement
        if asked and _replica(folder, unit).live and unsealed_by(secrets, unit["secrets"]):
            return
        folder.mkdir(parents=True, exist_ok=True)
        if secrets:
            with open(os.open(folder / "env.json", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:  # noqa: PTH123
                json.dump(dict(secrets), file)
        new = {"mark": encode(service, placement), "want": "run", "turn": uuid.uuid4().hex, "secrets": seal(secrets)}
        kept = (
            {key: unit[key] for key in ("created", "fate")} if unit else {"created": time.time_ns(), "fate": Fate.NEW}
        )
        _write(folder / "unit.json", new | kept)

    def _rewrite(self, name, digest, which, **changes):
        for folder in self._units(name, digest):
            unit = _read(folder / "unit.json")
            if unit is not None and which(unit):
                _write(folder / "unit.json", unit | changes)

    def _units(self, name, digest="*"):
        return sorted((self._root / name).glob(f"{digest}.*" if digest != "*" else "*"))

    def _look(self):
        """What a watch compares: of each service, its files and their times."""
        seen = {}
        for file in self._root.glob("*/*/*.json") if self._root.exists() else ():
            try:
                seen.setdefault(file.parents[1].name, []).append((str(file), file.stat().st_mtime_ns))
            except FileNotFoundError:
                continue
        return {name: tuple(sorted(files)) for name, files in seen.items()}


def _replica(folder, unit):
    _, placement = decode(unit["mark"])
    state = _read(folder / "state.json") or {}
    if state.get("turn") != unit["turn"]:
        return Replica(placement, State.STARTING if unit["want"] == "run" else State.STOPPED)
    ran = State(state["state"])
    if unit["want"] == "stop":
        ran = State.STOPPING if ran is State.RUNNING else State.STOPPED
    words = "\n".join(_lines(folder / "log")[-5:])
    return Replica(
        placement,
        ran,
        started_at=datetime.fromtimestamp(state["started"], UTC),
        finished_at=datetime.fromtimestamp(state["finished"], UTC) if state.get("finished") else None,
        exit_code=state.get("code"),
        address=f"127.0.0.1:{placement.port}",
        message=f"exit {state.get('code')}: {words}" if ran is State.EXITED else "",
    )


def _lines(file):
    return file.read_text().splitlines() if file.exists() else []


def _read(file):
    try:
        return json.loads(file.read_text())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def _write(file, value):
    part = file.with_suffix(".part")
    part.write_text(json.dumps(value))
    part.replace(file)


class Spooled:
    """Every replica that is wanted runs."""

    name = "spooled"

    def is_achieved(self, ctx):
        generation = ctx.generation
        up = [r for r in generation.replicas if r.state is State.RUNNING] if generation else []
        return (
            Achieved() if len(up) >= ctx.target.replicas else Pending("Starting", f"{len(up)} of {ctx.target.replicas}")
        )

    def ensure(self, ctx):
        ctx.shimlet.apply(ctx.target, ctx.ledger.room(ctx.target).held, ctx.secrets.read(ctx.target.workload))


class Cleared:
    """Nothing of the service is left."""

    name = "cleared"

    def is_achieved(self, ctx):
        return not ctx.observed.generations

    def ensure(self, ctx):
        for generation in ctx.observed.generations:
            ctx.shimlet.remove(ctx.observed.name, generation.service.digest)


ACME_DEPLOY = (
    compose("acme-deploy").then(Placed(), Spooled(), Exposed(), Retired()).removed_by("acme-delete").within(600).build()
)
ACME_DELETE = compose("acme-delete").then(Cleared()).removed_by("acme-delete").build()
