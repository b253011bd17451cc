"""Starts a program in a session of its own, with its mark in its environment.

A shell sets XMOD_PID to its own pid and becomes the program: nothing else knows the pid before the program runs. The
program's log is opened first, so that what cannot be logged is not started; no other file of ours stays open in it. The
shell also joins the program's control group, so that the program does nothing outside of it; where it cannot, the program
runs all the same, without limits.
"""

import contextlib
import errno
import os
import shlex
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from agent.contracts import Transient
from shimlets.process.environment import PID

_SHELL = "/bin/sh"
_BECOME = f'cd / && export {PID}=$$ && exec "$0" "$@"'
_OUR_FAULT = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)


class NotStartable(Exception):
    """The program cannot be started as it is; the message says why. `code`: as a shell would say it."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def program(name: str, path: Sequence[str], environ: Mapping[str, str]) -> str:
    """Where a program lies: in `path`, then in PATH. NotStartable if it does not or may not be run."""
    if "/" in name and not name.startswith("/"):
        raise NotStartable(f"program {name!r}: give its name alone or its full path", 127)
    places = [*path, *environ.get("PATH", os.defpath).split(os.pathsep)]
    found = shutil.which(name, path=os.pathsep.join(places))
    if found is not None:
        return str(Path(found).absolute())
    if name.startswith("/") and Path(name).exists():
        raise NotStartable(f"program {name} is not executable; chmod +x it", 126)
    where = f" in {', '.join(path)} or PATH" if not name.startswith("/") else ""
    raise NotStartable(f"program {name!r} was not found{where}; install it or put it there", 127)


def start(argv: Sequence[str], environ: Mapping[str, str], log: Path, group: Path | None = None) -> int:
    """Start it in that control group, output appended to `log`; its pid.

    Raises NotStartable, or Transient if the machine lacks something.
    """
    actions = _files(log)
    join = f"echo 0 2>/dev/null >{shlex.quote(str(group / 'cgroup.procs'))}; " if group is not None else ""
    try:
        return os.posix_spawn(
            _SHELL,
            [_SHELL, "-c", join + _BECOME, *argv],
            dict(environ),
            file_actions=[
                *((os.POSIX_SPAWN_DUP2, fd, target) for fd, target in actions),
                *((os.POSIX_SPAWN_CLOSE, fd) for fd in _inheritable()),
            ],
            setsid=True,
            setsigmask=(),
            setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),  # Python ignores these, and ignoring is inherited
        )
    except OSError as error:
        if error.errno in _OUR_FAULT:
            raise Transient(f"{argv[0]} cannot be started: {error.strerror}", reason="NoProcesses") from error
        raise NotStartable(f"program {argv[0]} cannot be started: {error.strerror}", 126) from error
    finally:
        for fd in {fd for fd, _ in actions}:
            os.close(fd)


def _inheritable() -> list[int]:
    """What would stay open in the program: descriptors that we were started with ourselves."""
    found = []
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208  # names are what is asked for
        with contextlib.suppress(OSError):  # closed by another thread, or the listing's own
            if int(name) > 2 and os.get_inheritable(int(name)):
                found.append(int(name))
    return found


def _files(log: Path) -> list[tuple[int, int]]:
    """Descriptors and what they become: nothing to read, and the log twice."""
    try:
        out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    except OSError as error:
        raise Transient(f"{log}: {error.strerror}: cannot open the log", reason="StateUnwritable") from error
    return [(os.open(os.devnull, os.O_RDONLY), 0), (out, 1), (out, 2)]
