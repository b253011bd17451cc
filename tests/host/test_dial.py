"""The dial over real sockets: what an answer is, how soon it is seen, and that nobody waits for it."""

import http.server
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Self

import pytest

from agent.clock import SystemClock
from agent.contracts import Check, Digest, Health, Placement, Replica, Service, ServiceName, State, Transient
from agent.host.dial import Dialer
from tests.fakes.agent import service
from tests.fakes.clock import VirtualClock


@dataclass
class Server:
    """Answers on loopback as it is told; counts the questions."""

    status: int = 200
    behave: Callable[[http.server.BaseHTTPRequestHandler], None] | None = None
    asked: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                if outer.behave is not None:
                    outer.behave(self)
                    return
                self.send_response(outer.status)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            do_POST = do_GET  # noqa: N815 - the library's name

            def log_message(self, *args: object) -> None:
                """Be quiet."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


@dataclass
class Woken:
    """Who was woken."""

    names: list[ServiceName] = field(default_factory=list)
    news: threading.Event = field(default_factory=threading.Event)

    def __call__(self, name: ServiceName) -> None:
        self.names.append(name)
        self.news.set()


@pytest.fixture
def woken() -> Woken:
    return Woken()


@pytest.fixture
def dial(woken: Woken) -> Iterator[Dialer]:
    dialer = Dialer(clock=SystemClock(), wake=woken, workers=4)
    yield dialer
    dialer.close()


def checked(**check: object) -> Service:
    plain = service("web")
    options = {"interval": 0.05, "timeout": 0.5, **check}
    return replace(plain, workload=replace(plain.workload, check=Check(**options)))  # type: ignore[arg-type]


def at(address: str, started: datetime | None = None, index: int = 0) -> Replica:
    return Replica(Placement(index), State.RUNNING, started_at=started, address=address)


def until(told: Callable[[], Health | None], wanted: Callable[[Health], bool], seconds: float = 5.0) -> Health:
    """Ask until the answer is as wanted."""
    end = time.monotonic() + seconds
    last = None
    while time.monotonic() < end:
        last = told()
        if last is not None and wanted(last):
            return last
        threading.Event().wait(0.005)
    raise AssertionError(f"within {seconds} s it only said {last}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_nothing_is_known_before_the_first_answer_and_nobody_waits(dial: Dialer) -> None:
    with Server(behave=lambda handler: time.sleep(0.3)) as server:
        began = time.monotonic()
        assert dial.health(checked(path="/"), at(server.address)) is None
        assert time.monotonic() - began < 0.1


def test_an_answer_wakes_the_service_and_is_told(dial: Dialer, woken: Woken) -> None:
    with Server() as server:
        assert dial.health(checked(path="/health"), at(server.address)) is None
        assert woken.news.wait(5)
        assert dial.health(checked(path="/health"), at(server.address)) == Health(answered=True)
        assert server.asked == ["/health"]
        assert woken.names == ["web"]


@pytest.mark.parametrize(
    ("status", "answered", "loading", "words"),
    [
        (200, True, False, ""),
        (204, True, False, ""),
        (301, True, False, ""),
        (503, False, True, "says 503: loading"),
        (404, False, False, "says 404"),
        (500, False, False, "says 500"),
    ],
)
def test_what_a_status_means(dial: Dialer, status: int, answered: bool, loading: bool, words: str) -> None:
    with Server(status) as server:
        found = until(lambda: dial.health(checked(path="/h"), at(server.address)), lambda health: True)
        assert (found.answered, found.loading) == (answered, loading)
        assert words in found.message


def test_a_code_that_means_loading_is_the_specs(dial: Dialer) -> None:
    with Server(425) as server:
        check = checked(path="/h", loading=(425,))
        assert until(lambda: dial.health(check, at(server.address)), lambda health: True).loading


def test_a_refused_connection_means_not_yet(dial: Dialer) -> None:
    address = f"127.0.0.1:{free_port()}"
    for check in (checked(path="/"), checked(tcp=True)):
        found = until(lambda check=check: dial.health(check, at(address)), lambda health: True)  # type: ignore[misc]
        assert (found.answered, found.loading) == (False, True)
        assert "refuses connections" in found.message


def test_a_tcp_check_only_connects(dial: Dialer) -> None:
    with Server() as server:
        assert until(lambda: dial.health(checked(tcp=True), at(server.address)), lambda health: True).answered
        assert server.asked == []


@pytest.mark.parametrize("address", ["", "nonsense", "127.0.0.1:", "127.0.0.1:99999", "[::1]:1"])
def test_an_address_that_is_none_is_no_answer(dial: Dialer, address: str) -> None:
    for check in (checked(path="/"), checked(tcp=True)):
        found = until(lambda check=check: dial.health(check, at(address)), lambda health: True)  # type: ignore[misc]
        assert not found.answered


def test_what_does_not_answer_in_time_is_told_so(dial: Dialer) -> None:
    release = threading.Event()
    with Server(behave=lambda handler: release.wait(10)) as server:  # type: ignore[arg-type,return-value]
        try:
            check = checked(path="/", timeout=0.1)
            found = until(lambda: dial.health(check, at(server.address)), lambda health: True)
            assert (found.answered, found.loading) == (False, False)
            assert "no answer in time" in found.message
        finally:
            release.set()


def test_a_body_that_never_ends_holds_nobody_up(dial: Dialer) -> None:
    """A stream of events is an answer, too."""
    release = threading.Event()

    def trickle(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not release.wait(0.05):
            try:
                handler.wfile.write(b".")
            except OSError:
                return

    with Server(behave=trickle) as server:
        try:
            found = until(lambda: dial.health(checked(path="/"), at(server.address)), lambda health: True, 2.0)
            assert found.answered
        finally:
            release.set()


def test_what_talks_something_else_is_no_answer(dial: Dialer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def talk() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"220 smtp ready\r\n")

        thread = threading.Thread(target=talk)
        thread.start()
        found = until(
            lambda: dial.health(checked(path="/", interval=60.0), at(f"127.0.0.1:{listener.getsockname()[1]}")),
            lambda health: True,
        )
        thread.join(5)
        assert not found.answered
        assert found.message


def test_what_does_not_answer_yet_is_asked_again_until_it_does(dial: Dialer, woken: Woken) -> None:
    with Server(503) as server:
        check = checked(path="/", interval=0.05)
        failing = until(lambda: dial.health(check, at(server.address)), lambda health: health.failures >= 3)
        assert failing.loading
        server.status = 200
        woken.news.clear()
        assert woken.news.wait(5), "without being asked again"
        assert dial.health(check, at(server.address)) == Health(answered=True)


def test_a_fast_service_is_seen_at_once_although_its_interval_is_long(dial: Dialer) -> None:
    port = free_port()
    check = checked(path="/", interval=30.0)
    replica = at(f"127.0.0.1:{port}")
    until(lambda: dial.health(check, replica), lambda health: not health.answered)
    began = time.monotonic()

    class Quiet(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Be quiet."""

    with http.server.HTTPServer(("127.0.0.1", port), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            until(lambda: dial.health(check, replica), lambda health: health.answered)
        finally:
            server.shutdown()
            thread.join(5)
    assert time.monotonic() - began < 3


def test_the_same_answer_wakes_nobody_twice(dial: Dialer, woken: Woken) -> None:
    with Server(500) as server:
        check = checked(path="/", interval=0.02)
        until(lambda: dial.health(check, at(server.address)), lambda health: health.failures >= 8)
        assert woken.names == ["web"]


def test_what_answered_is_believed_until_it_was_silent_three_times(woken: Woken) -> None:
    clock = VirtualClock()
    dial = Dialer(clock=clock, wake=woken)
    heard: list[Health] = []
    try:
        with Server() as server:
            check, replica = checked(path="/", interval=0.02), at(server.address)
            until(lambda: dial.health(check, replica), lambda health: health.answered)
            server.status = 500

            def later() -> Health | None:
                clock.advance(10)
                found = dial.health(check, replica)
                if found is not None and (not heard or heard[-1] != found):
                    heard.append(found)
                return found

            until(later, lambda health: not health.answered)
    finally:
        dial.close()
    assert heard[-1].failures >= 3  # it may have been asked once more before we looked
    assert all(health.answered == (health.failures < 3) for health in heard)
    assert woken.names[-1] == "web"


def test_what_answers_is_not_pestered(dial: Dialer) -> None:
    with Server() as server:
        check = checked(path="/", interval=0.02)
        until(lambda: dial.health(check, at(server.address)), lambda health: health.answered)
        for _ in range(50):
            dial.health(check, at(server.address))
            threading.Event().wait(0.002)
        assert len(server.asked) == 1


def test_a_replica_that_started_anew_is_asked_anew(dial: Dialer) -> None:
    with Server() as server:
        check = checked(path="/")
        first, second = (datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2))
        until(lambda: dial.health(check, at(server.address, first)), lambda health: health.answered)
        assert dial.health(check, at(server.address, None)) == Health(answered=True), "a list does not tell the time"
        assert dial.known(check, at(server.address, second)) is None
        assert dial.health(check, at(server.address, second)) is None
        until(lambda: dial.health(check, at(server.address, second)), lambda health: health.answered)


def test_another_check_or_address_is_another_question(dial: Dialer) -> None:
    with Server() as server:
        until(lambda: dial.health(checked(path="/a"), at(server.address)), lambda health: health.answered)
        assert dial.health(checked(path="/b"), at(server.address)) is None
        assert dial.health(checked(path="/b"), at("127.0.0.1:1")) is None


def test_what_is_forgotten_is_asked_no_more(dial: Dialer, woken: Woken) -> None:
    with Server(500) as server:
        web = checked(path="/", interval=0.02)
        other = replace(web, digest=Digest("other"))
        for each in (web, other):
            until(lambda each=each: dial.health(each, at(server.address)), lambda health: True)  # type: ignore[misc]
        dial.forget(web.name, web.digest)
        assert dial.known(other, at(server.address)) is None
        assert dial.known(web, at(server.address)) is not None
        dial.forget(web.name)
        assert dial.known(web, at(server.address)) is None
        woken.names.clear()
        count = len(server.asked)
        threading.Event().wait(0.2)
        assert len(server.asked) <= count + 1, "one may have been on its way"
        assert woken.names == []


def test_many_that_hang_do_not_keep_the_others_waiting_for_ever(dial: Dialer) -> None:
    release = threading.Event()
    with Server(behave=lambda handler: release.wait(10)) as hung, Server() as good:  # type: ignore[arg-type,return-value]
        try:
            slow = checked(path="/", timeout=0.2, interval=5.0)
            for index in range(8):
                dial.health(replace(slow, name=ServiceName(f"slow{index}")), at(hung.address))
            until(lambda: dial.health(checked(path="/"), at(good.address)), lambda health: health.answered)
        finally:
            release.set()


# Asking.


def test_asking_waits_for_the_answer(dial: Dialer) -> None:
    with Server(418) as server:
        assert dial.ask(at(server.address), "POST", "/v1/x", b"{}", 2.0) == (418, b"ok")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "", "nonsense"])
def test_asking_nobody_is_transient(dial: Dialer, address: str) -> None:
    with pytest.raises(Transient):
        dial.ask(at(address), "GET", "/", b"", 0.2)


def test_a_closed_dial_ends_its_threads(woken: Woken) -> None:
    dialer = Dialer(clock=SystemClock(), wake=woken)
    with Server() as server:
        dialer.health(checked(path="/"), at(server.address))
        assert woken.news.wait(5)
        dialer.close()
        assert dialer._timer is not None
        dialer._timer.join(5)
        assert not dialer._timer.is_alive()
        dialer.health(checked(path="/other"), at(server.address))  # whoever still looks is not hurt


def test_a_probe_that_hangs_does_not_hold_up_the_end_of_the_program() -> None:
    program = """
from datetime import UTC, datetime
from tests.host.test_dial import *
with socket.create_server(("127.0.0.1", 0)) as deaf:
    dial = Dialer(clock=SystemClock(), wake=lambda name: None)
    dial.health(checked(path="/", timeout=60.0), at(f"127.0.0.1:{deaf.getsockname()[1]}"))
    connection, _ = deaf.accept()
    dial.close()
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=20)
