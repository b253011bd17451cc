import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import docker
import docker.errors
import pytest

from shimlets.docker.shimlet import DockerShimlet
from tests.shimlets.docker.world import SOCKET, DockerPlace, import_image


@pytest.fixture(scope="session")
def image() -> Iterator[str]:
    """An image of busybox in the real engine."""
    api = docker.APIClient(base_url=f"unix://{SOCKET}", timeout=20)
    tag = f"xmod-test-{os.getpid()}:latest"
    import_image(api, tag)
    yield tag
    with contextlib.suppress(docker.errors.APIError):
        api.remove_image(tag, force=True)
    api.close()


@pytest.fixture
def place(tmp_path: Path, image: str) -> Iterator[DockerPlace]:
    place = DockerPlace(tmp_path, image)
    yield place
    place.clean()


@pytest.fixture
def shimlet(place: DockerPlace) -> DockerShimlet:
    return place.shimlet()
