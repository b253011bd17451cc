"""Log lines: readable on a terminal, JSON elsewhere, and never the end of an agent."""

import json
import logging
import os
import pty
import threading

import pytest

from agent import log


@pytest.fixture(autouse=True)
def _as_before():
    root = logging.getLogger()
    levels = root.level, logging.getLogger("xmod").level
    hook = threading.excepthook
    yield
    threading.excepthook = hook
    for handler in [handler for handler in root.handlers if isinstance(handler, log.LineHandler)]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(levels[0])
    logging.getLogger("xmod").setLevel(levels[1])


@pytest.fixture
def file(tmp_path):
    return tmp_path / "agent.log"


def test_lines_for_systemds_journal_begin_with_their_level(file, monkeypatch, capfd):
    with file.open("w") as stream:
        saved = os.dup(1)
        os.dup2(stream.fileno(), 1)
        try:
            status = os.fstat(1)
            monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
            log.configure(format="json", level="debug")
            for say in ("critical", "error", "warning", "info", "debug"):
                getattr(logging.getLogger("xmod.plan"), say)(say)
            monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:1")
            log.configure(format="json")
            logging.getLogger("xmod.plan").error("elsewhere")
        finally:
            os.dup2(saved, 1)
            os.close(saved)
    lines = file.read_text().splitlines()
    assert [line[:3] for line in lines] == ["<2>", "<3>", "<4>", "<6>", "<7>", '{"t']
    assert json.loads(lines[0][3:])["message"] == "critical"


def test_every_line_of_a_traceback_in_the_journal_has_its_level():
    record = logging.LogRecord("xmod.plan", logging.ERROR, "", 0, "no", (), None)
    record.stack_info = "Stack:\n  a line"
    assert [line[:3] for line in log.Prefixed(log.Readable()).format(record).split("\n")] == ["<3>"] * 3


def test_json_lines_carry_the_fields_in_a_constant_order(file):
    log.configure(format="json", output=str(file))
    extra = {"attempts": 2, "error": "no", "service": "qwen", "reason": "Held", "file": "", "goal": None}
    logging.getLogger("xmod.plan").warning("removal held", extra=extra)
    line = json.loads(file.read_text())
    assert list(line) == ["time", "level", "area", "message", "service", "reason", "error", "attempts"]
    assert line["area"] == "plan"
    assert line["level"] == "warning"
    assert line["time"].endswith("+00:00")


def test_a_readable_line_quotes_what_has_blanks_and_stays_one_line(file):
    log.configure(format="text", output=str(file))
    extra = {"service": "qwen", "error": 'exit 3\n"last words"'}
    logging.getLogger("xmod.worker").info("look failed", extra=extra)
    text = file.read_text()
    assert text.count("\n") == 1
    assert text.endswith('INFO  worker: look failed  service=qwen  error="exit 3\\n\\"last words\\""\n')


@pytest.mark.parametrize("form", ["text", "json"])
def test_control_characters_of_strangers_cannot_forge_lines_or_colours(file, form):
    log.configure(format=form, output=str(file))
    logging.getLogger("xmod.x").info("told", extra={"error": "\x1b[31m\r\nfake line"})
    text = file.read_text()
    assert "\x1b" not in text
    assert text.count("\n") == 1


def test_an_exception_brings_its_traceback(file):
    for form in ("json", "text"):
        log.configure(format=form, output=str(file))
        try:
            raise ValueError("deep")
        except ValueError:
            logging.getLogger("xmod.x").exception("a bug")
    first, *rest = file.read_text().splitlines()
    assert "ValueError: deep" in json.loads(first)["traceback"]
    assert rest[-1] == "ValueError: deep"


def test_auto_is_json_away_from_a_terminal_and_readable_on_one(capfd):
    log.configure(output="stderr")
    logging.getLogger("xmod.x").info("to a pipe")
    assert json.loads(capfd.readouterr().err)["message"] == "to a pipe"
    ours, theirs = pty.openpty()
    kept = os.dup(2)
    try:
        os.dup2(theirs, 2)
        log.configure(output="stderr")
        logging.getLogger("xmod.x").warning("to a person")
        os.dup2(kept, 2)
        shown = os.read(ours, 1000).decode()
    finally:
        os.dup2(kept, 2)
        for fd in (kept, ours, theirs):
            os.close(fd)
    assert "WARN  x: to a person" in shown
    assert "\x1b[33m" in shown


def test_our_level_is_as_set_and_libraries_only_warn(file):
    log.configure(level="debug", format="json", output=str(file))
    logging.getLogger("xmod.x").debug("ours")
    logging.getLogger("urllib3").info("theirs")
    logging.getLogger("urllib3").warning("their worry")
    assert [json.loads(line)["message"] for line in file.read_text().splitlines()] == ["ours", "their worry"]


def test_configuring_again_replaces_what_was(tmp_path):
    log.configure(format="json", output=str(tmp_path / "a"))
    log.configure(format="json", output=str(tmp_path / "b"))
    logging.getLogger("xmod.x").info("once")
    assert (tmp_path / "a").read_text() == ""
    assert (tmp_path / "b").read_text().count("\n") == 1


def test_a_full_disk_loses_lines_never_the_agent_and_the_loss_is_told():
    handler = log.LineHandler("/dev/full")
    handler.setFormatter(log.Json())
    record = logging.LogRecord("xmod.x", logging.INFO, "", 0, "hello", (), None)
    for _ in range(3):
        handler.emit(record)
    assert handler.lost == 3
    reader, writer = os.pipe()
    with os.fdopen(reader) as lines:
        kept, handler._fd, handler._path = handler._fd, writer, None  # the disk has room again
        handler.emit(record)
        os.close(writer)
        os.close(kept)
        first, second = (json.loads(line) for line in lines)
    assert first["message"] == "log lines were lost"
    assert first["lost"] == 3
    assert second["message"] == "hello"
    assert handler.lost == 0


def test_a_closed_pipe_is_survived():
    reader, writer = os.pipe()
    handler = log.LineHandler("stdout")
    handler._fd = writer
    os.close(reader)
    handler.setFormatter(log.Readable())
    handler.emit(logging.LogRecord("xmod.x", logging.INFO, "", 0, "hello", (), None))
    os.close(writer)
    assert handler.lost == 1


def test_a_rotated_file_is_opened_anew(file):
    log.configure(format="json", output=str(file))
    logging.getLogger("xmod.x").info("before")
    file.rename(file.with_suffix(".1"))
    logging.getLogger("xmod.x").info("after")
    assert json.loads(file.with_suffix(".1").read_text())["message"] == "before"
    assert json.loads(file.read_text())["message"] == "after"


def test_lines_of_many_threads_do_not_mix(file):
    log.configure(format="json", output=str(file))
    logger = logging.getLogger("xmod.x")

    def talk(number):
        for turn in range(100):
            logger.info("turn", extra={"who": number, "turn": turn, "padding": "x" * 300})

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(lines) == 800
    for number in range(8):
        assert [line["turn"] for line in lines if line["who"] == number] == list(range(100))


def test_a_log_call_with_wrong_arguments_is_told_and_survived(file, capfd):
    handler = log.LineHandler(str(file))
    handler.setFormatter(log.Json())
    handler.emit(logging.LogRecord("xmod.x", logging.INFO, "", 0, "%d things", ("three",), None))
    handler.close()
    assert "'%d things' cannot be logged" in capfd.readouterr().err


def test_text_that_is_no_utf8_is_written_all_the_same(file):
    log.configure(format="text", output=str(file))
    logging.getLogger("xmod.x").info("seen", extra={"file": os.fsdecode(b"a\xff.yaml")})
    assert "udcff" in file.read_text()


def test_a_thread_does_not_die_in_silence(file):
    log.configure(format="json", output=str(file))
    log.watch_threads()
    thread = threading.Thread(target=lambda: 1 // 0, name="source")
    thread.start()
    thread.join()
    line = json.loads(file.read_text())
    assert line["thread_died"] == "source"
    assert "ZeroDivisionError" in line["traceback"]


def test_an_output_that_cannot_be_opened_is_an_error_at_once(tmp_path):
    with pytest.raises(FileNotFoundError):
        log.configure(output=str(tmp_path / "none" / "agent.log"))


def test_in_the_journal_no_text_can_begin_a_line_with_a_level_of_its_own() -> None:
    class Raw(logging.Formatter):
        pass

    record = logging.LogRecord("xmod.x", logging.ERROR, "", 0, "a\0<0>b\n<0>c", (), None)
    assert log.Prefixed(Raw()).format(record) == "<3>a\\0<0>b\n<3><0>c"
