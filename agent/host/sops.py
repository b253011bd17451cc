"""Decrypts spec files with the program `sops`, in memory: plaintext goes through a pipe, and never to disk or into argv.

* It decides nothing about a file; that only age keys are asked is settled before (spec/encrypted.py). No configuration
  is read, and it is told no more of the agent's environment than where keys are.
* Each content is decrypted once. A failure that may pass (no program, no key, no answer) is tried again in the
  background when the file is read again, so that no other file waits for it; `wake` says that it worked.
* What sops says is not repeated: it quotes plaintext when a file was tampered with.
"""

import contextlib
import hashlib
import logging
import math
import os
import re
import select
import shutil
import signal
import subprocess
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from agent.spec.encrypted import Locked

log = logging.getLogger("xmod.sops")

_WORDS = ("--config", os.devnull, "--decrypt", "--input-type", "yaml", "--output-type", "yaml", "/dev/stdin")
_KEYS = ("SOPS_AGE_KEY", "SOPS_AGE_KEY_FILE", "SOPS_AGE_SSH_PRIVATE_KEY_FILE", "HOME", "XDG_CONFIG_HOME")
_USUAL = "where sops looks for keys (SOPS_AGE_KEY_FILE, ~/.config/sops/age/keys.txt)"
_NO_KEY = 128
_BROKEN = frozenset({24, 25, 51, 52})  # what it ends with when a value or the mac cannot be what it once wrote
_TIME = 10.0  # seconds that one run may take
_OUTPUT = 8 << 20  # bytes of one plaintext
_REMEMBERED = 32 << 20  # bytes of answers that are kept, more than one may have
_AGAIN = 5.0  # seconds until what failed is tried again, at the earliest
_AT_ONCE = 4
_STEP = 0.1
_SHOWN = 3  # recipients in a message
_RECIPIENT = re.compile(rb"\bage1[0-9a-z]{50,70}\b")


@dataclass(frozen=True, slots=True)
class _Answer:
    """What came of one content, and when (monotonic)."""

    plain: bytes | Locked
    at: float

    @property
    def stale(self) -> bool:
        """It failed, and may be tried again now."""
        return isinstance(self.plain, Locked) and self.plain.passing and time.monotonic() - self.at > _AGAIN

    @property
    def size(self) -> int:
        """Bytes, about."""
        return len(str(self.plain) if isinstance(self.plain, Locked) else self.plain)


class Sops:
    """Implements Decrypter. `key_file`: "" for where sops looks by itself. `patience`: seconds that a reader waits for a file.

    `together`: seconds that it waits at most for all those that were begun at once.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        key_file: str = "",
        patience: float = _TIME + 1.0,
        together: float = math.inf,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self._environment = environment
        self._key_file = key_file
        self._patience = patience
        self._together = together
        self._until = math.inf
        self._wake = wake
        self._lock = threading.Lock()
        self._answers: OrderedDict[bytes, _Answer] = OrderedDict()
        self._running: dict[bytes, Future[None]] = {}
        self._awaited: set[bytes] = set()
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="sops")
        self._stop = threading.Event()

    def begin(self, content: bytes) -> None:
        """Decrypt it in the background, unless that was done or what failed is fresh."""
        self._until = time.monotonic() + self._together
        self._begun(_key(content), content)

    def plain(self, content: bytes) -> bytes:
        """The file's plaintext. Raises Locked."""
        key = _key(content)
        answer, running = self._begun(key, content)
        if answer is None and running is not None:
            wait((running,), timeout=max(0.0, min(self._patience, self._until - time.monotonic())))
            with self._lock:
                answer = self._answers.get(key)
                if answer is None:
                    self._awaited.add(key)
        if answer is None:
            raise Locked("it is being decrypted; sops has not answered yet", passing=True)
        if isinstance(answer.plain, Locked):
            raise Locked(str(answer.plain), passing=answer.plain.passing)
        return answer.plain

    def close(self) -> None:
        """End what runs."""
        self._stop.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _begun(self, key: bytes, content: bytes) -> tuple[_Answer | None, Future[None] | None]:
        """What is known by now; and the run that will tell, where it is not known or was a failure that may have passed."""
        with self._lock:
            answer, running = self._answers.get(key), self._running.get(key)
            if answer is not None:
                self._answers.move_to_end(key)
            if running is None and (answer is None or answer.stale) and not self._stop.is_set():
                if answer is not None:
                    self._awaited.add(key)
                running = self._running[key] = self._pool.submit(self._work, key, content)
            return answer, running

    def _work(self, key: bytes, content: bytes) -> None:
        plain: bytes | Locked
        try:
            plain = self._decrypted(content)
        except Locked as error:
            plain = error
        except OSError as error:
            plain = Locked(f"sops cannot be run: {error.strerror}", passing=True)
        with self._lock:
            self._answers[key] = _Answer(plain, time.monotonic())
            self._running.pop(key, None)
            news = key in self._awaited and not isinstance(plain, Locked)
            self._awaited.discard(key)
            self._forget()
        if news:
            log.info("an encrypted spec can be read now")
            self._wake()

    def _forget(self) -> None:
        """The oldest plaintexts go; a file that is still there would only be decrypted once more."""
        held = sum(answer.size for answer in self._answers.values())
        while held > _REMEMBERED:
            held -= self._answers.popitem(last=False)[1].size

    def _decrypted(self, content: bytes) -> bytes:
        program = shutil.which("sops", path=self._environment.get("PATH", os.defpath))
        if program is None:
            raise Locked("it is encrypted, and there is no program sops on the agent's PATH; install it", passing=True)
        if self._key_file:
            try:
                os.close(os.open(self._key_file, os.O_RDONLY | os.O_NONBLOCK))
            except OSError as error:
                message = f"the age key file {self._key_file} (secrets.ageKeyFile) cannot be read: {error.strerror}"
                raise Locked(f"{message}; put it there", passing=True) from error
        code, plain = self._ran(program, content)
        if code == 0:
            return plain
        if code == _NO_KEY:
            raise Locked(self._no_key(content), passing=True)
        if code in _BROKEN:
            message = "it is not as sops wrote it: changed without sops, or merged badly; change it with `sops edit`"
            raise Locked(message, passing=False)
        raise Locked(f"sops ended with {code}; try there: sops decrypt FILE", passing=True)

    def _no_key(self, content: bytes) -> str:
        found = list(dict.fromkeys(match.decode() for match in _RECIPIENT.findall(content)))
        whom = ", ".join(found[:_SHOWN]) or "other keys"
        where = self._key_file or _USUAL
        hint = "put the private key of one of these there" + ("" if self._key_file else ", or set secrets.ageKeyFile")
        return f"no age key in {where} opens it; it is encrypted for {whom}: {hint}"

    def _ran(self, program: str, content: bytes) -> tuple[int, bytes]:
        """Exit code and standard output of one run. What it reads is ciphertext, in memory as a file."""
        with os.fdopen(os.memfd_create("encrypted", os.MFD_CLOEXEC), "r+b") as given:
            given.write(content)
            given.seek(0)
            process = subprocess.Popen(  # noqa: S603 - the operator's PATH says which
                [program, *_WORDS],
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env=self._told(),
                start_new_session=True,
            )
        try:
            plain = self._output(process)
            return process.wait(_STEP * 10), plain
        except subprocess.TimeoutExpired:
            raise Locked("sops did not end", passing=True) from None
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # it ended, with all that it started
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if process.stdout is not None:
                process.stdout.close()

    def _output(self, process: "subprocess.Popen[bytes]") -> bytes:
        """All that it prints. Raises Locked beyond the bounds."""
        assert process.stdout is not None  # noqa: S101 - it was asked for a pipe
        pieces: list[bytes] = []
        deadline, size = time.monotonic() + _TIME, 0
        while not self._stop.is_set():
            if time.monotonic() > deadline:
                raise Locked(f"sops did not answer within {_TIME:g} s", passing=True)
            if select.select([process.stdout], [], [], _STEP)[0]:
                piece = os.read(process.stdout.fileno(), 1 << 16)
                if not piece:
                    return b"".join(pieces)
                pieces.append(piece)
                size += len(piece)
                if size > _OUTPUT:
                    raise Locked(f"it decrypts to more than {_OUTPUT >> 20} MiB", passing=False)
        raise Locked("the agent stops", passing=True)

    def _told(self) -> dict[str, str]:
        """What sops needs of the environment."""
        if self._key_file:
            keys = {"SOPS_AGE_KEY_FILE": self._key_file}
        else:
            keys = {name: self._environment[name] for name in _KEYS if name in self._environment}
        return {"PATH": self._environment.get("PATH", os.defpath), **keys}


def _key(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
