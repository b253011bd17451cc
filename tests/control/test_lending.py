"""What goals are lent: a shimlet's own abilities first, this host's if the shimlet is local, else nothing."""

from unittest.mock import sentinel

from agent.contracts import Health
from agent.control.lending import Host, facets_of
from tests.fakes.memory import MemoryShimlet, World

HOST = Host(sentinel.ledger, sentinel.router, sentinel.dial, sentinel.secrets)


class OwnDial(MemoryShimlet):
    """A world that asks its replicas itself."""

    def health(self, service, replica):
        return Health(answered=True)

    def ask(self, replica, method, path, body, timeout):
        return 200, b""


def test_a_local_shimlet_is_lent_what_the_host_has() -> None:
    facets = facets_of(MemoryShimlet(World()), HOST)
    assert (facets.ledger, facets.router, facets.dial) == (sentinel.ledger, sentinel.router, sentinel.dial)
    assert facets.images is None


def test_a_remote_one_is_lent_nothing() -> None:
    facets = facets_of(MemoryShimlet(World(), local=False), HOST)
    assert (facets.ledger, facets.router, facets.dial, facets.images) == (None, None, None, None)


def test_its_own_ability_comes_first() -> None:
    for local in (True, False):
        shimlet = OwnDial(World(), local=local)
        assert facets_of(shimlet, HOST).dial is shimlet
