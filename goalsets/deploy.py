"""Goals that bring a generation up and the older ones down: image_present placed restarted created exposed retired.

Side by side and stop-first are the same goals with more or less room: `placed` makes room only if nothing else helps,
one replica at a time, and `retired`, the last, lets go of what is no longer needed. Every step is an idempotent call,
so a kill between any two of them only costs another look.
"""

import hmac
import os
from datetime import timedelta

from agent.contracts import (
    Achieved,
    Credentials,
    Fate,
    Generation,
    GoalContext,
    Pending,
    Permanent,
    Placement,
    Replica,
    Route,
    State,
    Task,
    Verdict,
)

_PULL_AGAIN = 30.0  # seconds after an image registry could not be reached
_REFUSED_AGAIN = 300.0  # seconds after it said no
_LOGIN_AGAIN = 30.0  # seconds until it is looked whether a refused login became another
_RESTART_CAP = 300.0  # seconds between restarts of something that keeps exiting


class ImagePresent:
    """The image is here, or the generation exists already and so has it."""

    name = "image_present"

    def __init__(self) -> None:
        self._salt = os.urandom(16)

    def is_achieved(self, ctx: GoalContext) -> Verdict:
        """Holds in worlds without images."""
        image = ctx.target.workload.image
        if ctx.images is None or not image or ctx.generation is not None or ctx.images.has_image(image):
            return Achieved()
        login = _login(ctx)
        pull = ctx.tasks.state(self._key(image, login))
        if pull is None:
            return Pending("Pulling", f"image {image} is not here yet")
        if pull.running:
            return Pending("Pulling", f"{image}: {pull.message or 'begun'}", retry_after=5.0)
        if pull.error is None:
            return Pending("Pulling", f"image {image} was pulled and is gone again")
        reason = "ImageRefused" if isinstance(pull.error, Permanent) else "ImagePullFailed"
        pause = max(1.0, self._wait(ctx))
        return Pending(reason, str(pull.error), retry_after=pause if login is None else min(pause, _LOGIN_AGAIN))

    def ensure(self, ctx: GoalContext) -> None:
        """Begin a pull, unless one runs or failed just now."""
        images, image = ctx.images, ctx.target.workload.image
        if images is None or self._wait(ctx) > 0:
            return
        login = _login(ctx)  # Transient if it cannot be read

        def pull(task: Task) -> None:
            if login is None:
                images.pull_image(image, task)
            else:
                images.pull_image(image, task, login)

        ctx.tasks.start(self._key(image, login), pull)

    def _key(self, image: str, login: Credentials | None) -> str:
        """Other credentials are another try; the key tells nothing of them."""
        if login is None:
            return f"image:{image}"
        said = f"{login.username}\0{login.password}".encode()
        return f"image:{image} with login {hmac.digest(self._salt, said, 'sha256').hex()[:8]}"

    def _wait(self, ctx: GoalContext) -> float:
        """Seconds until the next try makes sense."""
        pull = ctx.tasks.state(self._key(ctx.target.workload.image, _login(ctx)))
        if pull is None or pull.running or pull.error is None or pull.ended_at is None:
            return 0.0
        if ctx.retry is not None and pull.ended_at < ctx.retry.timestamp():
            return 0.0
        pause = _REFUSED_AGAIN if isinstance(pull.error, Permanent) else _PULL_AGAIN
        return pull.ended_at + pause - ctx.now.timestamp()


def _login(ctx: GoalContext) -> Credentials | None:
    login = ctx.target.image_login
    if login is None:
        return None
    return Credentials(
        login.username, ctx.secrets.reveal(login.password, f"password for image {ctx.target.workload.image}")
    )


class Placed:
    """The ledger holds a port and devices for as many replicas as there is room for, and for at least one."""

    name = "placed"

    def is_achieved(self, ctx: GoalContext) -> Verdict:
        """Holds with a part of the replicas too: the rest follows as `retired` makes room."""
        if ctx.ledger is None:
            return Achieved()
        room = ctx.ledger.room(ctx.target)
        if len(room.held) >= ctx.target.replicas or (room.held and not room.more):
            return Achieved()
        if room.more or room.swap:
            return Pending("MakingWay", "older replicas make way first")
        return Pending("NoRoom", room.need)

    def ensure(self, ctx: GoalContext) -> None:
        """Claim what fits; if only a swap fits, take one replica off the youngest older generation."""
        if ctx.ledger is None:
            return
        room = ctx.ledger.room(ctx.target)
        if room.more:
            ctx.ledger.claim(ctx.target)
        elif room.swap:
            ctx.secrets.read(ctx.target.workload)  # Transient: nothing makes way for what could not start
            for generation in reversed(ctx.others):  # youngest first: the one that served goes last
                if generation.live:
                    _shrink(ctx, generation)
                    return


class Restarted:
    """No replica is older than the moment at which someone asked for a restart."""

    name = "restarted"

    def is_achieved(self, ctx: GoalContext) -> Verdict:
        """Holds when nobody asked."""
        return Pending("Restarting", "a restart was asked for") if self._stale(ctx) else Achieved()

    def ensure(self, ctx: GoalContext) -> None:
        """Stop what is older; `created` starts it again."""
        if ctx.generation is not None and self._stale(ctx):
            fresh = [r.placement for r in ctx.generation.live if r not in self._stale(ctx)]
            secrets = ctx.secrets.read(ctx.target.workload)  # in any case: else it could not start again
            ctx.shimlet.apply(ctx.generation.service, fresh, secrets)

    def _stale(self, ctx: GoalContext) -> list[Replica]:
        after = ctx.restart_after
        if after is None or after > ctx.now or ctx.generation is None:  # a moment to come is waited for
            return []
        return [r for r in ctx.generation.replicas if r.holds and r.started_at is not None and r.started_at < after]


class Created:
    """Exactly the placed replicas of the target run, with the secrets, bind address and limits of now."""

    name = "created"

    def is_achieved(self, ctx: GoalContext) -> Verdict:
        """An exited replica of a generation that never served stays as it is: `healthy` judges it."""
        placements, generation = _wanted(ctx), ctx.generation
        if generation is None:
            return Pending("Creating")
        if generation.drift:
            return Pending("Drifted", generation.drift)
        if generation.service.bind != ctx.target.bind:
            return Pending("Creating", f"moves to {ctx.target.bind}")
        if ctx.secrets.changed(ctx.target.workload, generation.secrets):
            return Pending("Creating", "a secret has another value now")
        served = generation.fate is Fate.SERVED
        there = {r.placement for r in generation.replicas if r.live}
        if generation.fate is Fate.NEW:
            there |= {r.placement for r in generation.replicas if r.state is State.EXITED and r.placement in placements}
        elif not served:  # somebody asked for another try of what is left of a failure
            there = set()
        if set(placements) == there and len(generation.replicas) <= ctx.target.replicas:
            return Achieved()
        if any(r.state is State.STOPPING for r in generation.replicas):
            return Pending("Stopping", "a replica is still stopping", retry_after=1.0)
        pauses = [_pause(ctx, r) for r in generation.replicas if r.state is State.EXITED and served]
        if any(pause > 0 for pause in pauses):
            last = next(r for r in generation.replicas if r.state is State.EXITED)
            return Pending("CrashLoop", last.message, retry_after=max(0.1, min(p for p in pauses if p > 0)))
        return Pending("Creating")

    def ensure(self, ctx: GoalContext) -> None:
        """Apply; a replica that keeps exiting waits for its pause to end."""
        generation = ctx.generation
        waits: set[Placement] = set()
        if generation is not None and generation.fate is Fate.SERVED:
            waits = {r.placement for r in generation.replicas if r.state is State.EXITED and _pause(ctx, r) > 0}
        placements = [placement for placement in _wanted(ctx) if placement not in waits]
        if generation is not None and waits and set(placements) == {r.placement for r in generation.live}:
            return
        ctx.shimlet.apply(ctx.target, placements, ctx.secrets.read(ctx.target.workload))


class Exposed:
    """The service's one address leads to the target's live replicas, and the world records that it served."""

    name = "exposed"

    def is_achieved(self, ctx: GoalContext) -> Verdict:
        """The record comes first: from then on the digest is never burnt."""
        generation = ctx.generation
        if generation is None or generation.fate is not Fate.SERVED:
            return Pending("Exposing")
        live = frozenset(r.placement.index for r in generation.live)
        if ctx.router is not None and ctx.router.routed(ctx.target.name) != Route(ctx.target.digest, live):
            return Pending("Exposing")
        return Achieved()

    def ensure(self, ctx: GoalContext) -> None:
        """Record, then lead the address there."""
        generation = ctx.generation
        if generation is None:
            return
        if generation.fate is not Fate.SERVED:
            ctx.shimlet.record(ctx.target.name, ctx.target.digest, Fate.SERVED)
        if ctx.router is not None:
            ctx.router.route(ctx.target, generation.live)


class Retired:
    """Of every other generation nothing is left, but for the stopped record of a failure."""

    name = "retired"

    def is_achieved(self, ctx: GoalContext) -> Verdict:
        """Holds only once all replicas of the target run."""
        left = [g for g in ctx.others if g.service.digest not in ctx.keep or any(r.holds for r in g.replicas)]
        return Pending("Retiring") if left or not _full(ctx) else Achieved()

    def ensure(self, ctx: GoalContext) -> None:
        """Remove what is not needed; while the target is not whole, only take one replica away."""
        for generation in ctx.others:
            kept = generation.service.digest in ctx.keep
            if _full(ctx) and not kept:
                ctx.shimlet.remove(ctx.target.name, generation.service.digest)
            elif _full(ctx) and generation.live:
                ctx.shimlet.apply(generation.service, (), {})
            elif generation.live:
                _shrink(ctx, generation)
                return


def _wanted(ctx: GoalContext) -> tuple[Placement, ...]:
    """Where the replicas belong; without a ledger the world places them itself."""
    if ctx.ledger is None:
        return tuple(Placement(index) for index in range(ctx.target.replicas))
    return ctx.ledger.room(ctx.target).held


def _full(ctx: GoalContext) -> bool:
    return ctx.generation is not None and len(ctx.generation.live) == ctx.target.replicas


def _pause(ctx: GoalContext, replica: Replica) -> float:
    """Seconds until a replica that exited may be started again: at once the first time, then 1 s × 2, cap 5 min."""
    if not replica.restarts or replica.finished_at is None:
        return 0.0
    if ctx.retry is not None and replica.finished_at < ctx.retry:
        return 0.0
    pause = min(_RESTART_CAP, 2.0 ** min(replica.restarts - 1, 16))
    return (replica.finished_at + timedelta(seconds=pause) - ctx.now).total_seconds()


def _shrink(ctx: GoalContext, generation: Generation) -> None:
    """Stop and keep one replica of an older generation, its last, and lead no more requests to it."""
    rest = generation.live[:-1]
    routed = ctx.router.routed(ctx.target.name) if ctx.router is not None else None
    if ctx.router is not None and routed is not None and routed.digest == generation.service.digest:
        ctx.router.route(generation.service, rest)
    secrets = ctx.secrets.read(generation.service.workload) if rest else {}
    ctx.shimlet.apply(generation.service, [replica.placement for replica in rest], secrets)
