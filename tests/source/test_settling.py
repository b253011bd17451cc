from pathlib import Path

import pytest

from agent.source.place import trace
from agent.source.scan import BEING_WRITTEN, Entry, Limits, Scan, changing, scan
from agent.source.settling import agree, doubtful, settled_in_part, unchanged
from agent.source.snapshot import SourceFile

LATER = 1 << 62  # nanoseconds since the epoch: every file is old


def look(folder: Path, known: Scan | None = None) -> Scan:
    entries = known.entries if known else {}
    return scan(trace(str(folder)), str(folder), known=entries, limits=Limits(), now=LATER)


def entry(content: str | None, *, stamp: int = 1, error: str = "") -> Entry:
    data = None if content is None else content.encode()
    return Entry((stamp,), SourceFile("p", content or "", data, error))


@pytest.fixture
def specs(folder: Path) -> Path:
    for name in "abc":
        (folder / f"{name}.yaml").write_text(name)
    return folder


def test_looks_at_a_folder_at_rest_agree(specs: Path):
    first = look(specs)
    assert agree(first, look(specs, first))
    assert unchanged(first, look(specs, first))


@pytest.mark.parametrize("touch", ["write", "add", "remove", "touch", "other file", "replace"])
def test_looks_do_not_agree_when_anything_was_touched_between_them(specs: Path, touch: str):
    first = look(specs)
    match touch:
        case "write":
            (specs / "a.yaml").write_text("more")
        case "add":
            (specs / "d.yaml").touch()
        case "remove":
            (specs / "a.yaml").unlink()
        case "touch":
            (specs / "a.yaml").touch()
        case "other file":
            (specs / "notes.txt").touch()
        case "replace":
            specs.rename(specs.with_name("old"))
            (specs.with_name("old")).rename(specs)
            specs.joinpath("x.json").touch()
    assert not agree(first, look(specs, first))


def test_a_touched_file_changes_nothing_that_a_snapshot_says(specs: Path):
    first = look(specs)
    (specs / "a.yaml").touch()
    assert unchanged(first, look(specs, first))


@pytest.mark.parametrize("change", ["content", "missing", "more"])
def test_a_change_of_content_is_a_change(specs: Path, change: str):
    first = look(specs)
    match change:
        case "content":
            (specs / "a.yaml").write_text("b")
        case "missing":
            (specs / "a.yaml").unlink()
        case "more":
            (specs / "d.yaml").touch()
    assert not unchanged(first, look(specs, first))


def test_what_is_missing_or_emptied_is_doubtful_and_what_is_new_or_changed_is_not():
    held = {
        "kept": entry("1"),
        "changed": entry("1"),
        "gone": entry("1"),
        "emptied": entry("1"),
        "was empty": entry(""),
    }
    now = {"kept": entry("1"), "changed": entry("2"), "emptied": entry(""), "was empty": entry(""), "new": entry("")}
    assert doubtful([*held, "unsettled"], held, now) == {"gone", "emptied", "unsettled"}


def test_while_a_folder_changes_only_what_both_looks_saw_counts_and_nothing_is_lost(specs: Path):
    before = look(specs)
    (specs / "a.yaml").write_text("changed")
    (specs / "b.yaml").unlink()
    (specs / "d.yaml").write_text("new")
    after = look(specs, before)
    told = settled_in_part(before, after, seen=["a.yaml", "b.yaml", "c.yaml", "earlier.yaml"], doubted=[])
    assert {path: entry.file.content for path, entry in told.items()} == {
        "a.yaml": None,
        "b.yaml": None,
        "c.yaml": b"c",
        "d.yaml": None,
        "earlier.yaml": None,
    }
    assert told["b.yaml"].file.error == BEING_WRITTEN


def test_what_is_doubted_is_unread_and_says_who_is_at_work(specs: Path):
    before = look(specs)
    told = settled_in_part(before, look(specs, before), seen=[], doubted=["a.yaml"], why="git holds X")
    assert told["a.yaml"].file.content is None
    assert told["a.yaml"].file.error == f"{BEING_WRITTEN} (git holds X)"
    assert told["b.yaml"].file.content == b"b"


def test_a_file_that_was_changing_in_both_looks_is_not_settled(specs: Path):
    first = look(specs)
    entries = {**first.entries, "a.yaml": changing("a.yaml")}
    torn = Scan(first.way, entries, first.folders, first.aside, first.identity, first.ignored)
    assert not agree(torn, torn.__class__(first.way, dict(entries, **{"a.yaml": changing("a.yaml")}), *_rest(first)))
    assert not unchanged(first, torn)


def _rest(found: Scan) -> tuple:
    return (found.folders, found.aside, found.identity, found.ignored)
