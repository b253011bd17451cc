"""Ends processes: TERM to the leader's group, a grace, KILL to all that lives of it; in a thread of its own.

All that lives of it: the session, the control group if it has one, whoever carries the run's mark, and their children,
so that what left the session does not get away. Every signal goes through a pidfd, after a look at the start time: no
process that merely has the pid is ever hit. What cannot be ended within 10 s of the first KILL is reported and left to
the next wish.
"""

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from agent.contracts import Transient
from shimlets.process.cgroup import Groups
from shimlets.process.finding import Found, Sight, Stat, Who, stat_of
from shimlets.process.recording import Key

_log = logging.getLogger("xmod.process")
_GIVE_UP = 10.0  # seconds after the grace


@dataclass(slots=True)
class _Job:
    """Ending one run. `left`: seconds of grace when it began."""

    runs: frozenset[str]
    known: set[Who]
    leaders: frozenset[Who]
    kill_at: float
    termed: set[Who] = field(default_factory=set)


class Ending:
    """Ends what it is given. `ended(key)` is called from its thread, once nothing of it lives or it was given up."""

    def __init__(self, look: Callable[[], Sight], ended: Callable[[Key], None], groups: Groups) -> None:
        self._look = look
        self._ended = ended
        self._groups = groups
        self._news = threading.Condition()
        self._jobs: dict[Key, _Job] = {}
        self._thread: threading.Thread | None = None
        self._closed = False

    def begin(self, key: Key, processes: Iterable[Found], *, grace: float) -> None:
        """Begin, unless that is being seen to. Returns at once; the first signal is sent by then."""
        found = tuple(processes)
        runs = frozenset(f.carried.run for f in found)
        with self._news:
            self._find_thread()
            if key in self._jobs and self._jobs[key].runs >= runs:
                return
            leaders = frozenset(f.stat.who for f in found if f.leads)
            job = _Job(runs, {f.stat.who for f in found}, leaders, time.monotonic() + grace)
            self._jobs[key] = job
            self._news.notify()

    def sees_to(self, key: Key) -> bool:
        """Whether it is at work on that replica."""
        with self._news:
            return key in self._jobs

    def close(self) -> None:
        """Begin nothing more; what has begun is left as it is, and taken up by whoever asks again."""
        with self._news:
            self._closed = True
            self._jobs.clear()
            self._news.notify()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(2)

    def _find_thread(self) -> None:
        """There is one, and it lives: a bug may have ended it."""
        if self._thread is None or not (self._thread.is_alive() or self._closed):
            self._thread = threading.Thread(target=self._run, name="process-ending", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        pause = 0.0
        while True:
            with self._news:
                fresh = self._news.wait_for(lambda: self._closed or not self._jobs, timeout=pause or 0.001)
                if fresh and not self._closed:
                    self._news.wait_for(lambda: self._closed or self._jobs)
                    pause = 0.0
                if self._closed:
                    return
                jobs = dict(self._jobs)
            try:
                sight = self._look()
            except Transient as error:
                _log.warning("processes cannot be seen", extra={"shimlet": "process", "error": str(error)})
                pause = 1.0
                continue
            for key, job in jobs.items():
                if _advanced(key, job, sight, self._groups):
                    self._finish(key, job)
            pause = min(0.2, pause * 1.3 + 0.01)

    def _finish(self, key: Key, job: _Job) -> None:
        with self._news:
            if self._jobs.get(key) is not job:
                return
            del self._jobs[key]
        self._ended(key)


def _advanced(key: Key, job: _Job, sight: Sight, groups: Groups) -> bool:
    """Send what is due; whether the job is over."""
    living = _living(job, sight, groups)
    if not living:
        return True
    now = time.monotonic()
    if now >= job.kill_at + _GIVE_UP:
        pids = sorted(stat.who.pid for stat in living)
        _log.error("processes survive SIGKILL", extra={"shimlet": "process", "service": key.name, "pids": pids})
        return True
    if now >= job.kill_at:
        for run in job.runs:
            groups.kill(run)
        for stat in living:
            send(stat.who, signal.SIGKILL)
        return False
    led = [stat for stat in living if stat.who in job.leaders]
    led_groups = {stat.who.pid for stat in led}
    for stat in living:
        if stat.who not in job.termed and (not led or stat.group in led_groups):
            job.termed.add(stat.who)
            send(stat.who, signal.SIGTERM)
    return False


def _living(job: _Job, sight: Sight, groups: Groups) -> list[Stat]:
    """What lives of it; what was once seen to belong to it stays known."""
    inside = {pid for run in job.runs for pid in groups.pids(run)}
    job.known |= {stat.who for pid, stat in sight.stats.items() if pid in inside and stat.alive}
    job.known |= {found.stat.who for found in sight.ours if found.carried.run in job.runs}
    sessions = {who.pid for who in job.leaders if sight.alive(who)}
    job.known |= {stat.who for stat in sight.stats.values() if stat.session in sessions and stat.alive}
    parents = {stat.who.pid for who in job.known if (stat := sight.alive(who))}
    while parents:
        children = {s.who for s in sight.stats.values() if s.parent in parents and s.alive} - job.known
        job.known |= children
        parents = {who.pid for who in children}
    return [stat for who in job.known if (stat := sight.alive(who))]


def send(who: Who, number: signal.Signals) -> None:
    """Signal that process and no other."""
    with contextlib.suppress(ProcessLookupError):
        fd = os.pidfd_open(who.pid)
        try:
            stat = stat_of(who.pid)
            if stat is not None and stat.who == who:  # the descriptor was opened before: it is that one for ever
                signal.pidfd_send_signal(fd, number)
        except PermissionError as error:
            _log.error(
                "a process may not be signalled", extra={"shimlet": "process", "pid": who.pid, "error": str(error)}
            )
        finally:
            os.close(fd)
