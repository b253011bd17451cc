"""What is said to a remote, for one bare repository at a time: what is new, all history, and those files that are specs.

Nothing else comes by itself: git is not let out to anybody but in these commands, each of which is bounded in time.
"""

import os
import threading
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from agent.contracts import Transient
from agent.source.git.command import GitFailed, Repository, ask, run
from agent.source.git.object import Missing, Objects
from agent.source.git.remote import Remote, is_commit
from agent.source.git.tree import NoSuchPath, listed, root_of
from agent.source.scan import Limits

_HEAD = "refs/xmod/head"  # the remote's HEAD as fetched
_PINNED = "refs/xmod/pinned"  # a commit that no branch or tag leads to
_NOT_OURS = (
    "^refs/heads/refs/*",
    "^refs/tags/refs/*",
)  # where git looks for refs/xmod/… while we have none of that name
_ASK = 30.0  # seconds for what is small
_FETCH = 120.0
_LOCAL = 60.0
_ENTRIES = Limits(file_bytes=0, total_bytes=0)  # of which only the number of entries counts here


class NotSynced(Exception):
    """Why a mirror is not what the remote is; a sentence."""


class Origin:
    """The remote; `stop` cuts every command short. `tags_first`: a ref is meant as a tag before it is meant as a branch."""

    def __init__(self, remote: Remote, *, stop: threading.Event, tags_first: bool = False) -> None:
        self._remote = remote
        self._stop = stop
        self._tags_first = tags_first

    def init(self, place: Path) -> None:
        """Make a repository that knows the remote and may do without files. Raises GitFailed, Transient."""
        run(["init", "--quiet", "--bare", "--template=", str(place)], seconds=_LOCAL)
        for key, value in (
            ("remote.origin.url", self._remote.url),
            ("remote.origin.promisor", "true"),
            ("remote.origin.partialCloneFilter", "blob:none"),
            ("extensions.partialClone", "origin"),
            ("core.repositoryFormatVersion", "1"),
        ):
            ask(bare(place), ["config", key, value], seconds=_LOCAL)

    def asked(self) -> str:
        """The commit that the ref leads to, by the remote's word; "" if it does not say. Raises GitFailed, Transient."""
        names = _names(self._remote.ref)
        wanted = [word for name in names for word in (name, f"{name}^{{}}")]
        printed = run(
            ["ls-remote", "--", self._remote.url, *wanted], seconds=_ASK, stop=self._stop, env=self._remote.env()
        ).decode("utf-8", "replace")
        found = {name: oid for oid, _, name in (line.partition("\t") for line in printed.splitlines())}
        return next((found.get(f"{name}^{{}}", found[name]) for name in names if name in found), "")

    def fetch(self, place: Path, *, seconds: float = _FETCH) -> None:
        """Get all branches and tags with their history, and the ref. Raises GitFailed, NotSynced, Transient."""
        specs = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*", *_NOT_OURS]
        if not self._remote.ref:
            specs.append(f"+HEAD:{_HEAD}")
        elif self._remote.ref.startswith("refs/") and not self._remote.ref.startswith(("refs/heads/", "refs/tags/")):
            specs.append(f"+{self._remote.ref}:{self._remote.ref}")
        self._talk(place, ["--prune"], specs, seconds=seconds)
        ref = self._remote.ref
        if self._remote.pinned and not leads(place, f"{ref}^{{commit}}"):
            try:
                self._talk(place, [], [f"+{ref}:{_PINNED}"], seconds=seconds)
            except GitFailed as error:
                if error.code is None:
                    raise
                raise NotSynced(
                    f"{self._remote.url}: no branch or tag leads to commit {ref}, and the server does not hand it out by "
                    f"its id ({error}); push a branch or tag for it, or see source.ref (--ref)"
                ) from error

    def resolved(self, place: Path) -> tuple[str, str]:
        """The commit that the ref leads to, and the tag's name if it is a tag. Raises NotSynced."""
        names = (_HEAD,) if not self._remote.ref else _names(self._remote.ref)
        for name in reversed(names) if self._tags_first else names:
            oid = leads(place, f"{name}^{{commit}}")
            if oid:
                return oid, name.removeprefix("refs/tags/") if name.startswith("refs/tags/") else ""
        raise NotSynced(
            f"{self._remote.url} has no branch, tag or commit {self._remote.ref!r}; it was deleted or never existed, "
            "see source.ref (--ref)"
        )

    def fill(self, place: Path, oid: str) -> None:
        """Get the specs of a commit, in one go, where the server left them out. Raises GitFailed, Transient."""
        missing = self._lacking(place, oid)
        if missing:
            self._bring(place, missing, [], seconds=_FETCH)

    def bring(self, place: Path, objects: Collection[str]) -> None:
        """Get files of older commits, where the server left them out; beside a fetch. Raises GitFailed, Transient."""
        self._bring(place, objects, ["--no-auto-gc"], seconds=_ASK)

    def _bring(self, place: Path, objects: Collection[str], options: Sequence[str], *, seconds: float) -> None:
        """By their ids; no history is compared for them."""
        wanted = "".join(f"{name}\n" for name in objects).encode()
        words = ["--filter=blob:none", "--stdin", *options]
        self._talk(place, words, [], seconds=seconds, alone=("-c", "fetch.negotiationAlgorithm=noop"), stdin=wanted)

    def _talk(
        self,
        place: Path,
        options: Sequence[str],
        specs: Sequence[str],
        *,
        seconds: float,
        alone: Sequence[str] = (),
        stdin: bytes = b"",
    ) -> None:
        fetch = ["fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head"]
        run(
            [*alone, *bare(place).words, *fetch, *options, "origin", *specs],
            seconds=seconds,
            stop=self._stop,
            env=self._remote.env(),
            stdin=stdin,
        )

    def _lacking(self, place: Path, oid: str) -> Collection[str]:
        """The specs below our path that are not here."""
        tree = f"{oid}:{self._remote.path}"
        words = ["rev-list", "--objects", "--no-object-names", "--missing=print", "--no-walk", tree]
        try:
            printed = ask(bare(place), words, seconds=_LOCAL, stop=self._stop)
        except GitFailed:
            ask(bare(place), ["rev-parse", "--verify", "-q", f"{oid}^{{tree}}"], seconds=_LOCAL)
            return ()  # the commit has no such path, which is for the reader to say
        missing = {line[1:] for line in printed.splitlines() if line.startswith("?")}
        return missing and missing.intersection(self._specs(place, oid))

    def _specs(self, place: Path, oid: str) -> Collection[str]:
        try:
            with Objects(bare(place), seconds=_LOCAL) as objects:
                return listed(objects, root_of(objects, objects.commit(oid), self._remote.path), _ENTRIES)[0].values()
        except NoSuchPath:
            return ()
        except Missing as error:
            raise GitFailed(f"object {error} is missing") from error
        except Transient as error:
            if error.reason == "SourceTooLarge":
                return ()  # which is for the reader to say
            raise GitFailed(str(error)) from error


def bare(place: Path) -> Repository:
    """The repository in a folder, for what asks nobody else."""
    return Repository(("--git-dir", os.fspath(place)), {"GIT_ALLOW_PROTOCOL": "none"})


def leads(place: Path, name: str) -> str:
    """The id that a name leads to, "" if to none. Raises Transient."""
    with suppress(GitFailed):
        return ask(bare(place), ["rev-parse", "--verify", "-q", name], seconds=_LOCAL).strip()
    return ""


def _names(ref: str) -> tuple[str, ...]:
    """Where a ref may stand, in the order of preference."""
    if not ref:
        return ("HEAD",)
    if ref.startswith("refs/") or is_commit(ref):
        return (ref,)
    return (f"refs/heads/{ref}", f"refs/tags/{ref}")
