"""Snapshot → what is wanted: valid, invalid or absent, and the last good word."""

from dataclasses import replace

import pytest

from agent.contracts import ServiceName
from agent.control.desired import DesiredReader, DesiredState
from agent.spec.reading import Problem
from agent.spec.resolve import FileReading
from tests.fakes.agent import clock_at_noon
from tests.fakes.folder import Folder, document, service_of

WEB, API = ServiceName("web"), ServiceName("api")
BROKEN = "apiVersion: xmod.dev/v1\nkind: DeploySpec\nmetadata: {name: web\n"


def read(folder: Folder, **files: str | bytes | None) -> DesiredState:
    folder.files = {f"{name}.yaml": content for name, content in files.items()}
    return folder.desired()


@pytest.fixture
def folder() -> Folder:
    return Folder(clock_at_noon())


def test_a_valid_file_is_wanted_with_its_source_and_revision(folder: Folder) -> None:
    state = read(folder, a=document("web"))
    service = state.wanted[WEB].service
    assert (service.source, service.revision, service.file) == ("folder:/specs", state.revision, "a.yaml")
    assert (state.doubts, state.invalid, state.unread) == ({}, (), ())
    assert service.digest == service_of(document("web")).digest


def test_an_invalid_file_keeps_its_last_good_word(folder: Folder) -> None:
    good = read(folder, a=document("web"), b=document("api"))
    state = read(folder, a=BROKEN, b=document("api"))
    assert set(state.wanted) == {API}
    assert state.doubts[WEB].reason == "SpecInvalid"
    assert state.doubts[WEB].message.startswith("a.yaml: ")
    assert state.doubts[WEB].last == good.wanted[WEB]
    assert [bad.path for bad in state.invalid] == ["a.yaml"]
    still = read(folder, a=BROKEN + "#", b=document("api"))
    assert still.doubts[WEB].last == good.wanted[WEB], "however often it changes while it is invalid"


def test_one_error_and_nothing_of_the_file_takes_effect(folder: Folder) -> None:
    read(folder, a=document("web") + "---\n" + document("api"))
    state = read(folder, a=document("web", "v2") + "---\n" + document("api").replace("8080", "eighty"))
    assert state.wanted == {}
    assert {name: doubt.last is not None for name, doubt in state.doubts.items()} == {"web": True, "api": True}


@pytest.mark.parametrize("content", [BROKEN, "]: {", b"\x00\xff", None])
def test_a_name_is_in_doubt_by_bytes_by_path_or_by_silence(folder: Folder, content: str | bytes | None) -> None:
    state = read(folder, a=content)
    assert state.doubt(WEB, "a.yaml") is not None
    by_bytes = state.doubt(WEB, "elsewhere.yaml")
    assert (by_bytes is not None) == (content in (BROKEN, None))
    assert (state.doubt(ServiceName("other"), "b.yaml") is not None) == (content is None)
    assert state.unread == (("a.yaml",) if content is None else ())


def test_a_part_of_a_longer_name_is_doubt_enough(folder: Folder) -> None:
    """Better kept in vain than deleted in error."""
    state = read(folder, a=BROKEN.replace("web", "web-two"))
    assert state.doubt(WEB, "b.yaml") is not None


def test_what_is_deleted_is_absent(folder: Folder) -> None:
    read(folder, a=document("web"), b=document("api"))
    state = read(folder, b=document("api"))
    assert (set(state.wanted), state.doubts) == ({API}, {})
    assert state.doubt(WEB, "a.yaml") is None


def test_an_invalid_file_that_is_deleted_takes_its_last_word_along(folder: Folder) -> None:
    read(folder, a=document("web"))
    read(folder, a=BROKEN)
    state = read(folder)
    assert (state.wanted, state.doubts) == ({}, {})
    assert read(folder, a=BROKEN).doubts == {}, "nothing of it comes back"


def test_a_document_that_left_a_valid_file_is_absent(folder: Folder) -> None:
    read(folder, a=document("web") + "---\n" + document("api"))
    state = read(folder, a=document("api"))
    assert set(state.wanted) == {API}
    assert state.doubt(WEB, "a.yaml") is None


def test_a_service_that_moved_out_of_a_file_that_broke_is_wanted_where_it_is(folder: Folder) -> None:
    read(folder, a=document("web"))
    state = read(folder, a="]: {", b=document("web", "v2"))
    assert state.wanted[WEB].service.file == "b.yaml"
    assert state.doubts == {}


@pytest.mark.parametrize("count", [2, 3])
def test_a_name_in_several_files_is_in_doubt_in_all(folder: Folder, count: int) -> None:
    before = read(folder, a=document("web"))
    state = read(folder, **{name: document("web", name) for name in "abc"[:count]}, z=document("api"))
    assert set(state.wanted) == {API}
    assert state.doubts[WEB].reason == "DuplicateName"
    assert state.doubts[WEB].last == before.wanted[WEB]
    assert [bad.path for bad in state.invalid] == [f"{name}.yaml" for name in "abc"[:count]]
    assert all(bad.errors[0].startswith("1:1: metadata.name: web stands in ") for bad in state.invalid)
    after = read(folder, b=document("web", "b"), z=document("api"))
    assert (after.wanted[WEB].service.file, after.doubts) == ("b.yaml", {})


def test_the_other_services_of_files_with_a_duplicate_go_on(folder: Folder) -> None:
    state = read(folder, a=document("web") + "---\n" + document("api"), b=document("web"))
    assert set(state.wanted) == {API}
    assert state.doubt(API, "a.yaml") is not None, "and would not be pruned, had they just gone from such a file"


def test_a_duplicate_that_then_breaks_keeps_the_last_word_before_both(folder: Folder) -> None:
    first = read(folder, a=document("web"))
    read(folder, a=document("web"), b=document("web", "v2"))
    state = read(folder, a=BROKEN, b=BROKEN)
    assert state.doubts[WEB].last is not None
    assert state.doubts[WEB].last.service.name == first.wanted[WEB].service.name


def test_an_unchanged_file_is_not_read_again() -> None:
    reads: list[str] = []

    class Counting(Folder):
        def read_file(self, path: str, content: bytes) -> FileReading:
            reads.append(path)
            return super().read_file(path, content)

    folder = Counting(clock_at_noon())
    first = read(folder, a=document("web"), b=document("api"), c=BROKEN)
    assert reads == ["a.yaml", "b.yaml", "c.yaml"]
    second = read(folder, a=document("web", "v2"), b=document("api"), c=BROKEN)
    assert reads[3:] == ["a.yaml"]
    assert second.wanted[API] is first.wanted[API], "and says the same as before"
    read(folder, a=document("web", "v2"), b=document("api"), c=BROKEN)
    assert len(reads) == 4


def test_the_same_revision_is_the_same_word_read_later(folder: Folder) -> None:
    first = read(folder, a=document("web"))
    folder.clock.advance(30)
    second = folder.desired()
    assert second.read_at > first.read_at
    assert second.wanted is first.wanted


def test_another_identity_is_another_word(folder: Folder) -> None:
    read(folder, a=document("web"))
    folder.identity = "1:2"
    assert folder.desired().identity == "1:2"


def test_a_file_that_can_be_read_again_is_read(folder: Folder) -> None:
    read(folder, a=document("web"))
    assert read(folder, a=None).doubts[WEB].last is not None
    state = read(folder, a=document("web", "v2"))
    assert state.wanted[WEB].service.digest == service_of(document("web", "v2")).digest


def test_a_document_of_another_kind_is_left_alone(folder: Folder) -> None:
    state = read(folder, a="apiVersion: v1\nkind: ConfigMap\nmetadata: {name: web}\n")
    assert (state.wanted, state.doubts, state.invalid) == ({}, {}, ())


ENCRYPTED = "sops: {mac: x}\n"


class Later:
    """A reader to which files that end in ENCRYPTED are locked, until it has the key."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.key = ""
        self.reads: list[str] = []
        self.begun: list[int] = []
        folder.reader = DesiredReader(self.read_file, begin=lambda contents: self.begun.append(len(contents)))

    def read_file(self, path: str, content: bytes) -> FileReading:
        self.reads.append(path)
        if not content.endswith(ENCRYPTED.encode()):
            return self.folder.read_file(path, content)
        if not self.key:
            return FileReading((), (Problem(1, 1, "sops", "no key"),), passing=True)
        reading = self.folder.read_file(path, content.removesuffix(ENCRYPTED.encode()))
        return replace(reading, wanted=tuple(replace(w, secrets={"web/A": self.key}) for w in reading.wanted))


def test_a_problem_that_may_pass_is_looked_at_again_although_nothing_changed(folder: Folder) -> None:
    reader = Later(folder)
    locked = read(folder, a=document("web") + ENCRYPTED, b=document("api"))
    assert (set(locked.wanted), locked.unexplained) == ({API}, ("a.yaml",))
    assert folder.desired().unexplained == ("a.yaml",)
    reader.key = "k"
    assert set(folder.desired().wanted) == {WEB, API}
    assert folder.desired().unexplained == ()
    assert reader.reads == ["a.yaml", "b.yaml", "a.yaml", "a.yaml"], (
        "the other file, and what is well, is not read again"
    )
    assert reader.begun == [2, 1, 1]


def test_what_an_encrypted_file_said_last_stays_with_its_secrets(folder: Folder) -> None:
    reader = Later(folder)
    reader.key = "k"
    read(folder, a=document("web") + ENCRYPTED)
    reader.key = ""
    state = read(folder, a=document("web", "v2") + ENCRYPTED, b=document("api"))
    assert state.doubts[WEB].reason == "SpecInvalid"
    assert state.secrets == {WEB: {"web/A": "k"}, API: {}}
    assert "'k'" not in repr(state)


def test_a_locked_file_that_hides_its_names_holds_every_prune(folder: Folder) -> None:
    """Nobody knows whom it names: not by bytes, not by memory."""
    Later(folder)
    state = read(folder, a="ENC[x]\n" + ENCRYPTED)
    assert state.doubt(WEB, "elsewhere.yaml") is None
    assert state.unexplained == ("a.yaml",)
