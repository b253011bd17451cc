"""`status`, asked of a real surface."""

import io
import json
from dataclasses import replace
from datetime import timedelta

import pytest
import yaml
from rich.console import Console

from agent.cli import show
from agent.cli.status import picture
from agent.control import gate
from agent.control.board import Change, Phase
from agent.surface import wire
from agent.surface.operations import HeldPrune, InvalidFile, SourceView, SuspensionView, WorldView
from tests.fakes.operations import NOW, FakeOperations, a_status


def drawn(view, name=None, width=120):
    console = Console(width=width, file=io.StringIO(), force_terminal=False, highlight=False)
    console.print(picture(wire.status(view, name), name, width))
    return console.file.getvalue()


def test_the_table_says_what_each_service_is_about(agent, xmod):
    result = xmod("status")
    assert result.exit_code == 0
    header, qwen, slow, *rest = result.stdout.splitlines()
    assert header.split() == ["NAME", "PHASE", "GOAL", "REASON", "AGE", "ENDPOINT", "REVISION"]
    assert qwen.split()[:4] == ["qwen", "Ready", "-", "-"]
    assert "http://127.0.0.1:18000" in qwen
    assert "0123456789" in qwen
    assert "Loading: the model is loading" in slow
    assert "bad.yaml:3:5: spec.port: must be a number" in rest
    assert "removal of old is held (Budget): 3 of 4 services would go" in rest


def test_removals_that_are_held_together_are_one_line():
    held = tuple(HeldPrune(name, "OverBudget", "2 at once", NOW) for name in ("a", "b"))
    lines = drawn(replace(FakeOperations().agent, held=held), width=200).splitlines()
    assert "removal of a, b is held (OverBudget): 2 at once" in lines
    assert lines.count("release with: xmod-agent approve-prune") == 1


def test_one_service_is_shown_as_the_steps_of_its_goals(agent, xmod):
    lines = xmod("status", "slow").stdout.splitlines()
    assert lines[0].startswith("slow  Progressing")
    assert "  ✓ placed" in lines
    assert "  … healthy         Loading: 503 from /health" in lines
    assert "  · exposed" in lines
    assert any(line.startswith("  lag ") and line.endswith("blocked: none") for line in lines)


def test_an_unknown_service_is_one_sentence(agent, xmod):
    result = xmod("status", "nobody")
    assert result.exit_code == 1
    assert result.stderr == "xmod-agent: no service is called nobody; those there are: xmod-agent status\n"
    assert result.stdout == ""


def test_json_and_yaml_say_the_same(agent, xmod):
    as_json = json.loads(xmod("status", "-o", "json").stdout)
    as_yaml = yaml.safe_load(xmod("status", "-o", "yaml").stdout)
    assert as_json == as_yaml
    assert as_json["services"][1]["converged"] == {
        "holds": False,
        "reason": "Loading",
        "message": "the model is loading",
    }


def test_without_an_agent_it_is_one_sentence(xmod, tmp_path):
    result = xmod("status", "--socket", tmp_path / "none.sock")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"xmod-agent: no agent answers on {tmp_path}/none.sock; is it running")
    assert result.stderr.count("\n") == 1


def test_a_socket_that_nobody_serves_any_more_is_the_same_sentence(xmod, tmp_path):
    import socket

    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / "s"))
    left.close()
    assert "no agent answers on" in xmod("status", "--socket", tmp_path / "s").stderr


def test_no_services_is_said_in_words():
    assert "no services" in drawn(replace(FakeOperations().agent, services=(), held=()))


@pytest.mark.parametrize("width", [40, 59, 60, 80, 100, 140])
def test_it_is_readable_at_any_width(width):
    view = FakeOperations().agent
    long = a_status("a-service-with-a-rather-long-name", Phase.PROGRESSING)
    text = drawn(replace(view, services=(*view.services, long)), width=width)
    for word in ("qwen", "Ready", "Progressing", "a-service-with-a-rather-long-name"):
        assert word in text, text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width


def test_what_matters_least_makes_way_first():
    def header(width):
        return drawn(FakeOperations().agent, width=width).splitlines()[0].split()

    assert header(110)[-2:] == ["ENDPOINT", "REVISION"]
    assert header(90)[-1] == "ENDPOINT"
    assert header(70)[-1] == "AGE"


def test_where_nobody_looks_a_table_is_as_wide_as_its_words(agent, xmod):
    agent.agent = replace(
        agent.agent,
        services=(
            a_status(
                "x",
                Phase.FAILED,
                converged=replace(a_status("x").serving, holds=False, reason="Exited", message="word " * 100),
            ),
        ),
    )
    assert ("word " * 100).strip() in xmod("status").stdout


def test_rolled_back_is_told_with_what_serves_and_what_is_wanted():
    status = a_status(
        "qwen",
        wanted="d2",
        routed="d1",
        phase=Phase.DEGRADED,
        wanted_since=NOW - timedelta(minutes=10),
        blocked="failed",
        next_try=NOW + timedelta(seconds=30),
        attempts=3,
    )
    text = drawn(replace(FakeOperations().agent, services=(status,)), "qwen")
    assert "d2, serving is d1" in text
    assert "blocked: failed" in text
    assert "next try   in 30s, after 3 failed" in text


def test_what_never_was_tried_in_vain_is_looked_at_and_not_tried():
    status = a_status("qwen", phase=Phase.KEPT, next_try=NOW + timedelta(seconds=30), attempts=0, goalset="")
    text = drawn(replace(FakeOperations().agent, services=(status,)), "qwen")
    assert "next look  in 30s\n" in text
    assert "goalset" not in text


def test_that_all_is_suspended_stands_at_the_top_with_its_reason_and_its_end():
    said = SuspensionView(NOW - timedelta(minutes=5), "maintenance", ("qwen",))
    view = replace(FakeOperations().agent, suspended=said)
    first = drawn(view, width=200).splitlines()[0]
    assert first.startswith("all services but qwen are suspended by an operator for ")
    assert first.endswith(" (maintenance); end it with: xmod-agent resume --all")
    assert drawn(view, "slow", width=200).splitlines()[0] == first
    assert "are suspended" not in drawn(FakeOperations().agent)


def a_change(commit: str, subject: str) -> Change:
    return Change(commit, "Ann", NOW - timedelta(hours=3), subject)


def test_in_git_mode_it_says_which_commit_is_in_force_and_how_many_newer_ones_there_are():
    view = FakeOperations().agent
    source = replace(view.source, head=view.source.revision, commit=a_change(view.source.revision, "Take v2"))
    assert "/srv/specs at 0123456789, " in drawn(replace(view, source=source))
    assert ", by Ann: Take v2" in drawn(replace(view, source=source))
    assert "behind" not in drawn(replace(view, source=source))
    held = replace(source, head="fedcba9876543210", behind=2)
    assert "/srv/specs at 0123456789 (2 behind), " in drawn(replace(view, source=held))
    assert "at 0123456789 (behind), " in drawn(replace(view, source=replace(held, behind=None)))
    assert " at 0123456789" not in drawn(view), "a folder has no commits"


def test_a_service_is_told_with_its_commit_and_how_many_changes_what_serves_is_behind():
    change, runs = a_change("b" * 40, "Take v2"), a_change("a" * 40, "Begin")
    right = a_status("qwen", change=change)
    older = a_status("old", Phase.DEGRADED, change=change, runs=runs, behind=2)
    view = replace(FakeOperations().agent, services=(right, older))
    [first, second] = [line for line in drawn(view, width=160).splitlines() if line.startswith(("qwen", "old"))]
    assert first.rstrip().endswith("bbbbbbbbbb")
    assert second.rstrip().endswith("aaaaaaaaaa (2 behind)")
    detail = drawn(view, "old", width=160)
    assert "changed    bbbbbbbbbb, " in detail
    assert ", by Ann: Take v2" in detail
    assert "runs       aaaaaaaaaa (2 behind), " in detail
    unknown = replace(view, services=(replace(older, runs=None, behind=None),))
    assert "0123456789 (behind)" in drawn(unknown, "old", width=160)


def test_what_cannot_be_seen_is_told():
    view = FakeOperations().agent
    source = SourceView("src-1", "/srv/specs", "", None, 0, (), "the folder is missing")
    text = drawn(
        replace(
            view,
            source=source,
            worlds=(WorldView("docker", None, "connection refused"),),
            memory_is_new=True,
            notices=("clock jumped",),
        )
    )
    assert "source /srv/specs: the folder is missing" in text
    assert "docker cannot be seen: connection refused" in text
    assert "memory is new" in text
    assert "clock jumped" in text


def test_markup_and_escapes_of_strangers_are_shown_as_text():
    status = a_status("x", Phase.FAILED, notices=("[red]not red[/red] \x1b[31m",))
    text = drawn(replace(FakeOperations().agent, services=(status,)), "x")
    assert "[red]not red[/red]" in text
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("reasons", "release"),
    [
        (["OverBudget"], True),
        (["SourceEmpty"], True),
        (["SourceReplaced"], True),
        (["SourceInvalid"], True),
        (["OtherSource"], False),
        (["SourceUnread"], False),
        (["Protected"], False),
        (["Protected", "OtherSource", "OverBudget"], True),
        ([], False),
    ],
)
def test_the_way_out_is_told_only_of_what_has_one(reasons, release):
    held = tuple(HeldPrune(f"s{n}", reason, "why", NOW) for n, reason in enumerate(reasons))
    text = drawn(replace(FakeOperations().agent, held=held))
    assert ("release with: xmod-agent approve-prune" in text) == release


def test_what_no_approval_releases_is_what_the_gate_says():
    evidence = gate.Evidence("ours", frozenset({"seen"}), unread=())
    cases = {
        "Protected": (gate.Candidate("p", "ours", protected=True), evidence),
        "Suspended": (gate.Candidate("s", "ours", suspended="an operator suspended it"), evidence),
        "SourceUnread": (gate.Candidate("u", "ours"), replace(evidence, unread=("a.yaml",))),
        "OtherSource": (gate.Candidate("o", "theirs"), evidence),
        "SourceEmpty": (gate.Candidate("e", "ours"), replace(evidence, empty=True, alive=False)),
        "SourceReplaced": (gate.Candidate("r", "ours"), replace(evidence, replaced=True)),
        "SourceInvalid": (gate.Candidate("i", "ours"), replace(evidence, unexplained=("a.yaml",))),
    }
    for reason, (candidate, source) in cases.items():
        for approved in (frozenset(), frozenset({candidate.name})):
            found = gate.judge(
                [candidate], source, gate.Budget(9), approved=approved, removing=frozenset(), before={}, now=NOW
            )
            stays = not approved or reason in show.UNAPPROVABLE
            assert {held.reason for held in found.held.values()} == ({reason} if stays else set())


def test_names_of_strangers_have_no_power_over_the_terminal(agent, xmod):
    invalid = (InvalidFile("a\x1b[31m.yaml", ("1:1: metadata.name: \x1b]0;x\x07 is no label",)),)
    agent.agent = replace(
        agent.agent,
        services=(a_status("x\x1b[2J", file="\x9b2J.yaml"),),
        source=replace(agent.agent.source, invalid=invalid, error="\x1b[5m"),
        held=(HeldPrune("h\x1b[2J", "OverBudget", "\x1b[5m", NOW),),
        notices=("\x1b[5m",),
    )
    for words in (("status",), ("status", "x\x1b[2J"), ("status", "-o", "json"), ("status", "-o", "yaml")):
        result = xmod(*words)
        assert result.exit_code == 0
        assert all(line.isprintable() for line in result.stdout.splitlines()), words
    result = xmod("approve-prune", "--yes")
    assert all(line.isprintable() for line in result.stdout.splitlines())


def test_what_is_for_other_hosts_is_counted_and_this_one_named(agent, xmod):
    assert "other hosts" not in xmod("status").stdout
    agent.agent = replace(agent.agent, host="edge-01 (gpu=h100)", source=replace(agent.agent.source, elsewhere=3))
    assert "3 for other hosts; this is edge-01 (gpu=h100)" in xmod("status").stdout
