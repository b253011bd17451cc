"""The goals that bring a generation up and the older ones down, each verdict and each act by table."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import cast

import pytest

from agent.contracts import (
    Achieved,
    Credentials,
    Fate,
    Generation,
    GoalContext,
    ImageLogin,
    Pending,
    Permanent,
    Placement,
    Room,
    Route,
    SecretRef,
    State,
    Task,
    TaskState,
    Transient,
    Verdict,
)
from goalsets.deploy import Created, Exposed, ImagePresent, Placed, Restarted, Retired
from tests.goalsets.making import (
    NOW,
    V1,
    V2,
    V3,
    Books,
    NoTasks,
    Signpost,
    Vault,
    calls,
    generation,
    moment,
    replica,
)

ONE = Room((Placement(0, 18000),))


class Store:
    """An image store."""

    def __init__(self, *images: str) -> None:
        self.images = images

    def has_image(self, ref: str) -> bool:
        return ref in self.images

    def pull_image(self, ref: str, task: Task) -> None:
        raise AssertionError("not in a look")


# image_present


class Shown(Store):
    """An image store that asks who is there."""

    def __init__(self) -> None:
        super().__init__()
        self.logins: list[Credentials | None] = []

    def pull_image(self, ref: str, task: Task, login: Credentials | None = None) -> None:
        self.logins.append(login)


class Begun(NoTasks):
    """Tasks that are done at once."""

    def start(self, key: str, work: Callable[[Task], None]) -> None:
        super().start(key, work)
        work(cast("Task", None))


PRIVATE = replace(V1, image_login=ImageLogin("robot", SecretRef("file", "/token")))


def test_the_specs_own_login_is_handed_to_the_pull_and_to_nothing_else() -> None:
    store, tasks = Shown(), Begun()
    ImagePresent().ensure(moment(images=store, tasks=tasks, target=PRIVATE, secrets=Vault({"/token": "geheim"})))
    ImagePresent().ensure(moment(images=store, tasks=tasks))
    assert store.logins == [Credentials("robot", "geheim"), None]
    assert "geheim" not in repr(store.logins) + repr(tasks)


def test_other_credentials_are_another_try_and_one_task_for_all_who_have_the_same() -> None:
    goal = ImagePresent()
    keys = [
        goal._key("web:v1", login) for login in (Credentials("a", "x"), Credentials("a", "x"), Credentials("a", "y"))
    ]
    assert keys[0] == keys[1] != keys[2]
    assert goal._key("web:v1", None) == "image:web:v1"
    assert keys[0] != ImagePresent()._key("web:v1", Credentials("a", "x")), "it tells another process nothing"


def test_a_refused_login_is_looked_at_again_soon_and_tried_again_late() -> None:
    goal, ctx = ImagePresent(), image(None, target=PRIVATE, secrets=Vault({"/token": "geheim"}))
    tasks = Begun({goal._key("web:v1", Credentials("robot", "geheim")): ended(Permanent("no"), 10.0)})
    assert goal.is_achieved(replace(ctx, tasks=tasks)) == Pending("ImageRefused", "no", 30.0)
    goal.ensure(replace(ctx, tasks=tasks, images=Shown()))
    assert tasks.begun == [], "the same would be refused again"
    other = replace(ctx, tasks=tasks, images=Shown(), secrets=Vault({"/token": "other"}))
    goal.ensure(other)
    assert len(tasks.begun) == 1


def test_a_login_that_cannot_be_read_begins_no_pull_and_is_no_matter_once_the_image_is_here() -> None:
    store = Shown()
    ctx = moment(images=store, target=PRIVATE, secrets=Vault())
    for call in (ImagePresent().is_achieved, ImagePresent().ensure):
        with pytest.raises(Transient, match="password for image web:v1") as refusal:
            call(ctx)
        assert refusal.value.reason == "SecretUnreadable"
    assert store.logins == []
    store.images = ("web:v1",)
    assert ImagePresent().is_achieved(ctx) == Achieved()


def image(state: TaskState | None = None, *there: str, **more: object) -> GoalContext:
    tasks = NoTasks({} if state is None else {"image:web:v1": state})
    return moment(images=Store(*there), tasks=tasks, **more)


def ended(error: Exception | None, ago: float) -> TaskState:
    return TaskState(running=False, error=error, ended_at=NOW.timestamp() - ago)


@pytest.mark.parametrize(
    ("ctx", "verdict", "begins"),
    [
        (moment(), Achieved(), False),
        (image(None, "web:v1"), Achieved(), False),
        (image(None, target=replace(V1, workload=replace(V1.workload, image=""))), Achieved(), False),
        (image(None), Pending("Pulling", "image web:v1 is not here yet"), True),
        (image(TaskState(running=True, message="3 of 7")), Pending("Pulling", "web:v1: 3 of 7", 5.0), True),
        (image(ended(Transient("down"), 10)), Pending("ImagePullFailed", "down", 20.0), False),
        (image(ended(Transient("down"), 31)), Pending("ImagePullFailed", "down", 1.0), True),
        (image(ended(Permanent("unknown"), 10)), Pending("ImageRefused", "unknown", 290.0), False),
        (image(ended(Permanent("unknown"), 301)), Pending("ImageRefused", "unknown", 1.0), True),
        (image(ended(KeyError("bug"), 10)), Pending("ImagePullFailed", "'bug'", 20.0), False),
        (image(ended(None, 1)), Pending("Pulling", "image web:v1 was pulled and is gone again"), True),
    ],
)
def test_an_image_is_here_or_on_its_way(ctx: GoalContext, verdict: Verdict, begins: bool) -> None:
    assert ImagePresent().is_achieved(ctx) == verdict
    if not isinstance(verdict, Achieved):
        ImagePresent().ensure(ctx)
        assert isinstance(ctx.tasks, NoTasks)
        assert ctx.tasks.begun == (["image:web:v1"] if begins else [])


def test_a_pull_that_failed_is_begun_again_when_someone_asks_and_once_each_time() -> None:
    for error in (Transient("down"), Permanent("unknown")):
        asked = image(ended(error, 10), retry=NOW - timedelta(seconds=5))
        ImagePresent().ensure(asked)
        failed_since = image(ended(error, 3), retry=NOW - timedelta(seconds=5))
        ImagePresent().ensure(failed_since)
        assert [ctx.tasks.begun for ctx in (asked, failed_since)] == [["image:web:v1"], []]  # type: ignore[attr-defined]


def test_what_exists_needs_no_image_any_more() -> None:
    """An image that was cleaned away restarts nothing."""
    assert ImagePresent().is_achieved(moment(generation(), images=Store())) == Achieved()


# placed


@pytest.mark.parametrize(
    ("room", "replicas", "verdict"),
    [
        (ONE, 1, Achieved()),
        (ONE, 3, Achieved()),
        (Room(ONE.held, more=1), 3, Pending("MakingWay", "older replicas make way first")),
        (Room(more=1), 1, Pending("MakingWay", "older replicas make way first")),
        (Room(need="no port"), 1, Pending("NoRoom", "no port")),
        (Room(ONE.held, swap=1, need="no GPU"), 2, Achieved()),
    ],
)
def test_a_part_of_the_replicas_is_enough_to_begin(room: Room, replicas: int, verdict: Verdict) -> None:
    ctx = moment(target=replace(V1, replicas=replicas), ledger=Books(room))
    assert Placed().is_achieved(ctx) == verdict
    assert Placed().is_achieved(moment()) == Achieved(), "a world without a ledger places by itself"


def test_what_fits_is_claimed_and_nothing_makes_way() -> None:
    ctx = moment(generation(V2), ledger=Books(Room(more=1, swap=1)))
    Placed().ensure(ctx)
    assert isinstance(ctx.ledger, Books)
    assert (ctx.ledger.claims, calls(ctx)) == ([V1.digest], [])


def test_if_only_a_swap_helps_one_replica_of_the_youngest_older_one_makes_way() -> None:
    older, younger = generation(V2), generation(V3, replica(0), replica(1))
    ctx = moment(older, younger, ledger=Books(Room(swap=1)), secrets=Vault({"A": "x"}))
    Placed().ensure(ctx)
    assert calls(ctx) == [("apply", V3.digest, (0,), {"A": "x"})]


def test_the_address_leads_no_more_to_what_makes_way() -> None:
    signpost = Signpost(Route(V2.digest, frozenset({0, 1})))
    ctx = moment(generation(V2, replica(0), replica(1)), ledger=Books(Room(swap=1)), router=signpost)
    Placed().ensure(ctx)
    assert signpost.routes == [(V2.digest, (0,))]


def test_what_does_not_run_need_not_make_way() -> None:
    running, stopped = generation(V2), generation(V3, replica(0, State.STOPPED))
    ctx = moment(running, stopped, ledger=Books(Room(swap=1)))
    Placed().ensure(ctx)
    assert calls(ctx) == [("apply", V2.digest, (), {})]


def test_nothing_makes_way_for_what_lacks_a_secret() -> None:
    ctx = moment(generation(V2), ledger=Books(Room(swap=1)), secrets=Vault(missing=True))
    with pytest.raises(Transient, match="TOKEN is missing"):
        Placed().ensure(ctx)
    assert calls(ctx) == []


def test_without_any_room_nothing_is_done() -> None:
    ctx = moment(generation(V2), ledger=Books(Room(need="no")))
    Placed().ensure(ctx)
    assert calls(ctx) == []


# restarted


@pytest.mark.parametrize(
    ("after", "verdict"),
    [
        (None, Achieved()),
        (NOW - timedelta(1), Achieved()),
        (NOW, Achieved()),
        (NOW + timedelta(seconds=5), Pending("Restarting", "a restart was asked for")),
    ],
)
def test_what_started_before_the_restart_is_older(after: object, verdict: Verdict) -> None:
    ctx = moment(generation(), restart_after=after, now=NOW + timedelta(minutes=1))
    assert Restarted().is_achieved(ctx) == verdict


def test_a_moment_to_come_restarts_nothing() -> None:
    assert Restarted().is_achieved(moment(generation(), restart_after=NOW + timedelta(1))) == Achieved()


def test_only_what_is_older_is_stopped() -> None:
    young = replica(1, started_at=NOW + timedelta(seconds=30))
    later = NOW + timedelta(minutes=1)
    ctx = moment(generation(V1, replica(0), young), restart_after=NOW + timedelta(seconds=10), now=later)
    Restarted().ensure(ctx)
    assert calls(ctx) == [("apply", V1.digest, (1,), {})]


@pytest.mark.parametrize("state", [State.STOPPED, State.EXITED])
def test_what_does_not_run_is_not_older(state: State) -> None:
    ctx = moment(generation(V1, replica(0, state)), restart_after=NOW + timedelta(1), now=NOW + timedelta(2))
    assert Restarted().is_achieved(ctx) == Achieved()


def test_a_restart_that_could_not_start_again_is_not_begun() -> None:
    later = NOW + timedelta(minutes=1)
    ctx = moment(generation(), restart_after=later, now=later, secrets=Vault(missing=True))
    with pytest.raises(Transient):
        Restarted().ensure(ctx)
    assert calls(ctx) == []


# created

SERVED, NEW, FAILED = Fate.SERVED, Fate.NEW, Fate.FAILED
CREATING = Pending("Creating")


def crashed(ago: float, restarts: int = 1, index: int = 0) -> object:
    return replica(
        index, State.EXITED, finished_at=NOW - timedelta(seconds=ago), restarts=restarts, message="exited with code 1"
    )


@pytest.mark.parametrize(
    ("there", "verdict"),
    [
        (None, CREATING),
        (generation(), Achieved()),
        (generation(V1, replica(0, State.STARTING)), Achieved()),
        (generation(V1, replica(0, State.STOPPED)), CREATING),
        (generation(V1, replica(0, State.STOPPING)), Pending("Stopping", "a replica is still stopping", 1.0)),
        (generation(V1, replica(0), replica(1)), CREATING),
        (generation(V1, replica(0), replica(1, State.STOPPED)), CREATING),
        (generation(V1, replica(0, placement=Placement(0, 18005))), CREATING),
        (generation(drift="memory is 1 GiB"), Pending("Drifted", "memory is 1 GiB")),
        (generation(replace(V1, bind="127.0.0.2")), Pending("Creating", "moves to 127.0.0.1")),
        # what exited: judged while it never served, started again once it did, tried anew after a failure
        (generation(V1, replica(0, State.EXITED), fate=NEW), Achieved()),
        (generation(V1, replica(0, State.EXITED), fate=FAILED), CREATING),
        (generation(V1, replica(0), fate=FAILED), CREATING),
        (generation(V1, replica(0, State.EXITED)), CREATING),
        (generation(V1, crashed(0.5)), Pending("CrashLoop", "exited with code 1", 0.5)),  # type: ignore[arg-type]
        (generation(V1, crashed(1.5)), CREATING),  # type: ignore[arg-type]
        (generation(V1, crashed(3.0, 3)), Pending("CrashLoop", "exited with code 1", 1.0)),  # type: ignore[arg-type]
        (generation(V1, crashed(299.0, 60)), Pending("CrashLoop", "exited with code 1", 1.0)),  # type: ignore[arg-type]
        (generation(V1, crashed(301.0, 60)), CREATING),  # type: ignore[arg-type]
        (generation(V1, crashed(0.5), fate=NEW), Achieved()),  # type: ignore[arg-type]
        (generation(V1, replica(0), replica(1, State.EXITED, placement=Placement(1, 9)), fate=NEW), CREATING),
    ],
)
def test_exactly_the_placed_replicas_run(there: Generation | None, verdict: Verdict) -> None:
    ctx = moment(*([there] if there is not None else []), ledger=Books(ONE))
    assert Created().is_achieved(ctx) == verdict


def test_an_exited_replica_that_lost_its_place_does_not_keep_the_others_from_being_judged() -> None:
    three = replace(V1, replicas=3)
    there = generation(V1, replica(0, State.EXITED), replica(1, State.EXITED), replica(2, State.EXITED), fate=NEW)
    ctx = moment(there, target=three, ledger=Books(Room((Placement(2, 18002),), swap=2)))
    assert Created().is_achieved(ctx) == Achieved()


def test_a_changed_secret_is_applied_and_a_missing_one_keeps_all() -> None:
    changed = moment(generation(), ledger=Books(ONE), secrets=Vault({"A": "new"}, is_changed=True))
    assert Created().is_achieved(changed) == Pending("Creating", "a secret has another value now")
    Created().ensure(changed)
    assert calls(changed) == [("apply", V1.digest, (0,), {"A": "new"})]
    missing = moment(generation(), ledger=Books(ONE), secrets=Vault(missing=True))
    with pytest.raises(Transient):
        Created().is_achieved(missing)
    with pytest.raises(Transient):
        Created().ensure(missing)
    assert calls(missing) == []


def test_without_a_ledger_replicas_are_counted() -> None:
    ctx = moment(target=replace(V1, replicas=2))
    Created().ensure(ctx)
    assert calls(ctx) == [("apply", V1.digest, (0, 1), {})]


def test_what_crashes_waits_its_pause_and_the_others_run() -> None:
    two = replace(V1, replicas=2)
    room = Room((Placement(0, 18000), Placement(1, 18001)))
    waiting = moment(generation(V1, replica(0), crashed(0.1, index=1)), target=two, ledger=Books(room))  # type: ignore[arg-type]
    Created().ensure(waiting)
    assert calls(waiting) == [], "nothing else is to be done"
    gone = moment(generation(V1, crashed(0.1, index=1)), target=two, ledger=Books(room))  # type: ignore[arg-type]
    Created().ensure(gone)
    assert calls(gone) == [("apply", V1.digest, (0,), {})]
    due = moment(generation(V1, replica(0), crashed(2, index=1)), target=two, ledger=Books(room))  # type: ignore[arg-type]
    Created().ensure(due)
    assert calls(due) == [("apply", V1.digest, (0, 1), {})]


def test_a_pause_that_began_before_someone_asked_is_over() -> None:
    room = Books(Room((Placement(0, 18000),)))
    asked = moment(generation(V1, crashed(1.0, 60)), ledger=room, retry=NOW)  # type: ignore[arg-type]
    assert Created().is_achieved(asked) == Pending("Creating")
    Created().ensure(asked)
    assert calls(asked) == [("apply", V1.digest, (0,), {})]
    before = moment(generation(V1, crashed(1.0, 60)), ledger=room, retry=NOW - timedelta(seconds=2))  # type: ignore[arg-type]
    Created().ensure(before)
    assert calls(before) == []


# exposed


def test_the_record_comes_before_the_route() -> None:
    signpost = Signpost()
    ctx = moment(generation(fate=NEW), router=signpost)
    assert Exposed().is_achieved(ctx) == Pending("Exposing")
    Exposed().ensure(ctx)
    assert calls(ctx) == [("record", V1.digest, SERVED)]
    assert signpost.routes == [(V1.digest, (0,))]


@pytest.mark.parametrize(
    ("leads", "verdict"),
    [
        (None, Pending("Exposing")),
        (Route(V2.digest, frozenset({0})), Pending("Exposing")),
        (Route(V1.digest, frozenset({0, 1})), Pending("Exposing")),
        (Route(V1.digest, frozenset({0})), Achieved()),
    ],
)
def test_the_address_leads_to_just_the_live_replicas(leads: Route | None, verdict: Verdict) -> None:
    ctx = moment(generation(V1, replica(0), replica(1, State.EXITED)), router=Signpost(leads))
    assert Exposed().is_achieved(ctx) == verdict


def test_without_a_router_the_record_is_all() -> None:
    assert Exposed().is_achieved(moment(generation())) == Achieved()
    assert Exposed().is_achieved(moment()) == Pending("Exposing")


# retired


@pytest.mark.parametrize(
    ("others", "keep", "verdict"),
    [
        ((), frozenset(), Achieved()),
        ((generation(V2),), frozenset(), Pending("Retiring")),
        ((generation(V2, replica(0, State.STOPPED)),), frozenset(), Pending("Retiring")),
        ((generation(V2, replica(0, State.STOPPED)),), frozenset({V2.digest}), Achieved()),
        ((generation(V2, replica(0, State.STOPPING)),), frozenset({V2.digest}), Pending("Retiring")),
        ((generation(V2),), frozenset({V2.digest}), Pending("Retiring")),
    ],
)
def test_nothing_of_the_others_is_left_but_the_stopped_record(
    others: tuple[Generation, ...], keep: frozenset[object], verdict: Verdict
) -> None:
    assert Retired().is_achieved(moment(generation(), *others, keep=keep)) == verdict


def test_a_target_that_is_not_whole_is_not_done() -> None:
    assert Retired().is_achieved(moment(generation(), target=replace(V1, replicas=2))) == Pending("Retiring")
    assert Retired().is_achieved(moment()) == Pending("Retiring")


def test_once_the_target_is_whole_the_others_are_removed_and_records_stopped() -> None:
    ctx = moment(generation(), generation(V2), generation(V3), keep=frozenset({V3.digest}))
    Retired().ensure(ctx)
    assert calls(ctx) == [("remove", V2.digest), ("apply", V3.digest, (), {})]


def test_until_then_one_replica_at_a_time_makes_way() -> None:
    two = replace(V1, replicas=2)
    ctx = moment(generation(V1, replica(0)), generation(V2, replica(0), replica(1)), target=two)
    Retired().ensure(ctx)
    assert calls(ctx) == [("apply", V2.digest, (0,), {})]


def test_a_record_that_stopped_is_left_in_peace() -> None:
    ctx = moment(generation(), generation(V2, replica(0, State.STOPPED)), keep=frozenset({V2.digest}))
    Retired().ensure(ctx)
    assert calls(ctx) == []
