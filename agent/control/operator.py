"""What an operator says: each word is checked against the plan as it is now, kept, and the plan made anew.

A word that cannot be meant is refused with a sentence, and changes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from agent.clock import Clock
from agent.contracts import ServiceName
from agent.control import forgetting, suspension
from agent.control.board import Board
from agent.control.controller import Controller
from agent.control.facts import PlanFacts
from agent.control.forgetting import Giving
from agent.control.intent import DIFFERS, ROLLOUT_WAITS, Intent, Keep, Run, lane
from agent.control.words import Suspension, UnknownNameError
from agent.control.workqueue import Priority, WorkQueue
from agent.control.world import World


class Operator:
    """Takes words for a controller. Thread-safe; all raise UnknownNameError."""

    def __init__(
        self, controller: Controller, *, world: World, queue: WorkQueue, board: Board, facts: PlanFacts, clock: Clock
    ) -> None:
        self._controller = controller
        self._world = world
        self._queue = queue
        self._board = board
        self._facts = facts
        self._clock = clock

    def approve(self, names: Sequence[ServiceName]) -> tuple[ServiceName, ...]:
        """Release these held removals, all if none is named; nothing is released if one is not held."""
        control = self._controller
        with control.lock:
            before = control.held()
            for name in names:
                if name not in before:
                    raise UnknownNameError(f"{name} is not held; held are: {', '.join(sorted(before)) or 'none'}")
            asked = tuple(names) or tuple(sorted(before))
            control.say(replace(control.words(), approved=control.words().approved | set(asked)))
            held = control.held()
            released = tuple(name for name in asked if name not in held)
            for name in released:
                self._facts.pruned("approved", name)
            refused = [name for name in asked if name in held]
            if refused:
                control.say(replace(control.words(), approved=control.words().approved - set(refused)))
            if refused and not released:
                why = held[refused[0]]
                raise UnknownNameError(f"{refused[0]} cannot be approved: {why.reason}: {why.message}")
            return released

    def restart(self, name: ServiceName) -> None:
        """Start its replicas again, and try a burnt spec again."""
        control = self._controller
        with control.lock:
            self._walked(name, "restart")
            words = control.words()
            control.say(replace(words, restarts={**words.restarts, name: self._clock.now()}))

    def retry(self, name: ServiceName) -> None:
        """Try again now what failed, waits or backs off; replicas that are right run on."""
        control = self._controller
        with control.lock:
            intent, status = self._walked(name, "retry"), self._board.get(name)
            if status is not None and status.converged.holds:
                hint = f"; {intent.message}" if intent.note else ""
                raise UnknownNameError(f"there is nothing to retry: {name} is as it is wanted{hint}")
            self._queue.forget(name)
            words = control.words()
            control.say(replace(words, retries={**words.retries, name: self._clock.now()}))
            self._queue.add(name, lane=lane(intent), priority=Priority.CHANGE)

    def suspend(self, name: ServiceName | None, reason: str = "") -> None:
        """Leave this service as it is, without a name all of them, also those that come later, until it is resumed."""
        control = self._controller
        with control.lock:
            said = Suspension(self._clock.now(), reason)
            if name is None:
                control.say(suspension.all_suspended(control.words(), said))
            else:
                control.say(suspension.suspended(control.words(), name, said, control.intents().keys()))

    def resume(self, name: ServiceName | None) -> tuple[ServiceName, ...]:
        """Take back what an operator suspended, without a name all of it; which services that goes for.

        What its spec suspends stays suspended: see `suspended_by_spec`.
        """
        control = self._controller
        with control.lock:
            before = {n for n, intent in control.intents().items() if _suspended(intent)}
            if name is None:
                control.say(suspension.all_resumed(control.words()))
            else:
                desired = control.desired()
                spec = desired.spec(name) if desired is not None else None
                control.say(suspension.resumed(control.words(), name, spec, control.intents().keys()))
            return tuple(sorted(n for n in before if not _suspended(control.intents().get(n))))

    def suspended_by_spec(self) -> Mapping[ServiceName, str]:
        """Services whose own spec suspends them, and where it stands."""
        desired = self._controller.desired()
        wanted = desired.wanted if desired is not None else {}
        return {name: f"{w.service.file}:{w.line}" for name, w in sorted(wanted.items()) if w.suspended}

    def rollout(self, names: Sequence[ServiceName]) -> tuple[ServiceName, ...]:
        """Let these, all if none is named, take what their specs resolve to now, one after the other."""
        control = self._controller
        with control.lock:
            words, notes = control.words(), (DIFFERS, ROLLOUT_WAITS)
            able = sorted(n for n, i in control.intents().items() if isinstance(i, Run) and i.note in notes)
            for name in names:
                if name not in able:
                    others = ", ".join(able) or "none does"
                    hint = f" (its rollout was begun: xmod-agent retry {name})" if name in words.rollouts else ""
                    raise UnknownNameError(f"{name} does not resolve differently now{hint}; those that do: {others}")
            asked = tuple(names) or tuple(able)
            rollouts = (*words.rollouts, *(name for name in asked if name not in words.rollouts))
            control.say(replace(words, rollouts=rollouts))
            return asked

    def cancel_rollout(self, names: Sequence[ServiceName]) -> tuple[ServiceName, ...]:
        """Take back rollouts, all if none is named, that are not through; what one has brought up already stays."""
        control = self._controller
        with control.lock:
            words = control.words()
            for name in names:
                if name not in words.rollouts:
                    others = ", ".join(words.rollouts) or "none"
                    raise UnknownNameError(f"no rollout of {name} is under way; under way: {others}")
            asked = tuple(names) or words.rollouts
            control.say(replace(words, rollouts=tuple(n for n in words.rollouts if n not in asked)))
            return asked

    def forget(self, name: ServiceName) -> Giving:
        """Give up a service: what there is of it runs on, and is not ours any more. `done` tells when and what is left."""
        control = self._controller
        with control.lock:
            intents = control.intents()
            why = forgetting.refusal(name, control.inputs(), intents.get(name), sorted(intents))
            if why:
                raise UnknownNameError(f"cannot forget {name}: {why}")
            return control.give_up(name)

    def adopt(self, source: str) -> int:
        """Treat services of another source as this one's; how many there are."""
        control = self._controller
        with control.lock:
            marks = (o for sight in self._world.sights().values() for o in (sight.services or {}).values())
            count = sum(1 for o in marks if o.generations and o.generations[-1].service.source == source)
            if not count:
                raise UnknownNameError(f"no service came from {source}")
            control.say(replace(control.words(), adopted=control.words().adopted | {source}))
            return count

    def _walked(self, name: ServiceName, word: str) -> Run:
        """The intent of a service that is walked to."""
        intent = self._controller.intents().get(name)
        if not isinstance(intent, Run):
            why = f"it is kept: {intent.reason}" if isinstance(intent, Keep) else "no such service is wanted"
            raise UnknownNameError(f"cannot {word} {name}: {why}")
        return intent


def _suspended(intent: Intent | None) -> bool:
    return isinstance(intent, Keep) and intent.reason == suspension.SUSPENDED
