"""What is given up says so itself, in what the kernel shows of it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.contracts import Check, Conflict, Fate, Placement, ServiceName, State, Transient, Workload
from tests.contract.shimlet_contract import SERVES, TALKS, only, service_of
from tests.shimlets.process.place import ProcessPlace, alive, folder_that_refuses

A = ServiceName("a")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[ProcessPlace]:
    with ProcessPlace(tmp_path / "state") as place:
        yield place


def output(pid: int) -> str:
    return str(Path(f"/proc/{pid}/fd/1").readlink())


def test_with_the_folder_lost_a_later_agent_does_not_take_it_for_its_own(place):
    shimlet = place.shimlet()
    pid = place.up(shimlet, place.service("a", SERVES))
    (left,) = shimlet.release(A)
    assert left.startswith(f"pid {pid}, running")
    assert output(pid).endswith(".forgotten")
    shutil.rmtree(place.state_dir)
    shimlet.close()
    for one in (shimlet, place.shimlet()):
        assert one.list() == {}
        assert one.observe(A).generations == ()
    assert alive(pid)


def test_without_its_log_the_folder_remembers_it(place):
    """A program may close its output, or its log may have been deleted."""
    shimlet = place.shimlet()
    pid = place.up(shimlet, place.running("/bin/sh", "-c", "exec /bin/sleep 1000 >/dev/null 2>&1"))
    place.until(lambda: output(pid) == "/dev/null", "it closed its output")
    shutil.rmtree(place.state_dir)
    assert place.state(shimlet) == [State.RUNNING], "a lost log loses nothing"
    shimlet.release(A)
    assert place.shimlet().list() == {}
    assert alive(pid)


def test_its_log_goes_with_it_and_it_writes_on(place):
    shimlet = place.shimlet()
    place.up(shimlet, place.service("a", TALKS))
    (left,) = shimlet.release(A)
    log = Path(left.partition("log: ")[2])
    size = log.stat().st_size
    place.until(lambda: log.stat().st_size > size, "it writes on")
    assert "line 1\n" in log.read_text()


def test_its_descendants_are_given_up_too(place):
    shimlet = place.shimlet()
    pid = place.up(shimlet, place.running("/bin/sh", "-c", "/bin/sleep 1000 & exec >/dev/null 2>&1; wait"))
    place.until(lambda: output(pid) == "/dev/null", "only the child has the log open")
    (left,) = shimlet.release(A)
    assert "(and " in left
    shutil.rmtree(place.state_dir)
    assert place.shimlet().list() == {}, "one of a run speaks for all"


def test_a_program_that_merely_has_such_a_file_open_is_ours(place, tmp_path):
    shimlet = place.shimlet()
    log = tmp_path / "x.forgotten"
    place.up(shimlet, place.running("/bin/sh", "-c", f"exec /bin/sleep 1000 >{log} 2>&1"))
    place.until(lambda: log.exists(), "it writes there")
    shutil.rmtree(place.state_dir)  # no record vouches for it
    assert place.shimlet().list().keys() == {A}


def test_its_port_is_a_strangers(place):
    shimlet = place.shimlet()
    code = (
        "import socket, time; s = socket.create_server(('127.0.0.1', int(__import__('sys').argv[1]))); time.sleep(1000)"
    )
    workload = Workload(command=("python3", "-c", code, "{port}"), port=80, check=Check(tcp=True))
    service = service_of("a", workload, shimlet="process", goalset="service-deploy")
    placement = place.placement(0)
    pid = place.up(shimlet, service, placement)

    def proven() -> bool:
        try:
            shimlet.record(A, service.digest, Fate.SERVED)
        except Transient:
            return False
        return True

    place.until(proven, "it listens")
    shimlet.release(A)
    with pytest.raises(Conflict, match=rf"in use by another program \(pid {pid}"):
        shimlet.apply(service, [placement], {})
    assert shimlet.observe(A).generations == ()
    shimlet.apply(service, [place.placement(0)], {})
    place.until(lambda: place.state(shimlet) == [State.RUNNING], "elsewhere it runs")


def test_what_is_kept_of_it_is_forgotten_with_its_fate(place):
    shimlet = place.shimlet()
    service = place.service("a", SERVES)
    place.up(shimlet, service)
    shimlet.record(A, service.digest, Fate.FAILED)
    shimlet.apply(service, (), {})
    place.until(lambda: place.state(shimlet) == [State.STOPPED], "it is stopped")
    assert shimlet.release(A) == ()
    place.up(shimlet, service)
    assert only(shimlet.observe(A)).fate is Fate.NEW


def test_what_is_being_stopped_is_not_given_up_yet(place):
    shimlet = place.shimlet()
    service = place.running("/bin/sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")
    pid = place.up(shimlet, service)
    shimlet.remove(A, service.digest)
    with pytest.raises(Transient, match="still being stopped"):
        shimlet.release(A)
    place.until(lambda: not alive(pid), "it ends as it was told")


def test_what_cannot_be_written_down_is_not_given_up(place):
    shimlet = place.shimlet()
    pid = place.up(shimlet, place.service("a", SERVES))
    with folder_that_refuses(place.state_dir), pytest.raises(Transient, match="cannot"):
        shimlet.release(A)
    assert place.state(shimlet) == [State.RUNNING]
    assert alive(pid)


def test_a_placement_without_a_port_is_told_without_an_address(place):
    shimlet = place.shimlet()
    place.up(shimlet, place.service("a", SERVES), Placement(0))
    assert " at " not in shimlet.release(A)[0]
