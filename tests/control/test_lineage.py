"""A walk through the past asks no more than it must, stops where it is told, and makes nothing up."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from agent.contracts import ServiceName, Transient
from agent.control.lineage import Document, Invalid, Walk, named_in
from agent.source.snapshot import Edit, LogEntry
from agent.spec.said import said
from tests.fakes.folder import RESOLVER, document

WEB = ServiceName("web")
NEVER = threading.Event()


class Line:
    """A past of one file a.yaml, a version a commit, the newest last; contents are named by themselves."""

    def __init__(self, *versions: str, missing: set[str] = frozenset(), cut: bool = False, broken: int = -1) -> None:
        self.versions = versions
        self.missing = missing
        self.is_cut = cut
        self.broken = broken
        self.told: list[str] = []

    def log(self, revision: str, *, but: str = "") -> Iterator[LogEntry]:
        for number in range(len(self.versions) - 1, -1, -1):
            if str(number) == but:
                return
            if number == self.broken:
                raise Transient("broken")
            self.told.append(str(number))
            before = self.versions[number - 1] if number else ""
            parents = (str(number - 1),) if number else ()
            edits = (Edit("a.yaml", before, self.versions[number]),) if before != self.versions[number] else ()
            yield LogEntry(str(number), parents, "t", datetime.fromtimestamp(number, UTC), f"{number}", edits)

    def edits(self, parent: str, child: str) -> tuple[Edit, ...]:
        raise AssertionError("there are no merges")

    def content(self, blob: str) -> bytes | None:
        return None if blob in self.missing else blob.encode()

    def cut(self, commit: str) -> bool:
        return self.is_cut


def walk(past: Line, *, until: str = "", but: str = "", stop: threading.Event = NEVER) -> Walk:
    walked = Walk(past, RESOLVER.read_file, stop=stop)
    text = past.versions[-1]
    says = said(text.encode()).get(WEB)
    documents = [Document(WEB, "a.yaml", says, until)] if says else []
    walked.run(str(len(past.versions) - 1), documents, [Invalid("a.yaml", text.encode())] if not says else [], but=but)
    return walked


def commits(walked: Walk) -> list[str]:
    return [version.change.commit for version in walked.trails().get(WEB, ())]


V = [document("web", f"v{number}") for number in range(60)]
BAD = [f"]: {{ {number}" for number in range(80)]


def test_it_stops_reading_where_the_answer_is():
    past = Line(V[0], V[1], V[2], V[2] + "# x", V[2] + "# y")
    assert commits(walk(past)) == ["2"]
    assert past.told == ["4", "3", "2"]


def test_what_it_says_since_the_beginning_is_the_beginnings_and_a_cut_is_none():
    assert commits(walk(Line(V[0], V[0] + "#"))) == ["0"]
    assert commits(walk(Line(V[0], V[0] + "#", cut=True))) == []


def test_a_file_that_could_not_be_parsed_ends_the_run():
    assert commits(walk(Line(V[0], BAD[0], V[0]))) == ["2"]


def test_versions_before_are_told_back_to_the_one_that_is_asked_for_and_twenty_at_most():
    oldest = said(V[1].encode())[WEB].spec
    assert commits(walk(Line(*V[:5]), until=oldest)) == ["4", "3", "2", "1"]
    assert len(commits(walk(Line(*V), until="nothing"))) == 20


def test_what_came_to_the_revision_left_out_is_told_apart():
    walked = walk(Line(V[0], V[0] + "#", V[0] + "##"), but="0")
    assert (commits(walked), walked.left("0")[0]) == ([], {WEB})
    assert walk(Line(V[0], V[1], V[1] + "#"), but="0").left("0") == (frozenset(), frozenset())


def test_contents_that_are_not_here_are_asked_for_with_those_that_come_after():
    past = Line(*V[:20], missing=set(V[:19]))
    walked = walk(past)
    assert commits(walked) == []
    assert walked.lacking == set(V[11:19]), "eight at once"


def test_the_last_good_word_is_looked_for_in_fifty_versions():
    [word] = walk(Line(V[0], V[1], *BAD[:49])).words()
    assert [w.service.workload.image for w in word.wanted] == ["mini:v1"]
    assert [w.service.revision for w in word.wanted] == ["1"]
    assert word.older[WEB] == {said(V[0].encode())[WEB].spec, said(V[1].encode())[WEB].spec}
    assert walk(Line(V[0], V[1], *BAD[:60])).words() == ()
    [never] = walk(Line(*BAD[:10])).words()
    assert (never.wanted, never.lost) == ((), set())
    assert walk(Line(*BAD[:10], cut=True)).words() == ()


def test_a_log_that_breaks_leaves_what_is_known_and_a_stop_ends_it():
    walked = Walk(past := Line(V[0], V[1], V[2], broken=1), RESOLVER.read_file, stop=NEVER)
    now = Document(WEB, "a.yaml", said(V[2].encode())[WEB], until="nothing")
    with pytest.raises(Transient):
        walked.run("2", [now], [])
    assert (commits(walked), past.told) == (["2"], ["2"])
    stop = threading.Event()
    stop.set()
    assert commits(walk(Line(V[0], V[1]), stop=stop)) == []


def test_a_name_is_found_in_whatever_unicode_an_editor_wrote():
    assert all(named_in(f"x: web{sign}".encode(how), WEB) for how in ("utf-8", "utf-16") for sign in ("", "\n"))
    assert not named_in(b"x: wob", WEB)
