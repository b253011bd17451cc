"""Git over a real ssh: a key lets it in, a host that is not known does not, and a server that stalls is left in time."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.clock import SystemClock
from agent.contracts import Transient
from agent.source.git.remote import Access, remote
from agent.source.git.repository import RepositorySource
from tests.fakes.following import contents
from tests.fakes.signing import ssh_key
from tests.fakes.ssh_server import SshServer, ssh_server


@pytest.fixture(autouse=True)
def nobodys_settings(monkeypatch, tmp_path):
    """Neither this machine's agent nor its keys help."""
    for name in ("SSH_AUTH_SOCK", "GIT_SSH_COMMAND", "GIT_SSH"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def server() -> Iterator[SshServer]:
    with ssh_server() as started:
        yield started


@pytest.fixture
def open_over_ssh(repo, tmp_path) -> Iterator[Callable[..., RepositorySource]]:
    with contextlib.ExitStack() as stack:

        def start(server: SshServer, *, key: Path | None = None, hosts: Path | None = None) -> RepositorySource:
            access = Access(ssh_key=key or server.user.file, known_hosts=hosts or server.known_hosts)
            wanted = remote(server.url(repo.root), path="specs", access=access)
            source = RepositorySource(wanted, state=tmp_path / "state", clock=SystemClock(), interval=3600)
            return stack.enter_context(contextlib.closing(source))

        yield start


def refused(source: RepositorySource) -> str:
    with pytest.raises(Transient) as caught:
        source.look()
    return str(caught.value)


def test_a_key_and_a_known_host_let_it_in(repo, server, open_over_ssh):
    source = open_over_ssh(server)
    assert contents(source.look()) == {"a.yaml": b"a: 1\n", "b/c.yaml": b"c: 1\n"}
    head = repo.commit(a="a: 2\n")
    source.kick()
    deadline = time.monotonic() + 20
    while source.look().revision != head:
        assert time.monotonic() < deadline, source.notice
        time.sleep(0.05)


def test_a_host_with_another_key_is_refused(server, open_over_ssh, tmp_path):
    hosts = tmp_path / "hosts"
    hosts.write_text(server.line(ssh_key(tmp_path / "other")))
    assert "Host key verification failed" in refused(open_over_ssh(server, hosts=hosts))


def test_a_host_that_nobody_knows_is_refused(server, open_over_ssh, tmp_path):
    hosts = tmp_path / "hosts"
    hosts.write_text(f"elsewhere.example {server.host.public}\n")
    assert "Host key verification failed" in refused(open_over_ssh(server, hosts=hosts))
    assert hosts.read_text() == f"elsewhere.example {server.host.public}\n", "and is not learnt"


def test_another_key_is_refused_and_no_other_is_tried(server, open_over_ssh, tmp_path):
    assert "Permission denied" in refused(open_over_ssh(server, key=ssh_key(tmp_path / "stranger").file))


def test_a_server_that_stalls_is_left_in_time(open_over_ssh, monkeypatch):
    monkeypatch.setattr("agent.source.git.mirror._CLONE", 2.0)
    with ssh_server("ForceCommand cat >/dev/null") as stalling:
        began = time.monotonic()
        assert "did not end within 2 s" in refused(open_over_ssh(stalling))
        assert time.monotonic() - began < 15
