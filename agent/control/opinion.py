"""From a look to a Status: is it serving, is it converged, and why. Pure but for the dial, which is only asked what it knows.

Serving and converged are two truths: after a rollback a service serves, but is not what git says.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from agent.contracts import Achieved, Dial, Digest, Failed, Generation, Pending, State, Verdict
from agent.control import rollout
from agent.control.board import Phase, Status, Truth
from agent.control.intent import DIFFERS, ROLLOUT_WAITS, Forget, Intent, Keep, Remove, Run, lane
from agent.control.reconciler import REFUSED, Look
from agent.control.suspension import SUSPENDED

_BLOCKED = {
    SUSPENDED: "suspended",
    "SpecInvalid": "failed",
    "DuplicateName": "failed",
    "DependencyCycle": "failed",
    "DependencyMissing": "failed",
}
UNHEALTHY = "Unhealthy"
_AS_APPLIED = (DIFFERS, ROLLOUT_WAITS)  # notes of a service that is what its spec said when it was applied


def serving(look: Look, *, route: Digest | None, dial: Dial | None) -> tuple[Truth, Generation | None, int]:
    """Whether something answers, the generation that serves, and how many of its replicas do."""
    routed = rollout.routed(look.observed, route) if look.observed is not None else None
    if routed is None or not routed.live:
        return Truth(False, "NotServing", "nothing was proven to serve"), routed, 0
    check = routed.service.workload.check
    asks = dial if check.path or check.tcp else None
    answering, message = 0, ""
    running = [replica for replica in routed.live if replica.state is State.RUNNING]
    for replica in running:
        health = asks.health(routed.service, replica) if asks is not None and replica.ready is None else None
        if health is not None:
            answers, message = health.answered, health.message or message
        elif replica.ready is not None:
            answers, message = replica.ready, replica.message or message
        else:
            answers, message = asks is None, "it was not asked yet"
        answering += answers
    if answering:
        return Truth(True, "Serving"), routed, answering
    return Truth(False, UNHEALTHY, message), routed, 0


def status(
    look: Look,
    verdict: Verdict,
    *,
    truth: tuple[Truth, Generation | None, int],
    before: Status | None,
    now: datetime,
    wait: float | None,
    attempts: int,
    deadline: float,
) -> Status:
    """What is thought of a service after a look. `wait`: seconds until the next one; `deadline`: until it is stalled."""
    serves, routed, ready = truth
    wanted = look.intent.service if isinstance(look.intent, Run) else None
    wish = look.intent.wanted if isinstance(look.intent, Keep) else wanted
    converged = _converged(look, verdict)
    same = before is not None and wanted is not None and before.wanted == wanted.digest
    since = None if _in_effect(look.intent, routed) else _since(look.intent, converged, before, now)
    stalled = isinstance(verdict, Pending) and since is not None and (now - since).total_seconds() > deadline
    if stalled:
        converged = replace(converged, message=f"stalled: {converged.message or converged.reason}")
    shown = wanted or (routed.service if routed is not None else look.target or wish)
    walked = look.target or shown
    endpoints = _endpoints(routed) if serves.holds else ()
    return Status(
        name=look.name,
        phase=_phase(
            look.intent,
            converged,
            serves,
            verdict,
            worse=_hindered(look, serves, routed) or (_was_ready(before) and same),
        ),
        serving=serves,
        converged=converged,
        since=now,
        shimlet=lane(look.intent),
        goalset=look.goalset or (shown.goalset if shown is not None else ""),
        goal=look.goal,
        wanted=wish.digest if wish is not None else "",
        routed=routed.service.digest if routed is not None else "",
        routed_spec=routed.service.spec_digest if routed is not None else "",
        revision=walked.revision if walked is not None else "",
        file=shown.file if shown is not None else "",
        replicas=shown.replicas if shown is not None else 0,
        ready=ready,
        endpoints=endpoints,
        goals=tuple(look.goals),
        notices=_notices(look),
        wanted_since=since,
        next_try=None if wait is None or converged.holds else now + timedelta(seconds=wait),
        attempts=attempts,
        blocked=_blocked(look, converged),
        stalled=stalled,
    )


def queued(intent: Intent, before: Status | None, now: datetime) -> Status | None:
    """What is thought of a service whose intent just changed, before the first look; None: nothing to say yet."""
    if not isinstance(intent, Run) or intent.note:
        return None
    service = intent.service
    converged = Truth(False, "Queued", "a change was seen")
    if before is None:
        return Status(
            name=service.name,
            phase=Phase.PROGRESSING,
            serving=Truth(False, "NotServing", "it was not looked at yet"),
            converged=converged,
            since=now,
            shimlet=service.shimlet,
            goalset=service.goalset,
            wanted=service.digest,
            revision=service.revision,
            file=service.file,
            replicas=service.replicas,
            wanted_since=now,
        )
    return replace(
        before,
        phase=Phase.PROGRESSING,
        converged=converged,
        wanted=service.digest,
        replicas=service.replicas,
        wanted_since=before.wanted_since or now,
        blocked="none",
        since=now,
    )


def _converged(look: Look, verdict: Verdict) -> Truth:
    match verdict:
        case Achieved():
            run = look.intent
            if isinstance(run, Run) and run.note and run.note not in _AS_APPLIED:
                return Truth(False, run.note, run.message)
            gone = "Forgotten" if isinstance(run, Forget) else "Removed"
            return Truth(isinstance(run, Run), "Converged" if isinstance(run, Run) else gone)
        case Pending(reason=reason, message=message) | Failed(reason=reason, message=message):
            return Truth(False, reason, message)


def _since(intent: Intent, converged: Truth, before: Status | None, now: datetime) -> datetime | None:
    if converged.holds:
        return None
    if isinstance(intent, Keep) and intent.since is not None:
        return intent.since
    return before.wanted_since if before is not None and before.wanted_since is not None else now


def _in_effect(intent: Intent, routed: Generation | None) -> bool:
    """What is suspended is what git says all the same: nothing is behind."""
    wish = intent.wanted if isinstance(intent, Keep) and intent.reason == SUSPENDED else None
    if wish is None or routed is None:
        return False
    return routed.service.digest == wish.digest and len(routed.live) == wish.replicas


def _phase(intent: Intent, converged: Truth, serves: Truth, verdict: Verdict, *, worse: bool) -> Phase:
    if isinstance(intent, Remove):
        return Phase.REMOVING
    if isinstance(intent, Keep) and intent.reason == converged.reason == SUSPENDED:
        return Phase.SUSPENDED
    if isinstance(intent, Forget) or (isinstance(intent, Keep) and intent.reason != SUSPENDED):
        return Phase.KEPT
    if isinstance(verdict, Failed):
        return Phase.DEGRADED if serves.holds else Phase.FAILED
    if converged.reason == REFUSED and not worse:
        return Phase.KEPT
    if isinstance(verdict, Achieved):
        if isinstance(intent, Run) and intent.note and not converged.holds:
            return Phase.KEPT
        return Phase.READY if serves.holds else Phase.DEGRADED
    return Phase.DEGRADED if worse else Phase.PROGRESSING


def _hindered(look: Look, serves: Truth, routed: Generation | None) -> bool:
    """What is wanted serves already, and no goal is under way: something was refused, nothing comes up."""
    wanted = look.intent.service.digest if isinstance(look.intent, Run) else ""
    settled = serves.holds and routed is not None and routed.service.digest == wanted and not look.waits
    return settled and all(goal.verdict != "pending" for goal in look.goals)


def _was_ready(before: Status | None) -> bool:
    return before is not None and before.phase in (Phase.READY, Phase.DEGRADED)


def _blocked(look: Look, converged: Truth) -> str:
    if converged.holds:
        return "none"
    if converged.reason == REFUSED:
        return "policy"
    if look.burnt:
        return "failed"
    if isinstance(look.intent, Run):
        if "policy." in look.intent.message:
            return "policy"
        return _BLOCKED.get(look.intent.note, "none")
    if isinstance(look.intent, Keep):
        return _BLOCKED.get(look.intent.reason, "none" if look.intent.since is None else "held")
    return "none"


def _endpoints(routed: Generation | None) -> tuple[str, ...]:
    if routed is None:
        return ()
    scheme = "http" if routed.service.workload.check.path else "tcp"
    return tuple(f"{scheme}://{replica.address}" for replica in routed.live if replica.address)


def _notices(look: Look) -> tuple[str, ...]:
    notices = [g.notice for g in look.observed.generations if g.notice] if look.observed is not None else []
    if isinstance(look.intent, Run) and look.intent.note:
        notices.append(f"{look.intent.note}: {look.intent.message}")
    if isinstance(look.intent, Keep) and look.intent.settle and look.target is not None and not look.settled:
        notices.append(
            f"it was down in the midst of a change: it is suspended as soon as it serves: {look.intent.message}"
        )
    if look.waits:
        notices.append(f"the new version waits: {look.waits}")
    if look.burnt:
        notices.append(
            f"the wanted version is not tried again until its spec changes (or xmod-agent retry {look.name}): {look.burnt}"
        )
    return tuple(dict.fromkeys(notices))
