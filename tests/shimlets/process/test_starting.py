"""Programs are looked up as promised."""

import pytest

from shimlets.process.starting import NotStartable, program


def executable(path):
    path.parent.mkdir(exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return str(path)


def test_listed_folders_come_before_path(tmp_path):
    ours, theirs = executable(tmp_path / "ours" / "prog"), executable(tmp_path / "theirs" / "prog")
    path = {"PATH": str(tmp_path / "theirs")}
    assert program("prog", [str(tmp_path / "none"), str(tmp_path / "ours")], path) == ours
    assert program("prog", [], path) == theirs
    assert program(ours, [], {"PATH": ""}) == ours


def test_what_is_not_executable_is_passed_over(tmp_path):
    (tmp_path / "prog").write_text("")
    theirs = executable(tmp_path / "theirs" / "prog")
    assert program("prog", [str(tmp_path)], {"PATH": str(tmp_path / "theirs")}) == theirs
    with pytest.raises(NotStartable, match="chmod") as refused:
        program(str(tmp_path / "prog"), [], {})
    assert refused.value.code == 126


@pytest.mark.parametrize("name", ["nothing-here", "/nothing/here", "./relative", "sub/relative"])
def test_what_is_not_found_says_where_it_was_sought(name, tmp_path):
    with pytest.raises(NotStartable) as refused:
        program(name, [str(tmp_path)], {"PATH": "/bin"})
    assert refused.value.code == 127
    assert name in str(refused.value)
