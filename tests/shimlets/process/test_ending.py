"""Signals hit the process that is meant, and nobody else."""

import signal
import subprocess

from shimlets.process.ending import send
from shimlets.process.finding import Who, stat_of


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
