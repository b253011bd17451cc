"""`events`, asked of a real surface."""

import json
import re
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import yaml

from agent.cli.events import _Printer, _row, _time
from agent.cli.options import Output
from agent.journal import Event, Kind
from agent.surface.wire import plain


def happened(number, what="Ready", service="qwen", **more):
    at = datetime.now(UTC) - timedelta(minutes=100 - number)
    return replace(Event(at=at, kind=Kind.SERVICE, what=what, service=service, id=number), **more)


@pytest.fixture
def agent(agent):
    agent.happened = [
        happened(1, "Started", "", kind=Kind.AGENT, message="version 0.1.0"),
        happened(2, "Failed", goal="healthy", reason="Exited", message="code 1\x1b[31m", commit="a1b2c3d4e5f60718",
                 author="Ann", subject="Try it"),
        happened(3, "Revision", "", kind=Kind.SOURCE, message="2 services", revision="0123456789abcdef"),
        happened(4, "restart", kind=Kind.WORD, who="root"),
        happened(5, "Removed", "old"),
    ]  # fmt: skip
    return agent


def cells(line):
    return re.split(r" {2,}", line.strip())


def test_events_are_a_table_with_reason_message_and_commit(agent, xmod):
    lines = xmod("events").stdout.splitlines()
    assert cells(lines[0]) == ["TIME", "NAME", "WHAT", "WHY"]
    assert [cells(line)[1:] for line in lines[1:]] == [
        ["(agent)", "Started", "version 0.1.0"],
        ["qwen", "Failed", "healthy: Exited: code 1\\x1b[31m [a1b2c3d4e5 Ann: Try it]"],
        ["(source)", "Revision", "2 services [0123456789]"],
        ["qwen", "restart", "by root"],
        ["old", "Removed", "-"],
    ]


def test_one_service_the_last_few_and_since_a_while(agent, xmod):
    assert len(xmod("events", "qwen").stdout.splitlines()) == 3
    assert len(xmod("events", "-n", "1").stdout.splitlines()) == 2
    assert [cells(line)[1] for line in xmod("events", "--since", "97m30s").stdout.splitlines()[1:]] == [
        "(source)",
        "qwen",
        "old",
    ]
    assert xmod("events", "slow").stdout == "nothing happened that the journal knows of\n"


def test_what_was_removed_still_has_its_history_and_a_stranger_none(agent, xmod):
    assert "Removed" in xmod("events", "old").stdout
    result = xmod("events", "nobody")
    assert (result.exit_code, result.stderr) == (1, "xmod-agent: no service is called nobody\n")


def test_json_and_yaml_hold_everything(agent, xmod):
    as_json = json.loads(xmod("events", "-o", "json").stdout)
    assert [event["id"] for event in as_json] == [1, 2, 3, 4, 5]
    assert as_json[1]["subject"] == "Try it"
    assert yaml.safe_load(xmod("events", "-o", "yaml").stdout) == as_json


def test_what_is_amiss_with_the_journal_is_said(agent, xmod):
    agent.agent = replace(agent.agent, notices=("the journal was begun anew",))
    result = xmod("events")
    assert result.stderr == "xmod-agent: the journal was begun anew\n"
    assert result.exit_code == 0


@pytest.mark.parametrize("words", ["yesterday", "1", "1h later", "-1h", "1.5h", ""])
def test_a_time_that_is_none_is_refused_with_what_would_be_one(agent, xmod, words):
    if not words:
        return
    result = xmod("events", "--since", words)
    assert result.exit_code == 1
    assert "must be a duration such as 90s, 30m, 1h or 2d, or an ISO time" in result.stderr


def test_times_are_durations_or_iso():
    now = datetime(2026, 1, 2, 12, tzinfo=UTC)
    assert _time("1h30m", now) == datetime(2026, 1, 2, 10, 30, tzinfo=UTC)
    assert _time("2d", now) == datetime(2025, 12, 31, 12, tzinfo=UTC)
    assert _time("2026-01-01T00:00:00+00:00", now) == datetime(2026, 1, 1, tzinfo=UTC)
    assert _time("9999999999w", now).year == 1


def test_following_shows_what_comes_also_over_a_restart_of_the_agent(agent, surface_of_agent, xmod, monkeypatch):
    """Three rounds: something new, the agent away, something new again; then the person has enough."""
    rounds = iter(range(100))
    seen = []

    def sleep(seconds):
        assert seconds < 1, "what is new is shown within a second"
        number = next(rounds)
        if number == 0:
            agent.happened.append(happened(6, "Degraded"))
        elif number == 1:
            monkeypatch.setattr("agent.surface.client.Client.events", away)
        elif number == 3:
            monkeypatch.setattr("agent.surface.client.Client.events", ask)
            agent.happened.append(happened(7, "Ready"))
        elif number == 5:
            raise KeyboardInterrupt

    from agent.surface.client import Client, NoAgent

    ask = Client.events

    def away(self, *words, **more):
        seen.append("away")
        raise NoAgent("no agent answers")

    monkeypatch.setattr("agent.cli.events.time.sleep", sleep)
    result = xmod("events", "-f", "-n", "1")
    assert result.exit_code == 130
    assert [cells(line)[2] for line in result.stdout.splitlines()] == ["WHAT", "Removed", "Degraded", "Ready"]
    assert result.stderr == "xmod-agent: no agent answers\n", "said once"
    assert seen == ["away", "away"]


def test_following_as_json_is_an_object_a_line(agent, xmod, monkeypatch):
    def sleep(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr("agent.cli.events.time.sleep", sleep)
    lines = xmod("events", "-f", "-o", "json").stdout.splitlines()
    assert [json.loads(line)["id"] for line in lines] == [1, 2, 3, 4, 5]
    assert [event["id"] for event in yaml.safe_load(xmod("events", "-f", "-o", "yaml").stdout)] == [1, 2, 3, 4, 5]


def test_columns_stay_where_they_are_while_following(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    printer = _Printer(Output.TABLE, following=True)
    printer.put([plain(happened(1, "Progressing", "a-long-name", message="first"))])
    printer.put([plain(happened(2, "Ready", "b", message="then"))])
    printer.put([])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[1].index("first") == lines[2].index("then") == lines[0].index("WHY")


def test_the_date_is_shown_where_it_is_not_today():
    assert re.fullmatch(r"\d\d:\d\d:\d\d", _row(plain(replace(happened(1), at=datetime.now(UTC))))[0])
    assert re.match(r"2020-01-0\d ", _row(plain(replace(happened(1), at=datetime(2020, 1, 2, tzinfo=UTC))))[0])


def test_many_can_follow_while_health_is_asked(agent, xmod, surface_of_agent):
    """Following is asking again: it holds no thread of the surface."""
    from agent.surface.client import Client

    agent_client = Client(surface_of_agent._unix.path)
    threads = [threading.Thread(target=lambda: agent_client.events(None, after=5, limit=10)) for _ in range(60)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - began < 10
