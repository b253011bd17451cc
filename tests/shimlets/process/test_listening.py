"""Whose a port is, with real sockets: a replica's own, a stranger's, or nobody's."""

import contextlib
import dataclasses
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.contracts import Check, Conflict, Fate, Replica, Service, ServiceName, State, Transient, Workload
from shimlets.process import listening
from shimlets.process.finding import Who
from shimlets.process.listening import listeners
from shimlets.process.shimlet import ProcessShimlet
from tests.contract.shimlet_contract import only, service_of
from tests.shimlets.process.place import ProcessPlace, environ_of, pids_of

A = ServiceName("a")
SERVES = "import socket,sys,time; s=socket.create_server((sys.argv[1], int(sys.argv[2]))); time.sleep(1000)"
LATE = "import os,socket,sys,time\nwhile not os.path.exists(sys.argv[3]): time.sleep(0.01)\n" + SERVES
HANDS_DOWN = """
import os, socket, sys, time
s = socket.create_server((sys.argv[1], int(sys.argv[2])))
s.set_inheritable(True)
if not os.fork():
    os.setsid()
    os.execve("/bin/sleep", ["sleep", "1000"], {})
s.close()
time.sleep(1000)
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[ProcessPlace]:
    with ProcessPlace(tmp_path / "state") as place:
        yield place


@pytest.fixture
def shimlet(place: ProcessPlace) -> ProcessShimlet:
    return place.shimlet()


def asked(script: str, *words: str, bind: str = "127.0.0.1", replicas: int = 1) -> Service:
    """A service that the agent asks whether it answers."""
    command = (sys.executable, "-c", script, "{host}", "{port}", *words)
    workload = Workload(command=command, port=8080, check=Check(tcp=True))
    service = service_of("a", workload, shimlet="process", goalset="service-deploy", replicas=replicas)
    return dataclasses.replace(service, bind=bind)


@contextlib.contextmanager
def stranger(port: int, host: str = "127.0.0.1") -> Iterator[socket.socket]:
    """This very test listens there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family) as there:
        yield there


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def replica(shimlet: ProcessShimlet) -> Replica:
    return only(shimlet.observe(A)).replicas[0]


def listens(place: ProcessPlace, port: int, host: str = "127.0.0.1") -> None:
    place.until(lambda: listeners(f"{host}:{port}"), "somebody listens")


# The kernel's tables.


@pytest.mark.parametrize(
    ("bound", "asked_at", "told"),
    [
        ("127.0.0.1", "127.0.0.1:{}", True),
        ("0.0.0.0", "127.0.0.1:{}", True),
        ("127.0.0.2", "127.0.0.1:{}", False),
        ("::1", "[::1]:{}", True),
        ("::1", "127.0.0.1:{}", False),
        ("::", "127.0.0.1:{}", True),
        ("127.0.0.1", "a-name:{}", False),
    ],
)
def test_listeners_are_those_that_take_a_connection_to_that_address(bound, asked_at, told):
    port = free_port()
    with stranger(port, bound) as there:
        inode = os.fstat(there.fileno()).st_ino
        assert listeners(asked_at.format(port)) == (frozenset({inode}) if told else frozenset())
        assert inode in listeners(f"127.0.0.9:{port}", anywhere=True)
    assert not listeners(asked_at.format(port))


def test_a_connection_is_no_listener():
    port = free_port()
    with stranger(port) as there, socket.create_connection(("127.0.0.1", port)) as client:
        assert len(listeners(f"127.0.0.1:{port}")) == 1
        assert not listeners(f"127.0.0.1:{client.getsockname()[1]}")
        there.accept()[0].close()


# Who answers.


def test_a_replica_that_listens_itself_is_left_to_the_dial(place, shimlet):
    service, placement = asked(SERVES), place.placement(0)
    place.up(shimlet, service, placement)
    assert replica(shimlet).ready is None, "nobody listens yet: refused is not yet"
    listens(place, placement.port)
    for look in (shimlet, place.shimlet()):
        assert only(look.observe(A)).replicas[0].ready is None
        assert only(look.list()[A]).replicas[0].ready is None
    shimlet.record(A, service.digest, Fate.SERVED)
    assert only(shimlet.observe(A)).fate is Fate.SERVED


def test_a_strangers_answer_proves_nothing(place, shimlet, tmp_path):
    service, placement = asked(LATE, str(tmp_path / "go")), place.placement(0)
    place.up(shimlet, service, placement)
    with stranger(placement.port):
        for seen in (replica(shimlet), only(shimlet.list()[A]).replicas[0]):
            assert (seen.state, seen.ready) == (State.RUNNING, False)
            assert f"port {placement.port} is answered by another program (pid {os.getpid()}, " in seen.message
        with pytest.raises(Transient, match="another program"):
            shimlet.record(A, service.digest, Fate.SERVED)
        assert only(shimlet.observe(A)).fate is Fate.NEW
    assert (replica(shimlet).ready, replica(shimlet).message) == (None, "")
    with pytest.raises(Transient, match="nobody listens"):
        shimlet.record(A, service.digest, Fate.SERVED)  # the answer that was heard was the stranger's
    (tmp_path / "go").touch()
    listens(place, placement.port)
    shimlet.record(A, service.digest, Fate.SERVED)
    assert only(shimlet.observe(A)).fate is Fate.SERVED


def test_a_failure_is_recorded_whoever_listens(place, shimlet, tmp_path):
    service, placement = asked(LATE, str(tmp_path / "go")), place.placement(0)
    place.up(shimlet, service, placement)
    with stranger(placement.port):
        shimlet.record(A, service.digest, Fate.FAILED)
    assert only(shimlet.observe(A)).fate is Fate.FAILED


def test_a_stranger_at_another_address_of_the_port_is_none(place, shimlet, tmp_path):
    service, placement = asked(LATE, str(tmp_path / "go")), place.placement(0)
    place.up(shimlet, service, placement)
    with stranger(placement.port, "127.0.0.2"):
        assert replica(shimlet).ready is None


def test_what_is_not_asked_is_not_judged(place, shimlet):
    service, placement = place.running("/bin/sleep", "1000"), place.placement(0)
    place.up(shimlet, service, placement)
    with stranger(placement.port):
        assert replica(shimlet).ready is None
        shimlet.record(A, service.digest, Fate.SERVED)


def test_another_service_of_ours_does_not_answer_for_it(place, shimlet, tmp_path):
    placement = place.placement(0)
    place.up(shimlet, asked(LATE, str(tmp_path / "go")), placement)
    shimlet.apply(dataclasses.replace(asked(SERVES), name=ServiceName("b")), [placement], {})
    listens(place, placement.port)
    assert replica(shimlet).ready is False


@pytest.mark.parametrize("bind", ["0.0.0.0", "::1"])
def test_every_bind_address_is_asked_where_the_agent_dials(place, shimlet, bind):
    script = SERVES.replace("create_server((", "create_server(family=10 if ':' in sys.argv[1] else 2, address=(")
    service, placement = asked(script, bind=bind), place.placement(0)
    place.up(shimlet, service, placement)
    listens(place, placement.port, "[::1]" if ":" in bind else "127.0.0.1")
    assert replica(shimlet).ready is None
    shimlet.record(A, service.digest, Fate.SERVED)


def test_a_child_that_left_the_session_and_lost_the_mark_listens_for_it(place, shimlet):
    service, placement = asked(HANDS_DOWN), place.placement(0)
    place.up(shimlet, service, placement)
    listens(place, placement.port)
    place.until(lambda: len(pids_of(place.owner)) == 1, "the child lost its mark")
    assert replica(shimlet).ready is None
    shimlet.record(A, service.digest, Fate.SERVED)


def test_a_replica_that_is_proven_costs_one_link_a_look_until_it_closes_the_port(place, shimlet, monkeypatch, tmp_path):
    closes = SERVES.replace("time.sleep(1000)", "\nwhile not os.path.exists(sys.argv[3]): time.sleep(0.01)\n")
    script = f"import os\n{closes.replace('; ', chr(10))}s.close()\ntime.sleep(1000)"
    service, placement = asked(script, str(tmp_path / "close")), place.placement(0)
    place.up(shimlet, service, placement)
    listens(place, placement.port)
    assert replica(shimlet).ready is None
    with monkeypatch.context() as patch:
        patch.setattr(listening, "listeners", lambda *_, **__: pytest.fail("the tables are read again"))
        assert replica(shimlet).ready is None
    (tmp_path / "close").touch()
    place.until(lambda: not listeners(f"127.0.0.1:{placement.port}"), "it closed the port")
    with stranger(placement.port):
        assert replica(shimlet).ready is False


def test_what_cannot_be_seen_speaks_against_nobody(place, shimlet, monkeypatch, tmp_path):
    service, placement = asked(LATE, str(tmp_path / "go")), place.placement(0)
    place.up(shimlet, service, placement)

    def refuses(pid: int) -> Iterator[tuple[str, int]]:
        raise PermissionError(pid)

    with stranger(placement.port), monkeypatch.context() as patch:
        patch.setattr(listening, "_sockets", refuses)
        assert replica(shimlet).ready is None


def test_proofs_of_what_is_gone_are_forgotten(place, shimlet):
    service, placement = asked(SERVES), place.placement(0)
    place.up(shimlet, service, placement)
    listens(place, placement.port)
    assert replica(shimlet).ready is None
    known = shimlet._listening._proofs
    assert [type(who) for who in known] == [Who]
    place.kill("a")
    place.until(lambda: place.state(shimlet) == [State.EXITED])
    shimlet.list()
    assert not shimlet._listening._proofs


# Starting where somebody listens.


def test_a_start_on_a_port_in_use_is_a_conflict_that_names_who_and_starts_nothing(place, shimlet):
    service, placement = asked(SERVES), place.placement(0)
    with stranger(placement.port):
        with pytest.raises(Conflict, match=f"port {placement.port} is in use by another program .pid {os.getpid()}, "):
            shimlet.apply(service, [placement], {})
        assert not pids_of(place.owner)
        assert shimlet.list() == {}, "nothing of it holds the ledger to a port that it cannot have"
    place.up(shimlet, service, placement)


def test_a_port_in_use_does_not_keep_the_other_replicas_from_starting(place, shimlet):
    service = asked(SERVES, replicas=3)
    placements = [place.placement(index) for index in range(3)]
    with stranger(placements[1].port), pytest.raises(Conflict, match=str(placements[1].port)):
        shimlet.apply(service, placements, {})
    assert [r.placement for r in only(shimlet.observe(A)).replicas] == [placements[0], placements[2]]


def test_a_port_that_another_of_ours_still_uses_is_waited_for(place, shimlet):
    service, placement = asked(SERVES), place.placement(0)
    place.up(shimlet, service, placement)
    listens(place, placement.port)
    other = dataclasses.replace(service, name=ServiceName("b"))
    with pytest.raises(Transient, match=f"port {placement.port} is still used by a "):
        shimlet.apply(other, [placement], {})


@pytest.mark.parametrize(
    ("bind", "taken", "refused"),
    [
        ("127.0.0.1", "127.0.0.2", False),
        ("127.0.0.1", "0.0.0.0", True),
        ("0.0.0.0", "127.0.0.2", True),
        ("127.0.0.1", "::", True),
        ("::1", "127.0.0.1", False),
    ],
)
def test_only_who_is_in_the_way_of_its_bind_address_counts(place, shimlet, bind, taken, refused):
    service, placement = asked("import time; time.sleep(1000)", bind=bind), place.placement(0)
    dual = taken == "::"
    with socket.create_server(
        (taken, placement.port), family=socket.AF_INET6 if dual else socket.AF_INET, dualstack_ipv6=dual
    ):
        if refused:
            with pytest.raises(Conflict):
                shimlet.apply(service, [placement], {})
        else:
            place.up(shimlet, service, placement)


def test_a_port_that_is_bound_and_not_listened_on_is_left_to_the_program(place, shimlet):
    service, placement = asked("import time; time.sleep(1000)"), place.placement(0)
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", placement.port))
        pid = place.up(shimlet, service, placement)
    assert environ_of(pid)
