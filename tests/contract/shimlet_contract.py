"""The one suite over every shimlet: what contracts.Shimlet promises, asked of a world through its shimlet.

A subclass of ShimletContract, named Test…, gives the fixture `place`: a ContractPlace, which is a world of its own (an
owner nobody else has) that cleans up after itself. The suite speaks to the world only through shimlets, except where it
must not believe them: `remains`, `kill`, `stranger` and `text` look at the world directly.
"""

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pytest

from agent.contracts import (
    Conflict,
    Fate,
    Generation,
    Observed,
    Ownership,
    Placement,
    Replica,
    Service,
    ServiceName,
    Shimlet,
    State,
    Transient,
    digest_of,
    unsealed_by,
)

SERVES, SERVES_TOO, TALKS, DIES, SECRETIVE = "serves", "serves-too", "talks", "dies", "secretive"
"""The workloads that a place must know.

`serves` and `serves-too` run until stopped, and have different digests. `talks` prints "line 1" … "line 30", then
"again" every 0.2 s or so, and runs on. `dies` prints "last words" and exits with code 3. `secretive` runs with a
SecretRef in its environment under the key TOKEN.
"""

SECRET = "hunter2-a-secret-value"


class ContractPlace(Protocol):
    """A world to test in.

    `patience`: seconds after which something that was begun ought to be seen.
    `conflicts`: `apply` where a stranger stands raises Conflict (a world with names), or it cannot be in the way.
    """

    owner: str
    patience: float
    conflicts: bool

    def shimlet(self, owner: str | None = None) -> Shimlet:
        """A new shimlet object on this world, as a restarted agent would make it; for another owner if one is given."""
        ...

    def service(self, name: str, workload: str, replicas: int = 1) -> Service:
        """A service that runs here. The same arguments give an equal one."""
        ...

    def placement(self, index: int) -> Placement:
        """A placement with a free port that no other call was given."""
        ...

    def step(self) -> None:
        """Let a moment pass."""

    def remains(self, name: str) -> Collection[str]:
        """What exists of a service, kept or running (pids, container ids), as the world itself says."""
        ...

    def kill(self, name: str) -> None:
        """Its one running replica dies without the agent's doing."""

    def stranger(self, service: Service, index: int) -> Callable[[], bool]:
        """Something without our mark, as much in this replica's place as can be. Answers later whether it is as it was."""
        ...

    def text(self, name: str) -> str:
        """All text that the world shows of the service's replicas to someone who looks (labels, marks, argv, records)."""
        ...

    def rival(self, owner: str) -> contextlib.AbstractContextManager[str]:
        """Another agent's process that acquires for this owner until the end of the block: "" or why it could not."""
        ...


def wait_until(place: ContractPlace, holds: Callable[[], object], what: str) -> None:
    """Let moments pass until it holds; fail when patience ends."""
    deadline = time.monotonic() + place.patience
    while not holds():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {place.patience} s: {what}")
        place.step()


def service_of(name: str, workload: Any, **fields: Any) -> Service:
    """A Service around a workload, with the digest that it ought to have."""
    digest = digest_of(workload)
    return Service(ServiceName(name), workload, digest, digest, **fields)


_RIVAL = """
import importlib, json, pathlib, sys
module, _, name = sys.argv[1].partition(":")
make = getattr(importlib.import_module(module), name)
shimlet = make(sys.argv[2], json.loads(sys.argv[3]), pathlib.Path(sys.argv[4]))
from agent.contracts import Conflict
try:
    shimlet.acquire()
    print("", flush=True)
except Conflict as error:
    print(error or "Conflict", flush=True)
sys.stdin.read()
shimlet.close()
"""


@contextlib.contextmanager
def rival_process(
    factory: str, owner: str, options: Mapping[str, Any], state_dir: Path
) -> Iterator["subprocess.Popen[str]"]:
    """A process that acquires through `factory` ("module:name") and holds it until its stdin ends; it prints one line."""
    argv = [sys.executable, "-c", _RIVAL, factory, owner, json.dumps(options), str(state_dir)]
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        try:
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def rival_in_a_process(factory: str, owner: str, options: Mapping[str, Any], state_dir: Path) -> Iterator[str]:
    """ContractPlace.rival for a shimlet that its factory can make in another process."""
    with rival_process(factory, owner, options, state_dir) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip("\n")


def only(observed: Observed) -> Generation:
    """The one generation."""
    assert len(observed.generations) == 1, observed
    return observed.generations[0]


def running(generation: Generation | None) -> list[Replica]:
    """The replicas that run."""
    return [r for r in generation.replicas if r.state is State.RUNNING] if generation else []


def shape(observed: Observed) -> list[tuple[str, Fate, list[Placement]]]:
    """What list and observe must agree on."""
    return [(g.service.digest, g.fate, [r.placement for r in g.replicas]) for g in observed.generations]


class ShimletContract:
    """Subclass it as Test…, with a fixture `place`."""

    @pytest.fixture
    def place(self) -> ContractPlace:
        raise NotImplementedError("a subclass gives the fixture `place`")

    @pytest.fixture
    def shimlet(self, place: ContractPlace) -> Iterator[Shimlet]:
        shimlet = place.shimlet()
        yield shimlet
        shimlet.close()

    def up(
        self,
        place: ContractPlace,
        shimlet: Shimlet,
        service: Service,
        placements: Sequence[Placement],
        secrets: Mapping[str, str] | None = None,
    ) -> Generation:
        """Apply until exactly these run, as goals would; return the generation."""
        secrets = secrets or {}

        def there() -> bool:
            generation = shimlet.observe(service.name).generation(service.digest)
            if {r.placement for r in running(generation)} == set(placements) and not self.stopping(generation):
                return True
            shimlet.apply(service, placements, secrets)
            return False

        shimlet.apply(service, placements, secrets)
        wait_until(place, there, f"{service.name} runs at {placements}: {shimlet.observe(service.name)}")
        generation = shimlet.observe(service.name).generation(service.digest)
        assert generation is not None
        return generation

    def stopping(self, generation: Generation | None) -> bool:
        return any(r.state in (State.STOPPING, State.STARTING) for r in generation.replicas) if generation else False

    def gone(self, place: ContractPlace, shimlet: Shimlet, service: Service) -> None:
        """Remove and wait until it is seen."""
        shimlet.remove(service.name, service.digest)
        wait_until(place, lambda: shimlet.observe(service.name).generation(service.digest) is None, "it is gone")

    # Apply and observe.

    def test_nothing_is_there_at_first(self, shimlet: Shimlet) -> None:
        assert shimlet.list() == {}
        assert shimlet.observe(ServiceName("a")).generations == ()

    def test_apply_is_seen_as_exactly_those_replicas_of_that_digest(
        self, place: ContractPlace, shimlet: Shimlet
    ) -> None:
        service = place.service("a", SERVES, 2)
        placements = [place.placement(0), place.placement(1)]
        self.up(place, shimlet, service, placements)
        generation = only(shimlet.observe(service.name))
        assert generation.service == service
        assert [r.placement for r in generation.replicas] == placements
        assert all(r.started_at is not None for r in generation.replicas)
        assert generation.fate is Fate.NEW
        assert len(place.remains("a")) == 2

    def test_a_replica_is_seen_at_once_after_apply(self, place: ContractPlace, shimlet: Shimlet) -> None:
        service = place.service("a", SERVES)
        placement = place.placement(0)
        shimlet.apply(service, [placement], {})
        assert [r.placement for r in only(shimlet.observe(service.name)).replicas] == [placement]
        assert list(shimlet.list()) == ["a"]

    def test_a_port_makes_an_address(self, place: ContractPlace, shimlet: Shimlet) -> None:
        service = place.service("a", SERVES)
        placement = place.placement(0)
        generation = self.up(place, shimlet, service, [placement])
        assert generation.replicas[0].address.rpartition(":")[2] == str(placement.port)

    def test_twice_is_once(self, place: ContractPlace, shimlet: Shimlet) -> None:
        service = place.service("a", SERVES, 2)
        placements = [place.placement(0), place.placement(1)]
        before = self.up(place, shimlet, service, placements)
        there = sorted(place.remains("a"))
        shimlet.apply(service, placements, {})
        after = only(shimlet.observe(service.name))
        assert [r.started_at for r in after.replicas] == [r.started_at for r in before.replicas]
        assert sorted(place.remains("a")) == there

    def test_apply_touches_no_running_replica_of_an_equal_digest_from_another_file(
        self, place: ContractPlace, shimlet: Shimlet
    ) -> None:
        service = place.service("a", SERVES)
        placement = place.placement(0)
        before = self.up(place, shimlet, service, [placement])
        shimlet.apply(replace(service, file="moved.yaml", revision="another", priority=7), [placement], {})
        assert only(shimlet.observe(service.name)).replicas[0].started_at == before.replicas[0].started_at

    def test_fewer_placements_stop_and_keep_the_others(self, place: ContractPlace, shimlet: Shimlet) -> None:
        service = place.service("a", SERVES, 2)
        placements = [place.placement(0), place.placement(1)]
        before = self.up(place, shimlet, service, placements)
        shimlet.apply(service, placements[:1], {})
        wait_until(place, lambda: not self.stopping(only(shimlet.observe(service.name))), "one is stopped")
        after = only(shimlet.observe(service.name))
        assert [(r.placement, r.state) for r in after.replicas] == [
            (placements[0], State.RUNNING),
            (placements[1], State.STOPPED),
        ]
        assert after.replicas[0].started_at == before.replicas[0].started_at

    def test_no_placements_stop_and_keep_all_and_going_back_starts_the_kept(
        self, place: ContractPlace, shimlet: Shimlet
    ) -> None:
        service = place.service("a", SERVES)
        placement = place.placement(0)
        self.up(place, shimlet, service, [placement])
        shimlet.apply(service, [], {})
        wait_until(place, lambda: not self.stopping(only(shimlet.observe(service.name))), "it is stopped")
        kept = only(shimlet.observe(service.name))
        assert kept.service == service
        assert [(r.placement, r.state) for r in kept.replicas] == [(placement, State.STOPPED)]
        self.up(place, shimlet, service, [placement])
        assert [r.placement for r in only(shimlet.observe(service.name)).replicas] == [placement]

    def test_a_replica_beyond_the_count_is_removed(self, place: ContractPlace, shimlet: Shimlet) -> None:
        service = place.service("a", SERVES, 2)
        placements = [place.placement(0), place.placement(1)]
        self.up(place, shimlet, service, placements)
        shimlet.apply(replace(service, replicas=1), placements[:1], {})
        wait_until(
            place,
            lambda: [r.placement for r in only(shimlet.observe(service.name)).replicas] == placements[:1],
            "the second is gone",
        )
        assert len(place.remains("a")) == 1

    def test_another_placement_of_an_index_replaces_the_replica_in_its_place(
        self, place: ContractPlace, shimlet: Shimlet
    ) -> None:
        service = place.service("a", SERVES)
        self.up(place, shimlet, service, [place.placement(0)])
        moved = place.placement(0)
        self.up(place, shimlet, service, [moved])
        assert [r.placement for r in only(shimlet.observe(service.name)).replicas] == [moved]
        assert len(place.remains("a")) == 1

    def test_generations_stand_beside_each_other_untouched(self, place: ContractPlace, shimlet: Shimlet) -> None:
        old, new = place.service("a", SERVES), place.service("a", SERVES_TOO)
        assert old.digest != new.digest
        first = place.placement(0)
        before = self.up(place, shimlet, old, [first])
        second = place.placement(0)
        self.up(place, shimlet, new, [second])
        shimlet.apply(new, [second], {})
        observed = shimlet.observe(old.name)
        assert [g.service.digest for g in observed.generations] == [old.digest, new.digest], "oldest first"
        assert observed.generations[0].replicas[0].started_at == before.replicas[0].started_at
        self.gone(place, shimlet, new)
        observed = shimlet.observe(old.name)
        assert running(only(observed))[0].started_at == before.replicas[0].started_at

    def test_list_equals_observe(self, place: ContractPlace, shimlet: Shimlet) -> None:
        old, new, other = place.service("a", SERVES), place.service("a", SERVES_TOO), place.service("b", SERVES)
        for service in (old, new, other):
            self.up(place, shimlet, service, [place.placement(0)])
        shimlet.record(old.name, old.digest, Fate.SERVED)
        shimlet.record(new.name, new.digest, Fate.FAILED)
        shimlet.apply(new, [], {})
        wait_until(
            place, lambda: not self.stopping(shimlet.observe(new.name).generation(new.digest)), "the new one is stopped"
        )
        listed = shimlet.list()
        assert sorted(listed) == ["a", "b"]
        assert {name: shape(o) for name, o in listed.items()} == {n: shape(shimlet.observe(n)) for n in listed}

    def test_calls_are_bounded(self, place: ContractPlace, shimlet: Shimlet) -> None:
        service = place.service("a", SERVES)
        for call in (
            lambda: shimlet.apply(service, [place.placement(0)], {}),
            shimlet.list,
            lambda: shimlet.observe(service.name),
            lambda: shimlet.record(service.name, service.digest, Fate.SERVED),
            lambda: shimlet.apply(service, [], {}),
            lambda: shimlet.remove(service.name, service.digest),
        ):
            began = time.monotonic()
            call()
            assert time.monotonic() - began < 5

    # Remove.

    def test_removing_nothing_is_nothing(self, place: ContractPlace, shimlet: Shimlet) -> None:
        service = place.service("a", SERVES)
        shimlet.remove(service.name, service.digest)
        self.up(place, shimlet, service, [place.placement(0)])
        shimlet.remove(service.name, place.service("a", SERVES_TOO).digest)
        assert len(running(only(shimlet.observe(service.name)))) == 1

    def test_remove_is_complete(self, place: ContractPlace, shimlet: Shimlet) -> None:
        service = place.service("a", SERVES, 2)
        self.up(place, shimlet, service, [place.placement(0), place.placement(1)])
        self.gone(place, shimlet, service)
        shimlet.remove(service.name, service.digest)
        assert not place.remains("a")
        assert shimlet.list() == {}
        assert place.shimlet().list() == {}

    def test_remove_takes_kept_replicas_too(self, place: ContractPlace, shimlet: Shimlet) -> None:
        service = place.service("a", SERVES)
        self.up(place, shimlet, service, [place.placement(0)])
        shimlet.apply(service, [], {})
        wait_until(place, lambda: not self.stopping(only(shimlet.observe(service.name))), "it is stopped")
        self.gone(place, shimlet, service)
        assert not place.remains("a")

    def test_what_was_removed_can_come_again(self, place: ContractPlace, shimlet: Shimlet) -> None:
        service = place.service("a", SERVES)
        placement = place.placement(0)
        self.up(place, shimlet, service, [placement])
        shimlet.record(service.name, service.digest, Fate.SERVED)
        self.gone(place, shimlet, service)
        assert self.up(place, shimlet, service, [placement]).fate is Fate.NEW

    # Fate.

    @pytest.mark.parametrize("fate", [Fate.SERVED, Fate.FAILED])
    def test_a_fate_is_seen_by_a_new_shimlet(self, place: ContractPlace, shimlet: Shimlet, fate: Fate) -> None:
        service = place.service("a", SERVES)
        self.up(place, shimlet, service, [place.placement(0)])
        shimlet.record(service.name, service.digest, fate)
        assert only(shimlet.observe(service.name)).fate is fate
        shimlet.close()
        assert only(place.shimlet().observe(service.name)).fate is fate
        assert only(place.shimlet().list()[service.name]).fate is fate

    def test_a_fate_outlives_a_stop(self, place: ContractPlace, shimlet: Shimlet) -> None:
        service = place.service("a", SERVES)
        self.up(place, shimlet, service, [place.placement(0)])
        shimlet.record(service.name, service.digest, Fate.FAILED)
        shimlet.apply(service, [], {})
        wait_until(place, lambda: not self.stopping(only(shimlet.observe(service.name))), "it is stopped")
        assert only(place.shimlet().observe(service.name)).fate is Fate.FAILED

    def test_recording_of_nothing_is_nothing(self, place: ContractPlace, shimlet: Shimlet) -> None:
        service = place.service("a", SERVES)
        shimlet.record(service.name, service.digest, Fate.FAILED)
        assert shimlet.list() == {}

    def test_applying_a_failed_digest_starts_it_afresh_as_new(self, place: ContractPlace, shimlet: Shimlet) -> None:
        service = place.service("a", SERVES)
        placement = place.placement(0)
        before = self.up(place, shimlet, service, [placement])
        shimlet.record(service.name, service.digest, Fate.FAILED)
        shimlet.apply(service, [], {})
        wait_until(place, lambda: not self.stopping(only(shimlet.observe(service.name))), "it is stopped")
        after = self.up(place, shimlet, service, [placement])
        assert after.fate is Fate.NEW
        assert place.shimlet().observe(service.name).generations[0].fate is Fate.NEW
        assert before.replicas[0].started_at is not None
        assert after.replicas[0].started_at is not None
        assert after.replicas[0].started_at > before.replicas[0].started_at

    # Ours, theirs, and after a restart.

    def test_it_is_found_after_a_restart_of_the_agent(self, place: ContractPlace, shimlet: Shimlet) -> None:
        service = place.service("a", SERVES)
        placement = place.placement(0)
        before = self.up(place, shimlet, service, [placement])
        shimlet.close()
        again = place.shimlet()
        assert again.observe(service.name).generations[0].service == service
        again.apply(service, [placement], {})
        after = only(again.observe(service.name))
        assert [(r.placement, r.started_at) for r in after.replicas] == [
            (r.placement, r.started_at) for r in before.replicas
        ]
        self.gone(place, again, service)
        assert not place.remains("a")

    def test_close_leaves_things_running(self, place: ContractPlace) -> None:
        shimlet = place.shimlet()
        self.up(place, shimlet, place.service("a", SERVES), [place.placement(0)])
        there = sorted(place.remains("a"))
        shimlet.close()
        shimlet.close()
        assert there
        assert sorted(place.remains("a")) == there

    def test_another_owner_sees_nothing_of_it(self, place: ContractPlace, shimlet: Shimlet) -> None:
        service = place.service("a", SERVES)
        placement = place.placement(0)
        self.up(place, shimlet, service, [placement])
        other = place.shimlet(place.owner + "-other")
        assert other.list() == {}
        assert other.observe(service.name).generations == ()
        other.remove(service.name, service.digest)
        other.record(service.name, service.digest, Fate.FAILED)
        other.apply(service, [], {})
        other.close()
        assert [r.placement for r in running(only(shimlet.observe(service.name)))] == [placement]
        assert only(shimlet.observe(service.name)).fate is Fate.NEW

    def test_a_stranger_in_our_place_is_never_touched(self, place: ContractPlace, shimlet: Shimlet) -> None:
        service = place.service("a", SERVES)
        untouched = place.stranger(service, 0)
        assert shimlet.list() == {}
        if place.conflicts:
            assert shimlet.observe(service.name).foreign
            with pytest.raises(Conflict):
                shimlet.apply(service, [place.placement(0)], {})
        else:
            self.up(place, shimlet, service, [place.placement(0)])
        shimlet.remove(service.name, service.digest)
        assert untouched()

    def test_a_second_agent_of_one_owner_is_refused_and_another_owner_is_not(
        self, place: ContractPlace, shimlet: Shimlet
    ) -> None:
        shimlet.acquire()
        shimlet.acquire()
        with place.rival(place.owner) as refused:
            assert refused
        with place.rival(place.owner + "-other") as refused:
            assert not refused

    def test_the_lock_is_free_after_close_and_after_the_holder_died(self, place: ContractPlace) -> None:
        first = place.shimlet()
        first.acquire()
        first.close()
        with place.rival(place.owner) as refused:
            assert not refused
            with pytest.raises(Conflict):
                place.shimlet().acquire()
        second = place.shimlet()

        def free() -> bool:
            try:
                second.acquire()
            except Conflict:
                return False
            return True

        wait_until(place, free, "the lock of a dead agent is free")
        second.close()

    # What happens by itself.

    def test_a_death_behind_our_back_is_told_and_seen(self, place: ContractPlace, shimlet: Shimlet) -> None:
        service = place.service("a", SERVES)
        placement = place.placement(0)
        self.up(place, shimlet, service, [placement])
        with watching(shimlet) as told:
            place.kill("a")
            wait_until(place, lambda: "a" in told, "the death is told")
        wait_until(place, lambda: not running(only(shimlet.observe(service.name))), "the death is seen")
        dead = only(shimlet.observe(service.name)).replicas[0]
        assert dead.state is State.EXITED
        assert dead.finished_at is not None
        assert dead.message
        self.up(place, shimlet, service, [placement])

    def test_an_exit_is_seen_with_its_code_and_last_words(self, place: ContractPlace, shimlet: Shimlet) -> None:
        service = place.service("a", DIES)
        shimlet.apply(service, [place.placement(0)], {})
        wait_until(place, lambda: not only(shimlet.observe(service.name)).live, "it exited")
        replica = only(shimlet.observe(service.name)).replicas[0]
        assert replica.exit_code == 3
        assert "last words" in replica.message

    def test_apply_starts_what_exited(self, place: ContractPlace, shimlet: Shimlet) -> None:
        service = place.service("a", SERVES)
        placement = place.placement(0)
        before = self.up(place, shimlet, service, [placement])
        place.kill("a")
        wait_until(place, lambda: not only(shimlet.observe(service.name)).live, "the death is seen")
        after = self.up(place, shimlet, service, [placement])
        assert after.replicas[0].started_at != before.replicas[0].started_at
        assert after.replicas[0].exit_code is None

    def test_starts_and_stops_of_ours_are_told(self, place: ContractPlace, shimlet: Shimlet) -> None:
        service = place.service("a", SERVES)
        with watching(shimlet) as told:
            self.up(place, shimlet, service, [place.placement(0)])
            told.clear()
            self.gone(place, shimlet, service)
            wait_until(place, lambda: "a" in told, "the end is told")

    # Giving up, where a world can do that.

    @pytest.fixture
    def ownership(self, shimlet: Shimlet) -> Ownership:
        if not isinstance(shimlet, Ownership):
            pytest.skip("this world cannot give up what it runs")
        return shimlet

    def released(self, place: ContractPlace, ownership: Ownership, service: Service) -> tuple[str, ...]:
        """Give it up; what is being stopped is waited for."""
        left: list[tuple[str, ...]] = []

        def done() -> bool:
            try:
                left.append(ownership.release(service.name))
            except Transient:
                return False
            return True

        wait_until(place, done, "it is given up")
        return left[-1]

    def test_giving_up_nothing_leaves_nothing(self, ownership: Ownership) -> None:
        assert ownership.release(ServiceName("nothing")) == ()

    def test_what_is_given_up_runs_on_and_is_seen_by_no_later_agent(
        self, place: ContractPlace, shimlet: Shimlet, ownership: Ownership
    ) -> None:
        service = place.service("web", SERVES)
        other = place.service("api", SERVES)
        self.up(place, shimlet, service, [place.placement(0)])
        self.up(place, shimlet, other, [place.placement(0)])
        before = sorted(place.remains("web"))
        (left,) = self.released(place, ownership, service)
        assert any(one[:12] in left for one in before), f"{left} names none of {before}"
        shimlet.close()
        for agent in (shimlet, place.shimlet()):
            assert agent.list().keys() == {other.name}
            assert agent.observe(service.name).generations == ()
            assert list(agent.logs(service.name, 10)) == []
            agent.remove(service.name, service.digest)
        assert sorted(place.remains("web")) == before

    def test_a_later_service_of_that_name_lives_and_goes_beside_what_was_given_up(
        self, place: ContractPlace, shimlet: Shimlet, ownership: Ownership
    ) -> None:
        service = place.service("web", SERVES)
        self.up(place, shimlet, service, [place.placement(0)])
        self.released(place, ownership, service)
        before = sorted(place.remains("web"))
        self.up(place, shimlet, service, [place.placement(0)])
        assert len(running(shimlet.observe(service.name).generation(service.digest))) == 1
        assert len(place.remains("web")) == len(before) + 1
        assert len(self.released(place, ownership, service)) == 1, "only the later one was still ours"
        assert self.released(place, ownership, service) == ()
        self.up(place, shimlet, service, [place.placement(0)])
        shimlet.remove(service.name, service.digest)
        wait_until(
            place, lambda: len(place.remains("web")) == len(before) + 1, "the newest is gone, the others are not"
        )
        assert set(before) <= set(place.remains("web"))

    def test_what_is_kept_is_given_up_too(self, place: ContractPlace, shimlet: Shimlet, ownership: Ownership) -> None:
        service = place.service("web", SERVES)
        self.up(place, shimlet, service, [place.placement(0)])
        shimlet.record(service.name, service.digest, Fate.FAILED)
        shimlet.apply(service, (), {})
        wait_until(
            place, lambda: not self.stopping(shimlet.observe(service.name).generation(service.digest)), "stopped"
        )
        self.released(place, ownership, service)
        assert shimlet.observe(service.name).generations == ()

    def test_watch_obeys_stop_within_a_second(self, place: ContractPlace, shimlet: Shimlet) -> None:
        with watching(shimlet) as told:
            stop, thread = told.stop, told.thread
            place.step()
            began = time.monotonic()
            stop.set()
            thread.join(5)
            assert not thread.is_alive()
            assert time.monotonic() - began < 1

    # Logs.

    def test_logs_give_the_tail(self, place: ContractPlace, shimlet: Shimlet) -> None:
        service = place.service("a", TALKS)
        self.up(place, shimlet, service, [place.placement(0)])
        wait_until(place, lambda: "line 30" in list(shimlet.logs(service.name, 1000)), "it spoke")
        assert next(iter(shimlet.logs(service.name, 1000))) == "line 1"
        assert len(list(shimlet.logs(service.name, 5))) == 5
        assert list(shimlet.logs(service.name, 0)) == []

    def test_logs_follow_until_told_to_stop(self, place: ContractPlace, shimlet: Shimlet) -> None:
        service = place.service("a", TALKS)
        self.up(place, shimlet, service, [place.placement(0)])
        wait_until(place, lambda: "line 30" in list(shimlet.logs(service.name, 1000)), "it spoke")
        stop = threading.Event()
        heard: list[str] = []

        def follow_live() -> None:
            for line in shimlet.logs(service.name, 0, stop):
                heard.append(line)  # noqa: PERF402  # each line as it comes is the point

        thread = threading.Thread(target=follow_live, daemon=True)
        thread.start()
        try:
            wait_until(place, lambda: "again" in heard, "a new line came")
        finally:
            stop.set()
            thread.join(5)
        assert not thread.is_alive()

    def test_logs_of_nothing_are_empty(self, shimlet: Shimlet) -> None:
        assert list(shimlet.logs(ServiceName("nobody"), 10)) == []

    # Secrets.

    def test_secrets_never_appear_in_marks(self, place: ContractPlace, shimlet: Shimlet) -> None:
        service = place.service("a", SECRETIVE)
        secrets = {"TOKEN": SECRET}
        self.up(place, shimlet, service, [place.placement(0)], secrets)
        for seen in (only(shimlet.observe(service.name)), only(shimlet.list()[service.name])):
            assert unsealed_by(secrets, seen.secrets)
            assert SECRET not in repr(seen)
        assert place.text("a")
        assert SECRET not in place.text("a")

    def test_other_secrets_replace_the_replica_and_the_same_do_not(
        self, place: ContractPlace, shimlet: Shimlet
    ) -> None:
        service = place.service("a", SECRETIVE)
        placement = place.placement(0)
        before = self.up(place, shimlet, service, [placement], {"TOKEN": SECRET})
        shimlet.apply(service, [placement], {"TOKEN": SECRET})
        same = only(shimlet.observe(service.name))
        assert same.replicas[0].started_at == before.replicas[0].started_at
        other = {"TOKEN": SECRET + "-rotated"}

        def renewed() -> bool:
            shimlet.apply(service, [placement], other)
            generation = only(shimlet.observe(service.name))
            return bool(running(generation)) and unsealed_by(other, generation.secrets)

        wait_until(place, renewed, "it runs with the new secret")
        assert len(place.remains("a")) == 1


class Told(set[str]):
    """The names that a watch told, while it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.stop = threading.Event()
        self.thread = threading.Thread(target=lambda: None)
        self.ended: BaseException | None = None


@contextlib.contextmanager
def watching(shimlet: Shimlet) -> Iterator[Told]:
    """Watch in a thread, as the agent does: list again and go on when the watch ends by itself."""
    told = Told()

    def watch() -> None:
        try:
            while not told.stop.is_set():
                for name in shimlet.watch(told.stop):
                    told.add(name)
        except BaseException as error:
            told.ended = error
            raise

    told.thread = threading.Thread(target=watch, daemon=True)
    told.thread.start()
    time.sleep(0.05)  # the watch itself gives no sign that it has begun
    try:
        yield told
    finally:
        told.stop.set()
        told.thread.join(5)
    assert told.ended is None
