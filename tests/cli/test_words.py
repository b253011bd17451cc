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
