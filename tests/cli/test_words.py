"""What an operator says to a running agent, asked of a real surface."""

from dataclasses import replace

import pytest

from agent.surface.operations import HeldPrune
from tests.fakes.operations import NOW


def test_logs_show_the_last_lines(agent, xmod):
    assert xmod("logs", "qwen", "--tail", "2").stdout == "two\nthree\n"
    assert xmod("logs", "qwen").stdout == "one\ntwo\nthree\n"


def test_logs_of_nobody_are_one_sentence(agent, xmod):
    result = xmod("logs", "nobody")
    assert (result.exit_code, result.stderr) == (1, "xmod-agent: no service is called nobody\n")


def test_restart_says_what_will_be(agent, xmod):
    assert xmod("restart", "qwen").exit_code == 0
    assert agent.words == [("restart", "qwen")]


def test_rollout_needs_one_name_or_all(agent, xmod):
    assert xmod("rollout").stderr == "xmod-agent: name one service, or say --all\n"
    assert xmod("rollout", "qwen", "--all").exit_code == 1
    assert agent.words == []
    assert xmod("rollout", "qwen").stdout == "rolled out, one at a time: qwen\n"
    assert xmod("rollout", "--all").stdout == "rolled out, one at a time: qwen, slow\n"


def test_a_rollout_is_cancelled_by_name_or_whole(agent, xmod):
    assert xmod("rollout", "--cancel").stdout == "cancelled: slow\n"
    assert xmod("rollout", "qwen", "--cancel").stdout == "cancelled: qwen\n"
    assert xmod("rollout", "qwen", "--all", "--cancel").exit_code == 1
    assert agent.words == [("cancel",), ("cancel", "qwen")]


@pytest.mark.parametrize("word", ["suspend", "resume"])
def test_suspend_and_resume_need_one_name_or_all(agent, xmod, word):
    assert xmod(word).stderr == "xmod-agent: name one service, or say --all\n"
    assert xmod(word, "qwen", "--all").exit_code == 1
    assert agent.words == []


def test_suspend_takes_a_reason_and_says_how_to_end_it(agent, xmod):
    said = xmod("suspend", "qwen", "--reason", "disk is full").stdout
    assert said == "qwen is suspended; end it with: xmod-agent resume qwen\n"
    said = xmod("suspend", "--all").stdout
    assert said == "all services, those too that come later, are suspended; end it with: xmod-agent resume --all\n"
    assert agent.words == [("suspend", "qwen", "disk is full"), ("suspend", None, "")]


def test_resume_says_what_a_spec_suspends_still(agent, xmod):
    assert xmod("resume", "qwen").stdout == "resumed: qwen\n"
    assert xmod("resume", "--all").stdout == (
        "resumed: qwen\nslow stays suspended by its spec: take xmod.dev/suspend out of slow.yaml:1\n"
    )


def test_retry_says_where_to_look(agent, xmod):
    assert xmod("retry", "qwen").stdout == "qwen is tried again; see: xmod-agent status qwen\n"
    assert xmod("retry", "nobody").stderr == "xmod-agent: no service is called nobody\n"


def test_forget_prints_what_is_left(agent, xmod):
    assert xmod("forget", "qwen", "--yes").stdout == (
        "qwen is forgotten; this is left:\n  pid 77, running at 127.0.0.1:18000\n"
    )
    result = xmod("forget", "slow", "--yes")
    assert (result.exit_code, result.stderr) == (1, "xmod-agent: cannot forget slow: slow stands in slow.yaml:1\n")


def test_forget_asks_a_person_and_refuses_where_there_is_none(agent, xmod, monkeypatch):
    assert "say --yes if that is meant" in xmod("forget", "qwen").stderr
    monkeypatch.setattr("agent.cli.words.asked", lambda: True)
    assert xmod("forget", "qwen", stdin="n\n").exit_code == 1
    assert agent.words == []
    assert "Give up qwen?" in xmod("forget", "qwen", stdin="y\n").stdout
    assert agent.words == [("forget", "qwen")]


def test_adopt_says_how_many(agent, xmod):
    assert xmod("adopt", "--from", "src-0").stdout == "adopted 2 services from src-0\n"
    result = xmod("adopt", "--from", "src-1")
    assert (result.exit_code, result.stderr) == (1, "xmod-agent: src-1 is this agent's own source\n")


def test_approve_prune_shows_what_goes_and_takes_yes(agent, xmod):
    result = xmod("approve-prune", "--yes")
    assert result.exit_code == 0
    assert "3 of 4 services would go" in result.stdout
    assert result.stdout.endswith("released: old\n")
    assert agent.words == [("approve", "old")]


def test_approve_prune_takes_only_what_can_be_approved_unless_told(agent, xmod):
    agent.agent = replace(agent.agent, held=(*agent.agent.held, HeldPrune("alien", "OtherSource", "", NOW)))
    assert xmod("approve-prune", "--yes").stdout.endswith("released: old\n")
    agent.agent = replace(agent.agent, held=agent.agent.held[1:])
    assert xmod("approve-prune").stdout == "nothing that is held can be approved; see: xmod-agent status\n"
    assert agent.words == [("approve", "old")]


def test_approve_prune_refuses_where_nobody_can_be_asked(agent, xmod):
    result = xmod("approve-prune")
    assert result.exit_code == 1
    assert "say --yes if that is meant" in result.stderr
    assert agent.words == []


@pytest.mark.parametrize(("answer", "words"), [("y\n", [("approve", "old")]), ("n\n", []), ("\n", [])])
def test_approve_prune_asks_a_person(agent, xmod, monkeypatch, answer, words):
    monkeypatch.setattr("agent.cli.words.asked", lambda: True)
    result = xmod("approve-prune", "old", stdin=answer)
    assert "Remove old?" in result.stdout
    assert agent.words == words
    assert result.exit_code == (0 if words else 1)


def test_approve_prune_of_what_is_not_held_is_refused_with_what_is(agent, xmod):
    result = xmod("approve-prune", "qwen", "old", "--yes")
    assert (result.exit_code, result.stderr) == (1, "xmod-agent: no removal of qwen is held (held: old)\n")
    assert agent.words == []


def test_only_what_was_shown_is_released(agent, xmod, monkeypatch):
    """A removal that is held while the person thinks is not released with the others."""

    def think():
        agent.agent = replace(agent.agent, held=(*agent.agent.held, HeldPrune("late", "Budget", "", NOW)))
        return True

    monkeypatch.setattr("agent.cli.words.asked", think)
    xmod("approve-prune", stdin="y\n")
    assert agent.words == [("approve", "old")]


def test_nothing_held_is_nothing_to_do(agent, xmod):
    agent.agent = replace(agent.agent, held=())
    result = xmod("approve-prune")
    assert (result.exit_code, result.stdout) == (0, "no removal is held\n")
