"""Git at work at full speed under two running agents, one that reads commits and one that reads plain files.

300 services in files that each checkout, reset and merge rewrites, moves, splits and joins, while every revision wants the
same: not one process may be started or stopped, also by an agent that is killed and starts anew, without its memory, in
the middle of it. A naive reader beside them must see files missing, else the race proved nothing.
"""

import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.fakes.following import git
from tests.fakes.program import Program, eventually, program
from tools import demo

COUNT = 300
SLEEP = "/bin/sleep"
SETTINGS = {"policy": {"programs": [SLEEP]}, "agent": {"rescanInterval": "2s", "resyncInterval": "10s"}}
NAMES = {f"s{number:03}" for number in range(COUNT)}
_NAME = re.compile(r"metadata: \{name: (s\d{3})\}")


def spec(name: str, note: str, words: str = "one") -> str:
    return (
        f"# {note}\napiVersion: xmod.dev/v1\nkind: DeploySpec\nmetadata: {{name: {name}}}\nspec:\n"
        f"  container:\n    command: [{SLEEP}, infinity]\n    health: {{none: true}}\n"
        f"  env: [{{key: WORDS, value: {words}}}]\n"
    )


class Repository:
    """A work tree with the branches `plain` and `other`, which want the same of other files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.specs = root / "specs"
        git(root, "init", "-q", "-b", "plain")
        self.write({f"{name}.yaml": spec(name, "plain" * 40) for name in NAMES})
        self.commit("plain")
        git(root, "checkout", "-q", "-b", "other")
        moved: dict[str, str] = {}
        for name in NAMES:
            number = int(name[1:])
            if number % 3 == 0:
                moved[f"{name}.yaml"] = spec(name, "other" * 30)
            elif number % 3 == 1:
                moved[f"moved/{name}.yml"] = spec(name, "plain" * 40)
            else:
                path = f"joined/{number // 30}.yaml"
                moved[path] = moved.get(path, "") + "---\n" + spec(name, "joined")
        self.write(moved)
        self.commit("other")

    def write(self, files: dict[str, str]) -> None:
        shutil.rmtree(self.specs, ignore_errors=True)
        for path, text in files.items():
            (self.specs / path).parent.mkdir(parents=True, exist_ok=True)
            (self.specs / path).write_text(text)

    def commit(self, what: str) -> None:
        git(self.root, "add", "-A")
        git(self.root, "commit", "-q", "-m", what)

    def race(self, stop: threading.Event) -> None:
        """All that a person or a syncer does to a checkout, without a pause."""
        while not stop.is_set():
            for words in (
                ("checkout", "-q", "-f", "plain"),
                ("reset", "-q", "--hard", "other"),
                ("reset", "-q", "--hard", "plain@{1}"),
                ("checkout", "-q", "-B", "joint", "plain"),
                ("merge", "-q", "-X", "theirs", "--no-edit", "other"),
                ("checkout", "-q", "-f", "other"),
            ):
                git(self.root, *words)


def names_seen(specs: Path) -> set[str]:
    """As somebody reads a folder who trusts it."""
    found: set[str] = set()
    for folder, _, files in os.walk(specs):
        for file in files:
            try:
                found.update(_NAME.findall((Path(folder) / file).read_text()))
            except OSError:
                continue
    return found


def processes(agent: Program) -> set[int]:
    return set(demo.groups(agent.instance))


def settled(agent: Program, count: int = COUNT) -> bool:
    services = agent.status()["services"]
    return len(services) == count and all(service["phase"] == "Ready" for service in services)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


@pytest.fixture
def agents(repository: Repository) -> Iterator[list[Program]]:
    with ExitStack() as stack:
        made = [stack.enter_context(program("process", SETTINGS, ("--source", mode))) for mode in ("git", "folder")]
        for agent in made:
            agent.source = (str(repository.specs),)
        yield made


@pytest.mark.timeout(4000)
def test_no_work_of_git_starts_or_stops_anything(
    repository: Repository, agents: list[Program], request: pytest.FixtureRequest
) -> None:
    git(repository.root, "checkout", "-q", "plain")
    for agent in agents:
        agent.start()
    for agent in agents:
        eventually(lambda agent=agent: settled(agent), "all run", 120)
    before = [processes(agent) for agent in agents]
    assert [len(pids) for pids in before] == [COUNT, COUNT]

    stop, missed, looks = threading.Event(), 0, 0
    racer = threading.Thread(target=repository.race, args=(stop,))
    racer.start()
    try:
        seconds = 3600 if request.config.getoption("--soak") else 60
        ends = time.monotonic() + seconds
        killings = [time.monotonic() + seconds * share for share in (0.4, 0.7)]
        while time.monotonic() < ends:
            missed += not names_seen(repository.specs).issuperset(NAMES)
            looks += 1
            if killings and time.monotonic() > killings[0]:
                killings.pop(0)
                for agent in agents:
                    agent.stop(signal.SIGKILL)
                    shutil.rmtree(agent.root / "state")
                    agent.start()
            if looks % 20 == 0:
                assert [processes(agent) for agent in agents] == before, "something was started or stopped"
    finally:
        stop.set()
        racer.join()
    assert racer.is_alive() is False
    assert missed > 0, "the race was not hard enough to prove anything"
    print(f"a naive reader missed files in {missed} of {looks} looks")  # noqa: T201 the figure, with -s

    git(repository.root, "checkout", "-q", "-f", "plain")
    for agent in agents:
        eventually(lambda agent=agent: settled(agent), "all is well again", 60)
        assert not agent.status()["held"]
    assert [processes(agent) for agent in agents] == before

    (repository.specs / "s000.yaml").unlink()
    (repository.specs / "s001.yaml").write_text(spec("s001", "changed", "two"))
    repository.commit("what is asked for still happens")
    for agent, old in zip(agents, before, strict=True):
        eventually(lambda agent=agent: settled(agent, COUNT - 1), "one is gone", 60)
        eventually(lambda agent=agent: len(processes(agent)) == COUNT - 1, "its process, too", 60)
        assert len(old - processes(agent)) == 2
