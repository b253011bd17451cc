"""What an operator said, and what the gate must remember: kept across restarts, never needed to run anything.

Losing it costs suspensions, approvals, adoptions and pending restarts; nothing that runs is touched by that.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from agent.contracts import Digest, ServiceName
from agent.control.gate import Held


class UnknownNameError(LookupError):
    """A word that cannot be taken, most often about a service that does not exist; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Suspension:
    """An operator said that something is left as it is. `reason`: in the operator's own words, "" if none were given."""

    since: datetime
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Words:
    """All words in force.

    `approved`: held removals that were released. `adopted`: ids of sources whose services count as this one's.
    `restarts`: since when a service's replicas must have started. `rollouts`: services that may take what their spec
    resolves to now, in turn. `pruned`: removals allowed lately, for the budget; `removing`: those not done yet. `held`:
    removals that are held. `shimlets`: worlds in which something of ours may be. `identities`: what each source stood on
    when it was last read. What a spec said since its mark was written, because nothing that runs had to change for it:
    `protected`, if that differs; `agreed`: (spec digest, the digest that it resolved to); `hosts`: for which host it was
    read, if that differs. `relabelled`: the spec digest that a change of this host's name or labels brought, and that
    waits.

    `suspended`: services that are left as they are; `all_suspended`: all of them, those too that come later, but for
    `excepted`. `still`: suspended services, by word or by their spec, of which nothing is half done any more, and whether
    their spec said so when it could last be read. `retries`: when another try was asked for.
    """

    approved: frozenset[ServiceName] = frozenset()
    adopted: frozenset[str] = frozenset()
    restarts: Mapping[ServiceName, datetime] = field(default_factory=dict)
    rollouts: tuple[ServiceName, ...] = ()
    pruned: tuple[tuple[ServiceName, datetime], ...] = ()
    held: Mapping[ServiceName, Held] = field(default_factory=dict)
    removing: frozenset[ServiceName] = frozenset()
    shimlets: frozenset[str] = frozenset()
    identities: Mapping[str, str] = field(default_factory=dict)
    protected: Mapping[ServiceName, bool] = field(default_factory=dict)
    agreed: Mapping[ServiceName, tuple[Digest, Digest]] = field(default_factory=dict)
    hosts: Mapping[ServiceName, str] = field(default_factory=dict)
    relabelled: Mapping[ServiceName, Digest] = field(default_factory=dict)
    suspended: Mapping[ServiceName, Suspension] = field(default_factory=dict)
    all_suspended: Suspension | None = None
    excepted: frozenset[ServiceName] = frozenset()
    still: Mapping[ServiceName, bool] = field(default_factory=dict)
    retries: Mapping[ServiceName, datetime] = field(default_factory=dict)

    def without(self, name: ServiceName) -> "Words":
        """The service is gone: what was said of it is void, but its removal still counts against the budget."""
        return replace(
            self,
            approved=self.approved - {name},
            removing=self.removing - {name},
            restarts={n: at for n, at in self.restarts.items() if n != name},
            retries={n: at for n, at in self.retries.items() if n != name},
            rollouts=tuple(n for n in self.rollouts if n != name),
            held={n: held for n, held in self.held.items() if n != name},
            protected={n: said for n, said in self.protected.items() if n != name},
            agreed={n: digests for n, digests in self.agreed.items() if n != name},
            hosts={n: host for n, host in self.hosts.items() if n != name},
            relabelled={n: digest for n, digest in self.relabelled.items() if n != name},
            suspended={n: said for n, said in self.suspended.items() if n != name},
            excepted=self.excepted - {name},
            still={n: by_spec for n, by_spec in self.still.items() if n != name},
        )

    def rolled_out(self, name: ServiceName) -> "Words":
        """What its spec resolves to now is in effect: its rollout is through."""
        rollouts = tuple(n for n in self.rollouts if n != name)
        relabelled = {n: digest for n, digest in self.relabelled.items() if n != name}
        return replace(self, rollouts=rollouts, relabelled=relabelled)

    def to_plain(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "approved": sorted(self.approved),
            "adopted": sorted(self.adopted),
            "restarts": {name: at.isoformat() for name, at in sorted(self.restarts.items())},
            "retries": {name: at.isoformat() for name, at in sorted(self.retries.items())},
            "rollouts": list(self.rollouts),
            "pruned": [[name, at.isoformat()] for name, at in self.pruned],
            "removing": sorted(self.removing),
            "shimlets": sorted(self.shimlets),
            "identities": dict(sorted(self.identities.items())),
            "protected": dict(sorted(self.protected.items())),
            "agreed": {name: list(digests) for name, digests in sorted(self.agreed.items())},
            "hosts": dict(sorted(self.hosts.items())),
            "relabelled": dict(sorted(self.relabelled.items())),
            "held": {n: [h.reason, h.message, h.since.isoformat()] for n, h in sorted(self.held.items())},
            "suspended": {n: [s.since.isoformat(), s.reason] for n, s in sorted(self.suspended.items())},
            "allSuspended": [s.since.isoformat(), s.reason] if (s := self.all_suspended) else None,
            "excepted": sorted(self.excepted),
            "still": dict(sorted(self.still.items())),
        }

    @classmethod
    def from_plain(cls, data: Mapping[str, Any]) -> "Words":
        """Read what `to_plain` wrote. Raises ValueError, TypeError, KeyError or AttributeError if it is something else."""
        return cls(
            approved=frozenset(ServiceName(name) for name in data.get("approved", ())),
            adopted=frozenset(str(source) for source in data.get("adopted", ())),
            restarts={ServiceName(n): datetime.fromisoformat(at) for n, at in data.get("restarts", {}).items()},
            retries={ServiceName(n): datetime.fromisoformat(at) for n, at in data.get("retries", {}).items()},
            rollouts=tuple(ServiceName(name) for name in data.get("rollouts", ())),
            pruned=tuple((ServiceName(n), datetime.fromisoformat(at)) for n, at in data.get("pruned", ())),
            removing=frozenset(ServiceName(name) for name in data.get("removing", ())),
            shimlets=frozenset(str(name) for name in data.get("shimlets", ())),
            identities={str(source): str(identity) for source, identity in data.get("identities", {}).items()},
            protected={ServiceName(n): bool(said) for n, said in data.get("protected", {}).items()},
            agreed={ServiceName(n): (Digest(s), Digest(d)) for n, (s, d) in data.get("agreed", {}).items()},
            hosts={ServiceName(n): str(host) for n, host in data.get("hosts", {}).items()},
            relabelled={ServiceName(n): Digest(digest) for n, digest in data.get("relabelled", {}).items()},
            held={
                ServiceName(n): Held(reason, message, datetime.fromisoformat(since))
                for n, (reason, message, since) in data.get("held", {}).items()
            },
            suspended={ServiceName(n): _suspension(said) for n, said in data.get("suspended", {}).items()},
            all_suspended=_suspension(data["allSuspended"]) if data.get("allSuspended") is not None else None,
            excepted=frozenset(ServiceName(name) for name in data.get("excepted", ())),
            still={ServiceName(n): bool(by_spec) for n, by_spec in data.get("still", {}).items()},
        )


def _suspension(said: Any) -> Suspension:
    since, reason = said
    return Suspension(datetime.fromisoformat(since), str(reason))
