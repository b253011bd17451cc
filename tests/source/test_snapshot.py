import hashlib
from datetime import UTC, datetime

from agent.source.snapshot import Snapshot, SourceFile, revision_of


def file(path: str, content: bytes | None, error: str = "") -> SourceFile:
    return SourceFile(path, "" if content is None else hashlib.sha256(content).hexdigest(), content, error)


def test_equal_content_has_an_equal_revision_whenever_it_was_modified():
    one = SourceFile("a.yaml", "d", b"x", modified_at=1.0)
    assert revision_of([one]) == revision_of([SourceFile("a.yaml", "d", b"x", modified_at=2.0)])


def test_another_path_content_or_file_is_another_revision():
    all_files = [
        [],
        [file("a.yaml", b"x")],
        [file("a.yaml", b"y")],
        [file("b.yaml", b"x")],
        [file("a.yaml", None, "cannot be read")],
        [file("a.yaml", b"x"), file("b.yaml", b"x")],
    ]
    revisions = {revision_of(files) for files in all_files}
    assert len(revisions) == len(all_files)
    assert all(revision.startswith("content:") for revision in revisions)


def test_a_file_never_prints_its_content():
    snapshot = Snapshot("s", "l", "r", "i", (file("a.yaml", b"password"),), datetime.now(UTC))
    assert "password" not in repr(snapshot)
