"""The spec files of one commit below one path. Only objects are read, and no blob twice while it stays the same.

Names and limits are those of a folder: visible *.yaml, *.yml and *.json. Links and submodules are not followed: in
a commit a link is only a text, and a submodule only a number.
"""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import replace

from agent.contracts import Transient
from agent.source.git.object import LINK, SUBMODULE, TREE, Commit, Missing, Objects
from agent.source.scan import HIDDEN, Limits, readable
from agent.source.snapshot import SourceFile

_log = logging.getLogger("xmod.source")


class NoSuchPath(Exception):
    """The commit has no folder at this path."""


class NotAFolder(NoSuchPath):
    """Something else is there, which may lead to the specs: nobody says that they are gone. A sentence's end."""


class TreeReader:
    """Reads commits one after the other; `path`: below the repository's root, "" for all of it."""

    def __init__(self, path: str, limits: Limits) -> None:
        self._path = path
        self._limits = limits
        self._known: Mapping[str, SourceFile] = {}  # by the blob's id
        self._told: frozenset[str] = frozenset()

    def read(self, objects: Objects, commit: Commit) -> tuple[SourceFile, ...]:
        """All files, sorted by path. Raises NoSuchPath, Transient."""
        try:
            blobs, links = listed(objects, root_of(objects, commit, self._path), self._limits)
            files: list[SourceFile] = []
            known: dict[str, SourceFile] = {}
            left = self._limits.total_bytes
            for path, oid in sorted(blobs.items()):
                file = self._file(objects, path, oid, at=commit.at, left=left)
                files.append(file)
                if file.content is not None:
                    known[oid] = file
                    left -= len(file.content)
        except Missing as error:
            raise Transient(
                f"the repository lacks object {error} of commit {commit.oid}", reason="SourceBroken"
            ) from error
        self._known = known
        for path in sorted(links - self._told):
            _log.warning("ignored in the repository", extra={"file": path, "reason": "is a link"})
        self._told = links
        return tuple(files)

    def _file(self, objects: Objects, path: str, oid: str, *, at: float, left: int) -> SourceFile:
        """One file; `left`: how many bytes may still be read."""
        known = self._known.get(oid)
        if known is not None and known.content is not None and len(known.content) <= left:
            return known if known.path == path else replace(known, path=path, modified_at=at)
        size, content = objects.blob(oid, limit=min(self._limits.file_bytes, left))
        if size > self._limits.file_bytes:
            error = f"has {size} bytes, more than the {self._limits.file_bytes} that a file may have; split it"
        elif size > left:
            error = f"is not read: the files have more than {self._limits.total_bytes} bytes in all"
        else:
            return SourceFile(path, hashlib.sha256(content).hexdigest(), content, modified_at=at)
        return SourceFile(path, "", None, error)


def root_of(objects: Objects, commit: Commit, path: str) -> str:
    """The tree at a path of a commit. Raises NoSuchPath, Missing, Transient."""
    here = commit.tree
    for name in filter(None, path.split("/")):
        wanted = name.encode("utf-8", "surrogateescape")
        child = next((node for node in objects.tree(here) if node.name == wanted), None)
        if child is None:
            raise NoSuchPath(path)
        if child.mode != TREE:
            what = {LINK: "a link", SUBMODULE: "a submodule"}.get(child.mode, "a file")
            raise NotAFolder(f"{name} is {what} there, which is not followed; the folder of specs has to be a folder")
        here = child.oid
    return here


def listed(objects: Objects, root: str, limits: Limits) -> tuple[dict[str, str], frozenset[str]]:
    """The ids of the blobs below a tree that are specs by their names, and the links beside them. Raises Missing, Transient."""
    blobs: dict[str, str] = {}
    links: set[str] = set()
    todo = [("", root)]
    entries = 0
    while todo:
        prefix, tree = todo.pop()
        for node in objects.tree(tree):
            entries += 1
            name = node.name.decode("utf-8", "backslashreplace")
            if name[0] in HIDDEN or node.mode == SUBMODULE:
                continue
            if node.mode == TREE:
                todo.append((f"{prefix}{name}/", node.oid))
            elif readable(name) and node.mode == LINK:
                links.add(prefix + name)
            elif readable(name):
                blobs[prefix + name] = node.oid
        if entries > limits.entries:
            raise Transient(
                f"the repository's folder of specs has more than {limits.entries} entries; "
                "is this the folder of specs?",
                reason="SourceTooLarge",
            )
    return blobs, frozenset(links)
