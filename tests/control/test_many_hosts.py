"""Many hosts, one repository: what moves by a commit, what a renamed host holds, and what others' overrides do not touch."""

import pytest

from agent.contracts import ServiceName
from agent.control.board import Phase
from agent.control.intent import Remove, Run
from agent.spec.hosts import HostId
from tests.control.test_promises import Host, running
from tests.fakes.folder import document

A, B = HostId("a"), HostId("b")


def on(host: HostId) -> Host:
    made = Host()
    made.folder.host = host
    made.folder = made.folder.restarted()
    return made


def becomes(host: Host, identity: HostId, *, lost: bool = False) -> Host:
    """The operator changed agent.host or agent.labels."""
    host.folder.host = identity
    return host.restart(lost=lost)


def spec(name: str, hosts: str = "", version: str = "v1", extra: str = "") -> str:
    return document(name, version, extra=(f"hosts: [{hosts}]\n" if hosts else "") + extra)


def many(hosts: str, count: int = 8) -> dict[str, str | bytes | None]:
    return {f"s{number}": spec(f"s{number}", hosts) for number in range(count)}


def test_only_the_named_host_runs_a_service_and_the_other_counts_it() -> None:
    files: dict[str, str | bytes | None] = {"one": spec("one", "a"), "two": spec("two", "b"), "three": spec("three")}
    here, there = on(A).has(**files), on(B).has(**files)
    assert running(here, "one", "three")
    assert running(there, "two", "three")
    for host, elsewhere in ((here, "two"), (there, "one")):
        desired = host.agent.controller.desired()
        assert desired is not None
        assert desired.elsewhere == {elsewhere}
        assert host.agent.board.get(ServiceName(elsewhere)) is None


def test_a_commit_moves_a_service_from_host_to_host() -> None:
    before, after = {"x": spec("one", "a"), "y": spec("two")}, {"x": spec("one", "b"), "y": spec("two")}
    here, there = on(A).has(**before), on(B).has(**before)
    here.effects()
    assert there.world.running("one") == {}
    there.has(**after)
    here.has(**after)
    assert running(there, "one", "two")
    assert not here.world.observed("one").generations
    assert here.effects() == ["stop one", "remove one"]
    assert here.held() == {}


def test_what_moves_away_counts_in_the_budget() -> None:
    host = on(A).has(**many("a"))
    host.clock.advance(3600)
    host.has(**many("b"))
    assert set(host.held().values()) == {"OverBudget"}
    assert running(host, *many("b"))
    host.agent.operator.approve([])
    assert not any(host.settle().world.observed(name).generations for name in many("b"))


def test_the_last_service_may_move_away_also_while_the_agent_is_down() -> None:
    host = on(A).has(x=spec("one", "a"))
    host.folder.files = {"x.yaml": spec("one", "b")}
    host.restart()
    assert not host.world.observed("one").generations


@pytest.mark.parametrize("lost", [False, True])
def test_one_name_on_different_hosts_is_one_service_on_each(lost: bool) -> None:
    files: dict[str, str | bytes | None] = {"x": spec("one", "a", "v1"), "y": spec("one", "b", "v2")}
    host = on(A).has(**files)
    host.effects()
    host.restart(lost=lost)
    assert host.effects() == []
    assert host.status("one").phase is Phase.READY
    host.has(x=spec("one", "a", "v1"), y=spec("one", "a", "v2"))
    assert host.status("one").converged.reason == "DuplicateName"
    assert host.effects() == []


@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize("count", [1, 8])
@pytest.mark.parametrize("identity", [B, HostId("a", {"gpu": "h100"})])
def test_a_host_that_is_renamed_or_labelled_by_mistake_is_not_wiped(identity: HostId, count: int, lost: bool) -> None:
    """Also with one service, which the budget would let go; and with the state folder lost."""
    mine = "{matchExpressions: [{key: gpu, operator: DoesNotExist}]}" if identity.labels else "a"
    host = on(A).has(**many(mine, count), all=spec("all"))
    host.effects()
    becomes(host, identity, lost=lost)
    assert set(host.held().values()) == {"HostChanged"}
    assert len(host.held()) == count
    becomes(host, identity)  # a second restart forgets nothing
    host.clock.advance(7200)
    assert len(host.settle().held()) == count
    assert running(host, *many(mine, count), "all")
    assert host.effects() == []
    becomes(host, A)
    assert (host.held(), host.effects()) == ({}, []), "and back, as if nothing had been"
    assert host.status("s0").phase is Phase.READY


def test_what_a_renamed_host_holds_is_approved_and_its_life_goes_on() -> None:
    host = becomes(on(A).has(**many("a", 4), all=spec("all")), B)
    host.agent.operator.approve([])
    host.settle()
    assert not any(host.world.observed(name).generations for name in many("a", 4))
    assert running(host, "all")
    host.clock.advance(3600)
    host.has(all=spec("all", "c"))
    assert not host.world.observed("all").generations, "it was wanted under the new name, so this is an ordinary move"


def test_a_commit_that_moves_a_service_off_a_renamed_host_is_ordinary() -> None:
    host = becomes(on(A).has(one=spec("one", "a, b"), two=spec("two")), B)
    host.has(one=spec("one", "c"), two=spec("two"))
    assert not host.world.observed("one").generations


OVERRIDE = "overrides: [{{hosts: [{host}], spec: {{env: [{{key: X, value: '{value}'}}]}}}}]"


def test_an_override_for_another_host_touches_nothing_here() -> None:
    host = on(A).has(x=spec("one"))
    host.effects()
    for value in ("1", "2"):
        host.has(x=spec("one", extra=OVERRIDE.format(host="b", value=value)))
    host.folder.upgrade = "2"
    host.restart()
    assert host.status("one").notices[0].startswith("ResolvesDifferently")
    host.has(x=spec("one", extra=OVERRIDE.format(host="b", value="3")))
    host.has(x=spec("one", "a, b, c"))
    assert host.effects() == [], "not even while an upgrade waits for the user's next change"
    host.has(x=spec("one", extra=OVERRIDE.format(host="a", value="3")))
    assert host.effects() == ["stop one", "start one", "record one", "remove one"]


@pytest.mark.parametrize("lost", [False, True])
def test_a_label_that_brings_an_override_in_waits_for_a_rollout(lost: bool) -> None:
    """A setting restarts nothing."""
    selector = "{matchLabels: {gpu: h100}}"
    host = on(A).has(x=spec("one", extra=OVERRIDE.format(host=selector, value="1")), y=spec("two"))
    host.effects()
    becomes(host, HostId("a", {"gpu": "h100"}), lost=lost)
    becomes(host, HostId("a", {"gpu": "h100"}))
    assert host.effects() == []
    intent = host.agent.controller.intent(ServiceName("one"))
    assert isinstance(intent, Run)
    assert intent.note == "ResolvesDifferently"
    assert host.agent.operator.rollout([]) == ("one",)
    host.settle()
    assert host.effects() == ["stop one", "start one", "record one", "remove one"]


ON_LABEL = "overrides: [{{hosts: [{{matchLabels: {{gpu: h100}}}}], spec: {{{field}}}}}]"
FIELDS = ["replicaCount: 3", "hostPort: 18055", "shimletName: other", "env: [{key: X, value: there}]"]


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("lost", [False, True])
def test_labels_that_come_or_get_lost_start_and_stop_nothing(field: str, lost: bool) -> None:
    """Not even a replica, or what stands at another port: the settings file may just be missing."""
    text = {"x": spec("one", extra=ON_LABEL.format(field=field)), "y": spec("two")}
    for before, after in ((A, HostId("a", {"gpu": "h100"})), (HostId("a", {"gpu": "h100"}), A)):
        host = Host(other=True)
        host.folder.host = before
        host.folder = host.folder.restarted()
        host.has(**text)
        world = host.elsewhere if "shimletName" in field and before.labels else host.world
        log = list(world.log)
        becomes(host, after, lost=lost)
        becomes(host, after, lost=lost)
        assert world.log == log
        assert host.status("one").notices[0].startswith("ResolvesDifferently: ")
        world.exit("one")
        host.settle()
        assert [line.split("/")[0] for line in world.log[len(log) :]] == ["start one"], "and its drift is repaired"
        log = list(world.log)
        becomes(host, after, lost=lost)
        assert world.log == log
        becomes(host, before)
        assert (world.log, host.status("one").notices) == (log, ()), "and back, as if nothing had been"
        becomes(host, after)
        assert host.agent.operator.rollout([]) == ("one",)
        host.settle()
        assert world.log != log or not after.labels
        assert (host.status("one").converged.reason, host.status("one").notices) == ("Converged", ())


def test_a_rollout_of_what_moves_to_another_shimlet_goes_one_at_a_time_and_a_failed_one_halts_the_rest() -> None:
    names = {"one", "two", "three"}
    host = Host(other=True)
    host.folder.host = A
    host.folder = host.folder.restarted()
    text = {name: spec(name, version=name, extra=ON_LABEL.format(field="shimletName: other")) for name in names}
    host.has(**text)
    becomes(host, HostId("a", {"gpu": "h100"}))
    host.elsewhere.crashing.add(host.world.observed("two").generations[0].service.digest)
    host.agent.operator.rollout([ServiceName(name) for name in ("one", "two", "three")])
    moving = [name for name, intent in host.agent.controller.intents().items() if isinstance(intent, Remove)]
    assert moving == ["one"]
    host.settle()
    assert host.elsewhere.running("one")
    assert host.status("two").phase is Phase.FAILED
    assert running(host, "three")
    assert host.status("three").notices == ("RolloutWaits: after two, which is not through yet",)
    host.agent.operator.cancel_rollout([])
    host.settle()
    assert running(host, "three")
    assert host.status("three").notices[0].startswith("ResolvesDifferently: ")


def test_a_commit_to_what_says_the_same_everywhere_is_taken_although_the_host_was_relabelled_meanwhile() -> None:
    host = on(A).has(x=spec("one"), y=spec("two", extra=ON_LABEL.format(field="replicaCount: 2")))
    host.effects()
    host.folder.files["x.yaml"] = spec("one", version="v2")
    becomes(host, HostId("a", {"gpu": "h100"}))
    assert host.effects() == ["stop one", "start one", "record one", "remove one"]


@pytest.mark.parametrize("lost", [False, True])
def test_a_renamed_host_that_another_document_of_the_name_speaks_of_keeps_its_own(lost: bool) -> None:
    host = on(A).has(x=spec("one", "a", "v1"), y=spec("one", "b", "v2"))
    host.effects()
    becomes(host, B, lost=lost)
    assert host.effects() == []
    assert host.status("one").notices[0].startswith("ResolvesDifferently: ")


def test_a_users_change_after_a_new_label_is_taken() -> None:
    selector = "{matchLabels: {gpu: h100}}"
    host = on(A).has(x=spec("one", extra=OVERRIDE.format(host=selector, value="1")))
    becomes(host, HostId("a", {"gpu": "h100"})).effects()
    host.has(x=spec("one", extra=OVERRIDE.format(host=selector, value="2")))
    assert host.effects() == ["stop one", "start one", "record one", "remove one"]


def test_a_file_that_breaks_keeps_what_it_held_whoever_else_holds_that_name_elsewhere() -> None:
    host = on(A).has(x=spec("one", "a"), y=spec("one", "b"), z=spec("two"))
    host.effects()
    host.has(x="]: {", y=spec("one", "b"), z=spec("two"))
    assert (host.effects(), host.status("one").converged.reason) == ([], "SpecInvalid")


def test_a_source_in_which_all_is_for_others_is_not_empty() -> None:
    """But with the state lost and no host in the mark, the budget is all that guards, as for any removal."""
    host = on(A).has(**many("a", 8))
    host.folder.files = {f"{name}.yaml": text for name, text in many("b", 8).items()}
    host.restart(lost=True)
    assert set(host.held().values()) == {"OverBudget"}
