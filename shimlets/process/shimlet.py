"""Programs of this host, each in a session of its own, found by the mark in their own environment.

What runs is what /proc shows: no file can make a process ours, or hide one that is. Files only remember what no process
can carry: what is kept, how it ended, its fate; losing them loses that and restarts nothing. Looking writes nothing
unless we hold the lock, so that a second look from elsewhere (a `plan`) changes nothing. There are no containers here:
neither files nor network are apart, and limits hold only in a control group (cgroup.py); Generation.notice says so where
a spec asks for it.
"""

import logging
import os
import signal
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import quote

from agent.contracts import (
    Conflict,
    Digest,
    Fate,
    Observed,
    Placement,
    Service,
    ServiceName,
    State,
    Transient,
    encode,
    seal,
    unsealed_by,
)
from shimlets.process import arguments, logfile
from shimlets.process.cgroup import Groups, Limits, delegated
from shimlets.process.deciding import steps
from shimlets.process.ending import Ending
from shimlets.process.environment import Carried, mark_of
from shimlets.process.finding import Found, Processes, Sight, Who, boot_id, stat_of
from shimlets.process.forgetting import Forgotten
from shimlets.process.listening import Listening, refuse_if_taken
from shimlets.process.lock import Lock
from shimlets.process.observing import Seen, joined, observed
from shimlets.process.options import read
from shimlets.process.recording import Kept, Key, Record, Records, Wish
from shimlets.process.starting import NotStartable, program, start
from shimlets.process.watching import Bell, watching

_log = logging.getLogger("xmod.process")
_IN_A_ROW = 60.0  # seconds: a run that lasted less counts towards `restarts`


class ProcessShimlet:
    """One owner's programs on this host. Implements contracts.Shimlet and Ownership. Thread-safe."""

    name = "process"
    local = True

    def __init__(self, owner: str, options: Mapping[str, Any], state_dir: Path) -> None:
        self._owner = owner
        self._uid = os.geteuid()
        self._options = read(options)
        root = state_dir.absolute() / "process" / quote(owner, safe="")
        self._records = Records(root)
        self._forgotten = Forgotten(root)
        self._processes = Processes(owner, self._uid)
        self._groups = Groups(owner, delegated)
        self._ending = Ending(self._sight, self._ended, self._groups)
        self._listening = Listening(self._sight)
        self._bell = Bell()
        self._held = Lock(owner, self._uid)
        self._lock = threading.RLock()
        self._children: set[Who] = set()
        self._codes: dict[Who, int] = {}

    def acquire(self) -> None:
        """Take this owner's lock on the world."""
        with self._lock:
            self._held.acquire()

    def list(self) -> Mapping[ServiceName, Observed]:
        """See everything of ours."""
        with self._lock:
            by_name: dict[ServiceName, list[Seen]] = {}
            for key, seen in self._look().items():
                by_name.setdefault(key.name, []).append(seen)
            return {name: self._observed(name, of) for name, of in sorted(by_name.items())}

    def observe(self, name: ServiceName) -> Observed:
        """See one service."""
        with self._lock:
            return self._observed(name, self._look(name).values())

    def apply(self, service: Service, placements: Sequence[Placement], secrets: Mapping[str, str]) -> None:
        """Begin that exactly these replicas run."""
        with self._lock:
            seen = {k.index: s for k, s in self._look(service.name).items() if k.digest == service.digest}
            same: dict[str, bool] = {}

            def same_secrets(sealed: str) -> bool:
                if sealed not in same:
                    same[sealed] = unsealed_by(secrets, sealed)
                return same[sealed]

            failed = self._records.fate(service.name, service.digest) is Fate.FAILED
            todo = steps(service, placements, seen, failed=failed, same_secrets=same_secrets)
            if failed and (todo.afresh or todo.start):
                self._records.decide(service.name, service.digest, Fate.NEW)
            for index in todo.drop:
                self._end(seen[index], Wish.REMOVE)
            for index in todo.stop:
                self._end(seen[index], Wish.STOP)
            for index in todo.clear:
                extra = seen[index].twins if seen[index].leader else seen[index].rest
                self._ending.begin(seen[index].key, extra, grace=self._options.stop_grace)
            sealed = next((s for s, is_same in same.items() if is_same), "") or (seal(secrets) if todo.start else "")
            refused: Conflict | None = None
            for placement in todo.start:
                try:
                    self._start(service, placement, secrets, sealed, None if failed else seen.get(placement.index))
                except Conflict as error:  # the others can start all the same
                    refused = refused or error
            if refused is not None:
                raise refused

    def record(self, name: ServiceName, digest: Digest, fate: Fate) -> None:
        """Write what became of a generation; Transient instead of SERVED if it was not itself that answered."""
        with self._lock:
            of = [seen for key, seen in self._look(name).items() if key.digest == digest]
            if not of or (self._records.decided(name, digest) or Fate.NEW) is fate:
                return
            if fate is Fate.SERVED:
                self._refuse_unproven(of)
            self._records.decide(name, digest, fate)
            self._bell.ring(name)

    def remove(self, name: ServiceName, digest: Digest) -> None:
        """Begin that nothing of a generation is left."""
        with self._lock:
            for key, seen in self._look(name).items():
                if key.digest == digest:
                    self._end(seen, Wish.REMOVE)

    def release(self, name: ServiceName) -> tuple[str, ...]:
        """Give up its runs, and forget all that is recorded of it."""
        with self._lock:
            seen = self._look(name)
            stopping = next((one.key for one in seen.values() if self._ending.sees_to(one.key)), None)
            if stopping is not None:
                raise Transient(f"{stopping} is still being stopped", reason="Stopping", delay=1.0)
            left = [sentence for key in sorted(seen, key=str) for sentence in self._given_up(seen[key])]
            self._bell.ring(name)
            return tuple(left)

    def watch(self, stop: Event) -> Iterator[ServiceName]:
        """Yield names that changed."""
        return watching(stop, self._bell, self._leaders, self._bound_logs)

    def logs(self, name: ServiceName, tail: int, follow: Event | None = None) -> Iterator[str]:
        """Yield the last lines of each replica of the newest live generation, else of the newest."""
        with self._lock:
            generations = self.observe(name).generations
        if not generations:
            return
        generation = next((g for g in reversed(generations) if g.live), generations[-1])
        several = len(generation.replicas) > 1
        logs = {
            f"#{r.placement.index} " if several else "": self._records.log(
                Key(name, generation.service.digest, r.placement.index)
            )
            for r in generation.replicas
        }
        followers = {prefix: logfile.Follower(path) for prefix, path in logs.items()}
        for prefix, path in logs.items():
            until = followers[prefix].skip() if follow is not None else None
            yield from (prefix + line for line in logfile.tail(path, tail, until))
        while follow is not None and not follow.wait(0.1):
            for prefix, follower in followers.items():
                yield from (prefix + line for line in follower.lines())

    def close(self) -> None:
        """Let go of the lock; what runs goes on running."""
        self._ending.close()
        with self._lock:
            self._held.release()

    # Looking.

    def _observed(self, name: ServiceName, of: Iterable[Seen]) -> Observed:
        return observed(name, of, self._records.fate, self._listening.stranger, self._limited)

    def _limited(self, seen: Seen) -> bool:
        return seen.leader is not None and self._groups.holds(
            seen.leader.carried.run, seen.leader.stat.who.pid, _limits(seen.service)
        )

    def _refuse_unproven(self, of: Iterable[Seen]) -> None:
        """An answer may have come before a look that tells whose it was."""
        for seen in of:
            why = self._listening.unproven(seen)
            if why:
                raise Transient(f"{seen.key}: {why}: the answer was not its own", reason="PortTaken")

    def _sight(self) -> Sight:
        return self._forgotten.without(self._processes.look())

    def _look(self, name: ServiceName | None = None) -> dict[Key, Seen]:
        """Everything, or one service; what has ended since is settled first."""
        sight, boot = self._sight(), boot_id()
        self._reap(sight)
        seen = self._joined(name, sight, boot)
        if name is None:
            self._listening.keep_only(one.leader.stat.who for one in seen.values() if one.leader is not None)
        self._presume(seen)
        changed = 0
        for one in seen.values():
            changed += self._settle(one, sight, boot)
        return self._joined(name, sight, boot) if changed else seen

    def _presume(self, seen: Mapping[Key, Seen]) -> None:
        """What runs without any record of its generation lost its records: it counts as having served."""
        recorded = {(key.name, key.digest) for key, one in seen.items() if one.kept is not None}
        running = {(key.name, key.digest) for key, one in seen.items() if one.state is State.RUNNING}
        for name, digest in running - recorded:
            if self._records.decided(name, digest) is None:
                self._records.presume(name, digest, write=self._held.held)

    def _joined(self, name: ServiceName | None, sight: Sight, boot: str) -> dict[Key, Seen]:
        seen = joined(self._records.all(name), sight, boot)
        return {key: s for key, s in seen.items() if name is None or key.name == name}

    def _reap(self, sight: Sight) -> None:
        """Learn how our own children ended; a zombie keeps its pid until then."""
        for who in list(self._children):
            stat = sight.stats.get(who.pid)
            if stat is not None and stat.who == who and stat.alive:
                continue
            self._children.discard(who)
            if stat is not None and stat.who == who:
                self._wait_for(who)

    def _wait_for(self, who: Who) -> None:
        try:
            pid, status = os.waitpid(who.pid, os.WNOHANG)
        except ChildProcessError:  # another agent's, or another shimlet of this process was faster
            return
        if pid:
            code = os.waitstatus_to_exitcode(status)
            self._codes[who] = 128 - code if code < 0 else code

    def _settle(self, seen: Seen, sight: Sight, boot: str) -> bool:
        """Write down an end, or a run that lost its record; whether anything changed."""
        if seen.leader is not None:
            if seen.kept is not None and seen.kept.record.run == seen.leader.carried.run and seen.kept.record.pid:
                return False
            if seen.leader.carried.leader == 0:
                return False  # its start is under way
            self._note(_adopted(seen, seen.leader, boot))
            return True
        if seen.kept is None or seen.kept.record.finished is not None or not seen.kept.record.pid:
            return False
        record = seen.kept.record
        stat = sight.stats.get(record.pid)
        if stat is not None and stat.who == record.who and stat.parent == os.getpid():
            self._wait_for(record.who)
        code = self._codes.pop(record.who, None)
        if record.boot != boot:  # not its own doing: it is kept, not failed
            ended = replace(record, wish=_kept_wish(record), message="the machine was started again")
        else:
            words = logfile.last_words(self._records.log(seen.key))
            starved = self._groups.out_of_memory(record.run)
            how = _how(code, time.time() - record.started, words, stopped=record.wish is not Wish.RUN, starved=starved)
            ended = replace(record, message=how)
            if record.wish is Wish.RUN and self._held.held:  # it may run again before anybody asks
                reason = "OOMKilled" if starved else "Exited"
                extra = {"shimlet": "process", "service": seen.key.name, "reason": reason, "error": how}
                _log.warning("a program ended", extra=extra)
        self._note(Kept(replace(ended, finished=time.time(), code=code), seen.kept.service, seen.kept.placement))
        self._bell.ring(seen.key.name)
        return True

    def _note(self, kept: Kept) -> None:
        self._records.note(kept, write=self._held.held)

    # Acting.

    def _start(
        self, service: Service, placement: Placement, secrets: Mapping[str, str], sealed: str, before: Seen | None
    ) -> None:
        """Start one replica; what cannot be started at all is recorded as having exited."""
        key = Key(service.name, service.digest, placement.index)
        now = round(time.time(), 3)  # as the mark has it: a replica seen by its record and by its mark is one
        mark = Carried(service, placement, encode(service, placement), sealed, uuid.uuid4().hex, 0, now)
        record = Record(
            mark=mark.text,
            run=mark.run,
            started=now,
            seal=sealed,
            wished_at=now,
            boot=boot_id(),
            restarts=_restarts(before),
        )
        environ = arguments.environment(service, placement, secrets, os.environ)
        refuse_if_taken(service, placement, self._sight)
        self._records.write(Kept(record, service, placement))
        try:
            argv = arguments.arguments(service, placement)
            misfit = arguments.misfit(argv, environ)
            if misfit:
                raise NotStartable(misfit, 126)
            argv = (program(argv[0], self._options.path, environ), *argv[1:])
            marked = environ | mark_of(mark, owner=self._owner, uid=self._uid)
            pid = start(argv, marked, self._records.log(key), self._groups.make(mark.run, _limits(service)))
        except NotStartable as error:
            record = replace(record, finished=now, code=error.code, message=str(error))
        else:
            stat = stat_of(pid)  # a zombie at worst: nobody but us can reap it
            if stat is not None:
                self._children.add(stat.who)
                record = replace(record, pid=stat.who.pid, ticks=stat.who.ticks)
        self._records.note(Kept(record, service, placement), write=True)
        self._bell.ring(service.name)

    def _end(self, seen: Seen, wish: Wish) -> None:
        """Begin to stop a replica, and remember why; with nothing left of it that is done at once."""
        key = seen.key
        if not seen.processes and wish is Wish.REMOVE:
            self._records.delete(key)
            self._bell.ring(key.name)
            return
        kept = seen.kept
        if seen.leader is not None and (kept is None or kept.record.run != seen.leader.carried.run):
            kept = _adopted(seen, seen.leader, boot_id())
        if kept is not None and kept.record.wish is not wish:
            since = kept.record.wished_at if kept.record.wish is not Wish.RUN else time.time()
            kept = Kept(replace(kept.record, wish=wish, wished_at=since), kept.service, kept.placement)
            self._records.note(kept, write=True)
            self._bell.ring(key.name)
        since = kept.record.wished_at if kept is not None else time.time()
        grace = max(0.0, min(self._options.stop_grace, since + self._options.stop_grace - time.time()))
        self._ending.begin(key, seen.processes, grace=grace)

    def _given_up(self, seen: Seen) -> Iterator[str]:
        """Give up all that lives of a replica; a sentence on each run of it."""
        log = self._records.log(seen.key)
        by_run: dict[str, list[int]] = {}
        for found in seen.processes:
            by_run.setdefault(found.carried.run, []).append(found.stat.who.pid)
        place = arguments.address(seen.service, seen.placement)
        for run, pids in by_run.items():
            kept = self._forgotten.add(run, log)
            several = f" (and {', '.join(map(str, pids[1:]))})" if pids[1:] else ""
            yield f"pid {pids[0]}{several}, running{f' at {place}' if place else ''}; log: {kept}"
        self._records.delete(seen.key)

    def _ended(self, key: Key) -> None:
        """Nothing of a replica lives any more: settle it, and forget it if that was the wish."""
        with self._lock:
            try:
                seen = self._look(key.name).get(key)
                if seen is not None and seen.wish is Wish.REMOVE and not seen.processes:
                    self._records.delete(key)
            except Transient as error:  # it is still seen, and will be removed again
                _log.warning("an end cannot be settled", extra={"service": key.name, "error": str(error)})
            self._bell.ring(key.name)

    # Watching.

    def _leaders(self) -> Mapping[Key, Found]:
        """Look; as the agent, also write what could not be written and take up the stops that an earlier one began."""
        with self._lock:
            seen = self._look()
            if self._held.held:
                self._records.write_again()
                self._take_up(seen)
                self._groups.tidy(found.carried.run for one in seen.values() for found in one.processes)
            return {key: one.leader for key, one in seen.items() if one.leader is not None}

    def _bound_logs(self, leaders: Mapping[Key, Found]) -> None:
        for key, leader in leaders.items():
            logfile.bound(self._records.log(key), leader.stat.who.pid, self._options.log_bytes)

    def _take_up(self, seen: Mapping[Key, Seen]) -> None:
        for key, one in seen.items():
            begun = one.wish is Wish.REMOVE or one.state is State.STOPPING
            if begun and not self._ending.sees_to(key):
                self._end(one, one.wish)


def _adopted(seen: Seen, leader: Found, boot: str) -> Kept:
    """The record of a run that has none, from what it carries."""
    carried, who = leader.carried, leader.stat.who
    before = seen.kept.record if seen.kept is not None and seen.kept.record.run == carried.run else None
    record = before or Record(
        mark=carried.text, run=carried.run, started=carried.started, seal=carried.seal, wished_at=carried.started
    )
    record = replace(record, pid=who.pid, ticks=who.ticks, boot=boot)
    return Kept(record, carried.service, carried.placement)


def _kept_wish(record: Record) -> Wish:
    return Wish.REMOVE if record.wish is Wish.REMOVE else Wish.STOP


def _restarts(before: Seen | None) -> int:
    """How often in a row it was started again after a short run."""
    if before is None or before.kept is None or before.state is not State.EXITED:
        return 0
    record = before.kept.record
    short = record.finished is not None and record.finished - record.started < _IN_A_ROW
    return record.restarts + 1 if short else 0


def _limits(service: Service) -> Limits:
    return Limits(service.workload.cpu, service.workload.memory)


def _how(code: int | None, lasted: float, words: str, *, stopped: bool, starved: bool = False) -> str:
    """One sentence on an end. `starved`: the kernel killed something of it for want of memory."""
    if stopped:
        how = f"stopped after {lasted:.1f} s"
    elif starved and code in (None, 128 + signal.SIGKILL):
        how = f"OOMKilled: the kernel ended it for want of memory, after {lasted:.1f} s"
    elif code is None:
        how = "ended while no agent could learn its exit code"
    elif code > 128 and code - 128 in [s.value for s in signal.Signals]:
        how = f"killed by {signal.Signals(code - 128).name} after {lasted:.1f} s"
    else:
        how = f"exited with code {code} after {lasted:.1f} s"
    if starved and not how.startswith("OOM"):
        how += "; the kernel had killed a part of it for want of memory"
    return f"{how}; last words: {words}" if words else how
