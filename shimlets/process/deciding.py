"""What apply has to do; pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from agent.contracts import Placement, Service, State
from shimlets.process.observing import Seen
from shimlets.process.recording import Wish


@dataclass(frozen=True, slots=True)
class Steps:
    """`drop`: stop and forget. `stop`: stop and keep. `clear`: end twins, or what a leader that is gone left behind.

    `start`: nothing lives in its place. `afresh`: a failed generation is tried again and is NEW.
    """

    drop: tuple[int, ...] = ()
    stop: tuple[int, ...] = ()
    clear: tuple[int, ...] = ()
    start: tuple[Placement, ...] = ()
    afresh: bool = False


def steps(
    service: Service,
    placements: Sequence[Placement],
    seen: Mapping[int, Seen],
    *,
    failed: bool,
    same_secrets: Callable[[str], bool],
) -> Steps:
    """From what is seen of a generation, by index, to exactly these placements.

    A failed generation that is merely shrunk stays failed. What still stops is asked to stop again, which is nothing
    while someone sees to it, and takes it up when an earlier agent began it.
    """
    wanted = {placement.index: placement for placement in placements}
    live = {i for i, s in seen.items() if s.state in (State.STARTING, State.RUNNING)}
    afresh = failed and bool(wanted) and live <= wanted.keys()
    drop = {i for i in seen if i not in wanted and (i >= service.replicas or seen[i].wish is Wish.REMOVE)}
    stop = {i for i, s in seen.items() if s.state is State.STOPPING} - drop
    for i in live - drop:
        s = seen[i]
        fits = wanted.get(i) == s.placement and s.service.bind == service.bind
        if afresh or not fits or not same_secrets(s.seal):
            stop.add(i)
    clear = {i for i, s in seen.items() if s.twins or (s.state is State.EXITED and s.rest)} - drop - stop
    start = tuple(wanted[i] for i in sorted(wanted) if i not in seen or not seen[i].processes)
    return Steps(tuple(sorted(drop)), tuple(sorted(stop)), tuple(sorted(clear)), start, afresh)
