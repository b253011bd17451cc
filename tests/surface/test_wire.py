"""What is sent as JSON."""

import json
from datetime import UTC, datetime

from agent.surface import wire
from tests.fakes.operations import FakeOperations


def test_times_are_iso_and_words_are_plain_strings():
    sent = wire.status(FakeOperations().agent)
    assert sent["heartbeat"] == "2026-11-23T12:00:00+00:00"
    assert sent["services"][0]["phase"] == "Ready"
    assert type(sent["services"][0]["phase"]) is str
    assert sent["services"][0]["endpoints"] == ["http://127.0.0.1:18000"]


def test_every_view_can_be_sent_and_read_back():
    sent = wire.status(FakeOperations().agent)
    assert json.loads(wire.encoded(sent)) == sent


def test_one_name_is_its_status_and_its_held_removal():
    view = FakeOperations().agent
    held = wire.status(view, "old")
    assert held["services"] == []
    assert [item["name"] for item in held["held"]] == ["old"]
    assert wire.status(view, "nobody") is None


def test_collections_become_lists_and_keys_strings():
    assert wire.plain({1: (datetime(2026, 1, 1, tzinfo=UTC), None, 1.5, True)}) == {
        "1": ["2026-01-01T00:00:00+00:00", None, 1.5, True]
    }


def test_a_path_that_is_no_utf_8_can_be_sent():
    assert json.loads(wire.encoded({"location": "folder /srv/caf\udce9"})) == {"location": "folder /srv/caf?"}
