"""Part `git`: from the update of a ref to the first call that acts on the runtime."""

import os
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from bench import specs
from bench.agent_process import AgentProcess, Failure
from bench.calls import Calls
from bench.latency import applied
from bench.table import Row, median, percentile
from bench.workplace import Workplace

P50, P99 = 50.0, 250.0  # ms, DESIGN §11
_BESIDE = 100  # other services in the repository
KINDS = (("one commit → runtime", 1), ("five commits at once → runtime", 5))


def run(place: Workplace, *, quick: bool) -> Iterator[Row]:
    rounds = 20 if quick else 150
    work = place.folder("git")
    tree = WorkTree(work / "specs")
    names = specs.fill(tree.root, _BESIDE)
    tree.update(tree.commit())
    with AgentProcess(work, shimlet="pretend", instance=place.name("git")) as agent:
        agent.until(lambda: applied(agent.calls) >= set(names), 60, f"{_BESIDE} services to be applied")
        if not agent.status()["source"]["head"]:
            raise Failure("the agent reads the work tree as a plain folder")
        time.sleep(1.0)  # let it come to rest: the first rounds would measure its beginning
        calls = Calls(agent.calls)
        for what, commits in KINDS:
            waits = [_wait(tree, calls, f"new-{commits}-{number:04d}", commits) for number in range(rounds)]
            note = f"{rounds} updates beside {_BESIDE} services; first apply"
            yield Row(f"{what}, p50", median(waits), "ms", limit=P50, note=note)
            yield Row(f"{what}, p99", percentile(waits, 0.99), "ms", limit=P99)
        calls.close()


class WorkTree:
    """A repository whose branch is moved at an instant that is known: by the rename that git itself would do."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True)
        self._git("init", "--quiet", "--initial-branch=main")
        self._head = ""

    def commit(self) -> str:
        """All that lies there, as a commit that no ref leads to yet."""
        self._git("add", "--all")
        parent = ("-p", self._head) if self._head else ()
        self._head = self._git("commit-tree", "-m", "change", *parent, self._git("write-tree"))
        return self._head

    def update(self, commit: str) -> float:
        """Let the branch lead there; when that was, in seconds of CLOCK_MONOTONIC."""
        ref = self.root / ".git" / "refs" / "heads" / "main"
        beside = ref.with_suffix(".lock")
        beside.write_text(f"{commit}\n")
        at = time.monotonic()
        os.replace(beside, ref)  # noqa: PTH105 - the call that is meant
        return at

    def _git(self, *words: str) -> str:
        who = {
            f"GIT_{role}_{what}": "bench@example.com" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        }
        environ = {**os.environ, **who, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        done = subprocess.run(["git", *words], cwd=self.root, env=environ, check=True, capture_output=True, text=True)
        return done.stdout.strip()


def _wait(tree: WorkTree, calls: Calls, name: str, commits: int) -> float:
    """Milliseconds until the service that was committed now is applied."""
    for number in range(commits):
        specs.put(tree.root, name, specs.model_service(name, f"{number}"))
        last = tree.commit()
    time.sleep(random.uniform(0.1, 0.4))  # not in step with any of the agent's own intervals
    calls.new()
    updated = tree.update(last)
    call = calls.wait_for("apply", name)
    if call.at < updated - 0.05:
        raise Failure(f"{name} was applied before the ref was updated")
    return max(0.0, call.at - updated) * 1000.0
