import pytest
from typer.testing import CliRunner

from agent.cli import app
from tests.fakes.operations import FakeOperations
from tests.fakes.surface import a_surface


@pytest.fixture
def operations():
    fake = FakeOperations()
    yield fake
    fake.hang.set()


@pytest.fixture
def surface_of_agent(operations, tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("c")
    surface = a_surface(operations, folder)
    surface.start()
    monkeypatch.setenv("XMOD_AGENT__SOCKET", str(folder / "run" / "t.sock"))
    yield surface
    surface.stop()


@pytest.fixture
def agent(operations, surface_of_agent):
    """A running agent's surface; the CLI finds its socket through the environment."""
    return operations


@pytest.fixture
def xmod(monkeypatch):
    """Call the program in this process, word by word."""
    monkeypatch.setenv("COLUMNS", "120")

    def call(*words, stdin=None):
        return CliRunner().invoke(app, [str(word) for word in words], input=stdin)

    return call
