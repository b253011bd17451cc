"""A host of its own: a container whose first process is systemd, with the agent installed as its README says."""

import json
import secrets
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Self

from tests.fakes.program import eventually
from tools import systemd_image

AGENT = "/opt/xmod-agent/bin/xmod-agent"
MEMORY = "512m"  # of the whole host: what wants more is killed by the kernel
_FLAGS = (
    *("--cap-add", "SYS_ADMIN", "--cgroupns", "private", "--network", "none"),
    *("--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"),
    *("--tmpfs", "/run", "--tmpfs", "/run/lock", "--tmpfs", "/tmp", "-e", "container=docker"),
    *("--memory", MEMORY, "--memory-swap", MEMORY),
)
_WRITABLE = '[ "$(stat -fc %T /sys/fs/cgroup)" != cgroup2fs ] || mount -o remount,rw /sys/fs/cgroup'


class SystemdHost:
    """Use it as a context manager: nothing of it is left."""

    def __init__(self) -> None:
        self.name = f"t-systemd-{secrets.token_hex(4)}"

    def __enter__(self) -> Self:
        image = systemd_image.build()
        boot = f"{_WRITABLE}; exec /lib/systemd/systemd"
        subprocess.run(
            ["docker", "run", "-d", "--name", self.name, *_FLAGS, image, "/bin/sh", "-c", boot],
            check=True,
            capture_output=True,
        )
        try:
            eventually(
                lambda: self.says("systemctl", "is-system-running", code=None) == "running\n", "systemd is up", 60
            )
            self._install()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        subprocess.run(["docker", "rm", "-f", "-v", self.name], check=True, capture_output=True)

    def _install(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            wheel = systemd_image.wheel(Path(folder))
            subprocess.run(["docker", "cp", wheel, f"{self.name}:/root/{wheel.name}"], check=True, capture_output=True)
        pip = ("/opt/xmod-agent/bin/pip", "install", "-q", "--no-index", "--no-deps", "--disable-pip-version-check")
        self.says(*pip, f"/root/{wheel.name}")

    def says(self, *words: str, code: int | None = 0, stdin: str = "") -> str:
        """What a program of the host prints, both streams; `code`: how it must end, None: in any way."""
        command = ["docker", "exec", "-i", self.name, *words]
        ran = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
        assert code is None or ran.returncode == code, f"{words} ended with {ran.returncode}: {ran.stdout}{ran.stderr}"
        return ran.stdout + ran.stderr

    def put(self, path: str, text: str) -> None:
        """Write a file as root, renamed into place."""
        self.says("sh", "-c", f"cat >{path}.part && chmod 644 {path}.part && mv {path}.part {path}", stdin=text)

    def unit(self, name: str) -> str:
        """A property of the agent's unit, as systemd shows it."""
        return self.says("systemctl", "show", "xmod-agent", "-P", name).strip()

    def status(self) -> dict[str, Any]:
        """Everything, as root sees it; empty while nobody answers."""
        told = self.says(AGENT, "status", "-o", "json", code=None)
        return dict(json.loads(told)) if told.startswith("{") else {}

    def endpoint(self, name: str) -> str:
        """Wait until a service is Ready; where it answers."""

        def ready() -> str:
            seen = next((s for s in self.status().get("services", ()) if s["name"] == name), {})
            return str(seen["endpoints"][0]) if seen.get("phase") == "Ready" and seen["endpoints"] else ""

        try:
            return str(eventually(ready, f"{name} is ready"))
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.journal()[-4000:]}") from error

    def pids(self, word: str) -> list[int]:
        """Living processes of the service's user with that word on their command line."""
        code = "import pathlib,sys\nfor p in pathlib.Path('/proc').glob('[0-9]*'):\n try:\n"
        code += "  if sys.argv[1].encode() in (p/'cmdline').read_bytes() and p.owner()=='xmod-agent': print(p.name)\n"
        code += " except OSError: pass"
        return sorted(map(int, self.says("python3", "-c", code, word).split()))

    def journal(self) -> str:
        """What the agent and systemd said of it."""
        return self.says("journalctl", "-u", "xmod-agent", "-o", "cat", "--no-pager", code=None)
