"""Real keys, and a git that signs with them: ssh keys by ssh-keygen, gpg keys in a home of their own."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.fakes.following import git


@dataclass(frozen=True)
class SshKey:
    """A private key's file; `public`: one line."""

    file: Path

    @property
    def public(self) -> str:
        return " ".join(self.file.with_suffix(".pub").read_text().split()[:2])

    def allowed(self, *, who: str = "t@example.com", options: str = "") -> str:
        """Its line in a file of allowed signers."""
        return f"{who} {options + ' ' if options else ''}{self.public}\n"

    @property
    def settings(self) -> tuple[str, ...]:
        return ("-c", "gpg.format=ssh", "-c", f"user.signingKey={self.file}")


def ssh_key(file: Path, *words: str) -> SshKey:
    file.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "t", "-f", str(file), *words], check=True, timeout=30
    )
    return SshKey(file)


class GpgHome:
    """A GNUPGHOME of its own, with a short path, for its agent's sockets."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def gpg(self, *words: str, stdin: bytes = b"") -> bytes:
        done = subprocess.run(
            ["gpg", "--homedir", str(self.root), "--batch", "--quiet", "--pinentry-mode", "loopback", *words],
            input=stdin,
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def key(self, who: str, *, expires: str = "never") -> str:
        """Make a key that signs; its fingerprint."""
        self.gpg("--passphrase", "", "--quick-generate-key", f"{who} <{who}@example.com>", "ed25519", "sign", expires)
        listed = self.gpg("--with-colons", "--list-keys", f"{who}@example.com").decode()
        return next(line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr:"))

    def exported(self, *keys: str) -> bytes:
        return self.gpg("--armor", "--export", *keys)

    def settings(self, key: str) -> tuple[str, ...]:
        program = self.root / "gpg"
        if not program.exists():
            program.write_text(f'#!/bin/sh\nexec gpg --homedir {self.root} --batch "$@"\n')
            program.chmod(0o755)
        return ("-c", "gpg.format=openpgp", "-c", f"gpg.program={program}", "-c", f"user.signingKey={key}")


@contextlib.contextmanager
def gpg_home() -> Iterator[GpgHome]:
    root = Path(tempfile.mkdtemp(prefix="t-g-"))
    try:
        yield GpgHome(root)
    finally:
        subprocess.run(
            ["gpgconf", "--kill", "all"], env={**os.environ, "GNUPGHOME": str(root)}, check=False, timeout=30
        )
        shutil.rmtree(root, ignore_errors=True)


def signed_commit(where: Path, settings: tuple[str, ...], *, at: str = "", message: str = "change") -> str:
    """Commit what is staged, signed; the commit's id. `at`: the committer's time."""
    git(where, *settings, "commit", "-q", "-S", "--allow-empty", "-m", message, at=at)
    return git(where, "rev-parse", "HEAD").strip()
