"""Real processes pass the one contract suite over every shimlet."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.shimlet_contract import ShimletContract
from tests.shimlets.process.place import ProcessPlace


class TestProcessShimlet(ShimletContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Iterator[ProcessPlace]:
        with ProcessPlace(tmp_path) as place:
            yield place
