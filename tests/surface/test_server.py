"""The surface, over real sockets."""

import http.client
import json
import os
import resource
import socket
import stat
import time

import pytest

from agent.clock import SystemClock
from agent.surface.client import Client, Declined, NoAgent
from agent.surface.metrics import Metrics
from agent.surface.server import Surface
from agent.surface.socket_file import CannotListen
from tests.fakes.operations import FakeOperations, eventually


@pytest.fixture
def operations():
    fake = FakeOperations()
    yield fake
    fake.hang.set()


@pytest.fixture
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("s")


def a_surface(operations, folder, **more):
    metrics = Metrics(clock=SystemClock(), shimlets=("process",))
    metrics.observe(operations.view)
    options = {"bind": "127.0.0.1", "port": 0, "socket": folder / "run" / "t.sock"} | more
    return Surface(operations, metrics, **options)


@pytest.fixture
def surface(operations, folder):
    surface = a_surface(operations, folder)
    surface.start()
    yield surface
    surface.stop()


def get(surface, path, host="localhost", method="GET"):
    connection = http.client.HTTPConnection("127.0.0.1", surface.port, timeout=10)
    try:
        connection.request(method, path, headers={"host": host})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_health_is_what_the_agent_says_of_itself(surface, operations):
    assert get(surface, "/healthz") == (200, b'{"status":"healthy"}')
    operations.why_not_alive = "source thread: no heartbeat for 95 s"
    code, body = get(surface, "/healthz")
    assert code == 503
    assert json.loads(body)["reason"] == "source thread: no heartbeat for 95 s"


def test_readiness_is_told_apart_from_health(surface, operations):
    operations.why_not_ready = "the source was not read yet"
    assert get(surface, "/readyz")[0] == 503
    assert get(surface, "/healthz")[0] == 200


def test_status_is_the_whole_view_as_json(surface):
    code, body = get(surface, "/api/v1/status")
    view = json.loads(body)
    assert code == 200
    assert [service["name"] for service in view["services"]] == ["qwen", "slow"]
    assert view["services"][0]["phase"] == "Ready"
    assert view["source"]["invalid"][0]["path"] == "bad.yaml"


def test_status_of_one_service_names_only_it(surface):
    view = json.loads(get(surface, "/api/v1/status?name=slow")[1])
    assert [service["name"] for service in view["services"]] == ["slow"]
    assert view["held"] == []
    assert get(surface, "/api/v1/status?name=nobody")[0] == 404


def test_metrics_are_prometheus_text(surface):
    code, body = get(surface, "/metrics")
    assert code == 200
    assert b'xmod_service_serving{service="qwen"} 1.0' in body


def test_the_public_address_takes_no_words(surface, operations):
    assert get(surface, "/local/v1/restart/qwen", method="POST")[0] == 404
    assert get(surface, "/local/v1/logs/qwen")[0] == 404
    assert get(surface, "/api/v1/status", method="POST")[0] == 405
    assert operations.words == []


def test_on_loopback_other_host_names_are_refused_against_dns_rebinding(surface):
    assert get(surface, "/api/v1/status", host="evil.example")[0] == 421
    assert get(surface, "/api/v1/status", host="evil.example:8080")[0] == 421
    for name in (f"localhost:{surface.port}", "127.0.0.1", "[::1]:80", "LOCALHOST"):
        assert get(surface, "/api/v1/status", host=name)[0] == 200


def test_a_remote_agent_may_be_asked_by_any_name(operations, folder):
    surface = a_surface(operations, folder, bind="0.0.0.0", allow_remote=True)
    surface.start()
    try:
        assert get(surface, "/healthz", host="gpu-7.example:8080")[0] == 200
    finally:
        surface.stop()


def test_words_reach_the_agent_over_the_socket(surface, operations, folder):
    client = Client(folder / "run" / "t.sock")
    assert client.approve_prune([]) == ["old"]
    client.restart("qwen")
    assert client.rollout(["qwen"]) == ["qwen"]
    assert client.rollout([]) == ["qwen", "slow"]
    assert client.adopt("src-0") == 2
    client.rescan()
    assert operations.words == [
        ("approve",),
        ("restart", "qwen"),
        ("rollout", "qwen"),
        ("rollout",),
        ("adopt", "src-0"),
        ("rescan",),
    ]


def test_a_refused_word_brings_its_sentence(surface, folder):
    client = Client(folder / "run" / "t.sock")
    with pytest.raises(Declined, match="qwen: its removal is not held") as caught:
        client.approve_prune(["qwen"])
    assert not caught.value.unknown
    with pytest.raises(Declined, match="no service is called nobody") as caught:
        client.restart("nobody")
    assert caught.value.unknown


def test_a_rollout_must_name_services_or_all(surface, folder):
    with pytest.raises(Declined, match="name the services"):
        Client(folder / "run" / "t.sock")._ask("POST", "/local/v1/rollout", {})


def test_an_unknown_field_of_a_word_is_refused(surface, operations, folder):
    with pytest.raises(Declined, match="422"):
        Client(folder / "run" / "t.sock")._ask("POST", "/local/v1/approve-prune", {"nmaes": ["old"]})
    assert operations.words == []


def test_logs_are_streamed_and_end(surface, folder):
    client = Client(folder / "run" / "t.sock")
    assert list(client.logs("qwen", 2)) == ["two", "three"]
    assert list(client.logs("qwen", 0)) == []


def test_many_log_lines_arrive_whole_and_in_order(surface, operations, folder):
    operations.lines = [f"line {n}" for n in range(50_000)]
    assert list(Client(folder / "run" / "t.sock").logs("qwen", 50_000)) == operations.lines


def test_errors_of_logs_are_errors_not_lines(surface, folder):
    client = Client(folder / "run" / "t.sock")
    with pytest.raises(Declined, match="no service is called nobody"):
        list(client.logs("nobody", 5))
    with pytest.raises(Declined, match="slow has no replica yet"):
        list(client.logs("slow", 5))


def test_followed_logs_bring_news_and_end_when_the_reader_leaves(surface, operations, folder):
    lines = Client(folder / "run" / "t.sock").logs("qwen", 1, follow=True)
    assert next(lines) == "three"
    operations.news.set()
    assert next(lines) == "news"
    lines.close()
    assert eventually(lambda: operations.followers == 0)


def test_followed_logs_end_when_the_agent_stops(surface, operations, folder):
    lines = Client(folder / "run" / "t.sock").logs("qwen", 1, follow=True)
    assert next(lines) == "three"
    began = time.monotonic()
    surface.stop()
    assert time.monotonic() - began < 4
    with pytest.raises((StopIteration, NoAgent)):
        next(lines)
    assert operations.followers == 0


def test_the_socket_is_for_its_owner_alone(surface, folder):
    socket_mode = (folder / "run" / "t.sock").stat().st_mode
    assert stat.S_ISSOCK(socket_mode)
    assert stat.S_IMODE(socket_mode) == 0o600
    assert stat.S_IMODE((folder / "run").stat().st_mode) == 0o700


def test_the_socket_is_gone_after_a_stop(operations, folder):
    surface = a_surface(operations, folder)
    surface.start()
    surface.stop()
    assert not (folder / "run" / "t.sock").exists()
    assert not surface.running


def test_a_second_agent_of_the_instance_is_refused_and_the_first_goes_on(surface, operations, folder):
    with pytest.raises(CannotListen, match="another agent of this instance is running"):
        a_surface(operations, folder).start()
    assert Client(folder / "run" / "t.sock").status()["instance"] == "t"


def test_a_socket_left_behind_by_a_killed_agent_is_replaced(operations, folder):
    (folder / "run").mkdir(mode=0o700)
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(folder / "run" / "t.sock"))
    left.close()
    surface = a_surface(operations, folder)
    surface.start()
    try:
        assert Client(folder / "run" / "t.sock").status()["instance"] == "t"
    finally:
        surface.stop()


def test_a_file_in_the_sockets_place_is_not_removed(operations, folder):
    (folder / "run").mkdir(mode=0o700)
    (folder / "run" / "t.sock").write_text("mine")
    with pytest.raises(CannotListen, match="no socket is there"):
        a_surface(operations, folder).start()
    assert (folder / "run" / "t.sock").read_text() == "mine"


def test_a_folder_that_others_can_write_is_refused(operations, folder):
    (folder / "run").mkdir()
    (folder / "run").chmod(0o777)
    with pytest.raises(CannotListen, match="must belong to this user"):
        a_surface(operations, folder).start()


def test_a_socket_path_that_is_too_long_is_refused(operations, folder):
    with pytest.raises(CannotListen, match="at most 107 bytes"):
        a_surface(operations, folder, socket=folder / ("x" * 120)).start()


def test_a_port_in_use_is_said_so_and_the_socket_is_let_go(operations, folder):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(
            CannotListen, match=f"port {port}: another program has the port; choose another with --port"
        ):
            a_surface(operations, folder, port=port).start()
    surface = a_surface(operations, folder)
    surface.start()
    surface.stop()


def test_an_address_of_another_host_is_said_so(operations, folder):
    with pytest.raises(CannotListen, match="does not have that address"):
        a_surface(operations, folder, bind="192.0.2.1", allow_remote=True).start()


def test_a_hung_agent_is_unhealthy_within_the_bound_and_can_be_stopped(operations, folder):
    surface = a_surface(operations, folder, write_timeout=0.3)
    surface.start()
    operations.hangs = True
    try:
        began = time.monotonic()
        assert get(surface, "/healthz")[0] == 503
        assert time.monotonic() - began < 3
    finally:
        began = time.monotonic()
        surface.stop()
        operations.hang.set()
    assert time.monotonic() - began < 6
    assert not surface.running


def test_a_client_that_never_finishes_its_request_is_cut_off(operations, folder):
    surface = a_surface(operations, folder, read_timeout=0.3)
    surface.start()
    try:
        for beginning in (b"", b"GET /healthz HTTP/1.1\r\nHost: loc"):
            with socket.create_connection(("127.0.0.1", surface.port), timeout=5) as slow:
                slow.sendall(beginning)
                assert slow.recv(100) == b""
    finally:
        surface.stop()


def test_nonsense_on_the_wire_is_answered_and_survived(surface):
    with socket.create_connection(("127.0.0.1", surface.port), timeout=5) as stranger:
        stranger.sendall(b"\x16\x03\x01\x02\x00 nonsense\r\n\r\n")
        assert stranger.recv(100).startswith(b"HTTP/1.1 400")
    assert get(surface, "/healthz")[0] == 200


def test_nobody_on_the_socket_is_one_clear_sentence(folder):
    with pytest.raises(NoAgent, match=r"no agent answers on .*; is it running"):
        Client(folder / "none.sock").status()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file away")
def test_root_may_ask_any_agent(surface, folder):
    os.chown(folder / "run" / "t.sock", 12345, -1)
    assert Client(folder / "run" / "t.sock").status()["instance"] == "t"


def test_an_idle_surface_sleeps(surface):
    get(surface, "/healthz")
    time.sleep(0.3)
    before = resource.getrusage(resource.RUSAGE_SELF)
    time.sleep(1.0)
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.02
