"""The Docker shimlet keeps the contract of all shimlets, on a real engine."""

import pytest

from tests.contract.shimlet_contract import ShimletContract
from tests.shimlets.docker.world import DockerPlace

pytestmark = pytest.mark.docker


class TestDockerShimlet(ShimletContract):
    @pytest.fixture
    def place(self, place: DockerPlace) -> DockerPlace:
        return place
