import os
import socket
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.contracts import Transient
from agent.source.place import trace
from agent.source.scan import BEING_WRITTEN, Entry, Limits, Scan, scan
from tests.fakes.following import as_nobody

LATER = 3600 * 10**9  # nanoseconds: long after anything was written


def scanned(
    folder: Path, known: dict[str, Entry] | None = None, *, after: int = 0, limits: Limits | None = None
) -> Scan:
    way = trace(str(folder))
    return scan(way, str(folder), known=known or {}, limits=limits or Limits(), now=time.time_ns() + after)


def read(found: Scan) -> dict[str, bytes | None]:
    return {entry.file.path: entry.file.content for entry in found.entries.values()}


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users may enter, too: pytest's own may not be."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


def test_yaml_yml_and_json_are_read_at_any_depth_with_posix_paths(folder: Path):
    (folder / "team" / "a").mkdir(parents=True)
    for path in ("one.yaml", "two.yml", "team/three.json", "team/a/four.yaml"):
        (folder / path).write_text(path)
    assert read(scanned(folder)) == {
        path: path.encode() for path in ("one.yaml", "two.yml", "team/three.json", "team/a/four.yaml")
    }


@pytest.mark.parametrize(
    "name",
    [
        ".hidden.yaml",
        ".x.yaml.swp",
        "x.yaml~",
        "#x.yaml#",
        ".#x.yaml",
        "4913",
        "sedAb12Cd",
        ".goutputstream-ABC123",
        "x.yaml.bak",
        "x.yaml-bak",
        "x.yaml.tmp",
        "README.md",
        "yaml",
        ".git/x.yaml",
        "..data/x.yaml",
    ],
)
def test_hidden_names_and_what_editors_drop_are_not_read(folder: Path, name: str):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("x")
    found = scanned(folder)
    assert read(found) == {}
    assert not found.ignored


def test_a_folder_named_like_a_file_is_a_folder(folder: Path):
    (folder / "x.yaml").mkdir()
    (folder / "x.yaml" / "a.yaml").write_text("a")
    assert read(scanned(folder)) == {"x.yaml/a.yaml": b"a"}


def test_what_is_no_regular_file_is_ignored_and_never_blocks(folder: Path, monkeypatch: pytest.MonkeyPatch):
    os.mkfifo(folder / "fifo.yaml")
    monkeypatch.chdir(folder)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.yaml")
        found = scanned(folder)
    assert read(found) == {}
    assert {path for path, _ in found.ignored} == {"fifo.yaml", "socket.yaml"}


def test_a_device_is_ignored(folder: Path):
    try:
        os.mknod(folder / "zero.yaml", stat.S_IFCHR | 0o600, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("this user may not make devices")
    assert read(scanned(folder)) == {}


def test_an_oversized_file_is_unread_and_costs_nothing(folder: Path):
    with (folder / "big.yaml").open("wb") as file:
        file.truncate(50 << 20)
    (entry,) = scanned(folder).entries.values()
    assert entry.file.content is None
    assert "52428800 bytes, more than the 1048576" in entry.file.error


def test_all_files_together_are_bounded(folder: Path):
    for name in "abc":
        (folder / f"{name}.yaml").write_bytes(b"x" * 100)
    found = scanned(folder, limits=Limits(total_bytes=250))
    assert sorted(file is None for file in read(found).values()) == [False, False, True]
    again = scanned(folder, dict(found.entries), after=LATER, limits=Limits(total_bytes=250))
    assert read(again) == read(found)


def test_a_folder_with_too_many_entries_is_refused(folder: Path):
    for number in range(20):
        (folder / f"{number}.txt").touch()
    with pytest.raises(Transient, match="is it the folder that is meant") as caught:
        scanned(folder, limits=Limits(entries=10))
    assert caught.value.reason == "SourceTooLarge"


def test_a_file_that_may_not_be_read_is_unread(open_folder: Path):
    (open_folder / "a.yaml").write_text("a")
    (open_folder / "a.yaml").chmod(0)
    with as_nobody():
        (entry,) = scanned(open_folder).entries.values()
    assert (entry.file.content, entry.file.error) == (None, "cannot be read: Permission denied")


def test_a_folder_that_may_not_be_listed_makes_the_scan_transient(open_folder: Path):
    (open_folder / "a.yaml").write_text("a")
    (open_folder / "inner").mkdir(mode=0)
    with as_nobody(), pytest.raises(Transient, match="inner: cannot be listed") as caught:
        scanned(open_folder)
    assert caught.value.reason == "SourceUnlistable"


def test_a_missing_folder_is_transient(tmp_path: Path):
    with pytest.raises(Transient, match="create or mount it") as caught:
        scanned(tmp_path / "nothing")
    assert caught.value.reason == "SourceMissing"


def test_a_file_in_place_of_the_folder_is_transient(tmp_path: Path):
    (tmp_path / "specs").touch()
    with pytest.raises(Transient, match="is not a folder") as caught:
        scanned(tmp_path / "specs")
    assert caught.value.reason == "SourceNotAFolder"


def test_a_folder_that_was_replaced_since_the_trace_is_transient(folder: Path):
    way = trace(str(folder))
    folder.rename(folder.with_name("old"))
    folder.mkdir()
    with pytest.raises(Transient, match="was replaced"):
        scan(way, str(folder), known={}, limits=Limits(), now=0)


# -- links


def test_a_link_inside_is_followed_and_one_that_leaves_is_ignored(folder: Path):
    (folder / ".store").mkdir()
    (folder / ".store" / "a").write_text("inside")
    (folder / "a.yaml").symlink_to(".store/a")
    (folder.parent / "secret.yaml").write_text("outside")
    (folder.parent / "specs-too").mkdir()
    (folder / "b.yaml").symlink_to("../secret.yaml")
    (folder / "c").symlink_to("../specs-too")
    (folder / "d.yaml").symlink_to("/etc/passwd")
    found = scanned(folder)
    assert read(found) == {"a.yaml": b"inside"}
    assert {path for path, _ in found.ignored} == {"b.yaml", "c", "d.yaml"}
    assert str(folder / ".store") in found.aside


def test_the_layout_of_a_mounted_configmap_is_read_once(folder: Path):
    (folder / "..2026_01" / "sub").mkdir(parents=True)
    (folder / "..2026_01" / "a.yaml").write_text("a")
    (folder / "..2026_01" / "sub" / "b.yaml").write_text("b")
    (folder / "..data").symlink_to("..2026_01")
    (folder / "a.yaml").symlink_to("..data/a.yaml")
    (folder / "sub").symlink_to("..data/sub")
    assert read(scanned(folder)) == {"a.yaml": b"a", "sub/b.yaml": b"b"}


def test_what_is_reached_twice_is_read_once_under_its_own_name(folder: Path):
    (folder / "z").mkdir()
    (folder / "z" / "a.yaml").write_text("a")
    (folder / "a-link.yaml").symlink_to("z/a.yaml")
    (folder / "link").symlink_to("z")
    assert read(scanned(folder)) == {"z/a.yaml": b"a"}


def test_loops_of_links_are_safe(folder: Path):
    (folder / "sub").mkdir()
    (folder / "sub" / "up").symlink_to("..")
    (folder / "sub" / "self").symlink_to(".")
    (folder / "sub" / "a.yaml").write_text("a")
    assert read(scanned(folder)) == {"sub/a.yaml": b"a"}


@pytest.mark.parametrize("target", ["gone.yaml", "a.yaml"])
def test_a_link_that_leads_nowhere_is_unread_and_not_absent(folder: Path, target: str):
    (folder / "a.yaml").symlink_to(target)
    (entry,) = scanned(folder).entries.values()
    assert entry.file.path == "a.yaml"
    assert entry.file.content is None
    assert "leads nowhere" in entry.file.error


# -- what is read again


def test_an_unchanged_file_is_not_read_again_once_it_is_old_enough(folder: Path):
    (folder / "a.yaml").write_text("a")
    first = scanned(folder, after=LATER)
    second = scanned(folder, dict(first.entries), after=LATER)
    assert second.entries["a.yaml"] is first.entries["a.yaml"]


def test_a_young_file_is_read_again_because_it_may_change_without_its_stat(folder: Path):
    (folder / "a.yaml").write_text("a")
    young = scanned(folder).entries["a.yaml"]
    assert not young.trusted
    # As if it had been read within the same tick of the clock as the write that came after.
    stale = young._replace(file=young.file.__class__("a.yaml", "0" * 64, b"b"))
    assert read(scanned(folder, {"a.yaml": stale})) == {"a.yaml": b"a"}


def test_the_bytes_of_a_file_that_was_only_touched_are_shared(folder: Path):
    (folder / "a.yaml").write_text("a" * 1000)
    first = scanned(folder)
    os.utime(folder / "a.yaml", (1, 1))
    second = scanned(folder, dict(first.entries))
    assert second.entries["a.yaml"].file is first.entries["a.yaml"].file
    assert second.entries["a.yaml"].stamp != first.entries["a.yaml"].stamp


def test_a_change_of_equal_size_that_hides_its_mtime_is_seen(folder: Path):
    path = folder / "a.yaml"
    path.write_text("old")
    os.utime(path, (1000, 1000))
    first = scanned(folder, after=LATER)
    time.sleep(0.01)  # a tick of the kernel's clock, that ctime is made of
    with path.open("r+") as file:
        file.write("new")
    os.utime(path, (1000, 1000))
    assert read(scanned(folder, dict(first.entries), after=LATER)) == {"a.yaml": b"new"}


def test_a_name_that_is_no_text_is_read_and_printable(folder: Path):
    with open(os.fsencode(folder) + b"/\xff\xfe.yaml", "wb") as file:  # noqa: PTH123 bytes
        file.write(b"x")
    (folder / "größe.yaml").write_text("y")
    paths = set(read(scanned(folder)))
    assert paths == {"\\xff\\xfe.yaml", "größe.yaml"}
    assert all(path.encode() for path in paths)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"\x1b[31m.yaml", "\\x1b[31m.yaml"),
        (b"a\nb\x7f.yaml", "a\\nb\\x7f.yaml"),
        ("\x9b2J\u202e.yaml".encode(), "\\u009b2J\\u202e.yaml"),
        (b"\x9b.yaml", "\\x9b.yaml"),
        (b"\\x1b.yaml", "\\\\x1b.yaml"),
        ("größe 模型.yaml".encode(), "größe 模型.yaml"),
    ],
)
def test_a_name_has_no_power_over_the_terminal(folder: Path, name: bytes, shown: str):
    with open(os.fsencode(folder) + b"/" + name, "wb") as file:  # noqa: PTH123 bytes
        file.write(b"x")
    assert set(read(scanned(folder))) == {shown}


def test_no_two_names_are_shown_alike(folder: Path):
    """Else one file would hide what the other wants."""
    names = [
        b"\x1b.yaml",
        b"\\x1b.yaml",
        b"\\\\x1b.yaml",
        b"\x9b.yaml",
        "\x9b.yaml".encode(),
        b"\\x9b.yaml",
        b"\\u009b.yaml",
    ]
    for name in names:
        with open(os.fsencode(folder) + b"/" + name, "wb") as file:  # noqa: PTH123 bytes
            file.write(b"x")
    paths = read(scanned(folder))
    assert len(paths) == len(names)
    assert all(path.isprintable() for path in paths)


def test_what_is_said_of_a_strange_name_can_be_printed_too(folder: Path):
    (folder / "link\x1b").symlink_to(folder / "no\x1b[31mwhere")
    (folder / "out\x1b.yaml").symlink_to("/etc/hostname")
    found = scanned(folder)
    assert all(file.path.isprintable() and file.error.isprintable() for _, file, *_ in found.entries.values())
    assert found.ignored == {("out\\x1b.yaml", "is a link that leaves the folder")}
    with pytest.raises(Transient) as gone:
        scanned(folder / "\x1b[31m")
    assert str(gone.value).isprintable()


def test_a_file_that_changes_while_it_is_read_is_not_taken_for_whole(folder: Path, monkeypatch: pytest.MonkeyPatch):
    path = folder / "a.yaml"
    path.write_text("half")
    real_read = os.read

    def read_and_grow(file: int, size: int) -> bytes:
        part = real_read(file, size)
        if part == b"half":
            with path.open("a") as more:
                more.write("whole")
        return part

    monkeypatch.setattr(os, "read", read_and_grow)
    (entry,) = scanned(folder).entries.values()
    assert not entry.sure
    assert (entry.file.content, entry.file.error) == (None, BEING_WRITTEN)


def test_a_mount_inside_the_folder_is_part_of_what_it_stands_on(folder: Path, mount):
    (folder / "team").mkdir()
    plain = scanned(folder).identity
    mount(folder / "team")
    assert scanned(folder).identity != plain
