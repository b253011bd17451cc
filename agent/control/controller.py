"""Holds the newest desired state, world and words; makes the plan anew when one of them changes, and says whom to look at.

It never touches a runtime. What it tells the queue are names; a worker reads the intent of a name when its turn comes, so
the newest word always counts.
"""

import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from agent.clock import Clock
from agent.contracts import Failed, Fate, Pending, ServiceName, Verdict
from agent.control import forgetting, gate, opinion, plan, suspension, waiting
from agent.control.board import Board
from agent.control.desired import DesiredState
from agent.control.facts import PlanFacts
from agent.control.forgetting import Giving
from agent.control.opinion import UNHEALTHY
from agent.control.plan import Forget, Inputs, Intent, Keep, Remove, Run
from agent.control.reconciler import Look
from agent.control.words import Suspension, UnknownNameError, Words
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


@dataclass(slots=True)
class _Sightings:
    """What the source was seen to hold since the agent started."""

    identity: str = ""
    first: bool = True
    replaced: bool = False
    alive: bool = False
    seen: frozenset[ServiceName] = frozenset()

    def note(self, desired: DesiredState, remembered: str) -> None:
        """One more snapshot. `remembered`: the identity that an earlier agent saw, "" if none is known."""
        if self.first:
            self.first = False
            self.replaced = remembered not in ("", desired.identity)
        elif desired.identity != self.identity:
            self.replaced, self.alive, self.seen = True, False, frozenset()
        self.identity = desired.identity
        names = desired.wanted.keys() | desired.doubts.keys()
        self.alive = self.alive or bool(names or desired.elsewhere)
        if not names <= self.seen:
            self.seen |= names


class Controller:
    """The one that plans. Thread-safe."""

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
        self._lock = threading.RLock()
        self._words = words
        self._desired: DesiredState | None = None
        self._intents: Mapping[ServiceName, Intent] = {}
        self._held: Mapping[ServiceName, gate.Held] = words.held
        self._removing = words.removing
        self._sightings = _Sightings()
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
        with self._lock:
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
                rollouts = self._words.rollouts
                if not look.intent.note and not isinstance(verdict, Failed):
                    rollouts = tuple(name for name in rollouts if name != look.name)
                words = replace(self._words, restarts=restarts, retries=retries, rollouts=rollouts)
                if words != self._words:
                    self._keep(words)
                    self.replan()

    def told(self, name: ServiceName) -> None:
        """A look at a name is on the board: if others depend on it and it is otherwise now, plan anew at once."""
        if name not in self._needed:
            return
        with self._lock:
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
        with self._lock:
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
        with self._lock:
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
        with self._lock:
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
                self._queue.add(name, lane=plan.lane(intent), priority=Priority.DRIFT, delay=delay)

    def replan(self, priority: Priority = Priority.DRIFT) -> None:
        """Make the plan anew, and queue every name whose intent changed."""
        with self._lock:
            inputs = self._inputs()
            self._keep(plan.noted(inputs))
            inputs = replace(inputs, words=self._words)
            judgement = self._judge(inputs)
            before, self._intents = self._intents, waiting.intents(inputs, judgement)
            now = self._clock.now()
            for name, intent in self._intents.items():
                old = before.get(name)
                if old is not intent and old != intent:
                    self._changed(name, old, intent, now, priority)
            for name in before.keys() - self._intents.keys():
                self._queue.add(name, lane=plan.lane(before[name]), priority=Priority.RESYNC)

    def _inputs(self) -> Inputs:
        return Inputs(self._desired, self._world.sights(), self._words, frozenset(self._forgetting), self._unwell())

    def _changed(
        self, name: ServiceName, old: Intent | None, intent: Intent, now: datetime, priority: Priority
    ) -> None:
        status = self._board.get(name)
        if isinstance(intent, Run):
            settled = (not isinstance(old, Run) or _only_moved(old, intent)) and self._settled(intent)
            priority = Priority.RESYNC if settled else Priority.CHANGE
            if not settled:
                queued = opinion.queued(intent, status, now)
                if queued is not None:
                    self._board.put(queued)
        self._queue.add(name, lane=plan.lane(intent), priority=priority)

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
            gate.Evidence(
                source=desired.source,
                seen=self._sightings.seen,
                alive=self._sightings.alive,
                empty=not desired.wanted and not desired.doubts and not desired.elsewhere,
                replaced=self._sightings.replaced,
                unread=desired.unread,
                unexplained=desired.unexplained,
                adopted=self._words.adopted,
                elsewhere=desired.elsewhere,
                host=desired.host,
            ),
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

    # what an operator says

    def approve(self, names: Sequence[ServiceName]) -> tuple[ServiceName, ...]:
        """Release these held removals, all if none is named. LookupError, and nothing released, if one is not held."""
        with self._lock:
            for name in names:
                if name not in self._held:
                    raise UnknownNameError(f"{name} is not held; held are: {', '.join(sorted(self._held)) or 'none'}")
            asked = tuple(names) or tuple(sorted(self._held))
            self._keep(replace(self._words, approved=self._words.approved | set(asked)))
            self.replan(Priority.CHANGE)
            released = tuple(name for name in asked if name not in self._held)
            for name in released:
                self._facts.pruned("approved", name)
            refused = [name for name in asked if name in self._held]
            self._keep(replace(self._words, approved=self._words.approved - set(refused)))
            if refused and not released:
                held = self._held[refused[0]]
                raise UnknownNameError(f"{refused[0]} cannot be approved: {held.reason}: {held.message}")
            return released

    def restart(self, name: ServiceName) -> None:
        """Start its replicas again, and try a burnt spec again."""
        with self._lock:
            intent = self._intents.get(name)
            if not isinstance(intent, Run):
                why = f"it is kept: {intent.reason}" if isinstance(intent, Keep) else "no such service is wanted"
                raise UnknownNameError(f"cannot restart {name}: {why}")
            self._keep(replace(self._words, restarts={**self._words.restarts, name: self._clock.now()}))
            self.replan(Priority.CHANGE)

    def retry(self, name: ServiceName) -> None:
        """Try again now what failed, waits or backs off; replicas that are right run on."""
        with self._lock:
            intent, status = self._intents.get(name), self._board.get(name)
            if not isinstance(intent, Run):
                why = f"it is kept: {intent.reason}" if isinstance(intent, Keep) else "no such service is wanted"
                raise UnknownNameError(f"cannot retry {name}: {why}")
            if status is not None and status.converged.holds:
                hint = f"; {intent.message}" if intent.note else ""
                raise UnknownNameError(f"there is nothing to retry: {name} is as it is wanted{hint}")
            self._keep(replace(self._words, retries={**self._words.retries, name: self._clock.now()}))
            self._queue.forget(name)
            self.replan(Priority.CHANGE)
            self._queue.add(name, lane=plan.lane(intent), priority=Priority.CHANGE)

    def suspend(self, name: ServiceName | None, reason: str = "") -> None:
        """Leave this service as it is, without a name all of them, also those that come later, until it is resumed."""
        with self._lock:
            said = Suspension(self._clock.now(), reason)
            words = self._words
            if name is None:
                self._keep(suspension.all_suspended(words, said))
            else:
                self._keep(suspension.suspended(words, name, said, self._intents.keys()))
            self.replan(Priority.CHANGE)

    def resume(self, name: ServiceName | None) -> tuple[ServiceName, ...]:
        """Take back what an operator suspended, without a name all of it; which services that goes for.

        What its spec suspends stays suspended: see `suspended_by_spec`.
        """
        with self._lock:
            before = {n for n, intent in self._intents.items() if _suspended(intent)}
            if name is None:
                self._keep(suspension.all_resumed(self._words))
            else:
                spec = self._desired.spec(name) if self._desired is not None else None
                self._keep(suspension.resumed(self._words, name, spec, self._intents.keys()))
            self.replan(Priority.CHANGE)
            return tuple(sorted(n for n in before if not _suspended(self._intents.get(n))))

    def suspended_by_spec(self) -> Mapping[ServiceName, str]:
        """Services whose own spec suspends them, and where it stands."""
        wanted = self._desired.wanted if self._desired is not None else {}
        return {name: f"{w.service.file}:{w.line}" for name, w in sorted(wanted.items()) if w.suspended}

    def rollout(self, names: Sequence[ServiceName]) -> tuple[ServiceName, ...]:
        """Let these, all if none is named, take what their specs resolve to now, one after the other."""
        with self._lock:
            notes = ("ResolvesDifferently", "RolloutWaits")
            able = sorted(n for n, i in self._intents.items() if isinstance(i, Run) and i.note in notes)
            for name in names:
                if name not in able:
                    others = ", ".join(able) or "none does"
                    hint = f" (its rollout was begun: xmod-agent retry {name})" if name in self._words.rollouts else ""
                    raise UnknownNameError(f"{name} does not resolve differently now{hint}; those that do: {others}")
            asked = tuple(names) or tuple(able)
            rollouts = (*self._words.rollouts, *(name for name in asked if name not in self._words.rollouts))
            self._keep(replace(self._words, rollouts=rollouts))
            self.replan(Priority.CHANGE)
            return asked

    def cancel_rollout(self, names: Sequence[ServiceName]) -> tuple[ServiceName, ...]:
        """Take back rollouts, all if none is named, that are not through; what one has brought up already stays."""
        with self._lock:
            for name in names:
                if name not in self._words.rollouts:
                    others = ", ".join(self._words.rollouts) or "none"
                    raise UnknownNameError(f"no rollout of {name} is under way; under way: {others}")
            asked = tuple(names) or self._words.rollouts
            self._keep(replace(self._words, rollouts=tuple(n for n in self._words.rollouts if n not in asked)))
            self.replan(Priority.CHANGE)
            return asked

    def forget(self, name: ServiceName) -> Giving:
        """Give up a service: what there is of it runs on, and is not ours any more. `done` tells when and what is left."""
        with self._lock:
            intent = self._intents.get(name)
            why = forgetting.refusal(name, self._inputs(), intent, sorted(self._intents))
            if why:
                raise UnknownNameError(f"cannot forget {name}: {why}")
            giving = self._forgetting.setdefault(name, Giving())
            self.replan(Priority.CHANGE)
            return giving

    def unforget(self, name: ServiceName) -> None:
        """Give it up no longer: its world does not answer."""
        with self._lock:
            self._forgetting.pop(name, None)
            self.replan()

    def adopt(self, source: str) -> int:
        """Treat services of another source as this one's; how many there are."""
        with self._lock:
            marks = (o for sight in self._world.sights().values() for o in (sight.services or {}).values())
            count = sum(1 for o in marks if o.generations and o.generations[-1].service.source == source)
            if not count:
                raise UnknownNameError(f"no service came from {source}")
            self._keep(replace(self._words, adopted=self._words.adopted | {source}))
            self.replan(Priority.CHANGE)
            return count

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


def _suspended(intent: Intent | None) -> bool:
    return isinstance(intent, Keep) and intent.reason == suspension.SUSPENDED


def _only_moved(old: Run, new: Run) -> bool:
    """It stands elsewhere now, or something else in its file changed."""
    stands = new.service
    return new == replace(
        old, service=replace(old.service, revision=stands.revision, source=stands.source, file=stands.file)
    )


def _reasons(words: Words) -> dict[ServiceName, str]:
    return {name: held.reason for name, held in words.held.items()}
