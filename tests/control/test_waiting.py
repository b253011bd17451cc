"""What waits for what: from the bytes of files, over the real core."""

import contextlib
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.contracts import Fate, ServiceName
from agent.control.board import Phase
from agent.control.intent import Keep, Remove, Run
from agent.spec.hosts import HostId
from tests.control.test_promises import Host, running
from tests.fakes.folder import document, service_of


def spec(name: str, *needs: str, v: int = 1, extra: str = "", **annotations: str) -> str:
    waits = f"dependsOn: [{', '.join(needs)}]\n" if needs else ""
    return document(name, f"{name}-{v}", extra=waits + extra, **annotations)


def digest(name: str, v: int = 1) -> str:
    return service_of(spec(name, v=v)).digest


def mute(host: Host, name: str, v: int = 1) -> None:
    """This version does not answer."""
    host.world.mute.add(service_of(spec(name, v=v)).digest)


def down(host: Host, name: str) -> None:
    """It ended, was started again, and does not answer."""
    mute(host, name)
    host.world.exit(name)
    host.settle(2)


def heard(host: Host) -> None:
    """Everything answers again."""
    host.world.mute.clear()
    host.settle()


def why(host: Host, name: str) -> str:
    truth = host.status(name).converged
    return f"{truth.reason}: {truth.message}"


def runs(host: Host, name: str, v: int = 1) -> bool:
    return {found: count for found, count in host.world.running(name).items() if count} == {digest(name, v): 1}


def pair(v: int = 1, w: int = 1) -> dict[str, str | bytes | None]:
    """app, which depends on db."""
    return {"app": spec("app", "db", v=v), "db": spec("db", v=w)}


def few(host: Host, **files: str | bytes | None) -> Host:
    """The folder holds these; three rounds pass, less than it takes to fail."""
    host.folder.files = {f"{name}.yaml": content for name, content in files.items()}
    return host.settle(3)


# Creating and replacing.


def test_a_service_is_created_when_what_it_depends_on_serves() -> None:
    host = Host()
    mute(host, "db")
    few(host, **pair(), other=spec("other"))
    assert (host.world.running("app"), running(host, "other")) == ({}, True)
    assert host.status("app").phase is Phase.KEPT
    assert why(host, "app") == "Waiting: for db, which does not serve yet"
    shown = host.status("app")
    assert (shown.file, shown.replicas, shown.wanted) == ("app.yaml", 1, digest("app")), "it is shown as it is wanted"
    heard(host)
    assert host.status("app").phase is Phase.READY


def test_its_turn_comes_at_once_and_not_at_a_resync() -> None:
    host = Host()
    few(host, app=spec("app", "mid"), mid=spec("mid", "db"), db=spec("db"))
    assert [line for line in host.effects() if line.startswith("start")] == ["start db", "start mid", "start app"]
    host = Host()
    mute(host, "db")
    few(host, **pair())
    host.world.mute.clear()
    host.clock.advance(5)  # its next look, and no list of the world
    host.agent.pump()
    host.world.tick()
    assert runs(host, "app")


def test_what_runs_does_not_end_with_what_it_depends_on_and_is_repaired_all_the_same() -> None:
    host = Host().has(**pair())
    host.effects()
    mute(host, "db")
    host.world.exit("db")
    host.settle(3)
    assert host.effects() == ["start db"]
    host.world.exit("app")
    host.settle(3)
    assert host.effects() == ["start app"]
    host.restart(lost=True)
    assert "stop app" not in host.effects()
    assert host.status("app").phase is Phase.READY


def test_a_replacement_waits_and_the_old_one_runs_on() -> None:
    host = Host().has(**pair())
    down(host, "db")
    few(host, **pair(v=2))
    assert runs(host, "app", 1)
    status = host.status("app")
    assert (status.phase, status.serving.holds) == (Phase.KEPT, True)
    assert why(host, "app").startswith("Waiting: for db, which does not")
    host.world.exit("app")
    host.settle(2)
    assert runs(host, "app", 1), "its drift is repaired meanwhile"
    heard(host)
    assert runs(host, "app", 2)
    assert host.status("app").phase is Phase.READY


def test_one_commit_to_both_replaces_what_is_depended_on_first() -> None:
    host = Host().has(**pair())
    host.effects()
    host.has(**pair(v=2, w=2))
    done = host.effects()
    assert done.index("remove db") < done.index("stop app")
    assert runs(host, "app", 2)


def test_a_move_to_another_shimlet_waits_too() -> None:
    host = Host(other=True).has(**pair())
    down(host, "db")
    few(host, app=spec("app", "db", extra="shimletName: other"), db=spec("db"))
    assert runs(host, "app")
    assert why(host, "app").startswith("Waiting: for db")
    heard(host)
    assert (host.world.running("app"), host.elsewhere.running("app")) == ({}, {digest("app"): 1})


def test_going_back_to_what_served_last_does_not_wait() -> None:
    host = Host().has(**pair())
    mute(host, "app", 2)
    few(host, **pair(v=2))
    down(host, "db")
    assert runs(host, "app", 2)
    few(host, **pair(v=1))
    assert runs(host, "app", 1)
    assert host.status("app").phase is Phase.READY


def test_dependsOn_itself_is_no_change() -> None:  # noqa: N802 - the field's name
    host = Host().has(app=spec("app"), db=spec("db"))
    host.effects()
    host.has(**pair()).has(app=spec("app", "nobody"), db=spec("db"))
    assert host.effects() == []
    assert host.status("app").phase is Phase.READY


# What never serves.


def test_a_dependency_that_failed_is_waited_for_and_named() -> None:
    host = Host()
    mute(host, "db")
    host.has(**pair()).settle(20)
    assert host.world.observed("db").generations[0].fate is Fate.FAILED
    assert why(host, "app") == "Waiting: for db, which failed"
    host.has(**pair(w=2))
    assert runs(host, "app")


def test_a_suspended_dependency_serves_as_it_is_or_not_at_all() -> None:
    host = Host().has(app=spec("app", "db"), db=spec("db", suspend="true"))
    assert why(host, "app") == "Waiting: for db, which is suspended"
    host.has(**pair())
    host.has(app=spec("app", "db", v=2), db=spec("db", suspend="true"))
    assert runs(host, "app", 2)


def test_a_dependency_in_a_broken_file_serves_by_its_last_word() -> None:
    host = Host().has(db=spec("db")).has(app=spec("app", "db"), db="]: {")
    assert runs(host, "app")
    host = Host().has(app=spec("app", "db"), db="kind: DeploySpec\nmetadata: {name: db\n")
    assert why(host, "app") == "Waiting: for db, which is in a file that is not in effect"


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ("", "for db, which no document describes"),
        (spec("db", extra="hosts: [b]"), "for db, which is for other hosts"),
    ],
)
def test_a_dependency_that_is_nowhere_is_told_and_what_runs_stays(other: str, said: str) -> None:
    host = Host()
    host.folder.host = HostId("a")
    host.folder = host.folder.restarted()
    files: dict[str, str | bytes | None] = {"x": spec("x")} | ({"db": other} if other else {})
    host.has(**files, app=spec("app", "db"))
    assert why(host, "app") == f"DependencyMissing: {said}"
    assert (host.world.running("app"), host.status("app").blocked) == ({}, "failed")
    host.has(**pair(), x=spec("x"))
    assert runs(host, "app")
    host.effects()
    host.has(**files, app=spec("app", "db"))
    assert "stop app" not in host.effects()
    assert host.status("app").phase is Phase.READY
    host.has(**files, app=spec("app", "db", v=2))
    assert runs(host, "app", 1)
    assert why(host, "app") == f"DependencyMissing: {said}"


def test_a_dependency_whose_removal_is_held_is_wanted_by_nobody() -> None:
    host = Host().has(db=spec("db", prune="disabled"), x=spec("x"))
    host.has(x=spec("x"), app=spec("app", "db"))
    assert host.held() == {"db": "Protected"}
    assert why(host, "app") == "DependencyMissing: for db, which no document describes"


# Rings.


def test_a_ring_is_an_error_in_all_its_files_and_all_stays_as_it_was() -> None:
    host = Host().has(a=spec("a"), b=spec("b", "a"), c=spec("c"))
    host.effects()
    host.has(
        a=spec("a", "b", v=2),
        b=spec("b", "a", v=2),
        c=spec("c", "a", v=2),
        new=spec("d", "d2") + "---\n" + spec("d2", "d"),
    )
    desired = host.agent.controller.desired()
    assert desired is not None
    ring = "1:1: spec.dependsOn: these wait for each other: a → b → a; one must not"
    assert {bad.path: bad.errors for bad in desired.invalid} == {
        "a.yaml": (ring,),
        "b.yaml": (ring,),
        "new.yaml": (ring.replace("a → b → a", "d → d2 → d").replace("1:1", "8:1"),),
    }
    assert host.status("a").converged.reason == "DependencyCycle"
    assert (runs(host, "a", 1), runs(host, "b", 1), runs(host, "c", 2)) == (True, True, True)
    assert host.world.running("d") == {}
    assert host.restart(lost=True).held() == {}
    assert (runs(host, "a", 1), runs(host, "b", 1)) == (True, True)
    host.has(a=spec("a", v=2), b=spec("b", "a", v=2), c=spec("c", v=2))
    assert (runs(host, "a", 2), runs(host, "b", 2)) == (True, True)


def test_a_ring_through_the_last_word_of_a_broken_file_is_one() -> None:
    host = Host().has(a=spec("a", "b"), b=spec("b")).has(a="]: {", b=spec("b", "a"))
    assert host.status("b").converged.reason == "DependencyCycle"
    assert host.status("b").serving.holds


# Rollouts.


def upgraded(host: Host) -> Host:
    host.folder.upgrade = "2"
    return host.restart()


def test_rollouts_of_all_go_in_the_order_of_dependencies() -> None:
    host = upgraded(Host().has(**pair(), z=spec("z")))
    host.effects()
    assert host.agent.operator.rollout([]) == ("app", "db", "z")
    host.settle(30)
    assert [line for line in host.effects() if line.startswith("start")] == ["start db", "start app", "start z"]
    assert {host.status(name).phase for name in ("app", "db", "z")} == {Phase.READY}


def test_a_rollout_that_waits_does_not_hold_up_the_others() -> None:
    host = Host().has(app=spec("app", "db"), db=spec("db"), z=spec("z"))
    host.has(app=spec("app", "db"), z=spec("z"))
    upgraded(host).effects()
    host.agent.operator.rollout([])
    host.settle(20)
    assert [line for line in host.effects() if line.startswith("start")] == ["start z"]
    assert why(host, "app").startswith("DependencyMissing")
    assert host.status("app").serving.holds


# Removal.


def test_what_depends_on_others_is_removed_first() -> None:
    host = Host().has(app=spec("app", "mid"), mid=spec("mid", "db"), db=spec("db"), keep=spec("keep"))
    host.effects()
    host.has(keep=spec("keep"))
    host.agent.operator.approve([])
    host.settle()
    assert [line for line in host.effects() if line.startswith("remove")] == ["remove app", "remove mid", "remove db"]
    assert host.agent.controller.intents().keys() == {"keep"}


def test_marks_that_depend_on_each_other_go_together() -> None:
    """A mark is never written again, so two of different times may."""
    host = Host().has(a=spec("a", "b"), b=spec("b"), **{f"k{n}": spec(f"k{n}") for n in range(8)})
    host.has(a=spec("a"), b=spec("b", v=2), **{f"k{n}": spec(f"k{n}") for n in range(8)})
    host.has(a=spec("a"), b=spec("b", "a", v=3), **{f"k{n}": spec(f"k{n}") for n in range(8)})
    host.clock.advance(3600)
    host.has(**{f"k{n}": spec(f"k{n}") for n in range(8)})
    assert host.held() == {}
    assert not host.world.observed("a").generations
    assert not host.world.observed("b").generations


# No deadlock.

NAMES = "abcdef"
ACTS = st.sampled_from(["change", "exit", "mute", "suspend", "restart", "rollout", "break", "pass"])


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.sets(st.integers(0, 5)), min_size=6, max_size=6),
    st.permutations(NAMES),
    st.lists(st.tuples(st.sampled_from(NAMES), ACTS), max_size=8),
)
def test_an_acyclic_set_never_deadlocks(
    wishes: Sequence[set[int]], order: Sequence[str], story: Sequence[tuple[str, str]]
) -> None:
    """Whatever happens on the way: once all is well again, all of it runs, and nothing was ever stopped for another."""
    needs = {
        name: [order[n] for n in sorted(wish) if n < at]
        for at, (name, wish) in enumerate(zip(order, wishes, strict=True))
    }
    versions = dict.fromkeys(NAMES, 1)

    def write(**special: str) -> dict[str, str | bytes | None]:
        plain = {name: spec(name, *needs[name], v=versions[name]) for name in NAMES}
        return {**plain, **special}

    host = Host()
    for name, act in story:
        match act:
            case "change":
                versions[name] += 1
                few(host, **write())
            case "exit":
                with contextlib.suppress(StopIteration):  # nothing of it is there to end
                    host.world.exit(name)
                host.settle(1)
            case "mute":
                mute(host, name, versions[name])
                host.settle(2)
            case "suspend":
                few(host, **write(**{name: spec(name, *needs[name], v=versions[name], suspend="true")}))
            case "restart":
                host.restart(lost=True)
            case "rollout":
                host.folder.upgrade += "+"
                host.restart()
                if any(
                    isinstance(i, Run) and i.note == "ResolvesDifferently"
                    for i in host.agent.controller.intents().values()
                ):
                    host.agent.operator.rollout([])
                host.settle(2)
            case "break":
                few(host, **write(**{name: "]: {"}))
            case _:
                host.settle(2)
    host.world.mute.clear()
    for name in NAMES:  # what failed on the way is tried again when it changes
        versions[name] += 1
    host.has(**write()).settle(60)
    assert {name: why(host, name) for name in NAMES} == dict.fromkeys(NAMES, "Converged: ")
    assert not host.world.violations


def test_the_intents_of_what_waits_say_what_is_done_meanwhile() -> None:
    host = Host().has(db=spec("db"), old=spec("old"))
    down(host, "db")
    few(host, db=spec("db"), old=spec("old", "db", v=2), new=spec("new", "db"))
    old, new = (host.agent.controller.intent(ServiceName(name)) for name in ("old", "new"))
    assert isinstance(old, Run)
    assert (old.note, old.service.digest) == ("Waiting", digest("old", 1))
    assert isinstance(new, Keep)
    assert not isinstance(new, Remove)


def test_what_failed_says_so_whatever_it_depends_on() -> None:
    host = Host()
    mute(host, "app")
    host.has(**pair()).settle(20)
    assert why(host, "app").startswith("Burnt: ")
    host.has(app=spec("app", "db"), x=spec("x"))
    assert why(host, "app").startswith("Burnt: ")
