"""What a source's word is worth: what it was seen to hold since the agent started, as the gate is told."""

from dataclasses import dataclass

from agent.contracts import ServiceName
from agent.control.desired import DesiredState
from agent.control.gate import Evidence


@dataclass(slots=True)
class Sightings:
    """What the source was seen to hold since the agent started."""

    identity: str = ""
    first: bool = True
    replaced: bool = False
    alive: bool = False
    seen: frozenset[ServiceName] = frozenset()

    def note(self, desired: DesiredState, remembered: str) -> None:
        """One more snapshot. `remembered`: the identity that an earlier agent saw, "" if none is known."""
        if self.first:
            self.first = False
            self.replaced = remembered not in ("", desired.identity)
        elif desired.identity != self.identity:
            self.replaced, self.alive, self.seen = True, False, frozenset()
        self.identity = desired.identity
        names = desired.wanted.keys() | desired.doubts.keys()
        self.alive = self.alive or bool(names or desired.elsewhere)
        if not names <= self.seen:
            self.seen |= names

    def evidence(self, desired: DesiredState, adopted: frozenset[str]) -> Evidence:
        """For the gate, of a snapshot that was noted. `adopted`: ids of sources whose services count as its own."""
        return Evidence(
            source=desired.source,
            seen=self.seen,
            alive=self.alive,
            empty=not desired.wanted and not desired.doubts,
            replaced=self.replaced,
            unread=desired.unread,
            unexplained=desired.unexplained,
            adopted=adopted,
            elsewhere=desired.elsewhere,
            host=desired.host,
        )
