"""An engine of its own, that a test may kill and hang: what the shimlet then says, and that it finds back."""

import contextlib
import logging
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from agent.contracts import Permanent, Placement, Service, State, Transient
from shimlets.docker import watching
from shimlets.docker.watching import service_of
from tests.shimlets.docker.world import SLEEP, DockerPlace, Watched, import_image, until

pytestmark = pytest.mark.docker


class PrivateEngine:
    """A dockerd that nobody else uses, with no network of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.host = f"unix://{root}/d.sock"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        (self.root / "d.pid").unlink(missing_ok=True)
        # in a network namespace of its own: a dockerd told to have no bridge removes docker0, whoever's it is
        argv = [
            "unshare",
            "--net",
            "dockerd",
            "-H",
            self.host,
            "--data-root",
            f"{self.root}/data",
            "--exec-root",
            f"{self.root}/exec",
        ]
        argv += ["--pidfile", f"{self.root}/d.pid", "--bridge=none", "--iptables=false", "--ip6tables=false"]
        with (self.root / "log").open("ab") as log:
            self.process = subprocess.Popen(argv, stdout=log, stderr=log)
        until(self.answers, f"dockerd answers: {(self.root / 'log').read_text()[-2000:]}", patience=60)

    def answers(self) -> bool:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(2)
            probe.connect(self.host.removeprefix("unix://"))
            probe.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b"200 OK" in probe.recv(1000)
        return False

    def send(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self) -> None:
        if self.process is None:
            return
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.send(signal.SIGKILL)
            self.process.wait()
        self.process = None

    def kill(self) -> None:
        """As an engine dies, and the containerd that it began with it; its containers live on until the next start."""
        containerd = int((self.root / "exec/containerd/containerd.pid").read_text())
        self.send(signal.SIGKILL)
        assert self.process is not None
        self.process.wait()
        os.kill(containerd, signal.SIGKILL)
        (self.root / "exec/containerd/containerd.pid").unlink()  # where nobody waits for orphans, its pid looks alive

    def end_children(self) -> None:
        """What a killed engine leaves: processes whose command line names our folder."""
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                if entry.name.isdigit() and str(self.root).encode() in (entry / "cmdline").read_bytes():
                    os.kill(int(entry.name), signal.SIGKILL)


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateEngine]:
    if os.geteuid() != 0 or not shutil.which("dockerd") or not shutil.which("unshare"):
        pytest.skip("a private engine needs root, dockerd and unshare")
    engine = PrivateEngine(tmp_path_factory.mktemp("engine"))
    try:
        engine.start()
        yield engine
    finally:
        engine.stop()
        engine.end_children()
        for line in Path("/proc/self/mounts").read_text().splitlines():
            if str(engine.root) in line:
                subprocess.run(["umount", "-l", line.split()[1]], check=False)


@pytest.fixture
def own(private: PrivateEngine, tmp_path: Path) -> Iterator[DockerPlace]:
    """A place on the private engine, which runs again whatever a test did to it."""
    private.send(signal.SIGCONT)
    if private.process is None or private.process.poll() is not None:
        private.start()
    api = docker.APIClient(private.host, timeout=20)
    with contextlib.closing(api):
        import_image(api, "mini:latest")
    place = DockerPlace(tmp_path, "mini:latest", private.host)
    yield place
    private.send(signal.SIGCONT)
    if private.process is None or private.process.poll() is not None:
        private.start()
    place.clean()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_BEAT", 0.5)
    monkeypatch.setattr(watching, "_PATIENCE", 1.0)


def service(place: DockerPlace) -> Service:
    return place.of("a", place.workload(SLEEP, options='{"network":"none"}'))


@pytest.mark.usefixtures("quick")
def test_a_dead_engine_ends_the_watch_is_transient_and_is_found_again_when_it_is_back(
    own: DockerPlace, private: PrivateEngine, caplog: pytest.LogCaptureFixture
):
    shimlet, one = own.shimlet(), service(own)
    own.up(shimlet, one, [Placement(0)])
    with Watched(shimlet) as watched:
        time.sleep(0.3)
        private.stop()
        until(lambda: not watched.thread.is_alive(), "the watch ends")
        assert watched.error is None, "it had sight, and lost it: the caller lists again"
    assert [record.reason for record in caplog.records if record.msg == "lost sight"] in (
        ["StreamEnded"],
        ["Unreachable"],
    )
    for call in (shimlet.list, lambda: shimlet.observe(one.name), lambda: shimlet.apply(one, [Placement(0)], {})):
        with pytest.raises(Transient, match=r"nothing answers at unix://.*is dockerd running") as caught:
            call()
        assert caught.value.reason == "Unreachable"
        assert caught.value.__cause__ is not None
    with pytest.raises(Transient):
        list(shimlet.watch(threading.Event()))
    private.start()
    until(lambda: own.one(shimlet, one).state is State.RUNNING, "the engine brought it back by itself")


@pytest.mark.usefixtures("quick")
def test_a_hung_engine_ends_the_watch_and_is_told_apart_from_a_dead_one(
    own: DockerPlace, private: PrivateEngine, caplog: pytest.LogCaptureFixture
):
    own.options["timeout"] = "1s"
    shimlet, one = own.shimlet(), service(own)
    own.up(shimlet, one, [Placement(0)])
    with Watched(shimlet) as watched:
        time.sleep(0.3)
        private.send(signal.SIGSTOP)
        until(lambda: not watched.thread.is_alive(), "the watch ends", patience=5)
        assert watched.error is None
    assert "Hung" in [record.reason for record in caplog.records if record.levelno == logging.WARNING]
    began = time.monotonic()
    with pytest.raises(Transient, match="did not answer in time") as caught:
        shimlet.list()
    assert caught.value.reason == "Hung"
    assert time.monotonic() - began < 3
    with pytest.raises(Transient) as caught:
        list(shimlet.watch(threading.Event()))
    assert caught.value.reason == "Hung"
    private.send(signal.SIGCONT)
    until(lambda: own.one(shimlet, one).state is State.RUNNING, "it is seen again")


@pytest.mark.usefixtures("quick")
def test_a_watch_on_a_hung_engine_obeys_stop_within_a_second(own: DockerPlace, private: PrivateEngine):
    shimlet = own.shimlet()
    shimlet.list()
    private.send(signal.SIGSTOP)
    watched = Watched(shimlet)
    time.sleep(0.2)
    began = time.monotonic()
    watched.stop.set()
    watched.thread.join(5)
    assert time.monotonic() - began < 1


@pytest.mark.usefixtures("quick")
def test_a_stream_that_ends_while_the_engine_lives_is_told_as_that(
    own: DockerPlace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    shimlet = own.shimlet()
    streams = []
    real = shimlet._engine.stream

    @contextlib.contextmanager
    def kept(*args: object, **request: object):
        with real(*args, **request) as stream:
            streams.append(stream)
            yield stream

    monkeypatch.setattr(shimlet._engine, "stream", kept)
    with Watched(shimlet) as watched:
        until(lambda: streams, "it reads")
        streams[0].hang_up()
        until(lambda: not watched.thread.is_alive(), "the watch ends")
    assert [record.reason for record in caplog.records if record.msg == "lost sight"] == ["StreamEnded"]


def test_a_killed_engine_leaves_the_marks_whole(own: DockerPlace, private: PrivateEngine):
    shimlet, one = own.shimlet(), service(own)
    own.up(shimlet, one, [Placement(0)])
    private.kill()
    private.start()
    again = own.shimlet()
    assert again.list()[one.name].generations[0].service == one
    own.up(again, one, [Placement(0)])
    assert len(own.remains("a")) == 1


def test_events_between_a_list_and_the_watch_are_told(own: DockerPlace):
    shimlet, one = own.shimlet(), service(own)
    shimlet.list()
    other = own.shimlet()
    own.up(other, one, [Placement(0)])
    with Watched(shimlet) as watched:
        until(lambda: "a" in watched.names, "what happened before is told")


@pytest.mark.usefixtures("quick")
def test_the_audit_tells_a_drift_that_no_event_told(own: DockerPlace, monkeypatch: pytest.MonkeyPatch):
    own.options["auditInterval"] = "0.2s"
    shimlet, one = own.shimlet(), service(own)
    own.up(shimlet, one, [Placement(0)])
    shimlet.list()
    monkeypatch.setattr(watching, "_ACTIONS", ("destroy",))  # so that the change below sends us no event
    with Watched(shimlet) as watched:
        time.sleep(0.8)
        assert watched.names == []
        own.api.update_container(own.remains("a")[0], restart_policy={"Name": "no", "MaximumRetryCount": 0})
        until(lambda: "a" in watched.names, "the audit tells it")


def test_an_engine_that_speaks_no_version_of_ours_is_permanent(own: DockerPlace, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("shimlets.docker.engine.OLDEST", (1, 99))
    with pytest.raises(Permanent, match="the engine speaks API"):
        own.shimlet().list()


@pytest.mark.parametrize("event", [{}, {"Actor": None}, {"Actor": {"Attributes": {"image": "x"}}}])
def test_an_event_about_nothing_of_ours_is_nobodys(event: dict[str, object]):
    assert service_of(event) is None
