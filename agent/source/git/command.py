"""The one door to git: its command line, started through GitPython, bounded in time, killed with all its children.

The agent runs where nobody can be asked, so git never prompts; it speaks English, runs no hooks and no file system
monitor of a stranger's repository, and hears nothing of the GIT_… variables of whoever started the agent. GitPython
is imported when git is first needed: a plain folder needs neither.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from agent.contracts import Transient

NEVER = threading.Event()  # the stop of a command that only time ends

_ALWAYS = (
    "--no-pager",
    "--no-optional-locks",
    "--no-replace-objects",
    *("-c", "core.fsmonitor=false"),
    *("-c", f"core.hooksPath={os.devnull}"),
    *("-c", "core.quotePath=false"),
    *("-c", "safe.bareRepository=all"),
    *("-c", "gc.autoDetach=false"),
    *("-c", "maintenance.autoDetach=false"),
)
_ENVIRONMENT = {"GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": "file:git:http:https:ssh", "GIT_NO_LAZY_FETCH": "1"}
_STRAY = (  # they would point git at another repository
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_WORK_TREE",
)
_LINES = 3  # of stderr that make a sentence
_STEP = 0.1  # seconds between looks at the stop while a command runs


@dataclass(frozen=True, slots=True)
class Repository:
    """Which repository is meant. `words`: options before the subcommand; `env`: beside them."""

    words: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)


class GitFailed(Exception):
    """A command did not end well; `said`: git's own sentence, `code`: its exit code, None if it was killed, `stderr`: all."""

    def __init__(self, said: str, code: int | None = None, stderr: str = "") -> None:
        super().__init__(said)
        self.said = said
        self.code = code
        self.stderr = stderr


def spawn(words: Sequence[str], *, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start git in a session of its own, with pipes to all three streams. Raises Transient if that cannot be."""
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")  # read at import: without git it would raise ImportError
    import git  # an agent on a plain folder does without

    stray = [word for name in _STRAY if name in os.environ for word in ("-u", name)]
    command = [*(("env", *stray) if stray else ()), "git", *_ALWAYS, *words]
    try:
        started = git.Git("/").execute(
            command,
            as_process=True,
            istream=subprocess.PIPE,
            env={**_ENVIRONMENT, **(env or {})},
            start_new_session=True,
        )
    except git.GitCommandNotFound as error:
        raise Transient("git is not installed; install it, or use --source folder", reason="NoGit") from error
    except OSError as error:  # no memory, no process or no descriptor is left for it
        raise Transient(f"git cannot be started now: {error.strerror}", reason="SourceSlow") from error
    process = started.proc
    started.proc = None  # from here on it is ours to end
    return cast("subprocess.Popen[bytes]", process)


def run(
    words: Sequence[str],
    *,
    seconds: float,
    stop: threading.Event = NEVER,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
) -> bytes:
    """What git prints. Raises GitFailed, and Transient if there is no git."""
    process = spawn(words, env=env)
    try:
        printed, said = _ended(process, stdin, time.monotonic() + seconds, stop)
    except TimeoutError:
        why = "was stopped" if stop.is_set() else f"did not end within {seconds:g} s"
        raise GitFailed(f"git {_verb(words)} {why}") from None
    finally:
        kill(process)
    if process.returncode != 0:
        why = sentence(said) or f"git {_verb(words)} ended with {process.returncode}"
        raise GitFailed(why, process.returncode, said.decode("utf-8", "replace"))
    return printed


def ask(
    repository: Repository, words: Sequence[str], *, seconds: float, stop: threading.Event = NEVER, stdin: bytes = b""
) -> str:
    """What git prints about a repository. Raises GitFailed, and Transient if there is no git."""
    printed = run([*repository.words, *words], seconds=seconds, stop=stop, env=repository.env, stdin=stdin)
    return printed.decode("utf-8", "surrogateescape")


def kill(process: subprocess.Popen[bytes]) -> None:
    """End it with all that it started, if it has not ended, and let go of its streams."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            try:
                stream.close()
            except BrokenPipeError:
                continue  # what was still to be written has no reader any more


def sentence(said: bytes) -> str:
    """What git's stderr says is wrong: up to its first "fatal:", since before it stand the words of ssh or the server."""
    lines: list[str] = []
    for line in said.decode("utf-8", "replace").splitlines():
        if not line.strip() or line.startswith(("hint:", "warning:")):
            continue
        lines.append(line.strip().removeprefix("fatal: ").removeprefix("error: ").rstrip("."))
        if line.startswith("fatal: "):
            break
    return "; ".join(lines[-_LINES:])


def _ended(
    process: subprocess.Popen[bytes], stdin: bytes, deadline: float, stop: threading.Event
) -> tuple[bytes, bytes]:
    first: bytes | None = stdin
    while True:
        try:
            return process.communicate(first, timeout=_STEP)
        except subprocess.TimeoutExpired:
            first = None  # it is being written
            if stop.is_set() or time.monotonic() > deadline:
                raise TimeoutError from None


def _verb(words: Sequence[str]) -> str:
    """The subcommand: the first word that is no option or an option's value."""
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word in ("-C", "-c"):
            skip = True
        elif not word.startswith("-"):
            return word
    return ""
