"""A corner of the real engine for one test: its own owner, image, ports and cleaning up, whatever happened."""

import contextlib
import io
import json
import os
import random
import socket
import tarfile
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Self

import docker
import docker.errors

from agent.contracts import Generation, Placement, Replica, SecretRef, Service, ServiceName, State, Workload, XmodError
from shimlets.docker.shimlet import DockerShimlet
from tests.contract.shimlet_contract import (
    DIES,
    SECRETIVE,
    SERVES,
    SERVES_TOO,
    TALKS,
    rival_in_a_process,
    service_of,
    wait_until,
)

SOCKET = Path("/var/run/docker.sock")
SLEEP = "trap 'exit 0' TERM; while :; do sleep 0.1; done"
_APPLETS = ("sh", "httpd", "sleep", "echo", "cat", "false", "true", "ls")


def root_file_system(**files: bytes) -> bytes:
    """A tar of busybox and a few links to it, and what else is given."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        tar.add("/bin/busybox", "bin/busybox")
        for applet in _APPLETS:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return target.getvalue()


def import_image(api: docker.APIClient, tag: str, **files: bytes) -> str:
    """Make an image of busybox under that tag; its id."""
    repository, _, version = tag.rpartition(":")
    answer = api.import_image_from_data(root_file_system(**files), repository=repository, tag=version)
    return json.loads(answer.splitlines()[-1])["status"]


def free_port() -> int:
    """A port of this host that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(holds: Callable[[], object], what: str, patience: float = 15.0) -> Any:
    """Poll until it holds; what it gave."""
    deadline = time.monotonic() + patience
    while True:
        got = holds()
        if got:
            return got
        assert time.monotonic() < deadline, f"not within {patience} s: {what}"
        time.sleep(0.02)


class Silent:
    """A task that nobody cancels; remembers what was reported."""

    def __init__(self) -> None:
        self.reports: list[tuple[float, str]] = []

    def report(self, done: float, message: str) -> None:
        self.reports.append((done, message))


class DockerPlace:
    """Implements the contract suite's ContractPlace on a real engine."""

    patience = 20.0
    conflicts = True

    def __init__(self, state_dir: Path, image: str, host: str = f"unix://{SOCKET}") -> None:
        self.owner = f"t-{os.getpid()}-{random.randrange(16**6):06x}"
        self.host = host
        self.image = image
        self.state_dir = state_dir
        self.options: dict[str, Any] = {"host": host}
        self.api = docker.APIClient(base_url=host, timeout=20)
        self.shimlets: list[DockerShimlet] = []
        self.archives: set[str] = set()  # tags of archives that a test loaded

    def shimlet(self, owner: str | None = None) -> DockerShimlet:
        made = DockerShimlet(owner or self.owner, self.options, self.state_dir)
        self.shimlets.append(made)
        return made

    def workload(self, script: str, **fields: Any) -> Workload:
        fields = {"image": self.image, "command": ("/bin/sh", "-c", script)} | fields
        return Workload(**fields)

    def of(self, name: str, workload: Workload, **fields: Any) -> Service:
        return service_of(name, workload, shimlet="docker", goalset="service-deploy", source="test", **fields)

    def service(self, name: str, workload: str, replicas: int = 1) -> Service:
        serve = "exec /bin/httpd -f -p {port} -h /"
        talk = "n=1; while [ $n -le 30 ]; do echo line $n; n=$((n+1)); done; while :; do echo again; sleep 0.2; done"
        script = {
            SERVES: serve,
            SERVES_TOO: f"true; {serve}",
            TALKS: talk,
            DIES: "echo last words; exit 3",
            SECRETIVE: f": secretive; {serve}",
        }[workload]
        env = (("TOKEN", SecretRef("env", "TOKEN")),) if workload == SECRETIVE else ()
        options = '{"restart":"never","stopGrace":"2s"}'  # so that what died stays dead: docker restarts nothing here
        return self.of(name, self.workload(script, port=8080, env=env, options=options), replicas=replicas)

    def placement(self, index: int) -> Placement:
        return Placement(index, free_port())

    def step(self) -> None:
        time.sleep(0.05)

    def containers(self, name: str = "", *, owner: str = "") -> list[dict[str, Any]]:
        labels = [f"xmod.dev/instance={owner or self.owner}"] + [f"xmod.dev/service={name}"] * bool(name)
        return self.api.containers(all=True, filters={"label": labels})

    def remains(self, name: str) -> Collection[str]:
        return [one["Id"] for one in self.containers(name)]

    def kill(self, name: str) -> None:
        (one,) = [one for one in self.containers(name) if one["State"] == "running"]
        self.api.kill(one["Id"])

    def kill_if_running(self, name: str) -> None:
        for one in self.containers(name):
            if one["State"] == "running":
                self.api.kill(one["Id"])

    def stranger(self, service: Service, index: int) -> Callable[[], bool]:
        name = f"xmod-{self.owner}-{service.name}-{service.digest[:8]}-{index}"
        made = self.api.create_container(self.image, ["/bin/sleep", "600"], name=name)["Id"]
        self.api.start(made)
        before = self.api.inspect_container(made)

        def untouched() -> bool:
            now = self.api.inspect_container(made)
            return (now["State"], now["Name"]) == (before["State"], before["Name"])

        return untouched

    def text(self, name: str) -> str:
        seen = [self.api.inspect_container(one) for one in self.remains(name)]
        return repr([(one["Name"], one["Config"]["Labels"], one["Path"], one["Args"]) for one in seen])

    def rival(self, owner: str) -> contextlib.AbstractContextManager[str]:
        return rival_in_a_process("shimlets.docker.shimlet:DockerShimlet", owner, self.options, self.state_dir)

    def up(self, shimlet: DockerShimlet, service: Service, placements: list[Placement], **secrets: str) -> Generation:
        """Apply until exactly these run."""

        def there() -> bool:
            shimlet.apply(service, placements, secrets)
            return {r.placement for r in self.running(shimlet, service)} == set(placements)

        wait_until(self, there, f"{service.name} runs at {placements}")
        generation = shimlet.observe(service.name).generation(service.digest)
        assert generation is not None
        return generation

    def running(self, shimlet: DockerShimlet, service: Service) -> list[Replica]:
        generation = shimlet.observe(service.name).generation(service.digest)
        return [r for r in generation.replicas if r.state is State.RUNNING] if generation else []

    def one(self, shimlet: DockerShimlet, service: Service) -> Replica:
        """The only replica of that service's only generation."""
        (generation,) = shimlet.observe(service.name).generations
        (replica,) = generation.replicas
        return replica

    def remove_containers(self) -> None:
        for one in self.api.containers(all=True, filters={"name": [f"xmod-{self.owner}-"]}):
            with contextlib.suppress(docker.errors.APIError):
                self.api.remove_container(one["Id"], force=True, v=True)

    def clean(self) -> None:
        for shimlet in self.shimlets:
            shimlet.close()
        self.remove_containers()
        for owner in (self.owner, f"{self.owner}-other"):
            for net in self.api.networks(filters={"label": [f"xmod.dev/instance={owner}"]}):
                with contextlib.suppress(docker.errors.APIError):
                    self.api.remove_network(net["Id"])
            volumes = self.api.volumes(filters={"label": [f"xmod.dev/lock={owner}"]})["Volumes"] or []
            for volume in volumes:
                with contextlib.suppress(docker.errors.APIError):
                    self.api.remove_volume(volume["Name"])
        self.api.close()


class Watched:
    """A shimlet's watch in a thread: the names that it told, and how it ended."""

    def __init__(self, shimlet: DockerShimlet) -> None:
        self.names: list[ServiceName] = []
        self.stop = threading.Event()
        self.error: XmodError | None = None
        self._shimlet = shimlet
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            for name in self._shimlet.watch(self.stop):
                self.names.append(name)  # each as it comes
        except XmodError as error:
            self.error = error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join(5)
