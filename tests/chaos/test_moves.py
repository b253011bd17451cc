"""Files are renamed, moved, split and merged in storms: whatever stays the same in the documents runs on untouched."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.following import git
from tests.fakes.program import Program, eventually, program
from tools import demo

SLEEP = "/bin/sleep"
NAMES = [f"s{number:02}" for number in range(24)]
STEPS = 25


def document(name: str) -> str:
    return (
        f"apiVersion: xmod.dev/v1\nkind: DeploySpec\nmetadata: {{name: {name}}}\n"
        f"spec: {{container: {{command: [{SLEEP}, infinity], health: {{none: true}}}}}}\n"
    )


def lay_out(folder: Path, chance: random.Random) -> dict[str, str]:
    """Spread all documents over new files; which service is where."""
    files: dict[str, list[str]] = {}
    for name in chance.sample(NAMES, len(NAMES)):
        depth = chance.choice(["", "a/", "a/b/", "c/"])
        path = f"{depth}{chance.randint(0, 9)}.{chance.choice(['yaml', 'yml'])}"
        files.setdefault(path, []).append(name)
    wanted = {folder / path: "---\n".join(map(document, names)) for path, names in files.items()}
    for path, text in wanted.items():  # as a careful person does it: what is new first, what is old goes last
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".{path.name}.new")
        new.write_text(text)
        new.replace(path)
    for old in [*folder.rglob("*.yaml"), *folder.rglob("*.yml")]:
        if old not in wanted:
            old.unlink()
    return {name: path for path, names in files.items() for name in names}


@pytest.fixture(params=["git", "folder"])
def agent(request: pytest.FixtureRequest) -> Iterator[Program]:
    with program("process", {"policy": {"programs": [SLEEP]}}, ("--source", request.param)) as made:
        git(made.specs, "init", "-q", "-b", "main")
        yield made


def test_a_storm_of_renames_splits_and_merges_restarts_nothing(agent: Program) -> None:
    chance = random.Random(7)
    in_git = "git" in agent.options

    def move() -> dict[str, str]:
        places = lay_out(agent.specs, chance)
        if in_git:
            git(agent.specs, "add", "-A")
            git(agent.specs, "commit", "-q", "-m", "move", "--allow-empty")
        return places

    def ready() -> bool:
        services = agent.status()["services"]
        return len(services) == len(NAMES) and all(service["phase"] == "Ready" for service in services)

    move()
    agent.start()
    eventually(ready, "all run")
    before = set(demo.groups(agent.instance))
    assert len(before) == len(NAMES)
    for step in range(STEPS):
        places = move()
        if step % 5 == 4:  # now and then it is waited for, else the next storm comes at once
            eventually(
                lambda places=places: {s["name"]: s["file"] for s in agent.status()["services"]} == places,
                "the last move is seen",
            )
    eventually(ready, "all is well")
    assert set(demo.groups(agent.instance)) == before
    assert not agent.status()["held"]
