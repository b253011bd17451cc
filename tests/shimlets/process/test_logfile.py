"""Logs are bounded, tailed over the bound, and followed through truncation."""

import subprocess
import sys
import time

from shimlets.process.logfile import Follower, bound, last_words, tail


def test_the_tail_reaches_into_what_was_set_aside(tmp_path):
    log = tmp_path / "0.log"
    log.write_text("c\nd\n")
    (tmp_path / "0.log.1").write_text("a\nb\n")
    assert tail(log, 3) == ["b", "c", "d"]
    assert tail(log, 100) == ["a", "b", "c", "d"]
    assert tail(log, 0) == []
    assert tail(tmp_path / "none.log", 5) == []


def test_the_tail_of_a_long_log_is_right(tmp_path):
    log = tmp_path / "0.log"
    log.write_text("".join(f"{n:0100d}\n" for n in range(20000)))
    assert [int(line) for line in tail(log, 1500)] == list(range(18500, 20000))


def test_last_words_are_one_short_line(tmp_path):
    log = tmp_path / "0.log"
    log.write_bytes(b"x" * 9000 + b"\none\n\n  two \xff\nthree\n\n")
    assert last_words(log) == "one | two \ufffd | three"
    assert last_words(tmp_path / "none") == ""
    log.write_text("y" * 9000)
    assert len(last_words(log)) == 400


def test_a_follower_gives_whole_lines_and_survives_truncation_and_replacement(tmp_path):
    log = tmp_path / "0.log"
    follower = Follower(log)
    assert list(follower.lines()) == []
    log.write_text("old\nhal")
    follower.skip()
    with log.open("a") as file:
        file.write("f\nnew\n")
    assert list(follower.lines()) == ["half", "new"]
    log.write_text("x\n")
    assert list(follower.lines()) == ["x"]
    log.unlink()
    assert list(follower.lines()) == []
    log.write_text("fresh\nlines\n")
    assert list(follower.lines()) == ["fresh", "lines"]


def writer(log):
    """A process that writes 64 KiB to its log and stays."""
    code = "import sys, time; sys.stdout.write('x' * 65536); sys.stdout.flush(); time.sleep(1000)"
    with log.open("ab") as file:
        return subprocess.Popen([sys.executable, "-c", code], stdout=file)


def wait_for(holds):
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_log_is_set_aside_and_truncated_when_it_is_too_large(tmp_path):
    log = tmp_path / "0.log"
    with writer(log) as process:
        wait_for(lambda: log.stat().st_size == 65536)
        bound(log, process.pid, 100_000)
        assert log.stat().st_size == 65536
        bound(log, process.pid, 10_000)
        assert log.stat().st_size == 0
        assert (tmp_path / "0.log.1").stat().st_size == 65536
        process.kill()


def test_a_log_whose_folder_was_deleted_is_bounded_through_its_writer(tmp_path):
    log = tmp_path / "0.log"
    with writer(log) as process:
        wait_for(lambda: log.stat().st_size == 65536)
        log.unlink()
        bound(log, process.pid, 10_000)
        from pathlib import Path

        assert Path(f"/proc/{process.pid}/fd/1").stat().st_size == 0
        process.kill()


def test_a_file_that_a_program_chose_itself_is_never_truncated(tmp_path):
    log, own = tmp_path / "0.log", tmp_path / "its-own.txt"
    log.write_text("y" * 20_000)
    with writer(own) as process:
        wait_for(lambda: own.stat().st_size == 65536)
        bound(log, process.pid, 10_000)
        assert (own.stat().st_size, log.stat().st_size) == (65536, 20_000)
        process.kill()
