"""A stranger's package and a stranger's file go through the same doors as what is built in, and the same suite."""

import contextlib
import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.contracts import Conflict, Placement, SecretRef, State, Workload
from agent.registry import PluginRow, Registry
from tests.contract.shimlet_contract import DIES, SECRETIVE, TALKS, ShimletContract, service_of

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@pytest.fixture
def registry(monkeypatch):
    """What an agent finds where the stranger's package is installed and its folder is named."""
    monkeypatch.syspath_prepend(HERE / "acme")
    registry = Registry()
    registry.load_entry_points()
    registry.load_folder(HERE / "folder")
    registry.check()
    yield registry
    sys.modules.pop("acme_spool", None)


class SpoolPlace:
    """A spool of its own; `step` is the supervisor's turn."""

    patience = 5.0
    conflicts = True

    def __init__(self, factory, spool):
        self.owner = "t"
        self.factory = factory
        self.spool = spool
        self.ports = itertools.count(18000)

    def shimlet(self, owner=None):
        return self.factory(owner or self.owner, {"spool": str(self.spool)}, self.spool)

    def service(self, name, workload, replicas=1):
        env = (("TOKEN", SecretRef("env", "TOKEN")),) if workload == SECRETIVE else ()
        return service_of(
            name, Workload(program=workload, env=env), shimlet="spool", goalset="acme-deploy", replicas=replicas
        )

    def placement(self, index):
        return Placement(index, next(self.ports))

    def step(self):
        for file in self.spool.glob("*/*/*/unit.json"):
            with contextlib.suppress(FileNotFoundError):
                self.supervise(file.parent, json.loads(file.read_text()))
        time.sleep(0.06)  # longer than the watch's poll: what comes and goes between two polls is nobody's news

    def supervise(self, folder, unit):
        state = self.state(folder)
        program = json.loads(unit["mark"])["service"]["workload"].get("program")
        if unit["want"] == "run" and state.get("turn") != unit["turn"]:
            state = {"turn": unit["turn"], "state": State.RUNNING, "started": time.time()}
            said = {TALKS: [f"line {n}" for n in range(1, 31)], DIES: ["last words"]}.get(program, [])
            (folder / "log").write_text("".join(f"{line}\n" for line in said))
            if program == DIES:
                state |= {"state": State.EXITED, "finished": time.time(), "code": 3}
            self.tell(folder, state)
        elif unit["want"] == "stop" and state.get("state") == State.RUNNING:
            self.tell(folder, state | {"state": State.STOPPED, "finished": time.time()})
        elif program == TALKS and state.get("state") == State.RUNNING:
            with (folder / "log").open("a") as log:
                log.write("again\n")

    def state(self, folder):
        file = folder / "state.json"
        return json.loads(file.read_text()) if file.exists() else {}

    def tell(self, folder, state):
        part = folder / "state.part"
        part.write_text(json.dumps(state))
        part.replace(folder / "state.json")

    def remains(self, name):
        return [str(path) for path in (self.spool / self.owner / name).glob("*")]

    def kill(self, name):
        for folder in (self.spool / self.owner / name).iterdir():
            if self.state(folder).get("state") == State.RUNNING:
                self.tell(folder, self.state(folder) | {"state": State.EXITED, "finished": time.time(), "code": -9})

    def stranger(self, service, index):
        theirs = self.spool / self.owner / service.name / "theirs"
        theirs.parent.mkdir(parents=True)
        theirs.write_text("mine")
        return lambda: theirs.read_text() == "mine"

    def text(self, name):
        return "".join(path.read_text() for path in self.spool.glob(f"{self.owner}/{name}/*/[us]*.json"))

    @contextlib.contextmanager
    def rival(self, owner):
        other = self.shimlet(owner)
        try:
            other.acquire()
        except Conflict as error:
            yield str(error)
        else:
            yield ""
        finally:
            other.close()


class TestStrangersShimlet(ShimletContract):
    @pytest.fixture
    def place(self, registry, tmp_path):
        return SpoolPlace(registry.shimlet_factory("spool"), tmp_path)


def test_the_package_and_the_file_are_listed_with_where_they_come_from(registry):
    rows = registry.rows()
    for row in (
        PluginRow("shimlet", "spool", "package acme-spool 0.3"),
        PluginRow("goalset", "acme-deploy", "package acme-spool 0.3"),
        PluginRow("goalset", "announced-deploy", f"{HERE}/folder/announcing.py"),
        PluginRow("goalset", "acme-delete", "package acme-spool 0.3"),
    ):
        assert row in rows
    assert {"docker", "process"} <= registry.shimlets


def test_their_goals_come_after_the_built_in_ones(registry):
    goals = [goal.name for goal in registry.goalset("announced-deploy").goals]
    assert goals[:-1] == [goal.name for goal in registry.goalset("service-deploy").goals]
    assert goals[-1] == "announced"


def test_their_options_are_checked_by_themselves(registry, tmp_path):
    with pytest.raises(ValueError, match="known: spool"):
        registry.shimlet_factory("spool")("t", {"spol": "x"}, tmp_path)


def test_the_program_shows_them_and_takes_their_names_in_specs(tmp_path):
    environ = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE / "acme")])}

    def xmod(*words):
        command = [sys.executable, "-m", "agent", *map(str, words)]
        return subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True, check=False)

    shown = xmod("plugins", "--plugin-dir", HERE / "folder").stdout
    assert "spool" in shown
    assert "package acme-spool 0.3" in shown
    assert "announcing.py" in shown
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "a.yaml").write_text(
        "apiVersion: xmod.dev/v1\nkind: DeploySpec\nmetadata: {name: a}\n"
        "spec: {shimletName: spool, goalSetName: acme-deploy, container: {image: x, port: 80}}\n"
    )
    result = xmod("validate", "specs")
    assert (result.returncode, result.stdout) == (0, ""), result.stdout + result.stderr


def test_an_agent_runs_a_service_in_their_world_by_their_goals_and_removes_it(tmp_path):
    """The whole program, --once, with a supervisor beside it."""
    environ = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE / "acme")]),
        "XMOD_AGENT__SOCKET": str(tmp_path / "s" / "a.sock"),
        "XMOD_SHIMLETS": json.dumps({"spool": {"spool": str(tmp_path / "spool")}}),
        "XMOD_PORTS__RANGE": "28300-28399",
    }
    specs = tmp_path / "specs"
    specs.mkdir()
    for name in ("a", "b"):
        (specs / f"{name}.yaml").write_text(
            f"apiVersion: xmod.dev/v1\nkind: DeploySpec\nmetadata: {{name: {name}}}\n"
            "spec: {goalSetName: acme-deploy, container: {image: x, port: 80, health: {none: true}}}\n"
        )
    place = SpoolPlace(None, tmp_path / "spool")
    place.owner = f"t-spool-{os.getpid()}"
    command = [sys.executable, "-m", "agent", "run", "specs", "--shimlet", "spool", "--port", "0", "--once"]
    command += ["--instance", place.owner, "--state-dir", "state"]

    def once():
        log = tmp_path / "log"
        with (
            log.open("w") as out,
            subprocess.Popen(command, env=environ, cwd=tmp_path, stdout=out, stderr=out) as agent,
        ):
            try:
                deadline = time.monotonic() + 60
                while agent.poll() is None and time.monotonic() < deadline:
                    place.step()
            finally:
                if agent.poll() is None:
                    agent.kill()
        assert agent.returncode == 0, log.read_text()

    once()
    assert len(place.remains("a")) == 1
    (folder,) = (tmp_path / "spool" / place.owner / "a").iterdir()
    assert place.state(folder)["state"] == State.RUNNING
    before = place.state(folder)["started"]
    once()
    assert place.state(folder)["started"] == before, "an agent that starts again restarts nothing"
    (specs / "a.yaml").unlink()
    once()
    assert place.remains("a") == []
    assert len(place.remains("b")) == 1
