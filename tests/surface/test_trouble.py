"""What counts as trouble, read off a view: a table of phases and reasons."""

from dataclasses import replace
from datetime import timedelta

import pytest

from agent.control.board import Phase, Truth
from agent.surface.operations import HeldPrune, InvalidFile, WorldView
from agent.surface.trouble import Finding, State, findings
from tests.fakes.operations import NOW, FakeOperations, a_status

WELL_VIEW = replace(
    FakeOperations().agent,
    services=(),
    held=(),
    source=replace(FakeOperations().agent.source, invalid=()),
)


def finding(phase: Phase, reason: str, *, serving: bool = False, stalled: bool = False) -> Finding:
    status = a_status("web", phase, converged=Truth(False, reason), serving=Truth(serving, "x"), stalled=stalled)
    return findings(replace(WELL_VIEW, services=(status,)), NOW, stale=900)["service", "web"]


@pytest.mark.parametrize(
    ("phase", "reason", "event", "mild"),
    [
        (Phase.FAILED, "Exited", "service.failed", False),
        (Phase.FAILED, "Burnt", "service.failed", False),
        (Phase.DEGRADED, "Unhealthy", "service.degraded", False),
        (Phase.DEGRADED, "RolledBack", "service.degraded", False),
        (Phase.DEGRADED, "Starting", "service.degraded", True),
        (Phase.PROGRESSING, "NoRoom", "service.stuck", False),
        (Phase.PROGRESSING, "ImageNotFound", "service.stuck", False),
        (Phase.KEPT, "PolicyRefused", "service.refused", False),
    ],
)
def test_these_are_trouble(phase, reason, event, mild):
    found = finding(phase, reason)
    assert (found.state, found.event, found.mild) == (State.TROUBLE, event, mild)
    assert found.patience > 0, "a blip is no news"


@pytest.mark.parametrize(
    ("phase", "reason", "state"),
    [
        (Phase.PROGRESSING, "Queued", State.UNSETTLED),
        (Phase.PROGRESSING, "Pulling", State.UNSETTLED),
        (Phase.PROGRESSING, "Starting", State.UNSETTLED),
        (Phase.REMOVING, "Stopping", State.UNSETTLED),
        (Phase.KEPT, "SpecInvalid", State.UNSETTLED),
        (Phase.KEPT, "OverBudget", State.UNSETTLED),
        (Phase.READY, "Converged", State.WELL),
        (Phase.SUSPENDED, "Suspended", State.GONE),
    ],
)
def test_these_are_none(phase, reason, state):
    assert finding(phase, reason).state is state


def test_what_is_stalled_is_stuck():
    assert finding(Phase.PROGRESSING, "Pulling", stalled=True).event == "service.stuck"


def test_a_failure_that_goes_on_is_the_same_and_one_of_another_spec_is_not():
    assert finding(Phase.FAILED, "Exited").key == finding(Phase.FAILED, "Burnt").key
    assert finding(Phase.DEGRADED, "Unhealthy").key != finding(Phase.DEGRADED, "CrashLoop").key
    one = a_status("web", Phase.FAILED)
    two = replace(one, wanted="d2")
    keys = [
        findings(replace(WELL_VIEW, services=(status,)), NOW, stale=900)["service", "web"].key for status in (one, two)
    ]
    assert keys[0] != keys[1]


def test_a_finding_says_what_the_board_says():
    facts = finding(Phase.FAILED, "Exited").facts
    assert (facts.service, facts.phase, facts.reason, facts.file) == ("web", "Failed", "Exited", "web.yaml")
    assert (facts.serving, facts.since, facts.revision) == (False, NOW, "0123456789abcdef")


def test_held_removals_invalid_files_and_lost_worlds_are_subjects_of_their_own():
    view = replace(
        WELL_VIEW,
        held=(HeldPrune("old", "OverBudget", "3 of 4", NOW),),
        source=replace(WELL_VIEW.source, invalid=(InvalidFile("bad.yaml", ("3:5: no", "4:1: nor this")),)),
        worlds=(WorldView("docker", None, "connection refused"), WorldView("process", NOW)),
    )
    found = findings(view, NOW, stale=900)
    assert found["prune", "old"].event == "prune.held"
    assert found["file", "bad.yaml"].facts.message == "3:5: no; 4:1: nor this"
    assert found["world", "docker"].event == "world.lost"
    assert found["world", "process"].state is State.WELL
    assert found["source", ""].state is State.WELL


def test_a_source_is_in_trouble_when_it_cannot_be_read_or_was_not_for_too_long():
    def source(**changes: object) -> Finding:
        view = replace(WELL_VIEW, source=replace(WELL_VIEW.source, **changes))
        return findings(view, NOW, stale=900)["source", ""]

    assert source(error="no such folder").event == "source.unreadable"
    assert source(read_at=None, error="it is being cloned").event == "source.unreadable"
    assert source(read_at=NOW - timedelta(seconds=901)).event == "source.stale"
    assert source(read_at=NOW - timedelta(seconds=899)).state is State.WELL
    assert source(read_at=None).state is State.UNSETTLED
    assert source(unverified="Unsigned").event == "source.unverified"
    assert source(unverified="Unsigned", error="none is signed").event == "source.unverified"
