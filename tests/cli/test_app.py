"""The program as a process: exit codes, signals, pipes, and never a traceback."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.operations import eventually

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def program():
    """Start it as its users do; what still runs at the end is killed."""
    started = []

    def start(*words, **more):
        environ = os.environ | {"PYTHONPATH": str(ROOT)}
        options = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "text": True,
        } | more
        process = subprocess.Popen([sys.executable, "-m", "agent", *map(str, words)], env=environ, **options)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_each_command_says_what_it_does_in_one_whole_sentence(program):
    out, _ = program("--help").communicate(timeout=60)
    lines = out.partition("Commands:\n")[2].splitlines()
    assert len(lines) > 10
    assert all(line.endswith(".") and not line.endswith("...") for line in lines), out


def test_the_version_is_told(program):
    process = program("--version")
    assert process.communicate()[0].startswith("xmod-agent ")
    assert process.returncode == 0


def test_a_wrong_word_is_a_usage_error(program):
    process = program("statsu")
    out, err = process.communicate()
    assert process.returncode == 2
    assert "No such command 'statsu'" in err
    assert out == ""


def test_no_agent_is_one_sentence_and_no_traceback(program, tmp_path):
    process = program("status", "--socket", tmp_path / "s")
    out, err = process.communicate()
    assert (process.returncode, out, err.count("\n")) == (1, "", 1)


def test_ctrl_c_ends_a_followed_log_quietly(agent, program):
    process = program("logs", "qwen", "--tail", "1", "-f")
    assert process.stdout.readline() == "three\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (130, "", "")
    assert eventually(lambda: agent.followers == 0)


def test_ctrl_c_ends_a_watch_quietly(agent, program):
    process = program("status", "--watch")
    assert process.stdout.readline().startswith("NAME")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (130, "")


def test_a_watch_tells_what_changes(agent, program):
    from dataclasses import replace

    process = program("status", "--watch")
    assert process.stdout.readline().startswith("NAME")
    agent.agent = replace(agent.agent, services=())
    assert any(line == "no services\n" for line in process.stdout)


def test_a_reader_that_leaves_ends_it_quietly(agent, program):
    agent.lines = [f"line {n} " + "x" * 100 for n in range(20_000)]
    process = program("logs", "qwen", "--tail", "20000")
    assert process.stdout.readline().startswith("line 0")
    process.stdout.close()
    assert process.wait(timeout=10) in (1, 141)
    assert process.stderr.read() == ""
    process.stdout = None


def test_an_agent_that_dies_during_a_followed_log_is_told(agent, program, request):
    process = program("logs", "qwen", "--tail", "1", "-f")
    assert process.stdout.readline() == "three\n"
    request.getfixturevalue("surface_of_agent").stop()
    process.communicate(timeout=10)
    assert process.returncode in (0, 1)


def test_status_answers_soon(agent, program):
    """Not a promise in seconds (the machine is shared), but no command may bring the whole agent in."""
    process = program("status")
    process.communicate(timeout=20)
    assert process.returncode == 0
    code = "import sys, agent.cli; print([m for m in ('fastapi', 'docker', 'watchfiles', 'agent.daemon') if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert loaded.stdout == "[]\n"
