import pytest

from tests.fakes.operations import FakeOperations
from tests.fakes.surface import a_surface


@pytest.fixture
def operations():
    fake = FakeOperations()
    yield fake
    fake.hang.set()


@pytest.fixture
def folder(tmp_path_factory):
    """A folder with a short path: a socket's has at most 107 bytes."""
    return tmp_path_factory.mktemp("s")


@pytest.fixture
def surface(operations, folder):
    surface = a_surface(operations, folder)
    surface.start()
    yield surface
    surface.stop()
