"""Delivery over real sockets: signed, bounded, and nothing secret in what is said of it."""

import contextlib
import hashlib
import hmac
import socket
import threading
import time
from pathlib import Path

import pytest

from agent.surface import post
from agent.surface.post import BadUrl, NotSent, Post, checked
from agent.surface.secret_file import SecretFile
from tests.fakes.receiver import certified, receiver

BODY = b'{"version":1}'


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def secret(tmp_path: Path) -> SecretFile:
    path = tmp_path / "secret"
    path.touch(0o600)
    path.write_text("s3cr3t\n")
    return SecretFile(path, "notify.secretFile")


@pytest.fixture
def there():
    with receiver(secret="s3cr3t") as made:
        yield made


def send(url: str, secret: SecretFile | None = None, stop: threading.Event | None = None) -> None:
    sender = Post(url=checked(url, "notify.url"), secret=secret, setting="notify.url")
    sender.send(BODY, event="report", delivery="id-1", stop=stop or threading.Event())


def refusal(url: str, secret: SecretFile | None = None, stop: threading.Event | None = None) -> NotSent:
    with pytest.raises(NotSent) as refused:
        send(url, secret, stop)
    assert "t0k3n" not in str(refused.value)
    return refused.value


def test_what_is_sent_is_signed_and_says_what_it_is(there, secret):
    send(f"{there.url}?t0k3n", secret)
    assert there.bodies == [{"version": 1}]
    [(line, headers)] = there.seen
    assert line == "POST /hook?t0k3n HTTP/1.1"
    mac = hmac.new(b"s3cr3t", BODY, hashlib.sha256).hexdigest()
    assert headers["X-Xmod-Signature-256"] == f"sha256={mac}"
    assert (headers["X-Xmod-Event"], headers["X-Xmod-Delivery"]) == ("report", "id-1")
    assert abs(int(headers["X-Xmod-Timestamp"]) - time.time()) < 5
    assert headers["Content-Type"] == "application/json"
    assert headers["User-Agent"].startswith("xmod-agent/")


def test_with_another_secret_the_receiver_refuses(there, secret, tmp_path):
    (tmp_path / "secret").write_text("other")
    assert refusal(there.url, secret).refused
    assert there.wrong == 1


def test_a_secret_that_is_gone_sends_nothing_rather_than_unsigned(there, secret, tmp_path):
    (tmp_path / "secret").unlink()
    error = refusal(there.url, secret)
    assert "notify.secretFile" in str(error)
    assert not error.refused
    assert there.seen == []


@pytest.mark.parametrize(
    ("answer", "refused", "after"),
    [
        (500, False, 0),
        (503, False, 0),
        ((429, {"Retry-After": "7"}), False, 7),
        ((503, {"Retry-After": "86400"}), False, 600),
        ((503, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}), False, 0),
        (400, True, 0),
        (404, True, 0),
        (410, True, 0),
        (408, False, 0),
    ],
)
def test_an_answer_says_whether_another_try_is_of_use(there, answer, refused, after):
    there.secret, there.answers = "", [answer]
    error = refusal(there.url)
    assert (error.refused, error.after) == (refused, after)
    assert f"http://127.0.0.1:{there.port}/…: answers {answer[0] if isinstance(answer, tuple) else answer}" in str(
        error
    )


@pytest.mark.parametrize("code", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(there, code):
    with receiver() as elsewhere:
        there.secret, there.answers = "", [(code, {"Location": f"{elsewhere.url}?t0k3n"})]
        error = refusal(there.url)
        assert "redirect" in str(error)
        assert not error.refused, "whoever corrects it wants what waited"
        assert elsewhere.seen == []


def test_an_end_that_stalls_is_given_up_on(there, monkeypatch):
    monkeypatch.setattr(post, "_PATIENCE", 0.3)
    there.behaviour = "stall"
    assert "no answer in time" in str(refusal(there.url))


def test_an_end_that_trickles_is_cut_off_as_a_whole(there, monkeypatch):
    monkeypatch.setattr(post, "_LONGEST", 0.5)
    there.behaviour = "trickle"
    began = time.monotonic()
    refusal(there.url)
    assert time.monotonic() - began < 3


def test_a_stop_cuts_a_delivery_short(there):
    there.behaviour = "stall"
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    began = time.monotonic()
    refusal(there.url, stop=stop)
    assert time.monotonic() - began < 1.0


@pytest.mark.parametrize("behaviour", ["break", "mute"])
def test_an_end_that_breaks_off_did_not_take_it(there, behaviour):
    there.behaviour = behaviour
    assert not refusal(there.url).refused


def test_an_end_of_many_addresses_that_take_no_connection_is_given_up_on_as_a_whole_and_at_a_stop(monkeypatch):
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(3):  # they fill the queue, so that what comes after them is not heard
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        address = full.getsockname()
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address)] * 4
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        monkeypatch.setattr(post, "_LONGEST", 1.0)
        stopped = threading.Event()
        stopped.set()
        for stop, longest in ((threading.Event(), 2.5), (stopped, 1.0)):
            began = time.monotonic()
            assert "no answer in time" in str(refusal(f"http://example.com:{address[1]}/hook", stop=stop))
            assert time.monotonic() - began < longest


def test_where_nobody_listens_is_said():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening
        error = refusal(f"http://127.0.0.1:{taken.getsockname()[1]}/t0k3n")
    assert "Connection refused" in str(error)
    assert not error.refused


def test_a_certificate_is_checked_and_another_ca_can_be_named(tmp_path, monkeypatch, secret):
    ca, certificate, key = certified(tmp_path)
    with receiver(secret="s3cr3t", certificate=certificate, key=key) as there:
        assert "its certificate is not trusted" in str(refusal(f"{there.url}/t0k3n", secret))
        assert there.seen == []
        monkeypatch.setenv("SSL_CERT_FILE", str(ca))
        send(there.url, secret)
        assert there.bodies == [{"version": 1}]
        wrong_name = there.url.replace("127.0.0.1", "localhost")
        assert "its certificate is not trusted" in str(refusal(wrong_name, secret))


def test_proxies_of_the_environment_are_used_and_no_proxy_is_heeded(there, monkeypatch):
    there.secret = ""
    with receiver() as proxy:
        monkeypatch.setenv("http_proxy", f"http://user:pass@127.0.0.1:{proxy.port}")
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        send(there.url)
        line, headers = proxy.seen.pop()
        assert line == f"POST {there.url} HTTP/1.1"
        assert headers["Proxy-Authorization"] == "Basic dXNlcjpwYXNz"
        refusal("https://receiver.example/t0k3n")
        assert proxy.seen.pop()[0].startswith("CONNECT receiver.example:443 ")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        send(there.url)
        assert proxy.seen == []
        assert len(there.bodies) == 1


def test_what_a_url_says_before_its_at_sign_is_a_header_and_not_shown(there):
    there.secret, there.answers = "", [500]
    url = there.url.replace("//", "//me:t0k3n%21@")
    error = refusal(url)
    assert there.seen[0][1]["Authorization"] == "Basic bWU6dDBrM24h"
    assert "me" not in str(error).split(": ")[0].removeprefix("http")


@pytest.mark.parametrize(
    "text",
    ["", "example.com/t0k3n", "ftp://h/t0k3n", "http://", "https://h:x/t0k3n", "https://h/t0 k3n", "https://h/t0\nk3n"],
)
def test_what_is_no_url_is_refused_without_it(text):
    with pytest.raises(BadUrl, match=r"^notify\.url: must be a URL such as") as refused:
        checked(text, "notify.url")
    assert "k3n" not in str(refused.value)


def test_a_url_is_shown_without_what_may_be_secret_in_it():
    assert checked("https://u:p@hooks.example:8443/T0/B1/x?y", "x").shown == "https://hooks.example:8443/…"
    assert checked("https://hooks.example/", "x").shown == "https://hooks.example"
    assert "T0" not in repr(checked("https://hooks.example/T0", "x"))


def test_a_url_in_a_file_is_read_at_each_delivery(there, tmp_path):
    there.secret = ""
    file = tmp_path / "url"
    file.touch(0o600)
    sender = Post(url=SecretFile(file, "notify.urlFile", most=1), secret=None, setting="notify.urlFile")
    stop = threading.Event()
    with pytest.raises(NotSent, match="is empty"):
        sender.send(BODY, event="report", delivery="id", stop=stop)
    file.write_text(f"{there.url}\n")
    sender.send(BODY, event="report", delivery="id", stop=stop)
    assert len(there.bodies) == 1
