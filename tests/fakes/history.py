"""A host that follows a real git work tree: the real source, reader, provenance and planner over a world in memory."""

import os
import subprocess
import threading
from pathlib import Path
from typing import Any, Self

from agent.clock import SystemClock
from agent.control.board import Status
from agent.control.desired import DesiredReader, DesiredState
from agent.control.provenance import Provenance
from agent.control.scanner import Scanner
from agent.control.words import Words
from agent.source.git.worktree import WorkTreeSource
from agent.source.snapshot import Source
from tests.fakes.agent import MiniAgent, clock_at_noon
from tests.fakes.facts import NoFacts
from tests.fakes.folder import RESOLVER
from tests.fakes.following import git
from tests.fakes.memory import World

NEVER = threading.Event()


class Repository:
    """A work tree with its specs in specs/. Each commit is a minute younger than the one before."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.minutes = 0
        (root / "specs").mkdir(parents=True)
        self.git("init", "-q", "-b", "main")

    def git(self, *words: str) -> str:
        return git(self.root, *words)

    def commit(self, subject: str, *, author: str = "Ann", **files: str | None) -> str:
        """Commit these files (`a` is specs/a.yaml, None removes); the commit's id."""
        for name, text in files.items():
            path = self.root / "specs" / f"{name}.yaml"
            if text is None:
                path.unlink()
            else:
                path.parent.mkdir(exist_ok=True)
                path.write_text(text)
        return self.commit_all(subject, author=author)

    def commit_all(self, subject: str, *, author: str = "Ann") -> str:
        """Commit whatever the work tree holds."""
        self.git("add", "-A")
        return self._committed("commit", "-q", "--allow-empty", "-m", subject, author=author)

    def merge(self, branch: str, *words: str, author: str = "Bob") -> str:
        """Merge a branch into the one that is checked out."""
        return self._committed("merge", "-q", "--no-ff", "-m", f"Merge {branch}", *words, branch, author=author)

    @property
    def head(self) -> str:
        return self.git("rev-parse", "HEAD").strip()

    def _committed(self, *words: str, author: str) -> str:
        self.minutes += 1
        date = f"2026-01-01T{10 + self.minutes // 60:02}:{self.minutes % 60:02}:00Z"
        env = {
            "PATH": os.environ["PATH"],
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": author,
            "GIT_AUTHOR_EMAIL": "a@example.com",
            "GIT_COMMITTER_NAME": author,
            "GIT_COMMITTER_EMAIL": "a@example.com",
            "GIT_AUTHOR_DATE": date,
            "GIT_COMMITTER_DATE": date,
        }
        subprocess.run(["git", *words], cwd=self.root, env=env, check=True, capture_output=True)
        return self.head


class GitHost:
    """An agent on a repository; `restart` loses everything but the world. `look` reads, `recall` asks history, too."""

    def __init__(self, root: Path, *, source: Source | None = None, resolver: Any = RESOLVER) -> None:
        self.root = root
        self.clock = clock_at_noon()
        self.world = World(now=self.clock.now, probes=False, stops_at_once=True)
        self._given = source
        self.resolver = resolver
        self._begin()

    def _begin(self) -> None:
        self.agent = MiniAgent(self.world, self.clock, words=Words())
        self.source = self._given or WorkTreeSource(self.root / "specs", clock=SystemClock())
        self.provenance = Provenance(
            board=self.agent.board,
            read_file=lambda path, content: self.resolver.read_file(path, content),
            recall=lambda revision, words: self.scanner.recall(revision, words),
            clock=self.clock,
            breath=0.0,
        )
        self.agent.board.listen(self.provenance.heard)
        self.scanner = Scanner(
            source=self.source,
            reader=DesiredReader(lambda path, content: self.resolver.read_file(path, content)),
            take=self.agent.controller.take,
            provenance=self.provenance,
            facts=NoFacts(),
            clock=self.clock,
            interval=30.0,
        )

    def look(self, rounds: int = 6) -> Self:
        """Read the source, and let everything come to its end, without history."""
        assert self.scanner.step(), self.scanner.error
        self.agent.settle(rounds)
        return self

    def recall(self, rounds: int = 6) -> Self:
        """Read the source, ask history, and let everything come to its end."""
        self.look(rounds)
        for _ in range(3):
            self.provenance.step(NEVER)
            self.agent.settle(rounds)
        return self

    def restart(self, *, world: bool = True) -> Self:
        """Another agent, with its state lost; without `world` also everything that ran."""
        if world:
            self.world.agent_died("test")
        else:
            self.world = World(now=self.clock.now, probes=False, stops_at_once=True)
        self._begin()
        return self

    @property
    def desired(self) -> DesiredState:
        found = self.agent.controller.desired()
        assert found is not None
        return found

    def status(self, name: str = "web") -> Status:
        return self.agent.status(name)

    def changed(self, name: str = "web") -> str:
        """The commit that its status names, "" for none."""
        change = self.status(name).change
        return change.commit if change is not None else ""

    def runs(self, name: str = "web") -> str:
        """The version (the image's tag) of what runs of it, "" for nothing."""
        seen = self.agent.world.observe("memory", name)
        live = [g.service.workload.image.rpartition(":")[2] for g in seen.generations if g.live]
        return ",".join(live)
