"""How things look."""

import io
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
