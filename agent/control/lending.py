"""What goals are lent: the host's ledger, router, dial and secrets, or a shimlet's own instead.

`control` knows the host only by these Protocols; the daemon hands in what answers to them.
"""

from dataclasses import dataclass
from typing import Protocol

from agent.contracts import Dial, Digest, Images, Ledger, Ownership, Router, Secrets, ServiceName, Shimlet


class HostLedger(Ledger, Protocol):
    """The host's ledger, which also drops claims."""

    def keep_only(self, name: ServiceName, digest: Digest | None) -> None:
        """Claims for other digests of this service are void."""


class HostRouter(Router, Protocol):
    """The host's router, which also forgets."""

    def forget(self, name: ServiceName) -> None:
        """The service is gone."""


class HostDial(Dial, Protocol):
    """The host's dial, which also forgets."""

    def forget(self, name: ServiceName, keep: Digest | None = None) -> None:
        """Nobody wants to know about this service's replicas any more, but those of `keep`."""


@dataclass(frozen=True, slots=True)
class Host:
    """What this host lends to goals of local shimlets."""

    ledger: HostLedger
    router: HostRouter
    dial: HostDial
    secrets: Secrets

    def forget(self, name: ServiceName) -> None:
        """Nothing of the service is wanted or left."""
        self.ledger.keep_only(name, None)
        self.router.forget(name)
        self.dial.forget(name)


@dataclass(frozen=True, slots=True)
class Facets:
    """A shimlet's abilities: its own, else this host's if it is local, else None."""

    images: Images | None
    ledger: Ledger | None
    router: Router | None
    dial: Dial | None
    ownership: Ownership | None


def facets_of(shimlet: Shimlet, host: Host) -> Facets:
    """What goals on this shimlet are handed. Asking for a Protocol is slow: ask once."""
    lent = host if shimlet.local else None
    return Facets(
        images=shimlet if isinstance(shimlet, Images) else None,
        ledger=shimlet if isinstance(shimlet, Ledger) else lent.ledger if lent is not None else None,
        router=shimlet if isinstance(shimlet, Router) else lent.router if lent is not None else None,
        dial=shimlet if isinstance(shimlet, Dial) else lent.dial if lent is not None else None,
        ownership=shimlet if isinstance(shimlet, Ownership) else None,
    )
