"""Giving a service up: when that may be, and what was said of it so far.

What is forgotten runs on and is nobody's. It would be created again at once, in conflict with itself, if a file still named
it; so a file that names it must be gone, or the service suspended. Nothing of this is kept: what was given up says so
in its world, and after a kill in between the operator asks again for the rest.
"""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from agent.contracts import ServiceName
from agent.control import suspension
from agent.control.intent import Intent, Remove
from agent.control.plan import Inputs, doubt_of, seen


@dataclass(frozen=True, slots=True)
class Giving:
    """A service that is being given up. `left`: what runs on so far; `done`: all of that, or why not."""

    left: list[str] = field(default_factory=list)
    done: Future[tuple[str, ...]] = field(default_factory=Future)


def refusal(name: ServiceName, inputs: Inputs, intent: Intent | None, known: Sequence[ServiceName]) -> str:
    """Why a service cannot be given up now, "" if it can."""
    desired, places = inputs.desired, seen(inputs.sights, name)
    if desired is None:
        return "the source was not read yet; try again in a moment"
    if not places:
        return f"nothing is there of a service {name}; there are: {', '.join(known) or 'none'}"
    for shimlet, _ in places:
        if inputs.sights[shimlet].error:
            return f"{name} cannot be given up while {shimlet} is out of sight: {inputs.sights[shimlet].error}"
    spec = desired.spec(name)
    doubt = doubt_of(desired, name, places[0][1])
    if suspension.why(inputs.words, name, spec, doubted=doubt is not None):
        return ""
    hint = f"it would be created again; take it out there, or first: xmod-agent suspend {name}"
    if name in desired.wanted and spec is not None:
        return f"{name} stands in {spec.service.file}:{spec.line}, {hint}"
    if doubt is not None:
        return f"{name} may stand in a file that is not in effect ({doubt.message}), {hint}"
    if isinstance(intent, Remove):
        return f"{name} is being removed; what is left of it stays after: xmod-agent suspend {name}"
    return ""
