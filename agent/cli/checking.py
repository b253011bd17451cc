"""What `validate` finds: files are found, read and resolved as an agent with these settings would do it."""

import functools
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from agent.cli.conflicts import Finding, Found, together
from agent.daemon.parts import StartError, host_of, registry_of, resolver_of, sops_of
from agent.settings import Settings, SettingsError
from agent.source.place import trace
from agent.source.scan import Limits, scan
from agent.spec.resolve import FileReading, Resolver

_MOST = (1 << 20) + 1  # bytes: one more than a file may have, so that the reader says so


class Result(NamedTuple):
    """How many files and services there are, and all that is wrong with them, by place.

    `elsewhere`: how many services are for other hosts. `locked`: encrypted files that nothing here decrypts, if they may
    be skipped.
    """

    files: int
    services: int
    findings: tuple[Finding, ...]
    locked: tuple[Finding, ...] = ()
    elsewhere: int = 0


def check(paths: Sequence[Path], settings: Settings, *, for_host: bool = False, skip_encrypted: bool = False) -> Result:
    """Read all these files and folders. Raises SettingsError, and Transient for a folder.

    `for_host`: as the host of the settings reads them, not as any host may.
    """
    read = _reader(settings, for_host=for_host)
    files = 0
    findings: list[Finding] = []
    locked: list[Finding] = []
    found_here: list[Found] = []
    elsewhere = 0
    for root, file, content, error in _contents(paths):
        files += 1
        if content is None:
            findings.append(Finding(file, 1, 1, "", error))
            continue
        reading = read(root, file, content)
        found = locked if reading.passing and skip_encrypted else findings
        found += [Finding(file, *problem) for problem in reading.problems]
        found_here += [Found(file, wanted) for wanted in reading.wanted]
        elsewhere += len(reading.elsewhere)
    findings += together(found_here, host_of(settings) if for_host else None)
    return Result(files, len(found_here), tuple(sorted(findings)), tuple(sorted(locked)), elsewhere)


def _reader(settings: Settings, *, for_host: bool) -> Callable[[Path, str, bytes], FileReading]:
    """What reads a file's bytes; its first argument is the folder of the specs."""
    try:
        registry, sops = registry_of(settings), sops_of(settings)

        @functools.cache
        def resolver(root: Path) -> Resolver:
            made = resolver_of(settings.model_copy(update={"directory": root}), registry, sops)
            return made if for_host else replace(made, host=None)

        resolver(settings.directory)  # so that what is wrong with the settings is said before any file is read
    except StartError as error:
        raise SettingsError(str(error).splitlines()) from error
    return lambda root, file, content: resolver(root).read_file(file, content)


def _contents(paths: Sequence[Path]) -> Iterator[tuple[Path, str, bytes | None, str]]:
    """Each file: the folder of its specs, its path as it was spelled, its content, or why it cannot be read."""
    seen: set[str] = set()
    for path in paths:
        root = path if path.is_dir() else path.parent if _handed(path) is None else Path()
        for file, content, error in _folder(path) if path.is_dir() else [_file(path)]:
            real = os.path.realpath(file)
            if real not in seen:
                seen.add(real)
                yield root.absolute(), file, content, error


def _folder(path: Path) -> Iterator[tuple[str, bytes | None, str]]:
    """A folder is walked as the agent does it."""
    spelled = str(path.absolute())
    found = scan(trace(spelled), spelled, known={}, limits=Limits(), now=time.time_ns())
    for below, entry in sorted(found.entries.items()):
        yield str(path / below), entry.file.content, entry.file.error


def _file(path: Path) -> tuple[str, bytes | None, str]:
    """One file, or what this program was handed as /dev/stdin. Nothing else that could keep us waiting is read."""
    handed = _handed(path)
    try:
        with open(path if handed is None else handed, "rb", closefd=handed is None, opener=_unblocked) as opened:
            if handed is None and not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
                return str(path), None, "cannot be read: it is not a regular file; a pipe is read as /dev/stdin"
            return str(path), opened.read(_MOST), ""
    except OSError as error:
        return str(path), None, f"cannot be read: {error.strerror}"


def _unblocked(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)  # nobody may ever write into a fifo


def _handed(path: Path) -> int | None:
    """The descriptor that a path such as /dev/stdin or /dev/fd/63 names."""
    if path == Path("/dev/stdin"):
        return 0
    name = path.name if path.parent in (Path("/dev/fd"), Path("/proc/self/fd")) else ""
    return int(name) if name.isascii() and name.isdigit() and len(name) < 9 else None
