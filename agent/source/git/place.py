"""Where the work tree is that a folder lies in, and what its HEAD says, without starting git.

Only files that git itself reads for this are read: `.git`, `commondir`, HEAD, a ref, `packed-refs`. What is found here is
a place and a hint that something changed; what counts is what git then says of that place.
"""

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

from agent.contracts import Transient
from agent.source.git.command import Repository
from agent.source.place import Inode, Way, inode_of, trace

_BEGINS = 10.0  # seconds from the first move of HEAD to the file that says what goes on
_LINE = 4096  # bytes that hold the last line of a log
_BUSY = {  # what git keeps in its folder while HEAD walks over commits that nobody means to be in effect
    "rebase-merge": "a rebase is under way",
    "rebase-apply": "a rebase or `git am` is under way",
    "BISECT_LOG": "a bisection is under way",
}


@dataclass(frozen=True, slots=True)
class WorkTree:
    """A work tree. `top`: its root; `path`: our folder below it, "" for the root; `git_dir` holds HEAD, `common_dir` refs."""

    top: str
    path: str
    git_dir: str
    common_dir: str

    @property
    def repository(self) -> Repository:
        """For git. It finds the repository itself, so that it checks its owner, but no other one further up."""
        return Repository(("-C", self.top), {"GIT_CEILING_DIRECTORIES": str(Path(self.top).parent)})

    @property
    def shallow(self) -> bool:
        """Its history is cut off."""
        return Path(self.common_dir, "shallow").exists()

    @property
    def busy(self) -> str:
        """What git is in the middle of, "" if nothing."""
        for name, said in _BUSY.items():
            if Path(self.git_dir, name).exists():
                return said
        return "a rebase begins" if self._rebase_begins() else ""

    def _rebase_begins(self) -> bool:
        """`git rebase --apply` moves HEAD before it says so by a file: for a moment only the log of HEAD tells."""
        log = Path(self.git_dir, "logs", "HEAD")
        try:
            if _text(Path(self.git_dir, "HEAD")).startswith("ref: ") or time.time() - log.stat().st_mtime > _BEGINS:
                return False
            with log.open("rb") as lines:
                lines.seek(-min(_LINE, log.stat().st_size), os.SEEK_END)
                return lines.read().splitlines()[-1].partition(b"\t")[2].startswith(b"rebase (start)")
        except (OSError, IndexError):
            return False


@dataclass(frozen=True, slots=True)
class Sight:
    """Everything that decides what a look would find: while two sights are equal, nothing happened.

    `folders`: where a change of it is heard.
    """

    way: Way
    tree: WorkTree | None
    busy: str = ""
    head: str = ""
    ref: str = ""
    packed: tuple[int, ...] = ()
    folders: frozenset[tuple[str, Inode]] = frozenset()


def work_tree(real: str) -> WorkTree | None:
    """The work tree that a folder lies in, None if there is none. The folder may be missing: a checkout need not have it."""
    for folder in (Path(real), *Path(real).parents):
        git = folder / ".git"
        if git.is_file():  # a linked work tree or a submodule: "gitdir: PATH"
            with contextlib.suppress(OSError, UnicodeDecodeError):
                git = (folder / git.read_text().removeprefix("gitdir:").strip()).resolve()
        elif not git.is_dir():
            continue
        return WorkTree(str(folder), _below(folder, real), str(git), str(_common(git)))
    return None


def locate(path: str) -> tuple[Way, WorkTree | None]:
    """The way to a folder, and its work tree. A link that leads nowhere has none."""
    way = trace(path)
    if way.inode is not None:
        return way, work_tree(way.real)
    links = way.stations[:-1]
    if links and not Path(links[-1]).exists():
        return way, None
    return way, work_tree(os.path.realpath(path))


def sight(path: str) -> Sight:
    """Look at what matters. Raises nothing: what cannot be read is part of the sight."""
    way, tree = locate(path)
    beside = {os.path.dirname(station) for station in way.stations}  # noqa: PTH120 strings
    if tree is None:
        return Sight(way, None, folders=_inodes(beside))
    head = _text(Path(tree.git_dir, "HEAD"))
    ref = packed = None
    if head.startswith("ref: "):
        ref = Path(tree.common_dir, head.removeprefix("ref: "))
        packed = Path(tree.common_dir, "packed-refs")
    beside |= {tree.git_dir, tree.common_dir} | ({str(_existing(ref.parent))} if ref is not None else set())
    return Sight(
        way,
        tree,
        tree.busy,
        head,
        _text(ref) if ref is not None else "",
        _stamp(packed) if packed is not None else (),
        _inodes(beside),
    )


def require(path: str) -> WorkTree:
    """The work tree of a folder. Raises Transient."""
    way, tree = locate(path)
    if tree is None:
        where = f" ({way.stations[-1]}: {way.error})" if way.error else ""
        raise Transient(f"{path}: lies in no git work tree now{where}; mount or clone it again", reason="SourceMissing")
    return tree


def _below(top: Path, real: str) -> str:
    below = str(Path(real).relative_to(top))
    return "" if below == "." else below


def _common(git_dir: Path) -> Path:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return (git_dir / (git_dir / "commondir").read_text().strip()).resolve()
    return git_dir


def _existing(folder: Path) -> Path:
    return next((place for place in (folder, *folder.parents) if place.is_dir()), Path("/"))


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace").strip()
    except OSError as error:
        return f"({error.strerror})"


def _stamp(file: Path) -> tuple[int, ...]:
    try:
        status = file.stat()
    except OSError:
        return ()
    return (status.st_ino, status.st_size, status.st_mtime_ns)


def _inodes(folders: set[str]) -> frozenset[tuple[str, Inode]]:
    found: set[tuple[str, Inode]] = set()
    for folder in folders:
        with contextlib.suppress(OSError):
            found.add((folder, inode_of(folder)))
    return frozenset(found)
