"""Goals that take a service away, in the reverse order of its coming: drained stopped removed."""

from agent.contracts import Achieved, GoalContext, Pending, Verdict


class Drained:
    """The service's address leads nowhere any more."""

    name = "drained"

    def is_achieved(self, ctx: GoalContext) -> Verdict:
        """Holds where there is no router."""
        routed = ctx.router.routed(ctx.target.name) if ctx.router is not None else None
        return Pending("Draining") if routed is not None and routed.replicas else Achieved()

    def ensure(self, ctx: GoalContext) -> None:
        """Lead it nowhere."""
        if ctx.router is not None:
            ctx.router.route(ctx.target, ())


class Stopped:
    """No replica of any generation runs or is about to end."""

    name = "stopped"

    def is_achieved(self, ctx: GoalContext) -> Verdict:
        """Stopping is not stopped: its port and devices are still taken."""
        holding = [r for g in ctx.observed.generations for r in g.replicas if r.holds]
        return Pending("Stopping", f"{len(holding)} still running", retry_after=1.0) if holding else Achieved()

    def ensure(self, ctx: GoalContext) -> None:
        """Begin to stop what runs."""
        for generation in ctx.observed.generations:
            if generation.live:
                ctx.shimlet.apply(generation.service, (), {})


class Removed:
    """Nothing with our mark is left; volumes and models are."""

    name = "removed"

    def is_achieved(self, ctx: GoalContext) -> Verdict:
        """True absence, not merely asked for."""
        return Pending("Removing") if ctx.observed.generations else Achieved()

    def ensure(self, ctx: GoalContext) -> None:
        """Remove every generation."""
        for generation in ctx.observed.generations:
            ctx.shimlet.remove(ctx.target.name, generation.service.digest)
