"""What is told and when, in virtual time: (what was told, what is, now) → what is to be told."""

import random
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import pairwise

import pytest

from agent.control.board import Phase, Status, Truth
from agent.surface import notice
from agent.surface.notice import Memory, Notice
from agent.surface.operations import AgentView, HeldPrune, InvalidFile
from agent.surface.trouble import findings
from tests.fakes.operations import NOW, a_status
from tests.surface.test_trouble import WELL_VIEW

HOUR = 3600.0


@dataclass
class Story:
    """Time goes on, a second at a time; `told` is all that was told, with the second."""

    view: AgentView = WELL_VIEW
    seconds: int = 0
    memory: Memory = field(default_factory=dict)
    told: list[tuple[int, Notice]] = field(default_factory=list)

    def goes_on(self, seconds: int, every: int = 1) -> None:
        for _ in range(0, seconds, every):
            now = NOW + timedelta(seconds=self.seconds)
            view = replace(self.view, source=replace(self.view.source, read_at=now))
            self.memory, told = notice.step(self.memory, findings(view, now, stale=900), now, interval=HOUR)
            self.told += [(self.seconds, item) for item in told]
            self.seconds += every

    def is_so(self, *statuses: Status, seconds: int = 1) -> None:
        self.view = replace(self.view, services=statuses)
        self.goes_on(seconds)

    @property
    def events(self) -> list[str]:
        return [("still " if item.repeated else "") + item.event for _, item in self.told]


def web(phase: Phase, reason: str, wanted: str = "d1") -> Status:
    return a_status("web", phase, converged=Truth(phase is Phase.READY, reason, "why"), wanted=wanted)


QUEUED = web(Phase.PROGRESSING, "Queued")
STARTING = web(Phase.PROGRESSING, "Starting")
READY = web(Phase.READY, "Converged")
FAILED = web(Phase.FAILED, "Exited")
BURNT = web(Phase.FAILED, "Burnt")
UNHEALTHY = web(Phase.DEGRADED, "Unhealthy")


def test_a_first_start_is_quiet():
    story = Story()
    story.is_so(QUEUED, seconds=5)
    story.is_so(STARTING, seconds=600)
    story.is_so(READY, seconds=600)
    assert story.told == []


def test_a_failure_is_told_once_and_its_end_once():
    story = Story()
    story.is_so(STARTING, seconds=30)
    story.is_so(FAILED, seconds=2)
    story.is_so(BURNT, seconds=1000)
    story.is_so(QUEUED, seconds=20)
    story.is_so(READY, seconds=1000)
    assert story.events == ["service.failed", "service.recovered"]
    (failed_at, _), (well_at, _) = story.told
    assert failed_at - 30 <= 6
    assert well_at - 1052 <= 6


def test_the_same_trouble_is_told_again_each_hour_and_not_before():
    story = Story()
    story.is_so(UNHEALTHY, seconds=10)
    story.goes_on(4 * 3600, every=5)
    assert story.events == ["service.degraded", *["still service.degraded"] * 4]
    times = [at for at, _ in story.told]
    assert [round((later - earlier) / 3600, 2) for earlier, later in pairwise(times)] == [1.0] * 4


def test_another_trouble_is_told_at_once():
    story = Story()
    story.is_so(UNHEALTHY, seconds=100)
    story.is_so(web(Phase.DEGRADED, "CrashLoop"), seconds=1)
    assert story.events == ["service.degraded", "service.degraded"]
    assert story.told[1][1].facts.reason == "CrashLoop"


def test_two_troubles_in_turn_are_told_once_each_in_an_hour():
    story = Story()
    for _ in range(60):
        story.is_so(UNHEALTHY, seconds=20)
        story.is_so(web(Phase.DEGRADED, "CrashLoop"), seconds=20)
    assert story.events == ["service.degraded"] * 2


def test_a_new_spec_that_fails_in_the_same_way_is_news():
    story = Story()
    story.is_so(BURNT, seconds=100)
    story.is_so(web(Phase.PROGRESSING, "Starting", "d2"), seconds=3)
    story.is_so(web(Phase.FAILED, "Exited", "d2"), seconds=1)
    assert story.events == ["service.failed", "service.failed"]


def test_success_clears():
    story = Story()
    for _ in range(2):
        story.is_so(UNHEALTHY, seconds=10)
        story.is_so(READY, seconds=10)
    assert story.events == ["service.degraded", "service.recovered"] * 2


def test_a_blip_is_no_news():
    story = Story()
    story.is_so(READY, seconds=10)
    story.is_so(web(Phase.DEGRADED, "Exited"), seconds=2)
    story.is_so(web(Phase.DEGRADED, "Starting"), seconds=2)
    story.is_so(READY, seconds=100)
    assert story.told == []


def test_a_crash_loop_is_told_although_no_state_of_it_lasts():
    story = Story()
    for _ in range(100):
        story.is_so(web(Phase.DEGRADED, "Exited"), seconds=2)
        story.is_so(web(Phase.DEGRADED, "Starting"), seconds=2)
        story.is_so(READY, seconds=2)
    assert story.events[0] == "service.degraded"
    assert len(story.told) <= 2, "and not at each turn"
    story.is_so(READY, seconds=10)
    assert story.events[-1] == "service.recovered"


@pytest.mark.parametrize(("down", "up"), [(10, 10), (20, 40), (60, 300)])
def test_what_comes_and_goes_all_day_is_told_a_few_times_an_hour(down, up):
    story = Story()
    for _ in range(3 * 3600 // (down + up)):
        story.is_so(UNHEALTHY, seconds=down)
        story.is_so(READY, seconds=up)
    assert len(story.told) / 3 < 6
    assert sum(at > 2 * 3600 for at, _ in story.told) >= 1, "nor is it forgotten"
    story.is_so(READY)
    story.goes_on(3600, every=5)
    assert story.events[-1] == "service.recovered"


def test_a_new_spec_that_fails_is_no_relapse():
    story = Story()
    for number in range(8):
        story.is_so(web(Phase.FAILED, "Exited", f"d{number}"), seconds=10)
        story.is_so(READY, seconds=10)
    assert story.events == ["service.failed", "service.recovered"] * 8


def test_what_heals_slowly_is_told_once_and_a_rollback_is_news_of_its_own():
    story = Story()
    story.is_so(READY, seconds=10)
    story.is_so(web(Phase.DEGRADED, "Exited"), seconds=10)
    story.is_so(web(Phase.DEGRADED, "Starting"), seconds=600)
    assert [item.facts.reason for _, item in story.told] == ["Exited"]
    story.is_so(web(Phase.DEGRADED, "RolledBack"), seconds=600)
    assert [item.facts.reason for _, item in story.told] == ["Exited", "RolledBack"]


def test_a_service_that_is_slowly_coming_back_is_told_too():
    story = Story()
    story.is_so(READY, seconds=10)
    story.is_so(web(Phase.DEGRADED, "Starting"), seconds=10)
    assert story.events == ["service.degraded"]


def test_what_stands_in_the_way_for_a_minute_is_told_also_if_it_is_tried_again_meanwhile():
    story = Story()
    for _ in range(10):
        story.is_so(web(Phase.PROGRESSING, "PullFailed"), seconds=20)
        story.is_so(web(Phase.PROGRESSING, "Pulling"), seconds=2)
    assert story.events == ["service.stuck"]
    assert 60 <= story.told[0][0] <= 70


def test_a_hitch_in_a_long_way_up_is_no_news():
    story = Story()
    for _ in range(10):
        story.is_so(web(Phase.PROGRESSING, "EngineChanged"), seconds=2)
        story.is_so(web(Phase.PROGRESSING, "Pulling"), seconds=300)
    assert story.told == []


def test_trouble_of_a_service_that_goes_or_is_suspended_ends_with_it():
    story = Story()
    story.is_so(FAILED, seconds=10)
    story.is_so(web(Phase.REMOVING, "Stopping"), seconds=10)
    story.is_so(seconds=10)
    assert story.events == ["service.failed", "service.dropped"]
    assert story.told[1][1].facts.reason == "Removed"
    story.is_so(FAILED, seconds=10)
    story.is_so(web(Phase.SUSPENDED, "Suspended"), seconds=10)
    assert story.events[2:] == ["service.failed", "service.dropped"]
    story.is_so(FAILED, seconds=10)
    assert story.events[4:] == ["service.failed"], "it is news again once it is resumed"


def test_a_batch_of_held_removals_is_told_as_one_and_its_release_too():
    story = Story()
    held = tuple(HeldPrune(name, "OverBudget", "3 of 4 would go", NOW) for name in ("a", "b", "c"))
    story.view = replace(story.view, held=held)
    story.goes_on(100)
    assert story.events == ["prune.held"]
    assert story.told[0][1].names == ("a", "b", "c")
    story.view = replace(story.view, held=held[2:])
    story.goes_on(100)
    assert story.events == ["prune.held", "prune.released"]
    assert story.told[1][1].names == ("a", "b")
    story.view = replace(story.view, held=())
    story.goes_on(100)
    assert story.told[2][1].names == ("c",)
    assert story.told[2][1].facts.service == "c"


def test_a_file_is_told_once_for_each_set_of_errors():
    story = Story()

    def invalid(*errors: str) -> None:
        source = replace(story.view.source, invalid=(InvalidFile("bad.yaml", errors),) if errors else ())
        story.view = replace(story.view, source=source)
        story.goes_on(30)

    invalid("1:1: one")
    invalid("2:1: two")
    invalid("2:1: two")
    invalid()
    assert story.events == ["file.invalid", "file.invalid", "file.recovered"]
    assert story.told[2][1].facts.file == "bad.yaml"


def test_what_befalls_many_at_once_is_told_as_one_and_a_few_are_told_each():
    story = Story()
    for count, notices in ((10, 10), (1000, 1)):
        story.told.clear()
        files = tuple(InvalidFile(f"{count}-{number:04}.yaml", ("1:1: bad",)) for number in range(count))
        for invalid, event in ((files, "file.invalid"), ((), "file.recovered")):
            story.view = replace(story.view, source=replace(story.view.source, invalid=invalid))
            story.goes_on(10)
            assert story.events == [event] * notices
            named = sorted(name for _, item in story.told for name in item.names or [item.facts.file])
            assert named == [file.path for file in files]
            story.told.clear()
    story.is_so(*(replace(UNHEALTHY, name=f"s{number:03}") for number in range(200)), seconds=10)
    ((_, one),) = story.told
    assert (one.event, len(one.names), one.facts.service, one.facts.reason) == (
        "service.degraded",
        200,
        "",
        "Unhealthy",
    )


def test_a_source_that_cannot_be_read_is_told_once_however_its_error_reads():
    story = Story()
    for number in range(60):
        story.view = replace(story.view, source=replace(story.view.source, error=f"attempt {number} failed"))
        story.goes_on(2)
    story.view = WELL_VIEW
    story.goes_on(30)
    assert story.events == ["source.unreadable", "source.recovered"]


def test_what_lasts_over_a_restart_is_told_once_again():
    story = Story()
    story.is_so(FAILED, seconds=100)
    story.memory = {}
    story.goes_on(100)
    assert story.events == ["service.failed", "service.failed"]
    assert not story.told[1][1].repeated


def test_memory_is_bounded_and_empty_when_all_is_well():
    story = Story()
    for number in range(100):
        story.is_so(web(Phase.FAILED, "Exited", f"d{number}"), seconds=1)
    assert len(story.memory["service", "web"].told) <= 17
    story.is_so(READY, seconds=20)
    assert story.events[-1] == "service.recovered"
    assert len(story.memory["service", "web"].known) <= 17
    story.goes_on(3600, every=5)
    assert story.memory == {}


def test_each_told_trouble_comes_to_one_end_whatever_happens():
    phases = [QUEUED, STARTING, READY, FAILED, BURNT, UNHEALTHY, web(Phase.SUSPENDED, "Suspended"), None]
    for seed in range(30):
        chance, story = random.Random(seed), Story()
        for _ in range(60):
            status = chance.choice(phases)
            story.is_so(*([status] if status is not None else []), seconds=chance.randint(1, 90))
        story.is_so(READY)
        story.goes_on(4000, every=5)
        told = 0
        for event in story.events:
            if event in ("service.recovered", "service.dropped"):
                assert told, f"seed {seed}: an end without a beginning"
                told = 0
            else:
                told += 1
        assert not told, f"seed {seed}: trouble without an end: {story.events}"
