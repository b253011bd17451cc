"""Records × processes → what is observed; pure.

A living leader is believed before any record. Without one, a record tells what was wished: it was stopped, or it left.
A record may vouch for a living process that lost its mark (programs may overwrite their environment) only with pid, start
time, boot and session together; and for one that became another user, by run, boot and session, which nobody can join.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from agent.contracts import Digest, Fate, Generation, Observed, Placement, Replica, Service, ServiceName, State
from shimlets.process import arguments
from shimlets.process.environment import Carried
from shimlets.process.finding import Found, Sight, Who
from shimlets.process.recording import Kept, Key, Wish


@dataclass(frozen=True, slots=True)
class Seen:
    """One replica. `rest`: what lives of it besides or after its leader; `twins`: further leaders, which ought not to be."""

    key: Key
    kept: Kept | None
    leader: Found | None
    rest: tuple[Found, ...] = ()
    twins: tuple[Found, ...] = ()

    @property
    def service(self) -> Service:
        """As its newest run was started."""
        return self._mark[0]

    @property
    def placement(self) -> Placement:
        """Where its newest run was put."""
        return self._mark[1]

    @property
    def seal(self) -> str:
        """The sealed secrets of its newest run."""
        if self.leader is not None:
            return self.leader.carried.seal
        return self.kept.record.seal if self.kept else self.rest[0].carried.seal

    @property
    def started(self) -> float:
        """When its newest run began."""
        if self.leader is not None:
            return self.leader.carried.started
        return self.kept.record.started if self.kept else self.rest[0].carried.started

    @property
    def wish(self) -> Wish:
        """What was asked of the run that is seen."""
        if self.kept is None or (self.leader is not None and self.leader.carried.run != self.kept.record.run):
            return Wish.RUN
        return self.kept.record.wish

    @property
    def processes(self) -> tuple[Found, ...]:
        """Everything that lives of it."""
        return ((self.leader,) if self.leader else ()) + self.twins + self.rest

    @property
    def state(self) -> State:
        """Where it is in its life."""
        if self.leader is not None:
            if self.wish is not Wish.RUN:
                return State.STOPPING
            return State.RUNNING if self.leader.carried.leader else State.STARTING
        if self.kept is None:
            return State.EXITED
        record = self.kept.record
        if record.wish is not Wish.RUN:
            return State.STOPPING if self.rest else State.STOPPED
        return State.EXITED if record.finished is not None or record.pid else State.STOPPED

    @property
    def _mark(self) -> tuple[Service, Placement]:
        if self.leader is not None:
            return self.leader.carried.service, self.leader.carried.placement
        if self.kept is not None:
            return self.kept.service, self.kept.placement
        return self.rest[0].carried.service, self.rest[0].carried.placement


def joined(records: Mapping[Key, Kept], sight: Sight, boot: str) -> dict[Key, Seen]:
    """Every replica of which there is a record or a process."""
    ours = [*sight.ours, *(found for found in sight.claimed if _in_session(found, records.get(_key(found)), boot))]
    carrying = {found.stat.who: found for found in ours}
    by_key: dict[Key, list[Found]] = {}
    for found in ours:
        by_key.setdefault(_key(found), []).append(found)
    for key, kept in records.items():
        vouched = _vouched(kept, sight, carrying, boot)
        if vouched is not None:
            by_key.setdefault(key, []).append(vouched)
    return {key: _seen(key, records.get(key), by_key.get(key, [])) for key in by_key.keys() | records.keys()}


def observed(
    name: ServiceName,
    of: Iterable[Seen],
    fate: Callable[[ServiceName, Digest], Fate],
    stranger: Callable[[Seen], str] = lambda _: "",
    limited: Callable[[Seen], bool] = lambda _: False,
) -> Observed:
    """What is seen of one service, from its replicas; oldest generation first.

    `stranger`: who answers in a replica's place; `limited`: whether its limits are in force.
    """
    by_digest: dict[Digest, list[Seen]] = {}
    for seen in sorted(of, key=lambda seen: seen.key.index):
        by_digest.setdefault(seen.key.digest, []).append(seen)
    generations = sorted(by_digest.items(), key=lambda item: (min(s.started for s in item[1]), item[0]))
    return Observed(name, tuple(_generation(of, fate(name, digest), stranger, limited) for digest, of in generations))


def _generation(
    of: list[Seen], fate: Fate, stranger: Callable[[Seen], str], limited: Callable[[Seen], bool]
) -> Generation:
    """The newest run's mark is the generation's; its seal is the oldest live one's, until a changed secret reached all."""
    newest = max(of, key=lambda s: s.started)
    oldest = min((s for s in of if s.state is State.RUNNING), key=lambda s: s.started, default=newest)
    twins = [f"replica {s.key.index} runs more than once (pid {s.twins[0].stat.who.pid})" for s in of if s.twins]
    return Generation(
        service=newest.service,
        replicas=tuple(_replica(s, stranger(s)) for s in of),
        fate=fate,
        drift="; ".join(twins),
        notice=arguments.notice(newest.service, limited=all(limited(s) for s in of if s.leader is not None)),
        secrets=oldest.seal,
    )


def _replica(seen: Seen, stranger: str) -> Replica:
    replica = Replica(
        placement=seen.placement,
        state=seen.state,
        started_at=datetime.fromtimestamp(seen.started, UTC),
        restarts=seen.kept.record.restarts if seen.kept else 0,
        address=arguments.address(seen.service, seen.placement),
    )
    if seen.leader is not None:
        return replace(replica, ready=False, message=stranger) if stranger else replica
    left = f"{len(seen.rest)} of its processes are left" if seen.rest else ""
    if seen.kept is None:
        return replace(replica, message=f"its leader is gone; {left}")
    record = seen.kept.record
    return replace(
        replica,
        finished_at=datetime.fromtimestamp(record.finished, UTC) if record.finished is not None else None,
        exit_code=record.code,
        message="; ".join(part for part in (record.message, left) if part),
    )


def _seen(key: Key, kept: Kept | None, found: list[Found]) -> Seen:
    run = kept.record.run if kept else ""
    leaders = sorted((f for f in found if _leads(f, kept)), key=lambda f: (f.carried.run != run, f.stat.who.ticks))
    rest = tuple(f for f in found if f not in leaders)
    return Seen(key, kept, leaders[0] if leaders else None, rest, tuple(leaders[1:]))


def _leads(found: Found, kept: Kept | None) -> bool:
    """It says so, and is not a descendant that came to have the pid of its dead leader."""
    if kept is None or not kept.record.pid or kept.record.run != found.carried.run:
        return found.leads
    return found.stat.who == kept.record.who


def _key(found: Found) -> Key:
    return Key(found.carried.service.name, found.carried.service.digest, found.carried.placement.index)


def _in_session(found: Found, kept: Kept | None, boot: str) -> bool:
    if kept is None or not kept.record.pid or (kept.record.boot, kept.record.run) != (boot, found.carried.run):
        return False
    return found.stat.session == kept.record.pid


def _vouched(kept: Kept, sight: Sight, carrying: Mapping[Who, Found], boot: str) -> Found | None:
    record = kept.record
    stat = sight.alive(record.who) if record.pid and record.boot == boot else None
    if stat is None or stat.who in carrying or stat.session != stat.who.pid:
        return None
    mark = Carried(kept.service, kept.placement, record.mark, record.seal, record.run, record.pid, record.started)
    return Found(stat, mark)
