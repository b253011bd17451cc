"""The thread that serves: strangers on the wire, and rest."""

import resource
import socket
import time

from tests.fakes.surface import a_surface, get


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


def test_strangers_cannot_fill_the_log(surface, caplog):
    upgrade = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    for request in (b"\x16\x03\x01\x02\x00 nonsense\r\n\r\n", upgrade):
        with socket.create_connection(("127.0.0.1", surface.port), timeout=5) as stranger:
            stranger.sendall(request)
            assert stranger.recv(100).startswith(b"HTTP/1.1 ")
    assert caplog.records == []


def test_an_idle_surface_sleeps(surface):
    get(surface, "/healthz")
    time.sleep(0.3)
    before = resource.getrusage(resource.RUSAGE_SELF)
    time.sleep(1.0)
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.02
