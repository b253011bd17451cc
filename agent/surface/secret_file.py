"""A secret that is shared with the other end of a wire, in a file, a line each: read anew each time, so that it can be rotated.

What is read goes into a signature or a comparison and nowhere else; sentences name the file and the setting only.
A file that every user may read is used, and warned of once.
"""

import logging
import os
import stat
from pathlib import Path

logger = logging.getLogger("xmod.surface")

_LARGEST = 4096  # bytes


class NoSecret(Exception):
    """Why there is none: the setting, the file and what to do."""


class SecretFile:
    """`setting`: the name that sentences use; `most`: how many lines it may have."""

    def __init__(self, path: Path, setting: str, *, most: int = 2) -> None:
        self._path = path
        self._setting = setting
        self._most = most
        self._warned = False

    def read(self) -> tuple[str, ...]:
        """One a line, without the blanks around it; at least one. Raises NoSecret."""
        try:
            with open(self._path, "rb", opener=_not_waiting) as file:
                mode = os.fstat(file.fileno()).st_mode
                data = file.read(_LARGEST + 1) or b""
            lines = tuple(line.strip() for line in data.decode().splitlines() if line.strip())
        except OSError as error:
            raise NoSecret(f"{self._setting}: {self._path} cannot be read ({error.strerror})") from error
        except UnicodeDecodeError:
            raise NoSecret(f"{self._setting}: {self._path} is no text") from None  # the error holds the bytes
        if b"\0" in data:  # what a crash may leave of a file; NULs are the same key to an HMAC as nothing is
            raise NoSecret(f"{self._setting}: {self._path} is no text; write a secret into it")
        if not lines:
            raise NoSecret(f"{self._setting}: {self._path} is empty; write a secret into it")
        if len(data) > _LARGEST or len(lines) > self._most:
            raise NoSecret(f"{self._setting}: {self._path} has more than {self._most} lines or {_LARGEST} bytes")
        self._warn(mode)
        return lines

    def _warn(self, mode: int) -> None:
        open_to_all = bool(mode & stat.S_IROTH)
        if open_to_all and not self._warned:
            logger.warning(
                "every user can read a secret; chmod o-r", extra={"file": str(self._path), "setting": self._setting}
            )
        self._warned = open_to_all


def _not_waiting(path: str, flags: int) -> int:
    """Open without waiting for the other end, should it be a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)
