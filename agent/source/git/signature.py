"""Whether somebody whom the operator named signed a commit or a tag, by git's own verification.

Git is asked in an empty repository of our own, that is given the object alone and the operator's keys: so nothing that
whoever writes to the source may set there (programs, key files, grafts, replaced objects) has a say. gpg gets a home of
its own, starts no agent and asks no network. Only git's exit code makes a signature good; its words only say why not.
"""

import hashlib
import os
import re
import shutil
import subprocess
import zlib
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, NamedTuple, Self, TypeAlias

from agent.source.git.command import GitFailed, run

Kind: TypeAlias = Literal["commit", "tag"]

_SECONDS = 20.0  # for one signature
_LARGEST = 8 << 20  # bytes of a file of keys
_MARKS = {b"PGP SIGNATURE": "gpg", b"PGP MESSAGE": "gpg", b"SSH SIGNATURE": "ssh", b"SIGNED MESSAGE": "X.509"}
_BEGIN = re.compile(rb"(?:^|\n)(?:gpgsig(?:-sha256)? )?-----BEGIN (%s)-----\r?\n" % b"|".join(_MARKS))
_GPG_CONF = """\
batch
no-tty
no-autostart
disable-dirmngr
no-auto-key-retrieve
no-auto-key-import
trust-model always
lock-never
weak-digest SHA1
weak-digest RIPEMD160
"""


class Finding(NamedTuple):
    """What was found of a signature. `reason`: "" if it is good, else one of snapshot.UNVERIFIED; `why`: a sentence's rest."""

    reason: str
    why: str = ""

    @property
    def good(self) -> bool:
        """It verifies."""
        return not self.reason


class NoKeys(Exception):
    """Why the operator's keys cannot be had; a sentence."""


@dataclass(frozen=True, slots=True)
class HeldKeys:
    """The keys' bytes at one moment, and where they are from, for people."""

    signers: bytes | None
    keyring: bytes | None
    keys: "Keys"

    @property
    def digest(self) -> str:
        """Another one whenever a key comes or goes."""
        parts = (hashlib.sha256(part or b"").hexdigest() for part in (self.signers, self.keyring))
        return ":".join(parts)


@dataclass(frozen=True, slots=True)
class Keys:
    """Whose signatures count. `signers`: ssh's file of allowed signers; `keyring`: public keys as gpg exports them."""

    signers: Path | None = None
    keyring: Path | None = None

    def misplaced(self, top: str) -> str:
        """Why they cannot vouch for the work tree at `top`, "" if they can."""
        inside = (
            file for file in (self.signers, self.keyring) if file is not None and file.resolve().is_relative_to(top)
        )
        file = next(inside, None)
        wrong = f"{file}: lies in the work tree that it is to vouch for; keep it where no commit can change it"
        return wrong if file is not None else ""

    def read(self) -> HeldKeys:
        """As of now. Raises NoKeys."""
        return HeldKeys(_read("allowedSigners", self.signers), _read("keyring", self.keyring), self)


class Verifier:
    """Asks git with these keys; a context manager."""

    def __init__(self, keys: HeldKeys) -> None:
        self._keys = keys
        self._folder: TemporaryDirectory[str] | None = None
        self._trouble = ""  # why gpg cannot be asked

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def finding(self, kind: Kind, oid: str, content: bytes) -> Finding:
        """What there is to say of the object with this id, whose content has this hash."""
        form = signed_by(kind, content)
        refusal = self._refusal(form)
        if refusal is not None:
            return refusal
        try:
            root = self._court(wide=len(oid) > 40)
            if form == "gpg" and self._trouble:
                return Finding("error", self._trouble)
            _store(root, kind, oid, content)
            run(
                ["--git-dir", str(root), *self._settings(root), f"verify-{kind}", "--raw", oid],
                seconds=_SECONDS,
                env={"GNUPGHOME": str(root / "gnupg")},
            )
        except OSError as error:
            return Finding("error", f"its signature cannot be checked ({error.filename}: {error.strerror})")
        except GitFailed as error:
            if error.code is None:
                return Finding("error", f"its signature cannot be checked ({error})")
            return _explained(form, error.stderr, self._keys.keys)
        return Finding("")

    def _refusal(self, form: str) -> Finding | None:
        """What can be said without asking git."""
        given = {"ssh": self._keys.signers, "gpg": self._keys.keyring}
        program = {"ssh": "ssh-keygen", "gpg": "gpg"}
        if not form:
            return Finding("unsigned", "it is not signed")
        if given.get(form) is None:
            setting = {"ssh": "source.allowedSigners", "gpg": "source.keyring"}.get(form)
            return Finding(
                "unknown",
                f"it is signed by {form}, " + (f"and {setting} is not set" if setting else "which is not heeded"),
            )
        if shutil.which(program[form]) is None:
            return Finding("error", f"{program[form]} is not installed, so its signature cannot be checked")
        return None

    def _court(self, *, wide: bool) -> Path:
        """The empty repository, with the keys beside it. Raises OSError."""
        if self._folder is None:
            self._folder = TemporaryDirectory(prefix="xmod-verify-", ignore_cleanup_errors=True)
            root = Path(self._folder.name)
            for name in ("objects", "refs", "gnupg"):
                (root / name).mkdir(mode=0o700)
            (root / "HEAD").write_text("ref: refs/heads/none\n")
            (root / "signers").write_bytes(self._keys.signers or b"")
            if self._keys.keyring is not None:
                self._trouble = _imported(root / "gnupg", self._keys)
        root = Path(self._folder.name)
        form = "[core]\n\trepositoryformatversion = 1\n\tbare = true\n"
        (root / "config").write_text(form + ("[extensions]\n\tobjectformat = sha256\n" if wide else ""))
        return root

    def _settings(self, root: Path) -> list[str]:
        """What the settings of whoever runs the agent must not change either."""
        settings = {
            "gpg.program": "gpg" if self._keys.keyring is not None else "false",
            "gpg.openpgp.program": "gpg" if self._keys.keyring is not None else "false",
            "gpg.x509.program": "false",
            "gpg.ssh.program": "ssh-keygen" if self._keys.signers is not None else "false",
            "gpg.ssh.allowedSignersFile": str(root / "signers"),
            "gpg.minTrustLevel": "undefined",  # the keys are trusted because the operator gave them
        }
        return [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]


def signed_by(kind: Kind, content: bytes) -> str:
    """By which of git's formats it is signed, "" if by none: for a commit that is said in its head, for a tag at its end."""
    head, _, body = content.partition(b"\n\n")
    found = _BEGIN.search(head if kind == "commit" else b"\n" + body)
    return _MARKS[found[1]] if found is not None else ""


def _read(setting: str, file: Path | None) -> bytes | None:
    if file is None:
        return None
    try:
        with file.open("rb") as keys:
            content = keys.read(_LARGEST + 1)
    except OSError as error:
        raise NoKeys(f"source.{setting}: {file} cannot be read ({error.strerror})") from error
    if not content.strip():
        raise NoKeys(f"source.{setting}: {file} is empty")
    if len(content) > _LARGEST:
        raise NoKeys(f"source.{setting}: {file} has more than {_LARGEST} bytes; is that the file of keys?")
    return content


def _store(root: Path, kind: Kind, oid: str, content: bytes) -> None:
    """Put it where git looks for a loose object."""
    place = root / "objects" / oid[:2] / oid[2:]
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(zlib.compress(f"{kind} {len(content)}\0".encode() + content, 1))


def _imported(home: Path, keys: HeldKeys) -> str:
    """Give gpg these keys and no others; why that cannot be, "" if it was done. Raises OSError."""
    (home / "gpg.conf").write_text(_GPG_CONF)
    if shutil.which("gpg") is None:
        return ""  # which is said of each signature that needs it
    try:
        done = subprocess.run(  # noqa: S603 of its words, none is a stranger's
            ["gpg", "--homedir", str(home), "--quiet", "--import"],  # noqa: S607 the one on the agent's PATH
            input=keys.keyring,
            capture_output=True,
            timeout=_SECONDS,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired:
        return f"gpg did not read {keys.keys.keyring} within {_SECONDS:g} s"
    if not (home / "pubring.kbx").exists() or (done.returncode != 0 and b"no valid OpenPGP data" in done.stderr):
        return f"source.keyring: {keys.keys.keyring} holds no public keys as `gpg --export` writes them"
    return ""


def _explained(form: str, said: str, keys: Keys) -> Finding:
    """Why git does not take a signature, in a few words of ours."""
    if form == "ssh":
        return _explained_ssh(said, keys)
    status = dict(re.findall(r"^\[GNUPG:\] (\S+) ?(\S*)", said, re.MULTILINE))
    if "REVKEYSIG" in status:
        return Finding("revoked", f"it is signed by key {status['REVKEYSIG']}, which was revoked")
    if "EXPKEYSIG" in status:
        return Finding("expired", f"it is signed by key {status['EXPKEYSIG']}, which has expired")
    if "EXPSIG" in status:
        return Finding("expired", "its signature has expired")
    if "NO_PUBKEY" in status:
        return Finding("unknown", f"it is signed by key {status['NO_PUBKEY']}, which is not in {keys.keyring}")
    if "BADSIG" in status:
        return Finding("bad", f"its signature by key {status['BADSIG']} does not fit what it says")
    return Finding("bad", "its signature cannot be verified by gpg: it is broken, or too weak")


def _explained_ssh(said: str, keys: Keys) -> Finding:
    found = re.search(r"\bkey (SHA256:\S+)", said)
    key = f"key {found[1]}" if found is not None else "a key"
    if re.search(r"\brevoked\b", said):
        return Finding("revoked", f"it is signed by {key}, which was revoked")
    if re.search(r"has expired|not yet valid", said):
        return Finding("expired", f"it is signed by {key}, which {keys.signers} did not allow at that time")
    if "not permitted for use" in said or ("No principal matched" in said and found is not None):
        return Finding("unknown", f"it is signed by {key}, which {keys.signers} does not allow")
    return Finding("bad", "its signature does not fit what it says")
