"""Which calls bring a generation to exactly the wanted replicas; pure.

A replica is its index. One that no longer fits (another port, devices, bind address or secrets, or a drift that cannot be
mended in place) is first stopped, and only an apply that finds it stopped removes it and makes the new one: that one takes
over its image. Nothing is done to a container that is being stopped. Stops come first, then what makes room, then starts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from agent.contracts import Fate, Placement, Service
from shimlets.docker import naming
from shimlets.docker.arguments import Engine, Json
from shimlets.docker.observing import Detail, Drift, Found, drift, fate


class Verb(IntEnum):
    """What can be done, in the order in which it is done."""

    STOP = 0
    RETIRE = 1  # stop, then remove
    REMOVE = 2
    RENAME = 3
    UNPAUSE = 4
    UPDATE = 5
    CONNECT = 6
    START = 7
    CREATE = 8


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do. `id`: to which container; `placement`: of the replica to create; `name`: what it is to be called."""

    verb: Verb
    id: str = ""
    placement: Placement | None = None
    update: Json = field(default_factory=dict)
    name: str = ""


@dataclass(frozen=True, slots=True)
class There:
    """What there is of a generation. `containers`: oldest first; `details`: of those that run; `stopping`: ids."""

    owner: str
    engine: Engine
    containers: Sequence[Found]
    details: Mapping[str, Detail]
    stopping: frozenset[str]

    @property
    def fate(self) -> Fate:
        """What became of it so far."""
        return fate(self.containers)

    def afresh(self, wanted: Mapping[int, Placement]) -> bool:
        """It failed and is wanted again, and not merely shrunk."""
        live = {one.placement.index for one in self.containers if one.holds and one.id not in self.stopping}
        return bool(wanted) and self.fate is Fate.FAILED and live <= wanted.keys()


def steps(
    there: There, service: Service, placements: Sequence[Placement], same_secrets: Callable[[str], bool]
) -> list[Step]:
    """What to do so that exactly these replicas run. `same_secrets`: whether a seal was made of the secrets of now."""
    wanted = {placement.index: placement for placement in placements}
    afresh = there.afresh(wanted)
    todo: list[Step] = []
    for index in sorted(wanted.keys() | {one.placement.index for one in there.containers}):
        here = [one for one in there.containers if one.placement.index == index]
        placement = wanted.get(index)
        if placement is None:
            kept = index < service.replicas and not afresh
            todo += [step for one in here for step in _unwanted(there, one, kept=kept)]
            continue
        chosen, extra = _choose(there, here)
        todo += [step for one in extra for step in _unwanted(there, one, kept=False)]
        create = Step(Verb.CREATE, placement=placement, name=_new_name(there, service, index, afresh=afresh))
        if chosen is None:
            todo.append(create)
        elif chosen.id not in there.stopping:
            again = afresh and chosen.fate is Fate.FAILED
            fits = not again and _fits(chosen, service, placement, same_secrets)
            todo += _brought_up(there, chosen, create, fits=fits)
    return sorted(todo, key=lambda step: step.verb)


def _choose(there: There, here: Sequence[Found]) -> tuple[Found | None, list[Found]]:
    """The container that is the replica, and any others that claim to be (someone renamed the first)."""
    best = sorted(here, key=lambda one: (one.holds, one.id in there.stopping), reverse=True)
    return (best[0], best[1:]) if best else (None, [])


def _unwanted(there: There, one: Found, *, kept: bool) -> list[Step]:
    if one.word == "removing" or (kept and (one.id in there.stopping or not one.holds)):
        return []
    if kept:
        return [Step(Verb.STOP, one.id)]
    return [Step(Verb.RETIRE if one.holds else Verb.REMOVE, one.id)]


def _fits(one: Found, service: Service, placement: Placement, same_secrets: Callable[[str], bool]) -> bool:
    published = placement.port is None or one.service.bind == service.bind
    return one.placement == placement and published and same_secrets(one.seal)


def _brought_up(there: There, one: Found, create: Step, *, fits: bool) -> list[Step]:
    if one.word == "removing":
        return []
    seen = there.details.get(one.id)
    drifted = drift(one, seen, owner=there.owner, engine=there.engine) if seen is not None else Drift()
    if not fits or drifted.anew or one.word == "dead":
        return [Step(Verb.STOP, one.id)] if one.holds else [Step(Verb.REMOVE, one.id), create]
    todo = _named_right(there, one)
    if drifted.paused:
        todo.append(Step(Verb.UNPAUSE, one.id))
    if drifted.update:
        todo.append(Step(Verb.UPDATE, one.id, update=drifted.update))
    if drifted.unplugged:
        todo.append(Step(Verb.CONNECT, one.id))
    if not one.holds:
        todo.append(Step(Verb.START, one.id))
    return todo


def _named_right(there: There, one: Found) -> list[Step]:
    """A name that somebody changed is changed back: it carries the fate."""
    names = naming.every_name(there.owner, one.service.name, one.service.digest, index=one.placement.index)
    if one.name in names:
        return []
    name = _new_name(there, one.service, one.placement.index, afresh=False)
    return [Step(Verb.RENAME, one.id, name=name)]


def _new_name(there: There, service: Service, index: int, *, afresh: bool) -> str:
    became = Fate.NEW if afresh else there.fate
    return naming.container_name(there.owner, service.name, service.digest, index=index, fate=became)
