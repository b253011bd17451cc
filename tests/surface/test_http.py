"""The two apps, over real sockets: what may be read, what is a word, and how each is refused."""

import json
import time
from datetime import UTC, datetime, timedelta

import pytest

from agent.journal import Event, Kind
from agent.surface.client import Client, Declined
from tests.fakes.surface import a_surface, get


def test_health_is_what_the_agent_says_of_itself(surface, operations):
    assert get(surface, "/healthz") == (200, b'{"status":"healthy"}')
    operations.why_not_alive = "source thread: no heartbeat for 95 s"
    code, body = get(surface, "/healthz")
    assert code == 503
    assert json.loads(body)["reason"] == "source thread: no heartbeat for 95 s"


def test_readiness_is_told_apart_from_health(surface, operations):
    operations.why_not_ready = "the source was not read yet"
    assert get(surface, "/readyz")[0] == 503
    assert get(surface, "/healthz")[0] == 200


def test_status_is_the_whole_view_as_json(surface):
    code, body = get(surface, "/api/v1/status")
    view = json.loads(body)
    assert code == 200
    assert [service["name"] for service in view["services"]] == ["qwen", "slow"]
    assert view["services"][0]["phase"] == "Ready"
    assert view["source"]["invalid"][0]["path"] == "bad.yaml"


def test_status_of_one_service_names_only_it(surface):
    view = json.loads(get(surface, "/api/v1/status?name=slow")[1])
    assert [service["name"] for service in view["services"]] == ["slow"]
    assert view["held"] == []
    assert get(surface, "/api/v1/status?name=nobody")[0] == 404


def test_events_are_read_in_bounds(surface, operations):
    at = datetime(2026, 1, 1, tzinfo=UTC)
    operations.happened = [
        Event(at=at + timedelta(hours=n), kind=Kind.SERVICE, what="Ready", service="qwen", id=n) for n in range(1, 6)
    ]

    def ids(query):
        code, body = get(surface, f"/api/v1/events?{query}")
        assert code == 200, body
        return [event["id"] for event in json.loads(body)["events"]]

    assert ids("") == [1, 2, 3, 4, 5]
    assert ids("limit=2") == [4, 5]
    assert ids("after=2&limit=2") == [3, 4]
    assert ids("since=2026-01-01T04:00:00Z") == [4, 5]
    assert ids("name=slow") == []
    assert json.loads(get(surface, "/api/v1/events?after=9")[1])["last"] == 9
    assert get(surface, "/api/v1/events?name=nobody")[0] == 404
    for wrong in ("limit=10001", "limit=0", "after=-1", "since=yesterday", "since=2026-01-01T04:00:00"):
        assert get(surface, f"/api/v1/events?{wrong}")[0] == 422, wrong


def test_metrics_are_prometheus_text(surface):
    code, body = get(surface, "/metrics")
    assert code == 200
    assert b'xmod_service_serving{service="qwen"} 1.0' in body


def test_the_public_address_takes_no_words(surface, operations):
    for word in ("restart/qwen", "retry/qwen", "forget/qwen", "suspend", "resume", "rollout", "cancel-rollout"):
        assert get(surface, f"/local/v1/{word}", method="POST")[0] == 404
    assert get(surface, "/local/v1/logs/qwen")[0] == 404
    assert get(surface, "/api/v1/status", method="POST")[0] == 405
    assert operations.words == []


def test_on_loopback_other_host_names_are_refused_against_dns_rebinding(surface):
    assert get(surface, "/api/v1/status", host="evil.example")[0] == 421
    assert get(surface, "/api/v1/status", host="evil.example:8080")[0] == 421
    for name in (f"localhost:{surface.port}", "127.0.0.1", "[::1]:80", "LOCALHOST"):
        assert get(surface, "/api/v1/status", host=name)[0] == 200


def test_a_remote_agent_may_be_asked_by_any_name(operations, folder):
    surface = a_surface(operations, folder, bind="0.0.0.0", allow_remote=True)
    surface.start()
    try:
        assert get(surface, "/healthz", host="gpu-7.example:8080")[0] == 200
    finally:
        surface.stop()


@pytest.mark.parametrize("word", ["rollout", "cancel-rollout", "suspend", "resume"])
def test_a_word_must_name_services_or_all(surface, operations, folder, word):
    for body in ({}, {"all": True, **({"names": ["qwen"]} if "rollout" in word else {"name": "qwen"})}):
        with pytest.raises(Declined, match="name the services"):
            Client(folder / "run" / "t.sock")._ask("POST", f"/local/v1/{word}", body)
    assert operations.words == []


def test_an_unknown_field_of_a_word_is_refused(surface, operations, folder):
    with pytest.raises(Declined, match="422"):
        Client(folder / "run" / "t.sock")._ask("POST", "/local/v1/approve-prune", {"nmaes": ["old"]})
    assert operations.words == []


def test_errors_of_logs_are_errors_not_lines(surface, folder):
    client = Client(folder / "run" / "t.sock")
    with pytest.raises(Declined, match="no service is called nobody"):
        list(client.logs("nobody", 5))
    with pytest.raises(Declined, match="slow has no replica yet"):
        list(client.logs("slow", 5))


def test_a_hung_agent_is_unhealthy_within_the_bound_and_can_be_stopped(operations, folder):
    surface = a_surface(operations, folder, write_timeout=0.3)
    surface.start()
    operations.hangs = True
    try:
        began = time.monotonic()
        assert get(surface, "/healthz")[0] == 503
        assert time.monotonic() - began < 3
    finally:
        began = time.monotonic()
        surface.stop()
        operations.hang.set()
    assert time.monotonic() - began < 6
    assert not surface.running
