"""Signals hit the process that is meant, and nobody else."""

import signal
import subprocess
import threading
from unittest.mock import Mock

import pytest

from agent.contracts import Digest, ServiceName
from shimlets.process.cgroup import Groups
from shimlets.process.ending import Ending, send
from shimlets.process.finding import Who, stat_of
from shimlets.process.recording import Key


def test_a_pid_that_was_used_again_is_not_signalled():
    with subprocess.Popen(["/bin/sleep", "1000"]) as process:
        stat = stat_of(process.pid)
        assert stat is not None
        send(Who(process.pid, stat.who.ticks - 1), signal.SIGKILL)
        send(Who(process.pid, stat.who.ticks + 1), signal.SIGKILL)
        assert process.poll() is None
        send(stat.who, signal.SIGKILL)
        assert process.wait(10) == -signal.SIGKILL
    send(stat.who, signal.SIGKILL)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_a_bug_ended_is_replaced_when_it_is_asked_again(tmp_path):
    sight, ended = Mock(side_effect=RuntimeError("a bug")), threading.Event()
    ending = Ending(sight, lambda key: ended.set(), Groups("t", lambda: None))
    key = Key(ServiceName("a"), Digest("d"), 0)
    ending.begin(key, (), grace=0.0)
    ending._thread.join(5)
    sight.side_effect, sight.return_value = None, Mock(stats={}, ours=(), alive=lambda who: None)
    ending.begin(key, (), grace=0.0)
    assert ended.wait(5)
    ending.close()
