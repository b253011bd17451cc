"""Promises 8 and 12: a signal reaches just the process that was meant, and the value of a secret reaches no log."""

import logging
import signal
import subprocess
from pathlib import Path

import pytest

from shimlets.process.ending import send
from shimlets.process.finding import Who, stat_of
from tests.contract.shimlet_contract import SECRET, SECRETIVE
from tests.shimlets.process.place import ProcessPlace


def test_a_stranger_that_has_the_pid_of_one_that_ended_is_not_signalled() -> None:
    with subprocess.Popen(["/bin/sleep", "60"]) as stranger:
        try:
            stat = stat_of(stranger.pid)
            assert stat is not None
            send(Who(stranger.pid, stat.who.ticks - 1), signal.SIGKILL)
            with pytest.raises(subprocess.TimeoutExpired):  # it started at another moment, so it is another one
                stranger.wait(0.3)
            send(stat.who, signal.SIGKILL)
            assert stranger.wait(5) == -signal.SIGKILL
        finally:
            stranger.kill()


def test_the_value_of_a_secret_is_in_no_log_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with ProcessPlace(tmp_path / "state") as place:
        shimlet = place.shimlet()
        service = place.service("a", SECRETIVE)
        shimlet.apply(service, [place.placement(0)], {"TOKEN": SECRET})
        shimlet.observe(service.name)
        shimlet.apply(service, [place.placement(0)], {"TOKEN": "another " + SECRET})
        shimlet.remove(service.name, service.digest)
    assert not [record for record in caplog.records if SECRET in repr(vars(record))]
