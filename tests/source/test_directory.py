"""The real watcher on real files; each row of the table of silent failures of watches is a test here."""

import os
import random
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.contracts import Transient
from agent.source.directory import DirectorySource
from agent.source.scan import BEING_WRITTEN
from agent.source.snapshot import Snapshot
from agent.source.watch import rust_notify
from tests.fakes.following import Follower, contents, git

NEVER = threading.Event()
Follow = Callable[..., Follower]


def settled(folder: Path, follow: Follow, **options) -> Follower:
    """A follower that has come to rest with its watch set up."""
    follower = follow(folder, **options)
    follower.at_rest()
    return follower


def has(path: str, content: str) -> Callable[[Snapshot], bool]:
    return lambda snapshot: contents(snapshot).get(path) == content.encode()


# -- what a snapshot says


def test_a_snapshot_is_sorted_complete_and_named_by_its_content(folder: Path, open_source):
    for name in "cab":
        (folder / f"{name}.yaml").write_text(name)
    source = open_source(folder)
    snapshot = source.look()
    assert [file.path for file in snapshot.files] == ["a.yaml", "b.yaml", "c.yaml"]
    assert snapshot.source == source.id == f"folder:{folder}"
    assert str(folder) in snapshot.location
    assert snapshot.revision.startswith("content:")


def test_the_id_keeps_the_links_name_and_the_location_tells_its_end(folder: Path, open_source):
    link = folder.with_name("current")
    link.symlink_to(folder.name)
    source = open_source(link)
    assert source.id == f"folder:{link}"
    assert str(folder) in source.look().location


def test_looking_again_at_the_same_gives_the_same_files_and_a_new_time(folder: Path, open_source):
    (folder / "a.yaml").write_text("a")
    source = open_source(folder)
    first = source.look()
    second = source.look()
    assert second.files is first.files
    assert second.revision == first.revision
    assert second.read_at > first.read_at


def test_one_look_is_enough_when_nothing_changed(folder: Path, open_source):
    source = open_source(folder, quiet=0.4)
    source.look()
    began = time.monotonic()
    source.look()
    assert time.monotonic() - began < 0.3


def test_content_is_shared_between_snapshots(folder: Path, open_source):
    for name in "ab":
        (folder / f"{name}.yaml").write_text(name)
    source = open_source(folder)
    first = source.look()
    (folder / "b.yaml").write_text("other")
    second = source.look()
    assert second.files[0] is first.files[0]
    assert second.revision != first.revision


def test_an_empty_folder_is_an_empty_snapshot_and_a_missing_one_none(folder: Path, open_source):
    source = open_source(folder)
    assert source.look().files == ()
    folder.rmdir()
    with pytest.raises(Transient):
        source.look()


def test_ignored_links_are_told_once(folder: Path, open_source, caplog: pytest.LogCaptureFixture):
    (folder / "out.yaml").symlink_to("/etc/hostname")
    source = open_source(folder)
    for _ in range(3):
        source.look()
    assert [record.file for record in caplog.records] == ["out.yaml"]


# -- coming to rest


def test_a_file_written_without_pause_is_unread_and_not_absent(folder: Path, open_source):
    (folder / "quiet.yaml").write_text("q")
    source = open_source(folder, cap=0.3)
    with writing(folder / "busy.yaml"):
        began = time.monotonic()
        snapshot = source.look()
        took = time.monotonic() - began
    assert contents(snapshot) == {"quiet.yaml": b"q", "busy.yaml": None}
    assert snapshot.files[0].error == BEING_WRITTEN
    assert took < 1
    assert None not in contents(source.look()).values()


def test_a_file_deleted_while_others_are_written_is_not_absent_before_they_rest(folder: Path, open_source):
    (folder / "a.yaml").write_text("a")
    source = open_source(folder, cap=0.3)
    source.look()
    with writing(folder / "busy.yaml"):
        (folder / "a.yaml").unlink()
        for _ in range(2):
            assert contents(source.look())["a.yaml"] is None
    assert "a.yaml" not in contents(source.look())


def test_a_file_that_is_gone_for_a_moment_is_never_absent(folder: Path, open_source):
    (folder / "a.yaml").write_text("a")
    source = open_source(folder, quiet=0.2, cap=2)
    source.look()
    (folder / "a.yaml").unlink()
    timer = threading.Timer(0.1, (folder / "a.yaml").write_text, ["b"])
    timer.start()
    assert contents(source.look()) == {"a.yaml": b"b"}
    timer.join()


def test_a_folder_that_is_gone_for_a_moment_is_not_missing(folder: Path, open_source):
    (folder / "a.yaml").write_text("a")
    source = open_source(folder, quiet=0.2, cap=2)
    source.look()
    folder.rename(folder.with_name("away"))
    timer = threading.Timer(0.1, folder.with_name("away").rename, [folder])
    timer.start()
    assert contents(source.look()) == {"a.yaml": b"a"}
    timer.join()


def test_a_swap_of_the_link_in_the_middle_of_a_look_is_seen_whole(tmp_path: Path, open_source):
    for tree in ("one", "two"):
        (tmp_path / tree).mkdir()
        for number in range(5):
            (tmp_path / tree / f"{number}.yaml").write_text(tree)
    link = tmp_path / "current"
    link.symlink_to("one")
    source = open_source(link, cap=5)
    source.look()
    stop = threading.Event()

    def swap() -> None:
        for tree in ("two", "one") * 20:
            (tmp_path / "next").symlink_to(tree)
            (tmp_path / "next").rename(link)
            stop.wait(0.03)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(10):
            try:
                snapshot = source.look()
            except Transient:
                continue
            assert len(set(contents(snapshot).values())) == 1
            assert len(snapshot.files) == 5
    finally:
        stop.set()
        thread.join()


def test_the_lock_of_git_keeps_a_missing_or_emptied_file_from_counting(folder: Path, open_source):
    git(folder, "init", "-q")
    for name in "abc":
        (folder / f"{name}.yaml").write_text(name)
    source = open_source(folder, cap=0.3)
    source.look()
    lock = folder / ".git" / "index.lock"
    lock.touch()
    (folder / "a.yaml").unlink()
    (folder / "b.yaml").write_text("")
    (folder / "c.yaml").write_text("changed")
    for _ in range(2):
        snapshot = source.look()
        assert contents(snapshot) == {"a.yaml": None, "b.yaml": None, "c.yaml": b"changed"}
        assert f"git holds {lock}" in snapshot.files[0].error
    lock.unlink()
    assert contents(source.look()) == {"b.yaml": b"", "c.yaml": b"changed"}


# -- waiting


def test_the_first_wait_after_a_look_asks_for_another_and_the_second_waits(folder: Path, open_source):
    source = open_source(folder)
    source.look()
    source.wait(NEVER, 60)
    source.look()
    began = time.monotonic()
    source.wait(NEVER, 0.3)
    assert time.monotonic() - began >= 0.29


def test_what_happens_between_a_look_and_its_wait_is_not_missed(folder: Path, open_source):
    source = at_rest(open_source(folder))
    for number in range(10):
        source.look()
        (folder / "a.yaml").write_text(str(number))
        began = time.monotonic()
        source.wait(NEVER, 10)
        assert time.monotonic() - began < 2
        assert contents(source.look()) == {"a.yaml": str(number).encode()}


@pytest.mark.parametrize("word", ["kick", "stop", "close"])
def test_waiting_ends_at_once_on_a_word(folder: Path, open_source, word: str):
    source = at_rest(open_source(folder))
    stop = threading.Event()
    words = {"kick": source.kick, "stop": stop.set, "close": source.close}
    began = time.monotonic()
    timer = threading.Timer(0.2, words[word])
    timer.start()
    source.wait(stop, 60)
    assert 0.1 < time.monotonic() - began < 1
    timer.join()


def test_a_kick_before_the_wait_is_not_lost_and_counts_once(folder: Path, open_source):
    source = at_rest(open_source(folder))
    source.kick()
    began = time.monotonic()
    source.wait(NEVER, 60)
    assert time.monotonic() - began < 1
    source.wait(NEVER, 0.3)
    assert time.monotonic() - began >= 0.3


def test_a_write_is_heard_promptly(folder: Path, open_source):
    source = at_rest(open_source(folder))
    delays = []
    for number in range(9):
        written: list[float] = []
        timer = threading.Timer(
            0.05, lambda number=number, written=written: written.append(write(folder / "a.yaml", str(number)))
        )
        timer.start()
        source.wait(NEVER, 5)
        source.look()
        timer.join()
        delays.append(time.monotonic() - written[0])
        at_rest(source)
    assert sorted(delays)[4] < 0.15  # seconds, for the median from the write to the finished look


def test_new_folders_and_their_files_are_heard(folder: Path, follow: Follow):
    follower = settled(folder, follow)
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "x.yaml").write_text("1")
    follower.until(has("a/b/x.yaml", "1"))
    follower.at_rest()
    (folder / "a" / "b" / "x.yaml").write_text("2")
    follower.until(has("a/b/x.yaml", "2"))


# -- the table of silent failures


def test_a_folder_deleted_and_made_again_is_read_and_heard_again(folder: Path, follow: Follow):
    (folder / "a.yaml").write_text("1")
    follower = settled(folder, follow)
    before = follower.last
    shutil.rmtree(folder)
    assert follower.until_transient().reason == "SourceMissing"
    folder.mkdir()
    (folder / "a.yaml").write_text("2")
    after = follower.until(has("a.yaml", "2"))
    assert after.identity != before.identity
    follower.at_rest()
    (folder / "a.yaml").write_text("3")
    follower.until(has("a.yaml", "3"))


def test_a_folder_deleted_and_made_again_at_once_is_heard_again(folder: Path, follow: Follow):
    (folder / "a.yaml").write_text("1")
    follower = settled(folder, follow)
    for number in range(2, 6):
        shutil.rmtree(folder)
        folder.mkdir()
        (folder / "a.yaml").write_text(str(number))
        follower.until(has("a.yaml", str(number)))
        follower.at_rest()


def test_a_folder_renamed_away_and_replaced_is_followed_and_its_old_self_is_not(folder: Path, follow: Follow):
    (folder / "a.yaml").write_text("1")
    follower = settled(folder, follow)
    before = follower.last
    (folder.with_name("next")).mkdir()
    (folder.with_name("next") / "a.yaml").write_text("2")
    folder.rename(folder.with_name("old"))
    folder.with_name("next").rename(folder)
    after = follower.until(has("a.yaml", "2"))
    assert after.identity != before.identity
    follower.at_rest()
    looks = len(follower.seen)
    (folder.with_name("old") / "a.yaml").write_text("phantom")
    assert contents(follower.at_rest()) == {"a.yaml": b"2"}
    assert len(follower.seen) == looks
    (folder / "a.yaml").write_text("3")
    follower.until(has("a.yaml", "3"))


@pytest.mark.parametrize("below", ["", "specs"])
def test_the_swap_of_a_link_is_followed_as_git_sync_does_it(tmp_path: Path, follow: Follow, below: str):
    for tree in ("1", "2", "3"):
        (tmp_path / "trees" / tree / below).mkdir(parents=True)
        (tmp_path / "trees" / tree / below / "a.yaml").write_text(tree)
    link = tmp_path / "git" / "current"
    link.parent.mkdir()
    link.symlink_to("../trees/1")
    follower = settled(link / below, follow)
    identity = follower.last.identity
    for tree in ("2", "3"):
        (link.parent / "tmp-link").symlink_to(f"../trees/{tree}")
        (link.parent / "tmp-link").rename(link)
        assert follower.until(has("a.yaml", tree)).identity == identity
        follower.at_rest()
    (tmp_path / "trees" / "3" / below / "a.yaml").write_text("edited")
    follower.until(has("a.yaml", "edited"))
    shutil.rmtree(tmp_path / "trees" / "1")
    assert contents(follower.at_rest()) == {"a.yaml": b"edited"}


def test_the_swap_of_a_configmap_is_followed(folder: Path, follow: Follow):
    publish(folder, "1")
    follower = settled(folder, follow)
    assert has("a.yaml", "1")(follower.last)
    for number in ("2", "3"):
        publish(folder, number)
        follower.until(has("a.yaml", number))
        follower.at_rest()
    (folder / "..3" / "a.yaml").write_text("in place")
    follower.until(has("a.yaml", "in place"))


def test_a_folder_mounted_over_and_unmounted_is_seen_although_nothing_is_heard(folder: Path, follow: Follow, mount):
    (folder / "a.yaml").write_text("below")
    follower = settled(folder, follow)
    before = follower.last
    mount(folder)
    over = follower.until(lambda snapshot: snapshot.files == ())
    assert over.identity != before.identity
    follower.at_rest()
    (folder / "a.yaml").write_text("above")
    follower.until(has("a.yaml", "above"))
    follower.at_rest()
    subprocess.run(["umount", str(folder)], check=True)
    assert follower.until(has("a.yaml", "below")).identity == before.identity
    follower.at_rest()
    (folder / "a.yaml").write_text("again")
    follower.until(has("a.yaml", "again"))


def test_a_populated_folder_moved_in_and_out_is_seen_whole(folder: Path, follow: Follow):
    outside = folder.with_name("team")
    (outside / "deep").mkdir(parents=True)
    for path in ("x.yaml", "deep/y.yaml"):
        (outside / path).write_text("1")
    follower = settled(folder, follow)
    outside.rename(folder / "team")
    follower.until(lambda snapshot: set(contents(snapshot)) == {"team/x.yaml", "team/deep/y.yaml"})
    follower.at_rest()
    (folder / "team" / "deep" / "y.yaml").write_text("2")
    follower.until(has("team/deep/y.yaml", "2"))
    follower.at_rest()
    (folder / "team").rename(outside)
    follower.until(lambda snapshot: snapshot.files == ())


def test_a_path_that_is_missing_at_the_start_is_seen_when_it_comes(tmp_path: Path, follow: Follow):
    follower = follow(tmp_path / "a" / "specs")
    assert isinstance(follower.at_rest(), Transient)
    (tmp_path / "a" / "specs").mkdir(parents=True)
    (tmp_path / "a" / "specs" / "x.yaml").write_text("1")
    follower.until(has("x.yaml", "1"))


def test_without_watches_the_folder_is_scanned_and_the_reason_is_said(folder: Path, follow: Follow, caplog):
    def no_more_watches(folders):
        raise OSError("OS file watch limit reached. about [...]")

    follower = settled(folder, follow, notify=no_more_watches)
    for number in ("1", "2"):
        (folder / "a.yaml").write_text(number)
        follower.until(has("a.yaml", number))
    said = [record for record in caplog.records if record.name == "xmod.source"]
    assert [record.reason for record in said] == ["NoWatch"]
    assert "limit reached" in said[0].error


def test_a_watch_is_had_again_when_the_limit_is_lifted(folder: Path, open_source):
    asked: list[int] = []

    def at_the_third_time(folders):
        asked.append(1)
        if len(asked) < 3:
            raise RuntimeError("Too many open files")
        return rust_notify(folders)

    source = open_source(folder, notify=at_the_third_time)
    deadline = time.monotonic() + 20
    while len(asked) < 3 and time.monotonic() < deadline:
        source.look()
        source.wait(NEVER, 5)
    at_rest(source)
    assert len(asked) == 3  # and not once more: the watch stands


def test_a_folder_that_cannot_be_watched_any_more_is_scanned(folder: Path, follow: Follow):
    """The limit reached by a folder that is made later: watchfiles alone would be silent about it."""

    def few(folders):
        if len(folders) > 3:
            raise OSError("OS file watch limit reached. about [...]")
        return rust_notify(folders)

    follower = settled(folder, follow, notify=few)
    for name in ("one", "two"):
        (folder / name).mkdir()
        follower.at_rest()
    (folder / "two" / "a.yaml").write_text("1")
    follower.until(has("two/a.yaml", "1"))


def test_a_watch_that_dies_is_replaced(folder: Path, follow: Follow):
    class Mortal:
        def __init__(self, folders) -> None:
            self._real = rust_notify(folders)
            self._calls = 0

        def watch(self, *words):
            self._calls += 1
            if self._calls > 1:
                raise RuntimeError("the watcher's thread is gone")
            return self._real.watch(*words)

        def close(self) -> None:
            self._real.close()

    follower = settled(folder, follow, notify=Mortal)
    for number in ("1", "2", "3"):
        (folder / "a.yaml").write_text(number)
        follower.until(has("a.yaml", number))
        follower.at_rest()


def test_a_watch_that_missed_a_change_is_not_trusted_any_more(folder: Path, open_source):
    made: list[object] = []

    class Silent:
        """As a watch whose events were lost: it never tells."""

        def __init__(self, folders) -> None:
            made.append(self)

        def watch(self, debounce, step, timeout, until):
            until.is_set()
            time.sleep(timeout / 1000)
            return "timeout"

        def close(self) -> None:
            pass

    source = open_source(folder, notify=Silent)
    source.look()
    source.wait(NEVER, 0.05)
    (folder / "a.yaml").write_text("1")
    source.wait(NEVER, 0.05)  # the rescan's turn
    assert contents(source.look()) == {"a.yaml": b"1"}
    source.wait(NEVER, 0.05)
    assert len(made) == 2


def test_thousands_of_files_at_once_are_all_read(folder: Path, follow: Follow):
    follower = settled(folder, follow)
    for number in range(3000):
        (folder / f"{number}.yaml").write_text(str(number))
    assert (
        len(follower.until(lambda snapshot: len(snapshot.files) == 3000 and not unread(snapshot), within=20).files)
        == 3000
    )


def test_a_slow_writer_ends_with_the_whole_file(folder: Path, follow: Follow):
    follower = settled(folder, follow)
    with (folder / "a.yaml").open("w") as file:
        for number in range(5):
            file.write(f"line {number}\n")
            file.flush()
            time.sleep(0.1)
    follower.until(has("a.yaml", "".join(f"line {number}\n" for number in range(5))))


@pytest.mark.parametrize("tool", ["vim", "sed", "rename", "truncate"])
def test_each_way_to_save_is_seen_and_never_as_absence(folder: Path, follow: Follow, tool: str):
    path = folder / "a.yaml"
    path.write_text("old\n")
    follower = settled(folder, follow)
    begin = len(follower.seen)
    match tool:
        case "vim":
            if shutil.which("vim") is None:
                pytest.skip("there is no vim here")
            command = [
                "vim",
                "-u",
                "NONE",
                "-n",
                "-es",
                "-c",
                "set backup writebackup",
                "-c",
                "s/old/new/",
                "-c",
                "wq",
                str(path),
            ]
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=20)
        case "sed":
            subprocess.run(["sed", "-i", "s/old/new/", str(path)], check=True)
        case "rename":
            (folder / "a.yaml.tmp").write_text("new\n")
            (folder / "a.yaml.tmp").rename(path)
        case "truncate":
            path.write_text("new\n")
    follower.until(has("a.yaml", "new\n"))
    assert all("a.yaml" in contents(found) for found in follower.seen[begin:])


def test_a_change_of_mode_is_seen_and_changes_nothing(folder: Path, follow: Follow):
    path = folder / "a.yaml"
    path.write_text("a")
    follower = settled(folder, follow)
    before, looks = follower.last, len(follower.seen)
    path.chmod(0o600)
    after = follower.at_rest()
    assert len(follower.seen) > looks
    assert (after.revision, after.files) == (before.revision, before.files)


def test_readers_do_not_wake_the_source(folder: Path, follow: Follow):
    (folder / "a.yaml").write_text("a")
    follower = settled(folder, follow)
    looks = len(follower.seen)
    for _ in range(5):
        (folder / "a.yaml").read_text()
        os.listdir(folder)  # noqa: PTH208
    follower.at_rest()
    assert len(follower.seen) == looks


def test_watches_are_let_go(folder: Path, open_source):
    source = at_rest(open_source(folder))
    before = open_descriptors()
    for number in range(10):
        (folder / str(number)).mkdir()
        at_rest(source)
    eventually(lambda: open_descriptors() == before)  # they are closed by the watch's own thread
    source.close()
    eventually(lambda: open_descriptors() < before)


@pytest.mark.parametrize("seed", range(3))
def test_after_any_history_the_folder_is_seen_as_it_is_without_a_rescan(folder: Path, follow: Follow, seed: int):
    chance = random.Random(seed)
    follower = settled(folder, follow)
    for _ in range(8):
        for _ in range(chance.randrange(1, 12)):
            happen(folder, chance)
        truth = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.yaml") if path.is_file()}
        follower.until(lambda snapshot, truth=truth: contents(snapshot) == truth)
        if chance.random() < 0.5:
            follower.at_rest()


# -- words


def happen(folder: Path, chance: random.Random) -> None:
    """Something that people do to folders."""
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    files = [path for path in folder.rglob("*.yaml") if path.is_file()]
    where, name = chance.choice(folders), f"{chance.randrange(6)}.yaml"
    match chance.randrange(9):
        case 0 | 1 | 2 if not (where / name).is_dir():
            (where / name).write_text(str(chance.random()))
        case 3 if files:
            chance.choice(files).unlink()
        case 4 if files and not (where / name).is_dir():
            chance.choice(files).rename(where / name)
        case 5 if len(where.parts) < len(folder.parts) + 3:
            (where / f"d{chance.randrange(3)}").mkdir(exist_ok=True)
        case 6 if where != folder:
            shutil.rmtree(where)
        case 7:
            shutil.rmtree(folder)
            folder.mkdir()
        case 8:
            aside = folder.with_name("aside")
            shutil.copytree(folder, aside)
            folder.rename(folder.with_name("old"))
            aside.rename(folder)
            shutil.rmtree(folder.with_name("old"))


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class writing:  # noqa: N801 reads as a sentence
    """Writes to a file in place, without a pause that a look could take for rest."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> None:
        self._path.write_text("0")
        self._thread.start()

    def __exit__(self, *_) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self._stop.wait(0.002):
            number += 1
            self._path.write_text(str(number))


def write(path: Path, text: str) -> float:
    path.write_text(text)
    return time.monotonic()


def unread(snapshot: Snapshot) -> list[str]:
    return [file.path for file in snapshot.files if file.content is None]


def at_rest(source: DirectorySource) -> DirectorySource:
    """Look and wait until a wait runs its full time: the watch stands and has nothing left to tell."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        source.look()
        began = time.monotonic()
        source.wait(NEVER, 0.2)
        if time.monotonic() - began >= 0.19:
            return source
    raise AssertionError("the source never came to rest")


def publish(folder: Path, number: str) -> None:
    """As the kubelet does with a ConfigMap."""
    (folder / f"..{number}").mkdir()
    (folder / f"..{number}" / "a.yaml").write_text(number)
    (folder / "..data_tmp").symlink_to(f"..{number}")
    (folder / "..data_tmp").rename(folder / "..data")
    if not (folder / "a.yaml").is_symlink():
        (folder / "a.yaml").symlink_to("..data/a.yaml")
