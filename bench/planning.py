"""Part `planning`: what a pass over many specs costs, in this process: no runtime, no threads, the agent's own parts."""

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import yaml

from agent.clock import SystemClock
from agent.contracts import Fate, Placement, Shimlet
from agent.control.board import Board
from agent.control.controller import Controller, Limits
from agent.control.desired import DesiredReader, DesiredState
from agent.control.scanner import Scanner
from agent.control.words import Words
from agent.control.workqueue import WorkQueue
from agent.control.world import World
from agent.daemon import parts
from agent.settings import Settings, load
from agent.spec.reading import read
from agent.spec.resolve import Resolver
from bench import specs
from bench.agent_process import PLUGINS, Failure
from bench.calls import Calls
from bench.table import Row, median
from bench.workplace import Workplace
from tests.fakes.facts import NoFacts

PARSE = 1.6  # times the bare C parser, DESIGN §11
WARM = {1_000: 50.0, 10_000: 500.0}  # ms, DESIGN §11


class Memory:
    """Keeps no words: nobody speaks here."""

    def save(self, data: object) -> None:
        """Nothing."""


class Agent:
    """Source, reader, world and controller as the daemon puts them together, over the pretend shimlet."""

    def __init__(self, settings: Settings) -> None:
        clock = SystemClock()
        registry = parts.registry_of(settings)
        self.resolver: Resolver = parts.resolver_of(settings, registry)
        self.shimlet: Shimlet = parts.shimlet_of(settings, registry, "pretend")
        self.world = World(clock=clock, news=lambda _shimlet, _seen: None)
        self.world.add("pretend", self.shimlet, "")
        self.controller = Controller(
            world=self.world,
            queue=WorkQueue(clock=clock),
            board=Board(),
            facts=NoFacts(),
            clock=clock,
            memory=Memory(),
            words=Words(),
            limits=Limits(0.25, timedelta(minutes=10)),
        )
        self.source = parts.source_of(settings, clock)
        self.desired: DesiredState | None = None
        self.scanner = Scanner(
            source=self.source,
            reader=DesiredReader(self.resolver.read_file),
            take=self._take,
            facts=NoFacts(),
            clock=clock,
            interval=30.0,
        )

    def scan(self) -> None:
        """Look, read, plan."""
        if not self.scanner.step():
            raise Failure(f"the folder could not be read: {self.scanner.error}")

    def list(self) -> None:
        """List the world, compare, plan."""
        self.controller.saw("pretend", self.world.relist("pretend"))

    def converge(self, count: int) -> None:
        """Everything that is wanted runs and has served."""
        assert self.desired is not None
        if self.desired.invalid:
            raise Failure(f"the bench's own spec is invalid: {self.desired.invalid[0]}")
        if len(self.desired.wanted) != count:
            raise Failure(f"{len(self.desired.wanted)} services were read, {count} were written")
        for wanted in self.desired.wanted.values():
            self.shimlet.apply(wanted.service, (Placement(0),), {})
            self.shimlet.record(wanted.service.name, wanted.service.digest, Fate.SERVED)
        self.list()

    def _take(self, desired: DesiredState) -> None:
        self.desired = desired
        self.controller.take(desired)


def run(place: Workplace, *, quick: bool) -> Iterator[Row]:
    for count in (100, 1_000) if quick else (100, 1_000, 10_000):
        folder = place.folder(f"planning-{count}")
        specs.fill(folder / "specs", count)
        yield from _passes(folder, count, rounds=5 if quick else 15)
    yield from _parsing(place.folder("parsing"), rounds=5 if quick else 15)


def _passes(folder: Path, count: int, *, rounds: int) -> Iterator[Row]:
    calls = folder / "calls"
    calls.touch()
    agent = Agent(_settings(folder, calls))
    first = _once(agent.scan)
    agent.converge(count)
    agent.list()
    agent.scan()
    warm = median(_times(agent.scan, rounds))
    note = f"first scan + parse + plan: {first:.0f} ms"
    yield Row(f"{count:,} specs: warm scan + plan", warm, "ms", limit=WARM.get(count), note=note)
    stamped = Calls(calls)
    stamped.new()
    listing = median(_times(agent.list, rounds))
    seen = [call.what for call in stamped.new()]
    each = len(seen) / rounds
    yield Row(f"{count:,} services: no-op pass over the world", listing, "ms", note="list, compare, plan")
    yield Row(f"{count:,} services: runtime calls of that pass", each, "", limit=1, note=", ".join(sorted(set(seen))))
    changed = [_change(agent, folder / "specs", number) for number in range(rounds)]
    yield Row(f"{count:,} specs: one changed, scan + plan", median(changed), "ms", note="of which 50 ms is quiet time")
    stamped.close()
    agent.source.close()


def _change(agent: Agent, folder: Path, number: int) -> float:
    specs.put(folder, "svc-00007", specs.model_service("svc-00007", f"word-{number}"))
    return _once(agent.scan)


def _parsing(folder: Path, *, rounds: int) -> Iterator[Row]:
    count = 500
    names = specs.fill(folder / "specs", count)
    calls = folder / "calls"
    calls.touch()
    resolver = Agent(_settings(folder, calls)).resolver
    files = [(f"{name}.yaml", (folder / "specs" / f"{name}.yaml").read_bytes()) for name in names]

    def bare() -> None:
        for _, content in files:
            yaml.load(content, Loader=yaml.CSafeLoader)

    def ours() -> None:
        for _, content in files:
            read(content)

    def whole() -> None:
        for path, content in files:
            resolver.read_file(path, content)

    times: dict[Callable[[], None], list[float]] = {bare: [], ours: [], whole: []}
    for _ in range(rounds):
        for task, spent in times.items():  # alternating: what disturbs one disturbs the others too
            spent.append(_once(task) / count)
    per_file = {task: median(spent) for task, spent in times.items()}
    peer, note = "CSafeLoader", f"{len(files[0][1].splitlines())} lines"
    yield Row("parse one file", per_file[ours], "ms", against=per_file[bare], peer=peer, limit=PARSE, note=note)
    note = "parse, validate, resolve, digests"
    yield Row("file → service, whole", per_file[whole], "ms", against=per_file[bare], peer=peer, note=note)


def _settings(folder: Path, calls: Path) -> Settings:
    return load(
        directory=folder / "specs",
        environ={},
        flags={
            "plugins.defaultShimlet": "pretend",
            "plugins.pluginDir": PLUGINS,
            "agent.stateDir": folder / "state",
            "shimlets": {"pretend": {"calls": str(calls)}},
        },
    )


def _once(task: Callable[[], object]) -> float:
    """Milliseconds."""
    gc.collect()
    began = time.perf_counter()
    task()
    return (time.perf_counter() - began) * 1000.0


def _times(task: Callable[[], object], rounds: int) -> Sequence[float]:
    return [_once(task) for _ in range(rounds)]
