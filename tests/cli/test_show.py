"""How things look."""

import io
import json
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from rich.console import Console

from agent.cli import show

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-5, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (7199, "119m"),
        (7200, "2h"),
        (172_799, "47h"),
        (172_800, "2d"),
    ],
)
def test_an_age_has_one_unit(seconds, shown):
    assert show.age((NOW - timedelta(seconds=seconds)).isoformat(), NOW) == shown


def test_no_time_has_no_age():
    assert show.age(None) == ""


def test_a_revision_is_shortened_but_its_kind_is_kept():
    assert show.short("0123456789abcdef") == "0123456789"
    assert show.short("content:0123456789abcdef") == "content:0123456789"
    assert show.short("") == ""


def test_strangers_words_have_no_power_over_the_terminal():
    assert show.clean("a\x1b[2J\x07b") == "a\\x1b[2J\\x07b"
    assert show.clean("two\nlines\tand more") == "two lines and more"
    assert show.clean("größe 模型") == "größe 模型"


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("a  b", "a  b"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\nb\x7f\x9b", "a\\x0ab\\x7f\\x9b"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("\U000e0041", "\\U000e0041"),
        ("\udcff", "\\xff"),
    ],
)
def test_what_is_said_is_one_line_that_can_be_printed_and_encoded(words, shown, capsys):
    show.say(words)
    assert capsys.readouterr().out == f"{shown}\n"


def test_a_complaint_keeps_its_lines(capsys):
    show.complain("one\ntwo \x1b[2J")
    assert capsys.readouterr().err == "xmod-agent: one\nxmod-agent: two \\x1b[2J\n"


def test_a_log_line_is_tame_on_a_terminal_and_untouched_elsewhere():
    line = "\x1b[1;31merror\x1b[0m\tat \x1b]0;title\x07\x1b[2J 10%\r20%"
    assert show.logged(line, on_terminal=False) == line
    assert show.logged(line, on_terminal=True) == "error\tat \\x1b]0;title\\x07\\x1b[2J 10%\\x0d20%"


def test_json_means_the_same_and_has_no_power_over_the_terminal(capsys):
    value = {"a": ["\x1b[31m", "two\nlines", "\x9b\x7f\u202e\U000e0041", "größe \\ 模型"], "b\x85": 1}
    show.as_json(value)
    text = capsys.readouterr().out
    assert json.loads(text) == value
    assert text.replace("\n", "").isprintable()
    assert "größe" in text


def test_json_of_a_name_that_is_no_text_is_utf_8(capsys):
    show.as_json(["a\udcff.yaml"])
    assert json.loads(capsys.readouterr().out.encode()) == ["a\\xff.yaml"]


def test_a_table_away_from_a_terminal_has_no_trailing_blanks(capsys):
    show.put(show.table(("A", "B"), [("x", "y"), ("long cell", "")], width=80), Console(width=80, file=io.StringIO()))
    assert capsys.readouterr().out == "A          B\nx          y\nlong cell  -\n"


def test_yaml_is_what_yaml_reads_back(capsys):
    value = {"a": [1, "no", None, "22:22"], "grüße": "x\ny"}
    show.as_yaml(value)
    assert yaml.safe_load(capsys.readouterr().out) == value


@pytest.mark.parametrize(("number", "shown"), [(0, "0 files"), (1, "1 file"), (2, "2 files")])
def test_things_are_counted(number, shown):
    assert show.count(number, "file") == shown
