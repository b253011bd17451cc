"""Goals about answers: healthy.

Ready means it answers. While a generation never served, an exit or a passed start-up deadline is its own fault and burns
it. Once it served, nothing here is final: it is reported, and the world or `created` starts it again.
"""

from datetime import timedelta

from agent.contracts import Achieved, Failed, Fate, GoalContext, Pending, Replica, State, Verdict

_CRASHES = 3  # restarts in a row by the world itself that make a crash loop
_WITNESSED = 3  # failed probes of our own before a passed deadline counts: one slow answer is no evidence


_YOUNG = timedelta(minutes=1)  # that something which crashed again and again must run to count as well


class Healthy:
    """Every replica that the target has now answers its check."""

    name = "healthy"

    def is_achieved(self, ctx: GoalContext) -> Verdict:
        """A refused connection or a loading code is "not yet", never a failure by itself."""
        generation = ctx.generation
        if generation is None:
            return Pending("Starting")
        verdicts = [self._verdict(ctx, replica, fate=generation.fate) for replica in generation.replicas]
        for verdict in verdicts:
            if isinstance(verdict, Failed):
                return verdict
        return next((verdict for verdict in verdicts if isinstance(verdict, Pending)), Achieved())

    def ensure(self, ctx: GoalContext) -> None:
        """Nothing makes a service answer but itself: it is watched."""

    def _verdict(self, ctx: GoalContext, replica: Replica, *, fate: Fate) -> Verdict:
        served = fate is Fate.SERVED
        if replica.state in (State.STOPPED, State.STOPPING):
            return Achieved()  # it makes way, or is kept
        if replica.restarts >= _CRASHES and (replica.state is not State.RUNNING or _young(ctx, replica)):
            now = "runs again" if replica.state is State.RUNNING else "exited"
            message = f"started {replica.restarts} times and {now}: {replica.message}"
            return Pending("CrashLoop", message) if served else Failed("CrashLoop", message)
        if replica.state is State.EXITED:
            return Pending("Exited", replica.message) if served else Failed("Exited", replica.message)
        if replica.state is not State.RUNNING:
            return self._late(ctx, replica, "it is still starting", served=served, witnessed=True)
        return self._answer(ctx, replica, served=served)

    def _answer(self, ctx: GoalContext, replica: Replica, *, served: bool) -> Verdict:
        check = ctx.target.workload.check
        if replica.ready is not None:
            answered, message, failures = replica.ready, replica.message, _WITNESSED
        elif ctx.dial is None or not (check.path or check.tcp):
            return Achieved()
        else:
            health = ctx.dial.health(ctx.target, replica)
            if health is None:
                return Pending("Starting", "not asked yet", retry_after=check.interval + check.timeout)
            answered, message, failures = health.answered, health.message, health.failures
        if answered:
            return Achieved()
        if served:
            return Pending("Unhealthy", message, retry_after=10.0)
        return self._late(ctx, replica, message, served=served, witnessed=failures >= _WITNESSED)

    def _late(self, ctx: GoalContext, replica: Replica, message: str, *, served: bool, witnessed: bool) -> Verdict:
        """Still within its start-up deadline, which counts from the world's own clock, or not."""
        deadline = ctx.target.workload.check.startup_deadline
        if replica.started_at is None or served:
            return Pending("Starting", message, retry_after=5.0)
        left = (replica.started_at + timedelta(seconds=deadline) - ctx.now).total_seconds()
        if left <= 0 and witnessed:
            return Failed("StartupDeadline", f"it did not answer within {deadline:g} s: {message}")
        return Pending("Starting", message, retry_after=min(5.0, max(left, 0.5)))


def _young(ctx: GoalContext, replica: Replica) -> bool:
    return replica.started_at is not None and ctx.now - replica.started_at < _YOUNG
