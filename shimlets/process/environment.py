"""The mark of a process: variables in its own environment, which the kernel shows and nobody else can write.

Every descendant inherits them. XMOD_PID, which the starting shell sets to its own pid before it becomes the program,
tells the leader from them; XMOD_RUN, new at each start, tells this run from an earlier one whose pid was used again.
Whose it is: XMOD_INSTANCE within XMOD_UID, so that two users' agents of one instance do not see each other's.
"""

from dataclasses import dataclass

from agent.contracts import Placement, Service, decode

MARK, INSTANCE, UID, SERVICE, SECRETS, RUN, PID, STARTED = (
    "XMOD_MARK",
    "XMOD_INSTANCE",
    "XMOD_UID",
    "XMOD_SERVICE",
    "XMOD_SECRETS",
    "XMOD_RUN",
    "XMOD_PID",
    "XMOD_STARTED",
)


@dataclass(frozen=True, slots=True)
class Carried:
    """What a process carries. `seal`: of its secrets. `leader`: its pid as it says itself, 0 while the shell has not said it.

    `started`: seconds since the epoch. `text`: the mark as written.
    """

    service: Service
    placement: Placement
    text: str
    seal: str
    run: str
    leader: int
    started: float


def carried(block: bytes, *, owner: str, uid: int) -> Carried | None:
    """Read an environment block as the kernel shows it; None: not this owner's. ValueError: a broken mark."""
    if INSTANCE.encode() not in block:
        return None
    words = (word.partition("=") for word in block.decode(errors="surrogateescape").split("\0"))
    found = {key: value for key, _, value in words if key.startswith("XMOD_")}
    if found.get(INSTANCE) != owner or found.get(UID) != str(uid):
        return None
    service, placement = decode(found.get(MARK, ""))
    return Carried(
        service=service,
        placement=placement,
        text=found[MARK],
        seal=found.get(SECRETS, ""),
        run=found.get(RUN, ""),
        leader=int(found.get(PID, "0")),
        started=float(found.get(STARTED, "0")),
    )


def mark_of(carrying: Carried, *, owner: str, uid: int) -> dict[str, str]:
    """The variables that make a process carry this; XMOD_PID is the shell's to set."""
    return {
        MARK: carrying.text,
        INSTANCE: owner,
        UID: str(uid),
        SERVICE: carrying.service.name,
        SECRETS: carrying.seal,
        RUN: carrying.run,
        STARTED: f"{carrying.started:.3f}",
    }
