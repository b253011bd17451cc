"""Part `docker`: the same 20 web servers by the agent, by the bare SDK and by docker-compose 1.29, in turn, in one run.

Identical: image, command, port on loopback, init, restart policy, log rotation, one bridge network. What is timed ends
with the engine's own `start` event of the last container that was to start, for all of them.
* agent: begins when the last file was renamed into place; the agent runs already, as a daemon does.
* sdk: four threads that already hold a connection: the floor. A change is stop, create, start, then remove.
* compose: `docker-compose up -d`, Python's start included, as its user waits for it.
"""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, Self

import docker
import docker.errors
import requests
from docker.types import LogConfig

from bench import specs
from bench.agent_process import AgentProcess, Failure
from bench.idle import MEMORY, resident
from bench.table import Row, median
from bench.workplace import Workplace

SERVICES = 20
ONE_CHANGE, COLD = 1.3, 1.0  # DESIGN §11; equal runs differ by some 5 %, so read the spread beside a miss
_PORTS = 21000
_LABEL = "dev.xmod.bench"
_BUSYBOX = Path("/bin/busybox")
_WITHIN = 120.0  # seconds
_COMMAND = ["/bin/busybox", "httpd", "-f", "-p", "8080", "-h", "/"]
_LOGS = {"max-size": "10m", "max-file": "3"}
_NAMES = [f"web-{number:02d}" for number in range(SERVICES)]


class Contender(Protocol):
    """Brings 20 services up and changes one; each returns the wall-clock time (ns) at which it was asked to."""

    label: str

    def open(self) -> None: ...

    def cold(self) -> int: ...

    def change(self, name: str, word: str) -> int: ...

    def close(self) -> None: ...


def run(place: Workplace, *, quick: bool) -> Iterator[Row]:
    client = _client()
    image = f"xmod-bench:{place.run}"
    rounds, changes = (1, 3) if quick else (4, 6)
    makers: dict[str, Callable[[int], Contender]] = {
        "agent": lambda turn: AgentContender(place, image, turn),
        "sdk": lambda turn: SdkContender(client, place, image, turn),
    }
    if shutil.which("docker-compose"):
        makers["compose"] = lambda turn: ComposeContender(place, image, turn)
    else:
        print("docker-compose is not installed and not compared: apt-get install docker-compose", file=sys.stderr)
    sizes: list[float] = []
    detections: list[float] = []
    cold: dict[str, list[float]] = {name: [] for name in makers}
    one: dict[str, list[float]] = {name: [] for name in makers}
    with contextlib.ExitStack() as cleanup:
        cleanup.callback(_clean, client, place.run)
        _import_image(client, image)
        starts = cleanup.enter_context(Starts(place.run))
        for turn in range(rounds):
            for name, maker in makers.items():
                contender = maker(turn)
                with contextlib.ExitStack() as round_:
                    round_.callback(_clean, client, contender.label)
                    round_.callback(contender.close)
                    contender.open()
                    cold[name].append(starts.time(contender.cold, contender.label, SERVICES))
                    for number in range(changes):
                        _settle(client, contender.label)
                        change = _changer(contender, number)
                        one[name].append(starts.time(change, contender.label, 1))
                    _settle(client, contender.label)
                if isinstance(contender, AgentContender):
                    sizes.append(contender.megabytes)
                    detections.append(contender.detection)
    yield from _rows(f"{SERVICES} services, cold", cold, COLD)
    yield from _rows(f"one change among {SERVICES}", one, None)
    seen = median(detections)
    yield Row(
        "the same, less detection",
        median(one["agent"]) - seen,
        "s",
        against=median(one["sdk"]),
        peer="bare SDK",
        limit=ONE_CHANGE,
        note=f"detection {1000 * seen:.0f} ms, as the agent measured it",
    )
    yield Row(f"resident at {SERVICES} Docker services", max(sizes), "MiB", limit=MEMORY)


def _changer(contender: Contender, number: int) -> Callable[[], int]:
    return lambda: contender.change(_NAMES[(7 * number + 3) % SERVICES], f"changed-{number}")


def _rows(what: str, times: Mapping[str, list[float]], limit: float | None) -> Iterator[Row]:
    agent = median(times["agent"])
    note = f"median of {len(times['agent'])}, {min(times['agent']):.2f}–{max(times['agent']):.2f}"
    yield Row(what, agent, "s", against=median(times["sdk"]), peer="bare SDK", limit=limit, note=note)
    if "compose" in times:
        yield Row(what, agent, "s", against=median(times["compose"]), peer="docker-compose", limit=COLD)


class AgentContender:
    """The agent, as a daemon."""

    def __init__(self, place: Workplace, image: str, turn: int) -> None:
        self.label = place.name(f"agent{turn}")
        self._image = image
        self._agent = AgentProcess(place.folder("agent"), shimlet="docker", instance=self.label)
        self.megabytes = 0.0
        self.detection = 0.0  # seconds from a file written to its being seen, on average

    def open(self) -> None:
        self._agent.__enter__()

    def cold(self) -> int:
        beside = [(name, specs.web_service(name, image=self._image, port=_port(name, 0))) for name in _NAMES]
        for name, text in beside:
            specs.put(self._agent.specs, name, text)
        return time.time_ns()

    def change(self, name: str, word: str) -> int:
        specs.put(self._agent.specs, name, specs.web_service(name, image=self._image, port=_port(name, 0), word=word))
        return time.time_ns()

    def close(self) -> None:
        if self._agent.runs:
            self.megabytes = resident(self._agent.pid)
            self.detection = self._agent.mean("xmod_detection_lag_seconds")
        self._agent.__exit__()


class SdkContender:
    """The same calls from a script, with four threads."""

    def __init__(self, client: docker.APIClient, place: Workplace, image: str, turn: int) -> None:
        self.label = place.name(f"sdk{turn}")
        self._client = client
        self._image = image
        self._ids: dict[str, str] = {}
        self._pool = ThreadPoolExecutor(4)

    def open(self) -> None:
        self._client.create_network(self.label, driver="bridge", labels={_LABEL: self.label})

    def cold(self) -> int:
        began = time.time_ns()
        list(self._pool.map(self._start, _NAMES))
        return began

    def change(self, name: str, word: str) -> int:
        began = time.time_ns()
        old = self._ids[name]
        self._client.containers(all=True, filters={"label": f"{_LABEL}={self.label}"})
        self._client.stop(old, timeout=10)
        self._start(name, word)
        self._client.remove_container(old)
        return began

    def close(self) -> None:
        self._pool.shutdown()

    def _start(self, name: str, word: str = "") -> None:
        host = self._client.create_host_config(
            init=True,
            network_mode=self.label,
            port_bindings={8080: ("127.0.0.1", _port(name, 1))},
            restart_policy={"Name": "unless-stopped"},
            log_config=LogConfig(type="json-file", config=_LOGS),
            security_opt=["no-new-privileges"],
        )
        made = self._client.create_container(
            self._image,
            name=f"{self.label}-{name}-{word or 'first'}",
            entrypoint=_COMMAND,
            environment={"WORD": word},
            labels={_LABEL: self.label},
            ports=[8080],
            host_config=host,
        )
        self._client.start(made["Id"])
        self._ids[name] = made["Id"]


class ComposeContender:
    """Debian's docker-compose on one file."""

    def __init__(self, place: Workplace, image: str, turn: int) -> None:
        self.label = place.name(f"compose{turn}")
        self._folder = place.folder("compose")
        self._image = image
        self._words = dict.fromkeys(_NAMES, "")

    def open(self) -> None:
        """Nothing runs before `up`."""

    def cold(self) -> int:
        return self._up()

    def change(self, name: str, word: str) -> int:
        self._words[name] = word
        return self._up()

    def close(self) -> None:
        """Its containers go by their label."""

    def _up(self) -> int:
        services = {name: self._service(name) for name in _NAMES}
        networks = {"default": {"labels": {_LABEL: self.label}}}
        document = {"version": "2.4", "services": services, "networks": networks}
        (self._folder / "docker-compose.yml").write_text(json.dumps(document))  # JSON is YAML
        began = time.time_ns()
        command = ["docker-compose", "--project-name", self.label, "up", "--detach"]
        done = subprocess.run(command, cwd=self._folder, capture_output=True, text=True, timeout=_WITHIN, check=False)
        if done.returncode:
            raise Failure(f"docker-compose: {done.stderr[-2000:]}")
        return began

    def _service(self, name: str) -> Mapping[str, Any]:
        return {
            "image": self._image,
            "entrypoint": _COMMAND,
            "environment": {"WORD": self._words[name]},
            "init": True,
            "labels": {_LABEL: self.label},
            "logging": {"driver": "json-file", "options": _LOGS},
            "ports": [f"127.0.0.1:{_port(name, 2)}:8080"],
            "restart": "unless-stopped",
            "security_opt": ["no-new-privileges"],
        }


class Starts:
    """Follows the engine's `start` events; their time is the engine's own, so that nobody's polling is in it."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._client = _client()
        self._came = threading.Condition()
        self._times: dict[str, list[int]] = {}
        self._stream: Any = None

    def __enter__(self) -> Self:
        self._stream = self._client.events(decode=True, filters={"type": "container", "event": "start"})
        threading.Thread(target=self._follow, name="starts", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def time(self, act: Callable[[], int], label: str, count: int) -> float:
        """Seconds from when it was asked for until the last of `count` containers started."""
        with self._came:
            self._times[label] = []
        began = act()
        with self._came:
            if not self._came.wait_for(lambda: len(self._times[label]) >= count, _WITHIN):
                raise Failure(f"{label}: {len(self._times[label])} of {count} containers started in {_WITHIN:g} s")
            return (self._times[label][count - 1] - began) / 1e9

    def _follow(self) -> None:
        with contextlib.suppress(requests.RequestException, docker.errors.DockerException, ValueError, OSError):
            for event in self._stream:
                labels = event["Actor"]["Attributes"]
                label = labels.get("xmod.dev/instance") or labels.get(_LABEL) or ""
                with self._came:
                    if label.startswith(self._run):
                        self._times.setdefault(label, []).append(event["timeNano"])
                        self._came.notify_all()


def _settle(client: docker.APIClient, label: str) -> None:
    """Wait until exactly the 20 run and nothing else is left: what follows a change must not slow the next."""
    deadline = time.monotonic() + _WITHIN
    while time.monotonic() < deadline:
        there = _containers(client, label)
        if len(there) == SERVICES and all(one["State"] == "running" for one in there):
            time.sleep(0.5)
            return
        time.sleep(0.1)
    states = sorted(f"{one['Names'][0]} {one['State']}" for one in _containers(client, label))
    raise Failure(f"{label} did not come to rest: {', '.join(states)}")


def _containers(client: docker.APIClient, label: str) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = client.containers(all=True)
    return [one for one in found if _owner(one).startswith(label)]


def _owner(thing: Mapping[str, Any]) -> str:
    labels = thing.get("Labels") or {}
    for key in ("xmod.dev/instance", _LABEL, "xmod.dev/lock"):
        if key in labels:
            return str(labels[key])
    return ""


def _clean(client: docker.APIClient, label: str) -> None:
    """Remove all that this run, or one round of it, has made; never anything else."""
    for one in _containers(client, label):
        with contextlib.suppress(docker.errors.APIError):
            client.remove_container(one["Id"], force=True, v=True)
    for one in client.networks():
        if _owner(one).startswith(label):
            with contextlib.suppress(docker.errors.APIError):
                client.remove_network(one["Id"])
    for one in client.volumes()["Volumes"] or []:
        if _owner(one).startswith(label):
            with contextlib.suppress(docker.errors.APIError):
                client.remove_volume(one["Name"])
    with contextlib.suppress(docker.errors.APIError):
        client.remove_image(f"xmod-bench:{label}", force=True)


def _client() -> docker.APIClient:
    try:
        client = docker.APIClient(version="1.41", timeout=60, num_pools=50)
        client.ping()
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise Failure(f"no Docker engine answers: {error}") from error
    return client


def _import_image(client: docker.APIClient, tag: str) -> None:
    """An image of a static busybox: nothing needs to be pulled."""
    if not _BUSYBOX.exists():
        raise Failure(f"no {_BUSYBOX}: apt-get install busybox-static")
    blob = io.BytesIO()
    with tarfile.open(fileobj=blob, mode="w") as tar:
        tar.add(_BUSYBOX, "bin/busybox")
    name, _, version = tag.partition(":")
    client.import_image_from_data(blob.getvalue(), repository=name, tag=version)


def _port(name: str, contender: int) -> int:
    """Of its own for each contender, so that none waits for another's."""
    return _PORTS + 100 * contender + 1000 * (os.getpid() % 7) + int(name.removeprefix("web-"))
