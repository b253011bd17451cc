"""What the engine says of containers as what the agent sees: Observed; pure.

The engine's words and ours: `created` is STOPPED (made, never started: an apply was cut short), unless its start failed by
the workload's own fault (exit code 126 or 127), then EXITED; `running` and `paused` are RUNNING (paused is drift),
`restarting` STARTING, `removing` STOPPING, `dead` EXITED. `exited` depends: under `unless-stopped` the engine itself starts
again what left, so that somebody stopped it: STOPPED, also when that was not us (what is wanted is started again either
way). Under `restart: never` it left by itself: EXITED, except where this agent remembers having stopped it.
"""

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from agent.contracts import (
    Fate,
    Generation,
    Observed,
    Placement,
    Replica,
    Service,
    ServiceName,
    State,
    decode,
)
from shimlets.docker import naming
from shimlets.docker.arguments import Engine, Json, address, limits
from shimlets.docker.options import workload_options

STEADY = timedelta(minutes=10)  # having run for so long, a container's earlier restarts are history
HOLDING = frozenset({"running", "paused", "restarting"})  # the engine's words for what has its port and devices
_CANNOT_RUN = (126, 127)  # not executable, not found
_decoded = functools.lru_cache(maxsize=8192)(decode)


@dataclass(frozen=True, slots=True)
class Found:
    """One container of ours, as a list tells it. `word`: the engine's own for its state; `seal`: of its secrets."""

    id: str
    name: str
    word: str
    created: int
    service: Service
    placement: Placement
    image_id: str = ""
    seal: str = ""

    @property
    def fate(self) -> Fate:
        """What its name tells of its generation."""
        return naming.fate_of(self.name)

    @property
    def holds(self) -> bool:
        """It has its port and devices."""
        return self.word in HOLDING


@dataclass(frozen=True, slots=True)
class Detail:
    """What only an inspect tells. `last`: the last lines that it wrote, as far as anybody asked for them."""

    word: str
    started_at: datetime | None = None
    finished_at: datetime | None = None
    exit_code: int = 0
    restarts: int = 0
    error: str = ""
    out_of_memory: bool = False
    nano_cpus: int = 0
    cpu_quota: int = 0
    memory: int = 0
    policy: str = ""
    networks: frozenset[str] = frozenset()
    last: tuple[str, ...] = ()

    @property
    def cannot_run(self) -> bool:
        """Its start failed, by the workload's own fault."""
        return bool(self.error) and self.exit_code in _CANNOT_RUN

    @property
    def failing(self) -> bool:
        """Its last words are worth asking for."""
        return self.word in ("restarting", "exited", "dead") or (self.word == "running" and self.restarts > 0)


@dataclass(frozen=True, slots=True)
class Ours:
    """What this agent knows of containers that it stops or has stopped itself, by id."""

    stopping: frozenset[str] = frozenset()
    stopped: frozenset[str] = frozenset()

    def __or__(self, later: "Ours") -> "Ours":
        """What held at any time while we looked."""
        return Ours(self.stopping | later.stopping, self.stopped | later.stopped)


def found(summary: Mapping[str, Any]) -> Found | None:
    """Read an entry of `GET /containers/json`; None if it has no mark that can be read, or was given up."""
    labels = summary.get("Labels") or {}
    if naming.is_forgotten(own_name(summary)):
        return None
    try:
        service, placement = _decoded(labels[naming.MARK])
    except (KeyError, ValueError):
        return None
    return Found(
        id=summary["Id"],
        name=own_name(summary),
        word=summary["State"],
        created=summary["Created"],
        service=service,
        placement=placement,
        image_id=labels.get(naming.IMAGE, ""),
        seal=labels.get(naming.SECRETS, ""),
    )


def all_found(summaries: Sequence[Mapping[str, Any]]) -> tuple[Found, ...]:
    """All that have a mark, oldest first (the engine answers youngest first)."""
    ours = [one for one in map(found, reversed(summaries)) if one is not None]
    return tuple(sorted(ours, key=lambda one: one.created))


def detail(inspected: Mapping[str, Any], last: Sequence[str] = ()) -> Detail:
    """Read an answer of `GET /containers/ID/json`."""
    state, host = inspected["State"], inspected["HostConfig"]
    return Detail(
        word=state["Status"],
        started_at=_time(state.get("StartedAt")),
        finished_at=_time(state.get("FinishedAt")),
        exit_code=state.get("ExitCode", 0),
        restarts=inspected.get("RestartCount", 0),
        error=state.get("Error") or "",
        out_of_memory=bool(state.get("OOMKilled")),
        nano_cpus=host.get("NanoCpus") or 0,
        cpu_quota=host.get("CpuQuota") or 0,
        memory=host.get("Memory") or 0,
        policy=(host.get("RestartPolicy") or {}).get("Name") or "no",
        networks=frozenset(inspected.get("NetworkSettings", {}).get("Networks") or ()),
        last=tuple(last),
    )


def listed(ours: Iterable[Found], known: Ours, host: str = "") -> dict[ServiceName, Observed]:
    """Everything by service, as a list alone can tell. `ours`: oldest first; `host`: see `arguments.address`."""
    by_name: dict[ServiceName, list[Found]] = {}
    for one in ours:
        by_name.setdefault(one.service.name, []).append(one)
    return {
        name: Observed(name, tuple(_generation(group, known, host) for group in generations(containers)))
        for name, containers in by_name.items()
    }


def generations(ours: Iterable[Found]) -> list[list[Found]]:
    """The containers of each digest, in the order in which the digests came."""
    by_digest: dict[str, list[Found]] = {}
    for one in ours:
        by_digest.setdefault(one.service.digest, []).append(one)
    return list(by_digest.values())


def fate(containers: Sequence[Found]) -> Fate:
    """The fate of a generation whose containers' renames may have been cut short."""
    fates = {one.fate for one in containers}
    return next((one for one in (Fate.FAILED, Fate.SERVED) if one in fates), Fate.NEW)


def observed(
    name: ServiceName,
    ours: Sequence[Found],
    details: Mapping[str, Detail],
    known: Ours,
    *,
    now: datetime,
    owner: str,
    engine: Engine,
    host: str = "",
) -> Observed:
    """One service with all that inspects tell. A container without a detail vanished meanwhile and is left out."""
    there = [one for one in ours if one.id in details]
    seen = []
    for group in generations(there):
        replicas = tuple(replica(one, details[one.id], known, now=now, host=host) for one in _by_index(group))
        words = [
            f"replica {one.placement.index} {word}"
            for one in group
            for word in drift(one, details[one.id], owner=owner, engine=engine).words
            if details[one.id].word in HOLDING
        ]
        seen.append(_grouped(group, replicas, "; ".join(words)))
    return Observed(name, tuple(seen))


def replica(one: Found, seen: Detail, known: Ours, *, now: datetime, host: str = "") -> Replica:
    """One container, inspected."""
    state = state_of(one, seen.word, known, cannot_run=seen.cannot_run)
    ran = seen.started_at is not None
    over = seen.word not in ("running", "paused", "created") and ran
    return Replica(
        placement=one.placement,
        state=state,
        started_at=seen.started_at,
        finished_at=seen.finished_at if over else None,
        exit_code=seen.exit_code if over or seen.cannot_run else None,
        restarts=streak(seen, now),
        address=address(one.service, one.placement, host),
        message=_message(seen) if state is not State.RUNNING or seen.restarts else "",
    )


def state_of(one: Found, word: str, known: Ours, *, cannot_run: bool = False) -> State:
    """The engine's word in ours; see the top."""
    if word == "removing" or (one.id in known.stopping and word in HOLDING):
        return State.STOPPING
    if word in ("running", "paused"):
        return State.RUNNING
    if word == "restarting":
        return State.STARTING
    if word == "dead" or cannot_run:
        return State.EXITED
    never = workload_options(one.service.workload.options).restart == "never"
    by_itself = word == "exited" and never and one.id not in known.stopped | known.stopping
    return State.EXITED if by_itself else State.STOPPED


def streak(seen: Detail, now: datetime) -> int:
    """How often the engine started it again in a row: a long run ends the row."""
    if seen.started_at is None:
        return 0
    until = now if seen.word == "running" else seen.finished_at or now
    return seen.restarts if until - seen.started_at < STEADY else min(seen.restarts, int(seen.word == "restarting"))


@dataclass(frozen=True, slots=True)
class Drift:
    """What of a container no longer equals what was applied. `update`: what mends it in place; `anew`: nothing can."""

    words: tuple[str, ...] = ()
    update: Json | None = None
    anew: bool = False
    paused: bool = False
    unplugged: bool = False


def drift(one: Found, seen: Detail, *, owner: str, engine: Engine) -> Drift:
    """Compare a container, running or kept, with what was applied."""
    wanted = limits(one.service, engine)
    words: list[str] = []
    update: Json = {}
    pairs = (("NanoCpus", "cpu", seen.nano_cpus), ("Memory", "memory", max(seen.memory, 0)))
    for field, word, actual in pairs:
        if actual != wanted[field]:
            words.append(f"has {word} {_amount(field, actual)} instead of {_amount(field, wanted[field])}")
            update[field] = wanted[field]
    if seen.cpu_quota > 0:
        words.append("has a cpu quota that nobody asked for")
    if seen.policy != wanted["RestartPolicy"]["Name"]:
        words.append(f"has restart policy {seen.policy} instead of {wanted['RestartPolicy']['Name']}")
        update["RestartPolicy"] = wanted["RestartPolicy"]
    if update.get("Memory"):
        update["MemorySwap"] = 2 * update["Memory"]  # as the engine does by itself at create
    # the engine takes a zero for "leave it", so that a limit can be moved in place, but not taken off
    anew = seen.cpu_quota > 0 or any(update.get(field) == 0 for field in ("NanoCpus", "Memory"))
    paused = seen.word == "paused"
    network = naming.network_name(owner)
    bridged = workload_options(one.service.workload.options).network == "bridge"
    unplugged = bridged and seen.word == "running" and network not in seen.networks
    words += ["is paused"] * paused + [f"is not in network {network}"] * unplugged
    return Drift(tuple(words), update or None, anew, paused, unplugged)


def _generation(group: Sequence[Found], known: Ours, host: str) -> Generation:
    replicas = tuple(
        Replica(
            one.placement,
            state_of(one, one.word, known),
            address=address(one.service, one.placement, host),
        )
        for one in _by_index(group)
    )
    words = [f"replica {one.placement.index} is paused" for one in group if one.word == "paused"]
    return _grouped(group, replicas, "; ".join(words))


def _grouped(group: Sequence[Found], replicas: tuple[Replica, ...], drifted: str) -> Generation:
    """The oldest container speaks for its generation: while others are replaced, it shows that work is left."""
    return Generation(group[0].service, replicas, fate(group), drift=drifted, secrets=group[0].seal)


def _by_index(group: Sequence[Found]) -> list[Found]:
    return sorted(group, key=lambda one: one.placement.index)


def _message(seen: Detail) -> str:
    parts = []
    if seen.word == "restarting" or seen.restarts:
        parts.append(f"restarted {seen.restarts} times by the engine")
    if seen.error:
        parts.append(seen.error)
    elif seen.word in ("exited", "dead", "restarting"):
        parts.append(f"exited with code {seen.exit_code}" + (" (out of memory)" if seen.out_of_memory else ""))
    if seen.last:
        parts.append("it last said: " + " | ".join(seen.last))
    return "; ".join(parts)


def _amount(field: str, value: int) -> str:
    if not value:
        return "unlimited"
    return f"{value / 1e9:g}" if field == "NanoCpus" else f"{value / 2**20:g}Mi"


def own_name(summary: Mapping[str, Any]) -> str:
    """A container's own name; further ones are links, and have another slash."""
    names = [name.removeprefix("/") for name in summary.get("Names") or ()]
    return next((name for name in names if "/" not in name), "")


def _time(text: str | None) -> datetime | None:
    """The engine's nanoseconds, cut to what a datetime holds; None for its zero time."""
    if not text or text.startswith("0001-"):
        return None
    seconds, _, fraction = text.removesuffix("Z").partition(".")
    micro = int((fraction + "000000")[:6]) if fraction.isdigit() else 0
    return datetime.strptime(seconds[:19], "%Y-%m-%dT%H:%M:%S").replace(microsecond=micro, tzinfo=UTC)
