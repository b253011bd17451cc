"""One look at one name: find the target, then bring about goal after goal until one has to wait.

The same path serves creation, change, drift, rollback and removal. It looks at what the world's last list said, and looks
closer before it acts or judges. It remembers nothing that decides, but which digests failed without leaving a trace in
the world. Before it lets a goal act towards something that is to run, it asks whether that may be started now: what is
refused ends nothing, burns nothing, and what served before is seen to meanwhile.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import cast

from agent.clock import Clock
from agent.contracts import (
    Achieved,
    Conflict,
    Digest,
    Failed,
    Fate,
    Generation,
    Goal,
    GoalContext,
    GoalSet,
    Observed,
    Pending,
    Permanent,
    Room,
    Service,
    ServiceName,
    Shimlet,
    Tasks,
    Transient,
    Verdict,
)
from agent.control import rollout
from agent.control.board import GoalState
from agent.control.facts import Facts
from agent.control.intent import Forget, Intent, Keep, Remove, Run, lane
from agent.control.lending import Facets, Host, facets_of
from agent.control.noting import Noting
from agent.control.world import World

REFUSED = "PolicyRefused"


class _Refused(Permanent):
    """This service may not be started now."""

    reason = REFUSED

    def __init__(self, service: Service, why: str) -> None:
        super().__init__(f"it may not be started: {why}")
        self.service = service


@dataclass(frozen=True, slots=True)
class _Burn:
    """A failure that the world may hold no record of."""

    why: str
    at: datetime


@dataclass(slots=True)
class Look:
    """One look as it goes: filled in along the way, so that a look that ends in an error still tells how far it came.

    `settled`: nothing of a suspended service is half done. `left`: what runs on of one that was given up, a sentence each.
    """

    name: ServiceName
    intent: Intent
    observed: Observed | None = None
    target: Service | None = None
    burnt: str = ""
    waits: str = ""
    goalset: str = ""
    goal: str = ""
    goals: list[GoalState] = field(default_factory=list)
    acted: bool = False
    gone: bool = False
    settled: bool = False
    left: tuple[str, ...] = ()


class Reconciler:
    """Looks at names. Safe from several threads, for different names."""

    def __init__(
        self,
        *,
        world: World,
        goalsets: Callable[[str], GoalSet],
        host: Host,
        tasks: Callable[[ServiceName], Tasks],
        permits: Callable[[Service], str],
        facts: Facts,
        clock: Clock,
    ) -> None:
        self._world = world
        self._goalsets = goalsets
        self._host = host
        self._tasks = tasks
        self._permits = permits  # why a service may not be started now, "" if it may
        self._facts = facts
        self._clock = clock
        self._facets: dict[int, Facets] = {}  # by identity: two worlds may call themselves by one name
        self._burnt: dict[ServiceName, dict[Digest, _Burn]] = {}
        self._turn: dict[ServiceName, tuple[str, float]] = {}  # the goal whose turn it is, and since when

    def look(self, look: Look) -> Verdict:
        """Take the steps that can be taken now. Raises what a shimlet raises."""
        match look.intent:
            case Run() as run:
                return self._run(look, run)
            case Remove() as remove:
                return self._remove(look, remove)
            case Keep() as keep:
                return self._kept(look, keep)
            case Forget() as forget:
                return self._release(look, forget)

    def forget(self, name: ServiceName) -> None:
        """Nothing of the service is wanted or left."""
        self._burnt.pop(name, None)
        self._turn.pop(name, None)
        self._host.forget(name)

    def facets(self, shimlet: Shimlet) -> Facets:
        """What goals on this shimlet are handed, as it was found the first time."""
        known = self._facets.get(id(shimlet))
        if known is None:
            known = self._facets[id(shimlet)] = facets_of(shimlet, self._host)
        return known

    def _seen(self, shimlet: str, name: ServiceName) -> Observed:
        cached = self._world.cached(shimlet, name)
        return cached if cached is not None else self._world.observe(shimlet, name)

    def _kept(self, look: Look, keep: Keep) -> Verdict:
        """Only see to it; but never leave alone what served, was stopped for a change, and is not replaced yet."""
        verdict = Pending(keep.reason, keep.message)
        shimlet = self._world.shimlets.get(keep.shimlet)
        if shimlet is None:
            return verdict
        look.observed = self._world.unseen(keep.shimlet, look.name)
        if look.observed is not None:
            return verdict
        look.observed = (
            self._world.observe(keep.shimlet, look.name) if keep.settle else self._seen(keep.shimlet, look.name)
        )
        target = rollout.unfinished(look.observed, route=self._routed(look.name, shimlet)) if keep.settle else None
        look.settled = keep.settle and target is None
        if target is None or target.service is None:
            return verdict
        look.target = target.service
        self._host.ledger.keep_only(look.name, target.service.digest)
        ctx = replace(self._context(look, target.service, shimlet), keep=target.keep)
        walked = self._towards(look, ctx, fresh=True)
        look.settled = isinstance(walked, Achieved)
        return verdict if look.settled else walked

    def _release(self, look: Look, forget: Forget) -> Verdict:
        """Give up what is there, and all that is known of it."""
        shimlet = self._world.shimlets[forget.shimlet]
        ownership = self.facets(shimlet).ownership
        if ownership is None:
            message = f"shimlet {forget.shimlet} cannot give up what it runs; suspend {look.name} instead, or remove it"
            raise Permanent(message, reason="CannotForget")
        self._world.touch(forget.shimlet, look.name)
        look.left = ownership.release(look.name)
        look.observed = self._world.observe(forget.shimlet, look.name)
        if look.observed.generations:
            return Pending("Forgetting", "something of it is ours still", retry_after=1.0)
        self.forget(look.name)
        look.gone = True
        return Achieved()

    def _run(self, look: Look, run: Run) -> Verdict:
        wanted = run.service
        shimlet = self._world.shimlets[wanted.shimlet]
        cached = None if run.restart_after is not None else self._world.cached(wanted.shimlet, look.name)
        if cached is not None and cached.foreign:
            cached = None  # no list tells when that is gone
        look.observed = cached if cached is not None else self._world.observe(wanted.shimlet, look.name)
        _check_foreign(look.observed, wanted)
        if run.retry is not None:
            self._burnt.pop(look.name, None)
        target = self._target(look, run, shimlet)
        look.target, look.burnt, look.waits = target.service, target.burnt, target.waits
        if target.service is None:
            return self._put_aside(look, shimlet, target)
        self._host.ledger.keep_only(look.name, target.service.digest)
        ctx = self._context(look, target.service, shimlet)
        ctx = replace(ctx, keep=target.keep, restart_after=run.restart_after, retry=run.retry)
        try:
            verdict = self._towards(look, ctx, fresh=cached is None)
        except _Refused as refusal:
            if refusal.service is not wanted:
                raise
            return self._beside(look, shimlet, refusal)
        if isinstance(verdict, Achieved):
            if target.waits:
                return Pending("NoRoom", target.waits)
            if target.burnt:
                return Failed("RolledBack", target.burnt)
            self._burnt.pop(look.name, None)  # as in the world, where what is wanted took the records of others away
        return verdict

    def _towards(self, look: Look, ctx: GoalContext, *, fresh: bool) -> Verdict:
        """Walk to something that is to run."""
        verdict = self._walk(look, self._goals(ctx.target.goalset), ctx, fresh=fresh)
        if isinstance(verdict, Failed):
            return self._failed(look, ctx.target, ctx.shimlet, verdict)
        if isinstance(verdict, Achieved):
            self._host.dial.forget(look.name, ctx.target.digest)
        return verdict

    def _beside(self, look: Look, shimlet: Shimlet, refusal: _Refused) -> Verdict:
        """What is wanted may not be started: meanwhile see to what served before, if that ends nothing else."""
        route = self._routed(look.name, shimlet)
        target = rollout.beside(refusal.service, look.observed or Observed(look.name), route=route)
        if target is None or target.service is None:
            raise refusal
        look.target, look.waits = target.service, str(refusal)
        look.goals.clear()
        self._host.ledger.keep_only(look.name, target.service.digest)
        ctx = replace(self._context(look, target.service, shimlet), keep=target.keep)
        verdict = self._towards(look, ctx, fresh=True)
        if isinstance(verdict, Achieved):
            raise refusal
        return verdict

    def _routed(self, name: ServiceName, shimlet: Shimlet) -> Digest | None:
        router = self.facets(shimlet).router
        route = router.routed(name) if router is not None else None
        return route.digest if route is not None else None

    def _target(self, look: Look, run: Run, shimlet: Shimlet) -> rollout.Target:
        observed = look.observed or Observed(look.name)
        memory = self._burnt.get(look.name, {})
        burnt = rollout.burnt_reason(run.service, observed, {digest: burn.why for digest, burn in memory.items()})
        if burnt and (
            run.retry is not None or _asked_again(run, observed, memory.get(run.service.digest), self._clock.now())
        ):
            memory.pop(run.service.digest, None)
            burnt = ""
        facets = self.facets(shimlet)
        room: Room | None = facets.ledger.room(run.service) if facets.ledger is not None else None
        route = self._routed(look.name, shimlet)
        return rollout.target(run.service, observed, burnt=burnt, route=route, room=room)

    def _remove(self, look: Look, remove: Remove) -> Verdict:
        shimlet = self._world.shimlets[remove.shimlet]
        look.observed = self._world.observe(remove.shimlet, look.name)
        if not look.observed.generations:
            look.gone = True
            return Achieved()
        if remove.wanted is not None:
            self._permit(remove.wanted)  # else it would be gone there, and not come here
        look.target = look.observed.generations[-1].service
        self._host.ledger.keep_only(look.name, None)
        removal = self._goals(look.target.goalset).removal
        verdict = self._walk(look, self._goals(removal), self._context(look, look.target, shimlet), fresh=True)
        if isinstance(verdict, Failed):
            raise Permanent(verdict.message, reason=verdict.reason)
        look.gone = isinstance(verdict, Achieved)
        return verdict

    def _goals(self, name: str) -> GoalSet:
        try:
            return self._goalsets(name)
        except LookupError as error:
            raise Permanent(str(error), reason="UnknownGoalSet") from error

    def _context(self, look: Look, target: Service, shimlet: Shimlet) -> GoalContext:
        facets = self.facets(shimlet)
        return GoalContext(
            target=target,
            observed=look.observed or Observed(look.name),
            shimlet=shimlet,
            tasks=self._tasks(look.name),
            now=self._clock.now(),
            images=facets.images,
            ledger=facets.ledger,
            router=facets.router,
            dial=facets.dial,
            secrets=self._host.secrets,
        )

    def _walk(self, look: Look, goalset: GoalSet, ctx: GoalContext, *, fresh: bool) -> Verdict:
        """Goal after goal, until one is not achieved."""
        look.goalset = goalset.name
        shimlet = lane(look.intent)
        permitted = isinstance(look.intent, Remove)  # to go is always allowed
        world = Noting(ctx.shimlet)
        ctx = replace(ctx, shimlet=cast("Shimlet", world))
        for goal in goalset.goals:
            look.goal = goal.name
            began = self._began(look.name, goal.name)
            verdict = _verdict(goal, ctx)
            if not isinstance(verdict, Achieved) and not fresh:
                ctx, fresh = self._anew(look, ctx, shimlet), True
                verdict = _verdict(goal, ctx)
            if isinstance(verdict, Pending):
                if not permitted:
                    self._permit(ctx.target)
                    permitted = True
                world.acted = False
                refused = self._ensure(goalset, goal, ctx)
                if world.acted:
                    look.acted = True
                    ctx = self._anew(look, ctx, shimlet)
                verdict = refused or _verdict(goal, ctx)
            look.goals.append(_state(goal.name, verdict))
            if not isinstance(verdict, Achieved):
                done = len(look.goals)
                look.goals.extend(GoalState(later.name, "waiting") for later in goalset.goals[done:])
                return verdict
            self._facts.goal_achieved(goalset.name, goal.name, self._clock.monotonic() - began)
        look.goal = ""
        self._turn.pop(look.name, None)
        return Achieved()

    def _permit(self, target: Service) -> None:
        why = self._permits(target)
        if why:
            raise _Refused(target, why)

    def _anew(self, look: Look, ctx: GoalContext, shimlet: str) -> GoalContext:
        look.observed = self._world.observe(shimlet, look.name)
        _check_foreign(look.observed, ctx.target)
        return replace(ctx, observed=look.observed, now=self._clock.now())

    def _ensure(self, goalset: GoalSet, goal: Goal, ctx: GoalContext) -> Failed | None:
        """Act. What the world refuses for good is the target's fault, but for a conflict with something foreign."""
        result = "error"
        try:
            goal.ensure(ctx)
            result = "ok"
        except Transient:
            result = "transient"
            raise
        except Permanent as error:
            result = "permanent"
            if isinstance(error, Conflict):
                raise
            return Failed(error.reason, str(error))
        finally:
            self._facts.ensured(goalset.name, goal.name, result)
        return None

    def _began(self, name: ServiceName, goal: str) -> float:
        turn = self._turn.get(name)
        if turn is None or turn[0] != goal:
            turn = (goal, self._clock.monotonic())
            self._turn[name] = turn
        return turn[1]

    def _failed(self, look: Look, target: Service, shimlet: Shimlet, verdict: Failed) -> Verdict:
        """Burn the digest, in the world and in memory; one that ever served is only reported."""
        generation = (look.observed or Observed(look.name)).generation(target.digest)
        if generation is not None and generation.fate is Fate.SERVED:
            return Pending(verdict.reason, verdict.message)
        self._burn(look, target, shimlet, f"{verdict.reason}: {verdict.message}")
        return verdict

    def _burn(self, look: Look, target: Service, shimlet: Shimlet, why: str) -> None:
        """Record that a digest failed, and stop what runs of it."""
        self._burnt.setdefault(look.name, {})[target.digest] = _Burn(why, self._clock.now())
        look.burnt = why
        generation = (look.observed or Observed(look.name)).generation(target.digest)
        if generation is not None:
            shimlet.record(look.name, target.digest, Fate.FAILED)
            self._stop(look, shimlet, generation)

    def _put_aside(self, look: Look, shimlet: Shimlet, target: rollout.Target) -> Verdict:
        """Nothing is left to walk to: what failed stays stopped, as its record; the records of earlier wishes go."""
        self._host.ledger.keep_only(look.name, None)
        for generation in (look.observed or Observed(look.name)).generations:
            if generation.live:
                self._stop(look, shimlet, generation)
            elif generation.service.digest not in target.keep:
                shimlet.remove(look.name, generation.service.digest)
                self._world.touch(generation.service.shimlet, look.name)
        return Failed("Burnt", target.burnt)

    def _stop(self, look: Look, shimlet: Shimlet, generation: Generation) -> None:
        shimlet.apply(generation.service, (), {})
        self._world.touch(generation.service.shimlet, look.name)


def _check_foreign(observed: Observed, target: Service) -> None:
    if observed.foreign and observed.generation(target.digest) is None:
        raise Conflict(observed.foreign)


def _asked_again(run: Run, observed: Observed, burn: _Burn | None, now: datetime) -> bool:
    """The spec's restartedAt is younger than the failure, and not a moment to come."""
    after = run.restart_after
    if after is None or after > now:
        return False
    failed = [r for g in observed.generations if g.fate is Fate.FAILED for r in g.replicas]
    if not failed:
        return burn is not None and burn.at < after
    return all(r.started_at is not None and r.started_at < after for r in failed)


def _verdict(goal: Goal, ctx: GoalContext) -> Verdict:
    """Ask a goal. A bool from a stranger's is accepted at the door, and nothing else but a verdict."""
    answer = goal.is_achieved(ctx)
    if isinstance(answer, bool):
        return Achieved() if answer else Pending("NotYet")
    if not isinstance(answer, Achieved | Pending | Failed):
        raise TypeError(f"goal {goal.name}: is_achieved must return a verdict or a bool, not {answer!r}")
    return answer


def _state(goal: str, verdict: Verdict) -> GoalState:
    match verdict:
        case Achieved():
            return GoalState(goal, "achieved")
        case Pending(reason=reason, message=message):
            return GoalState(goal, "pending", reason, message)
        case Failed(reason=reason, message=message):
            return GoalState(goal, "failed", reason, message)
