"""Holds the newest desired state, world and words; makes the plan anew when one of them changes, and says whom to look at.

It never touches a runtime. What it tells the queue are names; a worker reads the intent of a name when its turn comes, so
the newest word always counts.
"""

import logging
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from agent.clock import Clock
from agent.contracts import Failed, Fate, Pending, ServiceName, Verdict
from agent.control import gate, opinion, plan, unmarked, waiting
from agent.control.board import Board
from agent.control.desired import DesiredState
from agent.control.evidence import Sightings
from agent.control.facts import PlanFacts
from agent.control.forgetting import Giving
from agent.control.intent import Forget, Intent, Remove, Run, lane
from agent.control.opinion import UNHEALTHY
from agent.control.plan import Inputs
from agent.control.reconciler import Look
from agent.control.words import UnknownNameError, Words
from agent.control.workqueue import Priority, WorkQueue
from agent.control.world import World

log = logging.getLogger("xmod.controller")


class Memory(Protocol):
    """Where words are kept."""

    def save(self, data: Mapping[str, Any]) -> None:
        """Keep them; never raises."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The budget for removals."""

    fraction: float = 0.25
    window: timedelta = timedelta(minutes=10)


class Controller:
    """The one that plans. Thread-safe; `lock`: held while something is decided on what is known now."""

    def __init__(
        self,
        *,
        world: World,
        queue: WorkQueue,
        board: Board,
        facts: PlanFacts,
        clock: Clock,
        memory: Memory,
        words: Words,
        limits: Limits,
    ) -> None:
        self._world = world
        self._queue = queue
        self._board = board
        self._facts = facts
        self._clock = clock
        self._memory = memory
        self._limits = limits
        self.lock = threading.RLock()
        self._words = words
        self._desired: DesiredState | None = None
        self._intents: Mapping[ServiceName, Intent] = {}
        self._held: Mapping[ServiceName, gate.Held] = words.held
        self._removing = words.removing
        self._sightings = Sightings()
        self._born: dict[ServiceName, datetime] = {}
        self._listed: set[str] = set()
        self._forgetting: dict[ServiceName, Giving] = {}
        self._needed: frozenset[ServiceName] = frozenset()  # names that others depend on
        self._found: dict[ServiceName, tuple[object, ...]] = {}  # how they were found when they were last looked at

    # what a worker asks

    def intent(self, name: ServiceName) -> Intent | None:
        """The newest intent of a name; None: nobody wants it and nothing of it is seen."""
        return self._intents.get(name)

    def ended(self, look: Look, verdict: Verdict) -> None:
        """A look came to its end: a removal is done, or a restart or rollout was taken."""
        with self.lock:
            if look.gone and isinstance(look.intent, Remove):
                self._gone(look.name, moved=look.intent.moved)
                return
            if isinstance(look.intent, Forget):
                self._given_up(look, verdict)
                return
            if look.settled:
                still = {**self._words.still, look.name: self._words.still.get(look.name, False)}
                self._keep(replace(self._words, still=still))
                self.replan()
            if isinstance(look.intent, Run):
                restarts, retries = (
                    {name: at for name, at in asked.items() if name != look.name or not _taken(look.intent, at)}
                    for asked in (self._words.restarts, self._words.retries)
                )
                words = replace(self._words, restarts=restarts, retries=retries)
                if not look.intent.note and not isinstance(verdict, Failed):
                    words = words.rolled_out(look.name)
                if words != self._words:
                    self._keep(words)
                    self.replan()

    def told(self, name: ServiceName) -> None:
        """A look at a name is on the board: if others depend on it and it is otherwise now, plan anew at once."""
        if name not in self._needed:
            return
        with self.lock:
            status = self._board.get(name)
            found = (status.serving, status.routed, status.converged.holds) if status is not None else ()
            if self._found.get(name) != found:
                self._found[name] = found
                self.replan()

    def _unwell(self) -> frozenset[ServiceName]:
        """Of the names that others depend on, those that did not answer."""
        statuses = ((name, self._board.get(name)) for name in self._needed)
        return frozenset(name for name, status in statuses if status is not None and status.serving.reason == UNHEALTHY)

    def _gone(self, name: ServiceName, *, moved: bool) -> None:
        if not moved and any(name in (sight.services or {}) for sight in self._world.sights().values()):
            self.replan()  # it is in another world, too: the same removal goes on there
            return
        self._removing -= {name}
        self._born.pop(name, None)
        if not moved:
            self._facts.pruned("removed", name)
            log.info("service removed", extra={"service": name})
            self._keep(self._words.without(name))
        self.replan()

    def _given_up(self, look: Look, verdict: Verdict) -> None:
        """It runs on and is not ours any more; or its world cannot do that."""
        giving = self._forgetting.get(look.name, Giving())
        giving.left.extend(look.left)
        if look.gone and plan.seen(self._world.sights(), look.name):
            self.replan()  # it is in another world, too
            return
        self._forgetting.pop(look.name, None)
        if look.gone:
            self._born.pop(look.name, None)
            log.warning("service given up, what is left runs on", extra={"service": look.name, "detail": giving.left})
            if self._desired is None or self._desired.spec(look.name) is None:
                self._keep(self._words.without(look.name))
        self.replan()
        if look.gone:
            giving.done.set_result(tuple(giving.left))
        else:
            why = verdict.message if isinstance(verdict, Pending | Failed) else ""
            giving.done.set_exception(UnknownNameError(f"cannot forget {look.name}: {why}"))

    # what changes

    def take(self, desired: DesiredState) -> None:
        """The source says this now."""
        with self.lock:
            if desired is not self._desired:
                known = self._words.identities
                self._sightings.note(desired, known.get(desired.source, ""))
                self._keep(replace(self._words, identities={**known, desired.source: desired.identity}))
            if self._desired is None or desired.wanted is not self._desired.wanted:
                self._needed = waiting.needed(desired)
            self._desired = desired
            self.replan(Priority.CHANGE)
        self._facts.scanned()

    def saw(self, shimlet: str, changed: Iterable[ServiceName]) -> None:
        """A world was listed; these names differ from what was known."""
        with self.lock:
            now = self._clock.now()
            first = shimlet not in self._listed
            self._listed.add(shimlet)
            for name in changed:
                self._born.setdefault(name, datetime.min.replace(tzinfo=now.tzinfo) if first else now)
            self.replan()
            if not first:
                self.hint(changed)

    @property
    def inherited(self) -> bool:
        """Something of ours ran before this agent began."""
        return any(at.year == datetime.min.year for at in self._born.values())

    def uses(self, shimlet: str) -> None:
        """Something of ours may be in that world from now on: it is looked at after a restart too."""
        with self.lock:
            self._keep(replace(self._words, shimlets=self._words.shimlets | {shimlet}))

    def lost(self, shimlet: str, error: str) -> None:
        """A world is out of sight."""
        self._world.lose(shimlet, error)
        self.replan()

    def hint(self, names: Iterable[ServiceName], *, delay: float = 0.0) -> None:
        """Something may have happened to these: have a look, so many seconds from now."""
        intents = self._intents
        for name in names:
            intent = intents.get(name)
            if intent is not None:
                self._queue.add(name, lane=lane(intent), priority=Priority.DRIFT, delay=delay)

    def replan(self, priority: Priority = Priority.DRIFT) -> None:
        """Make the plan anew, and queue every name whose intent changed."""
        with self.lock:
            inputs = self.inputs()
            self._keep(unmarked.noted(inputs))
            inputs = replace(inputs, words=self._words)
            judgement = self._judge(inputs)
            before, self._intents = self._intents, waiting.intents(inputs, judgement)
            now = self._clock.now()
            for name, intent in self._intents.items():
                old = before.get(name)
                if old is not intent and old != intent:
                    self._changed(name, old, intent, now, priority)
            for name in before.keys() - self._intents.keys():
                self._queue.add(name, lane=lane(before[name]), priority=Priority.RESYNC)

    def _changed(
        self, name: ServiceName, old: Intent | None, intent: Intent, now: datetime, priority: Priority
    ) -> None:
        status = self._board.get(name)
        if isinstance(intent, Run):
            moved = isinstance(old, Run) and _only_moved(old, intent)
            settled = (not isinstance(old, Run) or moved) and self._settled(intent)
            priority = Priority.RESYNC if settled else Priority.CHANGE
            if not settled and not moved:
                queued = opinion.queued(intent, status, now)
                if queued is not None:
                    self._board.put(queued)
        self._queue.add(name, lane=lane(intent), priority=priority)

    def _settled(self, run: Run) -> bool:
        """As far as the last list tells, exactly this runs already: no hurry to look at it."""
        observed = self._world.cached(run.service.shimlet, run.service.name)
        if observed is None or len(observed.generations) != 1:
            return False
        only = observed.generations[0]
        return (
            only.service.digest == run.service.digest
            and only.fate is Fate.SERVED
            and len(only.live) == run.service.replicas
            and run.restart_after is None
        )

    def _judge(self, inputs: Inputs) -> gate.Judgement:
        """Ask the gate about what is absent, and remember what it said."""
        found = plan.candidates(inputs)
        desired, now = inputs.desired, self._clock.now()
        if desired is None:
            return gate.Judgement()
        names = {candidate.name for candidate in found}
        unseen = self._unseen(inputs, desired)
        judgement = gate.judge(
            found,
            self._sightings.evidence(desired, self._words.adopted),
            self._budget(inputs, now) if found else gate.Budget(0),
            approved=self._words.approved,
            removing=self._removing,
            before=self._held,
            now=now,
        )
        for name in sorted(judgement.held.keys() - self._held.keys()):
            held = judgement.held[name]
            self._facts.pruned("held", name, held.reason, held.message)
            log.warning("prune held", extra={"service": name, "reason": held.reason, "detail": held.message})
        self._removing = judgement.allowed | (self._removing & unseen)
        waiting = {name: held for name, held in self._held.items() if name in unseen - self._words.approved}
        self._held = {**waiting, **judgement.held}
        fresh = tuple((name, now) for name in sorted(judgement.fresh))
        recent = tuple((name, at) for name, at in self._words.pruned if now - at < self._limits.window)
        words = replace(
            self._words,
            pruned=recent + fresh,
            held=self._held,
            removing=self._removing,
            approved=self._words.approved & (names | unseen),
        )
        before = self._words
        same = (words.removing, words.approved) == (before.removing, before.approved)
        if fresh or not same or _reasons(words) != _reasons(before):
            self._keep(words)
        return judgement

    def _unseen(self, inputs: Inputs, desired: DesiredState) -> set[ServiceName]:
        """Of which removals are spoken of, those that may be in a world that is out of sight: nothing is forgotten of them."""
        sights = inputs.sights.values()
        if not any(sight.error or sight.services is None for sight in sights):
            return set()
        here = {name for sight in sights if not sight.error for name in (sight.services or {})}
        spoken = self._held.keys() | self._removing | self._words.approved
        return {n for n in spoken if n not in here and n not in desired.wanted and n not in desired.doubts}

    def _budget(self, inputs: Inputs, now: datetime) -> gate.Budget:
        """25 % of what there was when the window began."""
        began = now - self._limits.window
        here = {name for sight in inputs.sights.values() for name in (sight.services or {})}
        old = {name for name in here if self._born.get(name, began) <= began}
        gone = {name for name, at in self._words.pruned if at > began} - here
        return gate.Budget(len(old) + len(gone), self._words.pruned, self._limits.fraction, self._limits.window)

    # what an operator says: see operator.py

    def say(self, words: Words) -> None:
        """From now on these words are in force. To be called with `lock` held since they were looked at."""
        with self.lock:
            self._keep(words)
            self.replan(Priority.CHANGE)

    def give_up(self, name: ServiceName) -> Giving:
        """What there is of a service runs on, and is not ours any more; `done` tells when and what is left."""
        with self.lock:
            giving = self._forgetting.setdefault(name, Giving())
            self.replan(Priority.CHANGE)
            return giving

    def keep_on(self, name: ServiceName) -> None:
        """Give it up no longer: its world does not answer."""
        with self.lock:
            self._forgetting.pop(name, None)
            self.replan()

    def inputs(self) -> Inputs:
        """All that the plan is made of, as of now."""
        return Inputs(self._desired, self._world.sights(), self._words, frozenset(self._forgetting), self._unwell())

    # what people see

    def held(self) -> Mapping[ServiceName, gate.Held]:
        """Removals that wait for evidence or for an operator."""
        return self._held

    def intents(self) -> Mapping[ServiceName, Intent]:
        """The whole plan."""
        return self._intents

    def words(self) -> Words:
        """All that an operator said and that is in force."""
        return self._words

    def desired(self) -> DesiredState | None:
        """What the source said last."""
        return self._desired

    def _keep(self, words: Words) -> None:
        if words != self._words:
            self._words = words
            self._memory.save(words.to_plain())


def _taken(run: Run, asked: datetime) -> bool:
    """A look at this answers what was asked then."""
    return run.retry is not None and asked <= run.retry


def _only_moved(old: Run, new: Run) -> bool:
    """It stands elsewhere now, or something else in its file changed."""
    stands = new.service
    return new == replace(
        old, service=replace(old.service, revision=stands.revision, source=stands.source, file=stands.file)
    )


def _reasons(words: Words) -> dict[ServiceName, str]:
    return {name: held.reason for name, held in words.held.items()}
