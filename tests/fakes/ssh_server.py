"""A real sshd on loopback, with a host key of its own, that lets one key in, as the user who runs the tests."""

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.signing import SshKey, ssh_key

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
_SEPARATION = Path("/run/sshd")


class SshServer:
    """Where it is reached, and whom it knows."""

    def __init__(self, root: Path, port: int) -> None:
        self.port = port
        self.host = ssh_key(root / "host")
        self.user = ssh_key(root / "user")
        self.known_hosts = root / "known_hosts"
        self.known_hosts.write_text(self.line(self.host))
        (root / "authorized").write_text(f"{self.user.public}\n")

    def line(self, key: SshKey) -> str:
        """Of a known_hosts file."""
        return f"[127.0.0.1]:{self.port} {key.public}\n"

    def url(self, path: Path) -> str:
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}{path}"


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextlib.contextmanager
def ssh_server(*options: str) -> Iterator[SshServer]:
    """`options`: more lines of its settings."""
    if SSHD is None:
        pytest.skip("there is no sshd; tools/sshd installs one that does not serve this machine")
    root = Path(tempfile.mkdtemp(prefix="t-s-"))
    made = os.geteuid() == 0 and not _SEPARATION.exists()
    if made:
        _SEPARATION.mkdir(mode=0o755)
    server = SshServer(root, _free_port())
    settings = root / "settings"
    settings.write_text(
        f"ListenAddress 127.0.0.1\nPort {server.port}\nHostKey {server.host.file}\nPidFile none\nUsePAM no\n"
        f"AuthorizedKeysFile {root / 'authorized'}\nStrictModes no\nPasswordAuthentication no\nPermitRootLogin yes\n"
        + "".join(f"{option}\n" for option in options)
    )
    log = (root / "log").open("wb")
    process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(settings)], stderr=log, start_new_session=True)
    try:
        _await(server.port, process, root / "log")
        yield server
    finally:
        process.terminate()
        process.wait(10)
        log.close()
        shutil.rmtree(root, ignore_errors=True)
        if made:
            with contextlib.suppress(OSError):
                _SEPARATION.rmdir()


def _await(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 20
    while True:
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as asked:
            if asked.recv(4) == b"SSH-":
                return
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
