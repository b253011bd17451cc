"""What a repository's word stands on: its history. A commit of unrelated history is another source in the place of ours.

Two commits are related if they have a common ancestor, or a root in common with what was seen before. A shallow clone
cannot tell; there, the repository itself (its folder) is what counts.
"""

from contextlib import suppress

from agent.contracts import Transient
from agent.source.git.command import GitFailed, Repository, ask
from agent.source.git.object import Commit, Missing, Objects

_NEAR = 30  # commits
_SECONDS = 60.0  # a walk over a million commits takes ten


class History:
    """Gives each commit an identity that stays the same while histories are related."""

    def __init__(self) -> None:
        self._head = ""
        self._roots: frozenset[str] = frozenset()
        self._ground = ""
        self._identity = ""

    def identity(self, repository: Repository, objects: Objects, commit: Commit, *, ground: str) -> str:
        """The identity of this commit; `ground`: what to go by if the history is cut off, else "". Raises Transient."""
        if not self._related(repository, objects, commit, ground):
            self._identity = f"repository {ground}" if ground else f"history {self._noted(repository, commit)}"
        self._head, self._ground = commit.oid, ground
        return self._identity

    def _related(self, repository: Repository, objects: Objects, commit: Commit, ground: str) -> bool:
        if not self._head:
            return False
        if (ground and ground == self._ground) or _near(objects, commit, self._head):
            return True
        try:
            ask(repository, ["merge-base", self._head, commit.oid], seconds=_SECONDS)
        except GitFailed:  # none, or the old commit is not here any more
            return not ground and bool(self._roots & _roots(repository, commit))
        return True

    def _noted(self, repository: Repository, commit: Commit) -> str:
        self._roots = _roots(repository, commit)
        return min(self._roots, default=commit.oid)


def _near(objects: Objects, commit: Commit, other: str) -> bool:
    """The other is among the commit's nearest ancestors: as a rule it is, and that spares the way to the runtime a process."""
    seen, todo = {commit.oid}, [commit]
    while todo and len(seen) < _NEAR:
        for parent in todo.pop(0).parents:
            if parent not in seen and other not in seen:
                seen.add(parent)
                with suppress(Missing):  # cut off
                    todo.append(objects.commit(parent))
    return other in seen


def knew(repository: Repository, commit: Commit, path: str) -> bool:
    """Whether a commit that has no folder at this path had one once: then it was removed, not mistyped. Raises Transient."""
    words = ["--literal-pathspecs", "rev-list", "-1", commit.oid, "--", path]
    try:
        return bool(ask(repository, words, seconds=_SECONDS).strip())
    except GitFailed as error:
        raise Transient(f"the history of {commit.oid} cannot be read: {error}", reason="SourceBroken") from error


def _roots(repository: Repository, commit: Commit) -> frozenset[str]:
    try:
        return frozenset(ask(repository, ["rev-list", "--max-parents=0", commit.oid], seconds=_SECONDS).split())
    except GitFailed as error:
        raise Transient(f"the history of {commit.oid} cannot be read: {error}", reason="SourceBroken") from error
