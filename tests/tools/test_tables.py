"""The tables that the documents hold."""

import pytest

from tools import tables


def test_a_table_survives_what_its_cells_say():
    assert tables.lines(("a", "b"), [("x|y", "")]) == "| a | b |\n| --- | --- |\n| x\\|y |  |"


def test_only_what_stands_between_the_marks_is_written():
    text = "before\n<!-- annotations -->\nold\n<!-- end -->\nafter\n"
    made = tables.written(text)
    assert made.startswith("before\n<!-- annotations -->\n| annotation |")
    assert made.endswith("|\n<!-- end -->\nafter\n")
    assert tables.written(made) == made


def test_a_table_that_nobody_makes_is_an_error():
    with pytest.raises(KeyError, match="colours"):
        tables.written("<!-- colours -->\n<!-- end -->")


def test_every_command_has_a_row_and_its_shortest_options():
    made = tables.commands()
    assert "| `xmod-agent run [DIR]` | " in made
    assert "`-o`" in made
    assert made.count("\n") == len(tables.program().commands) + 1
