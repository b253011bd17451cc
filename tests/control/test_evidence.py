"""Promises 2 and 4 where evidence is thin: what an earlier agent knew, and what an invalid file may hide."""

import pytest

from tests.control.test_promises import Host
from tests.fakes.folder import document

EMPTY = ""


def left(host: Host) -> set[str]:
    """The services that are there."""
    return {name for name in ("web", "api", "tts", "asr", "ocr") if host.world.observed(name, owner="test").generations}


def test_a_name_that_was_pruned_once_is_no_removal_under_way_for_ever() -> None:
    """It came back, the agent was killed, the folder is empty at the next start: nothing goes."""
    host = Host().has(a=document("web"), b=document("api"))
    host.has(b=document("api"))
    assert left(host) == {"api"}
    host.has(a=document("web"), b=document("api"))
    host.folder.files.clear()
    host.restart(lost=False)
    assert left(host) == {"web", "api"}
    assert {held.reason for held in host.agent.controller.held().values()} == {"SourceEmpty"}


@pytest.mark.parametrize("lost", [False, True])
def test_a_file_that_is_invalid_at_start_and_was_never_read_may_hide_anybody(lost: bool) -> None:
    """A file was renamed, then emptied: after a restart nobody knows whom it named, so nobody goes until it is mended."""
    host = Host().has(a=document("web"), b=document("api"))
    host.has(moved=document("web"), b=document("api"))
    host.folder.files["moved.yaml"] = EMPTY
    host.restart(lost=lost)
    assert left(host) == {"web", "api"}
    assert host.agent.controller.held()["web"].reason == "SourceInvalid"
    host.has(moved=document("web"), b=document("api"))
    assert not host.agent.controller.held()
    assert left(host) == {"web", "api"}


def test_once_such_a_file_is_gone_absence_is_ordinary_evidence() -> None:
    host = Host().has(a=document("web"), b=document("api"))
    host.folder.files = {"b.yaml": document("api"), "moved.yaml": EMPTY}
    host.restart(lost=False)
    assert left(host) == {"web", "api"}
    host.has(b=document("api"))
    assert left(host) == {"api"}


@pytest.mark.parametrize("content", [EMPTY, "]: {", document("web")[:40]])
def test_what_disappears_in_the_moment_a_file_becomes_invalid_may_be_in_it(content: str) -> None:
    """A move that is cut off: the old file is gone in the same look in which the new one is broken."""
    host = Host().has(a=document("web"), b=document("api"))
    host.has(c=content, b=document("api"))
    assert left(host) == {"web", "api"}
    assert host.status("web").converged.reason == "SpecInvalid"
    host.has(c=document("web"), b=document("api"))
    assert host.status("web").converged.holds


def test_a_merge_into_a_file_that_breaks_keeps_both() -> None:
    host = Host().has(a=document("web"), b=document("api"))
    host.has(b="]: {")
    assert left(host) == {"web", "api"}
    host.has(b=document("api"))
    assert left(host) == {"api"}, "the file is whole again, and does not name it"


def test_a_name_is_found_in_whatever_unicode_an_editor_saved() -> None:
    host = Host().has(a=document("web"), b=document("api"))
    host.has(z=document("web").encode("utf-16"), b=document("api")).restart(lost=True)
    assert left(host) == {"web", "api"}


def test_a_folder_that_was_replaced_while_the_agent_was_down_deletes_nothing() -> None:
    """Its identity is remembered; what the new one never held waits for an operator."""
    host = Host().has(a=document("web"), b=document("api"), c=document("tts"), d=document("asr"), e=document("ocr"))
    host.folder.identity = "1:2"
    del host.folder.files["e.yaml"]
    host.restart(lost=False)
    assert left(host) == {"web", "api", "tts", "asr", "ocr"}
    assert host.agent.controller.held()["ocr"].reason == "SourceReplaced"
    del host.folder.files["d.yaml"]
    host.settle()
    assert left(host) == {"web", "api", "tts", "ocr"}, "what the new one was seen to hold is its own"
