"""The agent is killed after its n-th change to the runtime, for every n, and starts anew.

While a service is created, replaced, rolled back and deleted; with its state folder kept or lost: in turn, or with --soak
each point both ways. It must converge to what the folder says, nothing twice, nothing left, the failed spec remembered;
what runs beside it is never touched. On Docker the blow falls between the engine's deed and its answer, so that each call
of the API is a point; on plain processes after each start, signal and record.
"""

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest

from agent.surface.client import NoAgent
from tests.fakes.deadly_wire import DeadlyWire
from tests.fakes.program import Program, eventually, program
from tests.shimlets.docker.conftest import image
from tools import demo

_ = image  # a fixture
MORTAL = Path(__file__).parent / "mortal"
BUSYBOX = "/bin/busybox"
COMMON = {
    "agent": {"rescanInterval": "2s", "resyncInterval": "2s"},
    "prune": {"fraction": 1.0, "window": "1s"},
    "policy": {"programs": [BUSYBOX]},
    "ports": {"range": "21000-21999"},  # else another test's agent may take the port of what is stopped for a moment
}
_MOST = 40  # points of one change; more than there are


class Docker:
    """Services as containers, with a deadly wire to the engine."""

    def __init__(self, agent: Program, wire: DeadlyWire, image: str, api: docker.APIClient) -> None:
        self.agent, self._wire, self._image, self._api = agent, wire, image, api

    def container(self, words: str) -> str:
        run = "exit 3" if words.startswith("bad") else "exec busybox httpd -f -p {port} -h /bin"
        return f'image: {self._image}, command: ["/bin/sh", "-c", "{run}"], port: 8080'

    def arm(self, after: int) -> None:
        assert self.agent.process is not None
        self._wire.arm(self.agent.process.pid, after)

    def running(self, name: str) -> dict[str, str]:
        """What there is of a service, by id, running or not."""
        labels = [f"xmod.dev/instance={self.agent.instance}", f"xmod.dev/service={name}"]
        return {c["Id"]: c["State"] for c in self._api.containers(all=True, filters={"label": labels})}


class Processes:
    """Services as processes, under an agent that dies of what it does to them."""

    def __init__(self, agent: Program, after: Path) -> None:
        self.agent, self._after = agent, after

    def container(self, words: str) -> str:
        tail = "'false'" if words.startswith("bad") else "httpd, -f, -p, '{host}:{port}', -h, /bin"
        return f"command: [{BUSYBOX}, {tail}], port: 8080"

    def arm(self, after: int) -> None:
        self._after.write_text(str(after))

    def running(self, name: str) -> dict[str, str]:
        found = {}
        for pid in demo.groups(self.agent.instance):
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
                if f"XMOD_SERVICE={name}".encode() in words:
                    found[str(pid)] = "running"
        return found


def spec(world: Docker | Processes, name: str, words: str) -> str:
    return (
        f"apiVersion: xmod.dev/v1\nkind: DeploySpec\nmetadata: {{name: {name}}}\nspec:\n"
        f"  container: {{{world.container(words)}, health: {{tcp: true, startupDeadline: 10s, interval: 200ms}}}}\n"
        f"  env: [{{key: WORDS, value: {words}}}]\n"
    )


@pytest.fixture(
    params=[
        "in turn",
        pytest.param("state kept", marks=pytest.mark.soak),
        pytest.param("state lost", marks=pytest.mark.soak),
    ]
)
def loses(request: pytest.FixtureRequest) -> Callable[[int], bool]:
    """Whether the state folder is lost with the agent that dies at the n-th point."""
    return {"in turn": lambda n: n % 2 == 0, "state kept": lambda _: False, "state lost": lambda _: True}[request.param]


@pytest.fixture
def on_docker(image: str, tmp_path: Path) -> Iterator[Docker]:
    with (
        DeadlyWire(tmp_path / "docker.sock") as wire,
        contextlib.closing(docker.APIClient(version="1.41", timeout=20)) as api,
        program("docker", COMMON | {"shimlets": {"docker": {"host": f"unix://{tmp_path}/docker.sock"}}}) as agent,
    ):
        yield Docker(agent, wire, image, api)


@pytest.fixture
def on_processes(tmp_path: Path) -> Iterator[Processes]:
    after = tmp_path / "after"
    with program("process", COMMON | {"shimlets": {"process": {"stopGrace": 2}}}) as agent:
        agent._environment |= {"PYTHONPATH": str(MORTAL), "MORTAL_AFTER": str(after)}
        yield Processes(agent, after)


@pytest.mark.docker
@pytest.mark.timeout(300)
def test_killed_at_any_call_of_the_engine_the_agent_converges(on_docker: Docker, loses: Callable[[int], bool]) -> None:
    assert Killing(on_docker, loses).all() > 15


@pytest.mark.timeout(300)
def test_killed_at_any_change_of_processes_the_agent_converges(
    on_processes: Processes, loses: Callable[[int], bool]
) -> None:
    assert Killing(on_processes, loses).all() > 15


class Killing:
    """One world, one way to lose the state; `kills`: how often the agent was killed."""

    def __init__(self, world: Docker | Processes, loses: Callable[[int], bool]) -> None:
        self._world = world
        self._agent = world.agent
        self._loses = loses
        self._lost = False  # at this point
        self._kills = 0

    def all(self) -> int:
        """Every point of every change; how many there were."""
        self._write("other", "good")
        self._agent.start()
        self._agent.serving("other")
        other = self._world.running("other")
        self._at_every_point(self._create_and_delete)
        self._write("web", "good")
        self._agent.serving("web")
        self._at_every_point(self._replace)
        self._at_every_point(self._roll_back)
        assert self._world.running("other") == other, "what runs beside it was touched"
        return self._kills

    @property
    def _remembers(self) -> bool:
        """What was stopped or failed is still known: of processes, the state folder alone knows it."""
        return isinstance(self._world, Docker) or not self._lost

    def _at_every_point(self, change: Callable[[int], None]) -> None:
        for after in range(1, _MOST):
            before = self._kills
            self._lost = self._loses(after)
            change(after)
            if self._kills == before:
                return
        raise AssertionError(f"there is no end of points in {change.__name__}")

    def _create_and_delete(self, after: int) -> None:
        self._do(after, lambda: self._write("web", "good"), self._serves)
        assert list(self._world.running("web").values()) == ["running"]
        self._do(after, (self._agent.specs / "web.yaml").unlink, self._gone)

    def _replace(self, after: int) -> None:
        before = self._world.running("web")
        self._do(after, lambda: self._write("web", f"good-{after}"), self._serves)
        eventually(lambda: len(self._world.running("web")) == 1, f"after {after}: the old one is gone")
        assert self._world.running("web").keys().isdisjoint(before)

    def _roll_back(self, after: int) -> None:
        if not self._world.running("web"):  # see _rolled_back
            self._do(0, lambda: self._write("web", f"again-{after}"), self._serves)
        before = {pid for pid, state in self._world.running("web").items() if state == "running"}
        self._do(after, lambda: self._write("web", f"bad-{after}"), self._rolled_back)
        there = self._world.running("web")
        if isinstance(self._world, Docker):
            assert sorted(there.values()) == ["exited", "running"], f"after {after}: {there}"
            assert {found for found, state in there.items() if state == "running"} == before
        else:
            assert len(there) == 1 or not self._remembers, f"after {after}: {there}"
        if self._remembers:
            self._restart()
            eventually(lambda: self._rolled_back(""), "the failed spec is remembered")
            assert self._world.running("web") == there, f"after {after}: the failed spec was tried again"

    def _do(self, after: int, change: Callable[[], object], holds: Callable[[str], bool]) -> None:
        """Make a change; if the agent is killed by it, start it anew; wait for what must hold in the end."""
        wanted = self._agent.service("web").get("wanted", "")
        self._world.arm(after)
        change()
        deadline = time.monotonic() + 30
        assert self._agent.process is not None
        while self._agent.process.poll() is None and not self._now(holds, wanted):
            assert time.monotonic() < deadline, f"after {after}: {self._agent.status()}"
            time.sleep(0.02)
        self._world.arm(0)
        if self._agent.process.poll() is not None:
            assert self._agent.process.returncode == -signal.SIGKILL, self._agent.output.read_text()[-3000:]
            self._kills += 1
            self._restart(killed=True)
        try:
            eventually(lambda: holds(wanted), f"after {after}: it converges", 30)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self._agent.service('web')}, {self._world.running('web')}") from error

    def _now(self, holds: Callable[[str], bool], wanted: str) -> bool:
        """Whether it holds; the agent may be killed while it is asked."""
        with contextlib.suppress(NoAgent):
            return holds(wanted)
        return False

    def _restart(self, *, killed: bool = False) -> None:
        if not killed:
            self._agent.stop(signal.SIGKILL)
        if self._lost:
            shutil.rmtree(self._agent.root / "state", ignore_errors=True)
        self._agent.start()

    def _serves(self, former: str) -> bool:
        """It is Ready as its file says now, and not as it said before."""
        seen = self._agent.service("web")
        return bool(seen) and seen["phase"] == "Ready" and seen["wanted"] == seen["routed"] != former

    def _gone(self, _: str) -> bool:
        return not self._agent.service("web") and not self._world.running("web")

    def _rolled_back(self, former: str) -> bool:
        """Back to the old one, or where nobody knows of it any more, back to nothing."""
        seen = self._agent.service("web")
        if not seen or seen["wanted"] == former:
            return False
        if not self._remembers and seen["converged"]["reason"] == "Burnt":
            return not self._world.running("web")
        return bool(seen["converged"]["reason"] == "RolledBack" and seen["serving"]["holds"])

    def _write(self, name: str, words: str) -> None:
        new = self._agent.specs / f".{name}.new"
        new.write_text(spec(self._world, name, words))
        os.replace(new, self._agent.specs / f"{name}.yaml")  # noqa: PTH105 as an editor does
