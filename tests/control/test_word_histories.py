"""Random histories of what users, operators and hosts say: promises 2, 4, 8, 9 and 10 hold whatever is said, and when.

Documents come, change, break, move to other hosts, are overridden there, depend on each other and suspend themselves; an
operator suspends, resumes, forgets, approves, retries and rolls out; the host is renamed and relabelled, the agent
upgraded, killed after random effects, its memory kept or lost. Every effect on the world is judged as it happens.
"""

import contextlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest

from agent.contracts import Digest, Fate, Observed, ServiceName
from agent.control.words import UnknownNameError
from agent.spec.hosts import HostId
from tests.control.test_promises import BROKEN, Host
from tests.fakes.folder import document
from tests.fakes.memory import Crash, World

NAMES = ("alpha", "bravo", "carol", "delta", "erika")
HOME, RENAMED, LABELLED = HostId("one"), HostId("two"), HostId("one", {"gpu": "x"})
HOSTS = (
    "",
    "one",
    "two",
    "three",
    "{matchLabels: {gpu: x}}",
    "{matchExpressions: [{key: gpu, operator: DoesNotExist}]}",
)
OVERRIDDEN = (
    "replicaCount: 2",
    "shimletName: other",
    "hostPort: 18055",
    "env: [{key: X, value: there}]",
    "rollout: {strategy: side-by-side}",
    "dependsOn: []",
    "priority: 7",
)
WINDOW = timedelta(minutes=10)
SUSPENDING = ("suspend", "resume", "suspend all", "resume all")
OTHER_WORDS = ("retry", "forget", "approve", "approve all", "rollout", "cancel", "restart")


@dataclass(frozen=True)
class Wish:
    """What a document says. `override`: a field that is otherwise where the label is."""

    name: str
    version: int = 1
    hosts: str = ""
    override: str = ""
    needs: tuple[str, ...] = ()
    suspend: bool = False
    protected: bool = False
    replicas: int = 1
    shimlet: str = "memory"

    def text(self) -> str:
        annotations = {"suspend": "true"} if self.suspend else {}
        annotations |= {"prune": "disabled"} if self.protected else {}
        lines = [f"hosts: [{self.hosts}]"] if self.hosts else []
        lines += [f"shimletName: {self.shimlet}"] if self.shimlet != "memory" else []
        lines += [f"replicaCount: {self.replicas}"] if self.replicas > 1 else []
        lines += [f"dependsOn: [{', '.join(self.needs)}]"] if self.needs else []
        if self.override:
            lines += [f"overrides: [{{hosts: [{{matchLabels: {{gpu: x}}}}], spec: {{{self.override}}}}}]"]
        return document(self.name, f"{self.name}-{self.version}", extra="\n".join(lines), **annotations)

    def body(self) -> tuple[object, ...]:
        """All that a user may mean to replace something for."""
        return self.version, self.override, self.replicas, self.shimlet


def _other_needs(wish: Wish, chance: random.Random) -> Wish:
    others = [name for name in NAMES if name != wish.name]
    return replace(wish, needs=tuple(chance.sample(others, chance.choice([0, 1, 1, 2]))))


EDITS: dict[str, Callable[[Wish, random.Random], Wish]] = {
    "version": lambda wish, chance: replace(wish, version=chance.randint(1, 6)),
    "hosts": lambda wish, chance: replace(wish, hosts=chance.choice(HOSTS)),
    "override": lambda wish, chance: replace(wish, override=chance.choice(("", *OVERRIDDEN))),
    "needs": _other_needs,
    "suspend": lambda wish, _: replace(wish, suspend=not wish.suspend),
    "protected": lambda wish, _: replace(wish, protected=not wish.protected),
    "shimlet": lambda wish, chance: replace(wish, shimlet=chance.choice(["memory", "other"])),
    "replicas": lambda wish, chance: replace(wish, replicas=chance.choice([1, 2])),
}


class Watched(World):
    """A world in which every effect is judged."""

    judge: Callable[[str, str, str], None] = staticmethod(lambda verb, name, digest: None)

    def _effect(self, what: str) -> None:
        verb, _, rest = what.partition(" ")
        name, _, digest = rest.partition("/")
        self.judge(verb, name, digest.partition("#")[0].partition(" ")[0])
        super()._effect(what)


@dataclass
class Story:
    """One random life."""

    seed: int
    faults: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.host = Host(other=True)
        self.host.elsewhere = self.elsewhere = Watched(now=self.host.clock.now, probes=False, stops_at_once=True)
        self.host.world = self.world = Watched(
            now=self.host.clock.now, probes=False, stops_at_once=self.chance.random() < 0.5
        )
        self.host.folder.host = HOME
        self.host.folder = self.host.folder.restarted()
        self.host.agent = self.host._new(self.host.agent.controller.words())
        self.wishes: dict[str, Wish | None] = {name: self._first(name) for name in NAMES}
        self.protected: set[str] = set()  # by the last good word of its document
        self.broken: set[str] = set()
        self.suspended: set[str] = set()
        self.all_suspended = False
        self.excepted: set[str] = set()
        self.touched: set[str] = set(NAMES)  # a user or an operator asked for something of these, and it is not through
        self.renamed: set[str] = set()  # what this host would have to run were it called as before
        self.going: dict[str, datetime] = {}
        self.approved: set[str] = set()
        self.most: list[tuple[datetime, int]] = []
        self.kills = 0

    def _first(self, name: str) -> Wish:
        wish = Wish(name)
        for edit in self.chance.sample(["hosts", "override", "needs", "protected"], self.chance.choice([0, 1, 1, 2])):
            wish = EDITS[edit](wish, self.chance)
        return wish

    # the judge

    def _suspended(self, name: str) -> bool:
        wish = self.wishes[name]
        by_spec = wish is not None and wish.suspend and not self._doubted(name)
        return name in self.suspended or (self.all_suspended and name not in self.excepted) or by_spec

    def _selected(self, wish: Wish) -> bool:
        host = self.host.folder.host or HOME
        match wish.hosts:
            case "":
                return True
            case "one" | "two" | "three":
                return host.name == wish.hosts
            case selector:
                return bool(host.labels) == ("matchLabels" in selector)

    def _doubted(self, name: str) -> bool:
        """Its document is not in effect: it is broken, or waits for itself."""
        desired = self.host.agent.controller.desired()
        return desired is None or ServiceName(name) not in desired.wanted

    def seen(self, name: str) -> Observed:
        """Of either world, where there is something."""
        here = self.world.observed(name)
        return here if here.generations else self.elsewhere.observed(name)

    def judge(self, verb: str, name: str, digest: str) -> None:
        if verb == "forget":
            left = [r for w in (self.world, self.elsewhere) for _, g in w.forgotten for r in g.replicas]
            self.host.busy_ports.update(r.placement.port for r in left if r.placement.port is not None)
        if self._suspended(name) and ServiceName(name) in self.host.agent.controller.words().still and verb != "forget":
            self.fault(f"{verb} {name}, which is suspended and at rest")
        if verb == "start":
            self._judge_start(name, digest)
        if verb not in ("stop", "remove"):
            return
        there = next((g for g in self.seen(name).generations if g.service.digest == digest), None)
        if there is not None and there.fate is not Fate.SERVED:
            return
        if self._suspended(name):
            if verb == "stop":
                self.fault(f"{verb} of what serves of {name}, which is suspended")
            return
        wish = self.wishes[name]
        if wish is not None and (name in self.broken or self._selected(wish)):
            if name not in self.touched:
                self.fault(f"{verb} {name}, which is wanted, and nobody asked for anything else")
            return
        self._judge_removal(name, wish)

    def _judge_start(self, name: str, digest: str) -> None:
        """What is new starts when all that it needs serves."""
        wish = self.wishes[name]
        if (
            wish is None
            or name in self.broken
            or self.world.starts[ServiceName(name), Digest(digest)]
            + self.elsewhere.starts[ServiceName(name), Digest(digest)]
            > 1
        ):
            return
        if "dependsOn" in wish.override and self.host.folder.host == LABELLED:
            return
        for need in wish.needs:
            there = self.seen(need).generations if need in NAMES else ()
            if not any(g.fate is Fate.SERVED and g.live for g in there):
                self.fault(f"{name} starts before {need} serves")

    def _judge_removal(self, name: str, wish: Wish | None) -> None:
        if name in self.protected:
            self.fault(f"{name} goes, which must not be pruned")
        if name in self.approved:
            return
        if self.broken & {n for n, w in self.wishes.items() if w is None}:
            return
        if name in self.renamed:
            self.fault(f"{name} goes because the host is called otherwise")
        if name not in self.going:
            now = self.host.clock.now()
            self.going[name] = now
            lately = [at for at in self.going.values() if now - at < WINDOW]
            size = max(1, int(0.25 * len(NAMES)))
            if len(lately) > size:
                self.fault(f"{name} goes, and {len(lately)} have gone lately")

    def fault(self, what: str) -> None:
        self.faults.append(what)

    # what happens

    def write(self) -> None:
        self.host.folder.files = {
            f"{name}.yaml": BROKEN.replace("web", name) if name in self.broken else wish.text()
            for name, wish in self.wishes.items()
            if wish is not None or name in self.broken
        }

    def edit(self) -> None:
        name = self.chance.choice(NAMES)
        before = self.wishes[name] or Wish(name, self.chance.randint(1, 4))
        what = self.chance.choice([*EDITS, "delete", "break"])
        self.done.append(f"{what} {name}")
        if what == "break" and self.wishes[name] is not None:
            self.broken ^= {name}
            return
        after = EDITS[what](before, self.chance) if what in EDITS else None
        self.renamed.discard(name)
        if after is None:
            self.broken.discard(name)
        if after is None or after.body() != before.body() or self.wishes[name] is None:
            self.touched.add(name)
        self.wishes[name] = after

    def say(self) -> None:
        operator, name = self.host.agent.operator, self.chance.choice(NAMES)
        key, word = ServiceName(name), self.chance.choice([*SUSPENDING, *SUSPENDING, *OTHER_WORDS])
        self.done.append(f"{word} {name}")
        with contextlib.suppress(UnknownNameError):
            match word:
                case "retry":
                    operator.retry(key)
                case "forget":
                    operator.forget(key)
                case "approve":
                    self.approved.update(operator.approve([key]))
                case "approve all":
                    self.approved.update(operator.approve([]))
                case "rollout":
                    self.touched.update(operator.rollout([]))
                case "cancel":
                    operator.cancel_rollout([])
                case "restart":
                    operator.restart(key)
                    self.touched.add(name)
                case _:
                    self.suspend_or_resume(word, name)

    def suspend_or_resume(self, word: str, name: str) -> None:
        operator, key = self.host.agent.operator, ServiceName(name)
        match word:
            case "suspend":
                operator.suspend(key)
                self.suspended.add(name)
                self.excepted.discard(name)
            case "resume":
                operator.resume(key)
                self.suspended.discard(name)
                self.excepted |= {name} if self.all_suspended else set()
            case "suspend all":
                operator.suspend(None)
                self.all_suspended, self.excepted = True, set()
            case "resume all":
                operator.resume(None)
                self.all_suspended, self.suspended, self.excepted = False, set(), set()

    def upset(self) -> None:
        name = self.chance.choice(NAMES)
        live = [(g, r) for g in self.seen(name).generations for r in g.live]
        world = self.world if self.world.observed(name).generations else self.elsewhere
        match self.chance.choice(["exit", "mute", "heal", "down", "vanish", "crashing"]):
            case "exit" if live:
                self.done.append(f"exit {name}")
                world.exit(name, live[0][1].placement.index, digest=live[0][0].service.digest)
            case "mute" if live:
                world.mute.add(live[-1][0].service.digest)
                self.done.append(f"mute {name}")
            case "crashing" if live and live[-1][0].fate is not Fate.SERVED:
                world.crashing.add(live[-1][0].service.digest)
            case "heal":
                self.world.mute.clear()
                self.world.crashing.clear()
            case "down":
                self.world.down = not self.world.down
                self.done.append(f"down {self.world.down}")
            case "vanish" if live and self.chance.random() < 0.3:
                world.vanish(name)
            case _:
                pass

    def restart(self) -> None:
        lost = self.chance.random() < 0.3
        folder = self.host.folder
        if self.chance.random() < 0.5:
            self.renamed |= {name for name, wish in self.wishes.items() if wish is not None and self._selected(wish)}
            folder.host = self.chance.choice([HOME, HOME, RENAMED, LABELLED])
            self.renamed -= {name for name, wish in self.wishes.items() if wish is not None and self._selected(wish)}
        if self.chance.random() < 0.2:
            folder.upgrade += "+"
        self.done.append(f"restart as {folder.host}, {folder.upgrade}, lost: {lost}")
        self.anew(lost=lost)

    def anew(self, *, lost: bool) -> None:
        self.world.crash_at = None
        if lost:
            self.suspended, self.all_suspended, self.excepted = set(), False, set()
            self.going.clear()
            self.protected &= {name for name in NAMES if self._marked(name)}
            self.touched |= {name for name in NAMES if not self._as_marked(name)}
        self.elsewhere.agent_died("test")
        self.host.restart(lost=lost)

    def _as_marked(self, name: str) -> bool:
        """What its document says stands in the mark, too: nobody needs to remember that it is the same."""
        desired = self.host.agent.controller.desired()
        wanted = desired.wanted.get(ServiceName(name)) if desired is not None else None
        marks = {generation.service.spec_digest for generation in self.seen(name).generations}
        return wanted is not None and wanted.service.spec_digest in marks

    def _marked(self, name: str) -> bool:
        return any(generation.service.protected for generation in self.seen(name).generations)

    def note(self) -> None:
        """What came through, and what this host was told."""
        for name, wish in self.wishes.items():
            if wish is not None and self._selected(wish) and not self._doubted(name):
                self.protected = self.protected | {name} if wish.protected else self.protected - {name}
            status = self.host.agent.board.get(ServiceName(name))
            if status is not None and status.converged.holds and not status.notices and not self.world.down:
                self.touched.discard(name)
            there = self.seen(name).generations
            if not there:
                self.protected.discard(name)
                self.touched.add(name)
                self.going.pop(name, None) if name in self.approved else None
                self.approved.discard(name)

    def run(self) -> list[str]:
        self.elsewhere.judge = self.judge
        self.world.judge = self.judge
        self.write()
        self.host.settle()
        self.note()
        for _ in range(self.chance.randint(5, 25)):
            kill = self.chance.random() < 0.35
            self.world.crash_at = len(self.world.log) + self.chance.randint(1, 4) if kill else None
            try:
                self.step()
            except Crash:
                self.kills += 1
                self.done.append("killed")
                self.anew(lost=self.chance.random() < 0.3)
            self.world.crash_at = None
            self.note()
            if self.faults:
                return self.faults
        return self.faults

    def step(self) -> None:
        dice = self.chance.random()
        if dice < 0.45:
            self.edit()
            self.write()
            self.host.settle(self.chance.choice([1, 3, 10]))
        elif dice < 0.65:
            self.say()
            self.host.settle(self.chance.choice([0, 1, 10]))
        elif dice < 0.75:
            self.upset()
            self.host.settle(self.chance.choice([1, 5]))
        elif dice < 0.9:
            self.restart()
        else:
            self.host.clock.advance(self.chance.choice([60, 700, 4000]))
            self.host.settle(3)

    def end(self) -> Iterator[str]:
        """All is well again, and everything is as the folder says."""
        self.done.append("end")
        self.world.down = False
        for world in (self.world, self.elsewhere):
            world.mute.clear()
            world.crashing.clear()
        self.broken.clear()
        self.wishes = {
            name: Wish(name, 9, needs=tuple(n for n in w.needs if n > name) if w else ())
            for name, w in self.wishes.items()
        }
        self.touched = set(NAMES)
        with contextlib.suppress(UnknownNameError):
            self.host.agent.operator.resume(None)
        self.suspended, self.all_suspended = set(), False
        self.write()
        self.host.settle(60)
        for name in NAMES:
            status, running = self.host.status(name), {d: n for d, n in self.world.running(name).items() if n}
            if not status.converged.holds or list(running.values()) != [1]:
                yield f"{name} ends as {status.converged}, {running}"
        self.world.log.clear()
        self.host.restart(lost=True)
        yield from (f"a restart does {line}" for line in self.world.log)
        yield from (*self.world.violations, *self.elsewhere.violations)


def tell(first: int, count: int) -> None:
    kills = 0
    for seed in range(first, first + count):
        story = Story(seed)
        faults = story.run() or [*story.end(), *story.faults]
        assert not faults, f"seed {seed}: {faults}; {story.done}; {story.world.log[-25:]}"
        kills += story.kills
    assert kills, "nobody was killed: this proves nothing"


@pytest.mark.parametrize("block", range(3))
def test_whatever_is_said_nothing_is_done_that_nobody_asked_for(block: int) -> None:
    """Twenty stories a block; a failing seed is named."""
    tell(block * 20, 20)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_ten_thousand_stories() -> None:
    """The long form."""
    tell(1000, 10_000)
