"""The one door to the engine: what its answers and its silence become. A small server on a unix socket plays the engine."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer

import pytest

from agent.contracts import Conflict, Permanent, Transient, XmodError
from shimlets.docker.engine import NEWEST, Engine, Invalid, Missing, PortTaken, Taken, refusal, translated

Answer = Callable[[str], tuple[int, bytes]]
VERSION = {"ApiVersion": "1.41", "MinAPIVersion": "1.12"}


class FakeEngine:
    """Answers what it is told to, over a real socket; counts connections. An unknown request is a loud 500."""

    def __init__(self, path: Path) -> None:
        self.host = f"unix://{path}"
        self.answers: dict[str, tuple[int, object]] = {"/version": (200, VERSION)}
        self.requests: list[str] = []
        self.connections = 0
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                fake.connections += 1
                super().setup()

            def do_GET(self) -> None:
                fake.requests.append(self.path)
                bare = "/" + self.path.split("/", 2)[2] if self.path.startswith("/v1") else self.path
                status, body = fake.answers.get(bare.partition("?")[0], (500, {"message": f"unknown: {self.path}"}))
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def address_string(self) -> str:
                return "unix"

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the signature is the library's
                return

        class Server(ThreadingUnixStreamServer):
            daemon_threads = True

        self.server = Server(str(path), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeEngine]:
    fake = FakeEngine(tmp_path / "d.sock")
    yield fake
    fake.close()


@pytest.fixture
def engine(fake: FakeEngine) -> Iterator[Engine]:
    engine = Engine(fake.host, 2.0)
    yield engine
    engine.close()


@pytest.mark.parametrize(
    ("status", "message", "kind", "reason"),
    [
        (400, "invalid mount config", Invalid, "Invalid"),
        (403, "network has active endpoints", Invalid, "Invalid"),
        (404, "No such container: x", Missing, "Missing"),
        (409, "The container name is already in use", Taken, "NameTaken"),
        (500, "Bind for 127.0.0.1:18080 failed: port is already allocated", PortTaken, "PortTaken"),
        (500, "listen tcp4 127.0.0.1:19124: bind: address already in use", PortTaken, "PortTaken"),
        (500, "write /x: no space left on device", Transient, "DiskFull"),
        (500, 'could not select device driver "nvidia"', Permanent, "NoDeviceDriver"),
        (500, "could not find an available, non-overlapping IPv4 address pool", Permanent, "NoAddressPool"),
        (500, "anything else", Transient, "EngineError"),
        (503, "anything else", Transient, "EngineError"),
    ],
)
def test_each_refusal_of_an_engine_is_one_of_ours(status: int, message: str, kind: type[XmodError], reason: str):
    error = refusal(status, message, "start web")
    assert (type(error), error.reason) == (kind, reason)
    assert str(error).startswith("docker: cannot start web: ")
    assert message in str(error)


def test_a_taken_port_is_named():
    assert "127.0.0.1:19124 is taken" in str(
        refusal(500, "listen tcp4 127.0.0.1:19124: bind: address already in use", "x")
    )
    assert issubclass(PortTaken, Conflict)


def test_a_socket_that_may_not_be_opened_says_what_to_do():
    error = translated(
        OSError("('Connection aborted.', PermissionError(13, 'Permission denied'))"), "list", host="unix:///x"
    )
    assert error.reason == "Denied"
    assert "add the agent's user to its group" in str(error)


def test_many_calls_are_one_connection(fake: FakeEngine, engine: Engine):
    for number in range(20):
        fake.answers[f"/containers/{number}/json"] = (200, {"Id": str(number)})
        assert engine.call("GET", f"/containers/{number}/json", "look")["Id"] == str(number)
    assert fake.connections == 1


@pytest.mark.parametrize(
    ("newest", "oldest", "spoken"),
    [("1.41", "1.12", "1.41"), ("1.44", "1.24", "1.44"), ("1.99", "1.44", ".".join(map(str, NEWEST)))],
)
def test_the_newest_version_that_both_know_is_spoken(
    fake: FakeEngine, engine: Engine, newest: str, oldest: str, spoken: str
):
    fake.answers |= {"/version": (200, {"ApiVersion": newest, "MinAPIVersion": oldest}), "/x": (200, {})}
    engine.call("GET", "/x", "look")
    assert fake.requests == ["/version", f"/v{spoken}/x"]


@pytest.mark.parametrize(("newest", "oldest"), [("1.24", "1.12"), ("1.99", "1.90")])
def test_an_engine_with_which_no_version_is_shared_is_permanent(
    fake: FakeEngine, engine: Engine, newest: str, oldest: str
):
    fake.answers["/version"] = (200, {"ApiVersion": newest, "MinAPIVersion": oldest})
    with pytest.raises(Permanent, match=f"the engine speaks API {oldest} to {newest}"):
        engine.call("GET", "/x", "look")


def test_an_engine_exchanged_for_an_older_one_is_spoken_to_anew(fake: FakeEngine, engine: Engine):
    fake.answers |= {"/version": (200, {"ApiVersion": "1.44", "MinAPIVersion": "1.24"}), "/x": (200, {})}
    engine.call("GET", "/x", "look")
    fake.answers |= {
        "/version": (200, VERSION),
        "/x": (400, {"message": "client version 1.44 is too new. Maximum supported API version is 1.41"}),
    }
    with pytest.raises(Transient, match="too new"):
        engine.call("GET", "/x", "look")
    fake.answers["/x"] = (200, {})
    engine.call("GET", "/x", "look")
    assert fake.requests[-1] == "/v1.41/x"


def test_what_answers_without_being_an_engine_is_transient(fake: FakeEngine, engine: Engine):
    fake.answers["/version"] = (200, {"hello": "world"})
    with pytest.raises(Transient, match="no Docker engine"):
        engine.call("GET", "/x", "look")
    fake.answers["/version"] = (200, b"<html>")
    with pytest.raises(Transient):
        engine.call("GET", "/x", "look")


def test_an_answer_that_is_not_json_is_transient(fake: FakeEngine, engine: Engine):
    fake.answers["/x"] = (200, b"<html>")
    with pytest.raises(Transient, match="cannot look: the answer is not JSON"):
        engine.call("GET", "/x", "look")


def test_an_error_that_is_not_json_is_told_as_it_is(fake: FakeEngine, engine: Engine):
    fake.answers["/x"] = (502, b"bad gateway")
    with pytest.raises(Transient, match="cannot look: bad gateway"):
        engine.call("GET", "/x", "look")


def test_no_engine_is_transient_with_its_address_and_cause(tmp_path: Path):
    engine = Engine(f"unix://{tmp_path}/nothing.sock", 1.0)
    with pytest.raises(Transient, match=r"cannot look: nothing answers at unix://.*nothing\.sock") as caught:
        engine.call("GET", "/x", "look")
    assert caught.value.reason == "Unreachable"
    assert isinstance(caught.value.__cause__, OSError)


def test_an_engine_that_says_nothing_is_hung(tmp_path: Path):
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "d.sock"))
        silent.listen()
        engine = Engine(f"unix://{tmp_path}/d.sock", 0.2)
        with pytest.raises(Transient, match="did not answer in time") as caught:
            engine.call("GET", "/x", "look")
        assert caught.value.reason == "Hung"
        engine.close()


def test_the_default_runtime_is_asked_for_once(fake: FakeEngine, engine: Engine):
    fake.answers["/info"] = (200, {"DefaultRuntime": "nvidia"})
    assert engine.known().runtime == "nvidia"
    assert engine.known().api == (1, 41)
    assert fake.requests.count("/v1.41/info") == 1


def test_a_stream_is_read_as_objects_however_it_is_cut(fake: FakeEngine, engine: Engine):
    fake.answers["/x"] = (200, b'{"a":1}\r\n{"b":2}\n\n{"c":3}')
    with engine.stream("GET", "/x", "read") as stream:
        assert list(stream.objects()) == [{"a": 1}, {"b": 2}, {"c": 3}]
    fake.answers["/y"] = (404, {"message": "no such thing"})
    with pytest.raises(Missing), engine.stream("GET", "/y", "read"):
        pass


def test_a_stream_that_is_hung_up_leaves_the_calls_of_others_alone(fake: FakeEngine, engine: Engine):
    fake.answers |= {"/s": (200, b'{"a":1}'), "/x": (200, {})}
    wrong: list[XmodError] = []

    def stream() -> None:
        with engine.stream("GET", "/s", "read") as stream:
            others = [threading.Thread(target=stream.hang_up) for _ in range(3)]
            for other in others:
                other.start()
            list(stream.chunks())
            for other in others:
                other.join()

    def call() -> None:
        engine.call("GET", "/x", "look")

    def many(do: Callable[[], None]) -> None:
        try:
            for _ in range(50):
                do()
        except XmodError as error:
            wrong.append(error)

    threads = [threading.Thread(target=many, args=(do,)) for do in (stream, call, stream, call)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
