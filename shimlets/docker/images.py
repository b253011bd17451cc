"""The engine's images: which are here, what a reference means, pulls with their progress, and archives.

A reference means what it resolved to when a generation was first created; a tag that moves later is told, not chased.
An archive ("archive:PATH", as `docker save` writes it) is known by the hash of its bytes: it is loaded once and tagged
`xmod.local/archive:HASH`; the hash is kept by inode, size and time of change, also in the state folder, so that a large
file is read only when it changed. Errors also come inside an answer that began with 200.
"""

import hashlib
import json
import logging
import tarfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.contracts import Credentials, Permanent, Task, Transient, XmodError
from shimlets.docker.engine import Engine, Invalid, Missing, Stream
from shimlets.docker.login import Logins, carried, discreet

_log = logging.getLogger("xmod.docker")
_SILENCE = 300.0  # seconds without any progress after which a pull is given up
_CHUNK = 1 << 20
ARCHIVE = "archive:"


class Images:
    """Implements the Images facet of one engine. `memory`: the file that remembers archives' hashes."""

    def __init__(self, engine: Engine, *, logins: Logins, memory: Path) -> None:
        self._engine = engine
        self._logins = logins
        self._memory = memory
        self._lock = threading.Lock()
        self._hashes: dict[str, list[Any]] | None = None

    def has_image(self, ref: str) -> bool:
        """It is here, whole. An archive that was not read yet counts as not here: `pull_image` reads it."""
        if ref.startswith(ARCHIVE):
            digest = self._remembered(Path(ref.removeprefix(ARCHIVE)))
            return digest is not None and self.image_id(_tag(digest)) is not None
        return self.image_id(ref) is not None

    def image_id(self, ref: str) -> str | None:
        """The id that a reference means now; None if there is no such image here."""
        try:
            return str(self._engine.call("GET", f"/images/{self.local(ref)}/json", f"look for image {ref}")["Id"])
        except Missing:
            return None

    def local(self, ref: str) -> str:
        """The reference under which the engine has it. Transient for an archive that was not read yet."""
        if not ref.startswith(ARCHIVE):
            return ref
        digest = self._remembered(Path(ref.removeprefix(ARCHIVE)))
        if digest is None:
            raise Missing(f"docker: {ref}: it changed, or was not read yet")
        return _tag(digest)

    def pull_image(self, ref: str, task: Task, login: Credentials | None = None) -> None:
        """Bring it here. `login`: what the service's spec says; else the operator's, else Docker's own."""
        if not ref:
            raise Permanent("docker: the service names no image", reason="ImageMissing")
        if ref.startswith(ARCHIVE):
            self._load(Path(ref.removeprefix(ARCHIVE)), task)
        else:
            self._pull(ref, task, login)

    def _pull(self, ref: str, task: Task, login: Credentials | None) -> None:
        login = login or self._logins.of(ref)
        headers = self._logins.header(ref, login)
        shown = login or carried(headers)
        doing = f"pull image {ref}"
        progress = Progress()
        try:
            with self._engine.stream(
                "POST", "/images/create", doing, params=_pull_params(ref), headers=headers, timeout=_SILENCE
            ) as stream:
                for line in told(stream, ref):
                    task.report(*progress.after(line))
        except (Missing, Invalid) as error:
            raise discreet(pull_error(str(error), ref, refused=True), shown) from None
        except Transient as error:
            if error.reason == "EngineError":  # the engine could not; what it says decides
                raise discreet(pull_error(str(error), ref), shown) from None
            raise discreet(error, shown) from None
        except Permanent as error:
            raise discreet(error, shown) from None
        if self.image_id(ref) is None:
            raise Transient(f"docker: image {ref} was pulled, but is not here", reason="PullFailed")

    # Archives.

    def _load(self, path: Path, task: Task) -> None:
        try:
            digest = self._hashed(path, task)
            if self.image_id(_tag(digest)) is not None:
                return
            checked_archive(path)
            size = path.stat().st_size
            with path.open("rb") as file:
                names = self._loaded(path, _reported(file, size, task))
        except OSError as error:
            raise Transient(f"docker: archive {path}: {error}", reason="ArchiveUnreadable", delay=30.0) from error
        loaded = self._engine.call("GET", f"/images/{names[-1]}/json", f"look at what {path} brought")["Id"]
        repository, _, tag = _tag(digest).rpartition(":")
        params = {"repo": repository, "tag": tag}
        self._engine.call("POST", f"/images/{loaded}/tag", f"tag what {path} brought", params=params)

    def _loaded(self, path: Path, body: Iterator[bytes]) -> list[str]:
        doing = f"load archive {path}"
        headers = {"Content-Type": "application/x-tar"}
        names = []
        with self._engine.stream("POST", "/images/load", doing, data=body, headers=headers, timeout=_SILENCE) as stream:
            for line in told(stream, str(path)):
                said = line.get("stream", "")
                if said.startswith(("Loaded image: ", "Loaded image ID: ")):
                    names.append(said.partition(": ")[2].strip())
        if not names:
            raise Permanent(f"docker: archive {path}: the engine found no image in it", reason="ArchiveInvalid")
        return names

    def _remembered(self, path: Path) -> str | None:
        """The hash of the file as it is now, if that is known without reading it."""
        try:
            key = _stat_key(path)
        except OSError as error:
            raise Transient(f"docker: archive {path}: {error}", reason="ArchiveUnreadable", delay=30.0) from error
        entry = self._read_memory().get(str(path))
        return entry[1] if entry is not None and entry[0] == key else None

    def _hashed(self, path: Path, task: Task) -> str:
        known = self._remembered(path)
        if known is not None:
            return known
        before = _stat_key(path)
        hasher, size = hashlib.sha256(), max(1, path.stat().st_size)
        with path.open("rb") as file:
            while block := file.read(_CHUNK):
                hasher.update(block)
                task.report(0.5 * file.tell() / size, f"reading {path}")
        if _stat_key(path) != before:
            raise Transient(f"docker: archive {path} changes while it is read", reason="ArchiveUnreadable", delay=5.0)
        with self._lock:
            self._hashes = {**(self._hashes or {}), str(path): [before, hasher.hexdigest()]}
            self._write_memory(self._hashes)
        return hasher.hexdigest()

    def _read_memory(self) -> Mapping[str, list[Any]]:
        with self._lock:
            if self._hashes is None:
                try:
                    self._hashes = dict(json.loads(self._memory.read_text()))
                except (OSError, ValueError, TypeError):
                    self._hashes = {}  # lost: archives are read once more
            return self._hashes

    def _write_memory(self, hashes: Mapping[str, list[Any]]) -> None:
        fresh = self._memory.with_suffix(".tmp")
        try:
            self._memory.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_text(json.dumps(hashes))
            fresh.replace(self._memory)
        except OSError as error:
            _log.warning("archive hashes not kept", extra={"file": str(self._memory), "error": str(error)})


@dataclass(slots=True)
class Progress:
    """How far a pull is, over all layers whose size is known so far."""

    done: dict[str, int] = field(default_factory=dict)
    total: dict[str, int] = field(default_factory=dict)

    def after(self, line: Mapping[str, Any]) -> tuple[float, str]:
        """Take in one line of the engine's; the part done (−1: unknown) and a sentence."""
        layer, status, detail = line.get("id", ""), line.get("status", ""), line.get("progressDetail") or {}
        if status == "Downloading" and detail.get("total"):
            self.total[layer] = detail["total"]
            self.done[layer] = detail.get("current", 0)
        elif status in ("Download complete", "Extracting", "Pull complete") and layer in self.total:
            self.done[layer] = self.total[layer]
        whole, got = sum(self.total.values()), sum(self.done.values())
        if not whole:
            return -1.0, " ".join(filter(None, (layer, status)))
        return got / whole, f"{status.lower()} {_mega(got)} of {_mega(whole)} MB in {len(self.total)} layers"


def told(stream: Stream, ref: str) -> Iterator[Mapping[str, Any]]:
    """The lines of an answer; raises what one of them says went wrong."""
    for line in stream.objects():
        if "error" in line:
            detail = line.get("errorDetail") or {}
            raise pull_error(str(detail.get("message") or line["error"]), ref)
        yield line


def pull_error(message: str, ref: str, *, refused: bool = False) -> XmodError:
    """What a pull's error means: it does not exist, we may not have it, or try later. `refused`: the engine said 4xx."""
    low, sentence = message.lower(), f"docker: image {ref}: {message.removeprefix('docker: ')}"
    if "no space left" in low:
        return Transient(sentence, reason="DiskFull", delay=60.0)
    if "toomanyrequests" in low or "rate limit" in low:
        return Transient(sentence, reason="RateLimited", delay=300.0)
    if any(word in low for word in ("denied", "unauthorized", "no basic auth", "authentication required", "forbidden")):
        hint = (
            "; it does not exist, or needs credentials (docker login, shimlets.docker.registries, or imageCredentials)"
        )
        return Permanent(sentence + hint, reason="ImageDenied")
    if any(word in low for word in ("manifest unknown", "not found", "no matching manifest", "does not exist")):
        return Permanent(sentence, reason="ImageNotFound")
    if "invalid reference" in low or "unsupported media type" in low or "invalid tar" in low or refused:
        return Permanent(sentence, reason="ImageInvalid")
    return Transient(sentence, reason="PullFailed")


def checked_archive(path: Path) -> None:
    """Raises Permanent unless it is what `docker save` writes, with one image."""
    try:
        with tarfile.open(path) as archive:
            member = next((m for m in archive if m.name.removeprefix("./") == "manifest.json"), None)
            file = archive.extractfile(member) if member is not None and member.size < _CHUNK else None
            if file is None:
                hint = "no manifest.json in it; `docker save IMAGE -o FILE` makes one (a root file system is none)"
                raise Permanent(f"docker: {path} is no image archive: {hint}", reason="ArchiveInvalid")
            images = json.load(file)
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise Permanent(f"docker: {path} is no image archive: {error}", reason="ArchiveInvalid") from error
    if not isinstance(images, list) or len(images) != 1:
        raise Permanent(f"docker: {path}: must hold exactly one image", reason="ArchiveInvalid")


def _pull_params(ref: str) -> dict[str, str]:
    """A reference with neither tag nor digest means its latest, not all of its tags."""
    name, at, digest = ref.partition("@")
    if at:
        return {"fromImage": name, "tag": digest}
    head, _, last = ref.rpartition("/")
    name, colon, tag = last.partition(":")
    return {"fromImage": f"{head}/{name}" if head else name, "tag": tag if colon else "latest"}


def _reported(file: Any, size: int, task: Task) -> Iterator[bytes]:
    while block := file.read(_CHUNK):
        yield block
        task.report(0.5 + 0.5 * file.tell() / max(1, size), f"loading, {_mega(file.tell())} of {_mega(size)} MB")


def _stat_key(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_ino, stat.st_size, stat.st_mtime_ns]


def _tag(digest: str) -> str:
    return f"xmod.local/archive:{digest[:16]}"


def _mega(count: int) -> str:
    return f"{count / 1e6:.1f}"
