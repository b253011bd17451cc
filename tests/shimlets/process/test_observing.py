"""Records × processes, by equality."""

import dataclasses

from agent.contracts import Fate, Placement, State, Workload, encode
from shimlets.process.environment import Carried
from shimlets.process.finding import Found, Sight, Stat, Who
from shimlets.process.observing import joined, observed
from shimlets.process.recording import Kept, Key, Record, Wish
from tests.contract.shimlet_contract import service_of

SERVICE = service_of("a", Workload(command=("x",)), shimlet="process", goalset="g")
PLACEMENT = Placement(0, 18000)
KEY = Key(SERVICE.name, SERVICE.digest, 0)
TEXT = encode(SERVICE, PLACEMENT)
RECORD = Record(TEXT, "run", 100.0, pid=10, ticks=5, boot="boot")


def stat(pid: int = 10, ticks: int = 5, session: int = 10) -> Stat:
    return Stat(Who(pid, ticks), "S", 1, session, session, ("", ""))


def process(at: Stat, leader: int = 10, run: str = "run") -> Found:
    return Found(at, Carried(SERVICE, PLACEMENT, TEXT, "seal", run, leader, 100.0))


def look(record: Record | None, ours: list[Found], stats: list[Stat] | None = None, boot: str = "boot"):
    records = {KEY: Kept(record, SERVICE, PLACEMENT)} if record else {}
    every = stats if stats is not None else [found.stat for found in ours]
    return joined(records, Sight(tuple(ours), {s.who.pid: s for s in every}), boot)


def state(*args, **more) -> State:
    return look(*args, **more)[KEY].state


def test_a_living_leader_runs_with_or_without_a_record():
    assert state(RECORD, [process(stat())]) is State.RUNNING
    assert state(None, [process(stat())]) is State.RUNNING


def test_before_the_shell_became_the_program_it_is_starting():
    assert state(dataclasses.replace(RECORD, pid=0), [process(stat(), leader=0)]) is State.STARTING


def test_a_wish_to_stop_is_only_about_the_run_that_it_was_said_of():
    stopping = dataclasses.replace(RECORD, wish=Wish.STOP)
    assert state(stopping, [process(stat())]) is State.STOPPING
    assert state(stopping, [process(stat(), run="a later one")]) is State.RUNNING


def test_without_a_leader_the_record_tells_why():
    assert state(RECORD, []) is State.EXITED
    assert state(dataclasses.replace(RECORD, wish=Wish.STOP), []) is State.STOPPED
    assert state(dataclasses.replace(RECORD, wish=Wish.REMOVE), []) is State.STOPPED


def test_what_was_recorded_and_never_started_is_kept_and_not_failed():
    assert state(dataclasses.replace(RECORD, pid=0), []) is State.STOPPED
    assert state(dataclasses.replace(RECORD, pid=0, finished=1.0), []) is State.EXITED


def test_a_child_that_outlives_its_leader_does_not_run_the_service():
    child = process(stat(11, 6), leader=10)
    assert state(RECORD, [child]) is State.EXITED
    assert state(None, [child]) is State.EXITED
    assert state(dataclasses.replace(RECORD, wish=Wish.STOP), [child]) is State.STOPPING


def test_a_descendant_that_came_to_have_its_dead_leaders_pid_does_not_lead():
    assert state(RECORD, [process(stat(10, 999))]) is State.EXITED


def test_a_record_vouches_only_with_pid_start_time_boot_and_session():
    assert state(RECORD, [], [stat()]) is State.RUNNING
    assert state(RECORD, [], [stat(ticks=6)]) is State.EXITED
    assert state(RECORD, [], [stat(session=9)]) is State.EXITED
    assert state(RECORD, [], [stat()], boot="another") is State.EXITED


def test_a_zombie_is_not_alive():
    assert state(RECORD, [], [dataclasses.replace(stat(), state="Z")]) is State.EXITED


def test_two_leaders_are_drift_and_the_recorded_one_is_meant():
    seen = look(RECORD, [process(stat(9, 4), leader=9, run="old"), process(stat())])
    assert seen[KEY].leader == process(stat())
    (generation,) = observed(SERVICE.name, seen.values(), lambda *_: Fate.NEW).generations
    assert "pid 9" in generation.drift


def test_generations_come_oldest_first_with_their_fate():
    other = service_of("a", Workload(command=("y",)), shimlet="process", goalset="g")
    older = Kept(dataclasses.replace(RECORD, mark=encode(other, PLACEMENT), started=50.0), other, PLACEMENT)
    records = {KEY: Kept(RECORD, SERVICE, PLACEMENT), older.key: older}
    seen = joined(records, Sight((), {}), "boot")
    fates = {SERVICE.digest: Fate.SERVED, other.digest: Fate.FAILED}
    result = observed(SERVICE.name, seen.values(), lambda _, digest: fates[digest])
    assert [(g.service, g.fate) for g in result.generations] == [(other, Fate.FAILED), (SERVICE, Fate.SERVED)]


def test_a_changed_secret_shows_until_it_has_reached_every_live_replica():
    second = Placement(1, 18001)
    young = Carried(SERVICE, second, encode(SERVICE, second), "new seal", "run2", 20, 200.0)
    ours = (process(stat()), Found(stat(20, 9, 20), young))
    seen = joined({}, Sight(ours, {f.stat.who.pid: f.stat for f in ours}), "boot")
    assert observed(SERVICE.name, seen.values(), lambda *_: Fate.NEW).generations[0].secrets == "seal"


def claim(found: Found, record: Record | None = RECORD, boot: str = "boot") -> dict:
    records = {KEY: Kept(record, SERVICE, PLACEMENT)} if record else {}
    return joined(records, Sight((), {found.stat.who.pid: found.stat}, (found,)), boot)


def test_another_users_process_is_ours_only_in_the_session_of_a_recorded_run():
    assert claim(process(stat()))[KEY].state is State.RUNNING
    worker = claim(process(stat(11, 6)))[KEY]
    assert (worker.state, [found.stat.who.pid for found in worker.rest]) == (State.EXITED, [11])
    for stranger in (
        claim(process(stat(11, 6, session=11))),
        claim(process(stat(11, 6), run="forged")),
        claim(process(stat(11, 6)), boot="another"),
        claim(process(stat(11, 6)), dataclasses.replace(RECORD, pid=0)),
    ):
        assert stranger[KEY].processes == ()
    assert claim(process(stat()), None) == {}


def test_a_running_replica_whose_port_a_stranger_answers_is_not_ready_and_says_so():
    seen = look(RECORD, [process(stat())])
    for said, expected in (("another answers", (False, "another answers")), ("", (None, ""))):
        result = observed(SERVICE.name, seen.values(), lambda *_: Fate.NEW, lambda _, said=said: said)
        (replica,) = result.generations[0].replicas
        assert (replica.ready, replica.message) == expected
