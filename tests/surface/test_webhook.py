"""The webhook: who may kick, what is no push for us, and what floods and strangers cost. Over real sockets."""

import base64
import hashlib
import hmac
import http.client
import json
import logging
import socket
import time
import tracemalloc
from collections import Counter
from dataclasses import dataclass, field
from urllib.parse import urlencode

import pytest

from agent.surface import webhook
from agent.surface.metrics import HOOKS
from agent.surface.secret_file import SecretFile
from agent.surface.server import Surface
from agent.surface.webhook import Webhook, claim, ignored
from tests.fakes.operations import eventually
from tests.fakes.surface import a_surface, get

SECRET = "It's a Secret to Everybody"
KEY = b"0123456789abcdef0123456789abcdef"
SIGNING = "whsec_" + base64.b64encode(KEY).decode()
PUSH = json.dumps({"ref": "refs/heads/main", "after": "1" * 40}).encode()


def signature(body: bytes, secret: str = SECRET) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def github(body: bytes = PUSH, secret: str = SECRET, event: str = "push") -> dict[str, str]:
    return {"X-Hub-Signature-256": f"sha256={signature(body, secret)}", "X-GitHub-Event": event}


def gitlab_signed(body: bytes = PUSH, key: bytes = KEY) -> dict[str, str]:
    mac = base64.b64encode(hmac.new(key, b"id-1.1700000000." + body, hashlib.sha256).digest()).decode()
    given = {"webhook-id": "id-1", "webhook-timestamp": "1700000000", "webhook-signature": f"v2,x v1,{mac}"}
    return given | {"X-Gitlab-Event": "Push Hook"}


@dataclass
class Endpoint:
    surface: Surface
    kicks: list[float] = field(default_factory=list)
    counts: Counter = field(default_factory=Counter)

    def post(self, headers, body=PUSH, host="hooks.example", port=0, method="POST", path="/webhook"):
        connection = http.client.HTTPConnection("127.0.0.1", port or self.surface.port, timeout=10)
        try:
            connection.request(method, path, body=body, headers={"host": host, **headers})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())["detail"]
        finally:
            connection.close()


@pytest.fixture
def secret_file(tmp_path):
    path = tmp_path / "secret"
    path.touch(0o600)
    path.write_text(f"{SECRET}\n{SIGNING}\n")
    return path


@pytest.fixture
def made(operations, folder, secret_file):
    """Makes an endpoint; whatever was made is stopped."""
    surfaces = []

    def make(follows="main", **more) -> Endpoint:
        kicks, counts = [], Counter()
        hook = Webhook(
            secret=SecretFile(secret_file, "webhook.secretFile"),
            follows=follows,
            kick=lambda: kicks.append(time.monotonic()),
            count=lambda result: counts.update([result]),
        )
        surfaces.append(a_surface(operations, folder, webhook=hook, **more))
        surfaces[-1].start()
        return Endpoint(surfaces[-1], kicks, counts)

    yield make
    for surface in surfaces:
        surface.stop()


@pytest.fixture
def endpoint(made):
    return made()


def lower(headers: dict[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def proven(headers: dict[str, str], body: bytes = PUSH, secrets: tuple[str, ...] = (SECRET, SIGNING)) -> bool:
    shown = claim(lower(headers), secrets)
    for at in range(0, len(body), 7):
        shown.add(body[at : at + 7])
    return shown.holds()


def test_github_signs_its_documented_example():
    """The values of GitHub's page on validating deliveries."""
    documented = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    assert proven({"X-Hub-Signature-256": documented}, b"Hello, World!")


@pytest.mark.parametrize(
    "headers",
    [
        github(),
        {"X-Gitea-Signature": signature(PUSH)},
        {"X-Forgejo-Signature": signature(PUSH).upper()},
        {"X-Gitlab-Token": SECRET},
        gitlab_signed(),
        {**gitlab_signed(), "X-Gitlab-Token": "of another hook"},
    ],
)
def test_each_git_server_proves_itself_in_its_own_way(headers):
    assert proven(headers)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-GitHub-Event": "push"},
        github(body=PUSH + b" "),
        github(secret="guess"),
        {"X-Hub-Signature-256": "sha256="},
        {"X-Hub-Signature-256": "sha256=zz"},
        {"X-Hub-Signature": f"sha1={signature(PUSH)}"},
        {"X-Gitea-Signature": signature(PUSH)[:-2]},
        {"X-Gitlab-Token": ""},
        {"X-Gitlab-Token": SECRET + "x"},
        {"X-Gitlab-Token": "\xff"},
        gitlab_signed(key=b"x" * 32),
        {**gitlab_signed(), "webhook-id": "id-2"},
        {**gitlab_signed(), "webhook-timestamp": "1700000001"},
        {"webhook-signature": gitlab_signed()["webhook-signature"]},
        {"webhook-signature": "v1,"},
        {"webhook-signature": "v1,&&&"},
    ],
)
def test_whoever_cannot_prove_it_is_refused(headers):
    assert not proven(headers)


def test_either_of_two_secrets_will_do_while_one_replaces_the_other():
    for secret in ("old", "new"):
        assert proven(github(secret=secret), secrets=("old", "new"))
    assert not proven(github(secret="old"), secrets=("new",))


def test_a_plain_secret_is_no_signing_token():
    assert not proven(gitlab_signed(key=SECRET.encode()), secrets=(SECRET, "whsec_"))


@pytest.mark.parametrize(
    ("headers", "body", "follows", "why"),
    [
        ({}, PUSH, "main", ""),
        ({}, PUSH, "refs/heads/main", ""),
        ({}, PUSH, "", ""),
        ({}, PUSH, "prod", "refs/heads/main is not prod"),
        ({}, b'{"ref": "refs/tags/v1"}', "v1", ""),
        ({}, b'{"ref": "main"}', "prod", ""),
        ({}, b"not json", "prod", ""),
        ({}, b"[" * 100_000, "prod", ""),
        ({}, b'{"ref": 7}', "prod", ""),
        ({}, b"payload=", "prod", ""),
        ({}, None, "prod", ""),
        (
            {"content-type": "application/x-www-form-urlencoded"},
            urlencode({"payload": PUSH}).encode(),
            "prod",
            "is not",
        ),
        ({"x-github-event": "issues"}, PUSH, "main", "issues is no push"),
        ({"x-gitlab-event": "Push Hook"}, PUSH, "main", ""),
        ({"x-gitlab-event": "Tag Push Hook"}, PUSH, "main", ""),
        ({"x-gitlab-event": "System Hook"}, PUSH, "main", ""),
        ({"x-gitlab-event": "Pipeline Hook"}, PUSH, "main", "pipeline hook is no push"),
        ({"x-forgejo-event": "push", "x-github-event": "push"}, PUSH, "main", ""),
    ],
)
def test_only_what_is_surely_another_branchs_is_ignored(headers, body, follows, why):
    said = ignored(headers, body, follows)
    assert why in said
    assert bool(said) == bool(why)


def test_a_push_kicks_at_once_and_is_answered_at_once(endpoint):
    began = time.monotonic()
    assert endpoint.post(github()) == (202, "the source is read now")
    assert time.monotonic() - began < 0.5
    assert endpoint.kicks[0] - began < 0.5
    assert endpoint.counts == {"accepted": 1}


def test_a_ping_is_answered_and_kicks_nobody(endpoint):
    assert endpoint.post(github(event="ping")) == (200, "pong")
    assert endpoint.post(github(event="ping", secret="guess"))[0] == 401
    assert endpoint.kicks == []


def test_a_push_to_another_branch_is_accepted_and_ignored(endpoint):
    body = PUSH.replace(b"main", b"topic")
    code, sentence = endpoint.post(github(body), body)
    assert (code, endpoint.kicks) == (202, [])
    assert sentence == "ignored: refs/heads/topic is not main, which is followed here"
    assert endpoint.counts == {"ignored": 1}


def test_a_refusal_gives_no_detail_and_is_counted(endpoint, caplog):
    with caplog.at_level(logging.INFO):
        wrong = [endpoint.post(github(secret="guess")), endpoint.post({}), endpoint.post({"X-Gitlab-Token": "guess"})]
    assert wrong == [(401, "no")] * 3
    assert endpoint.counts == {"refused": 3}
    assert endpoint.kicks == []
    assert len([record for record in caplog.records if record.name == "xmod.webhook"]) == 1
    assert "guess" not in caplog.text


def test_no_secret_and_no_token_is_ever_logged(endpoint, caplog):
    with caplog.at_level(logging.DEBUG):
        endpoint.post({"X-Gitlab-Token": SECRET})
        endpoint.post({"X-Gitlab-Token": "gu355"})
        endpoint.post(github())
    for word in (SECRET, SIGNING, "gu355", signature(PUSH)):
        assert word not in caplog.text


def test_many_good_ones_are_one_kick_a_second_and_the_last_is_not_lost(endpoint):
    for _ in range(30):
        assert endpoint.post(github())[0] == 202
    assert eventually(lambda: len(endpoint.kicks) >= 2)
    last = time.monotonic()
    assert endpoint.kicks[1] - endpoint.kicks[0] >= 0.9
    assert len(endpoint.kicks) <= 2 + int(last - endpoint.kicks[0])
    assert endpoint.counts == {"accepted": 30}


def test_it_may_be_asked_by_any_name_and_nothing_else_may(endpoint):
    assert endpoint.post(github(), host="agent.example:443")[0] == 202
    assert endpoint.post(github(), host="agent.example", path="/webhook/")[0] == 421
    assert get(endpoint.surface, "/api/v1/status", host="agent.example")[0] == 421
    assert get(endpoint.surface, "/healthz")[0] == 200


def test_only_post_is_answered(endpoint):
    assert endpoint.post(github(), method="GET")[0] == 405
    assert endpoint.counts == {}


def test_without_a_secret_it_does_not_exist(surface):
    assert Endpoint(surface).post(github(), host="localhost")[0] == 404
    assert Endpoint(surface).post(github(), host="hooks.example")[0] == 421


def test_at_a_port_of_its_own_there_is_nothing_else(made):
    endpoint = made(webhook_at=("127.0.0.1", 0))
    port = endpoint.surface.webhook_port
    assert port != endpoint.surface.port
    assert endpoint.post(github(), port=port)[0] == 202
    assert endpoint.post(github(), port=port, path="/api/v1/status", method="GET")[0] == 404
    assert endpoint.post(github(), port=port, path="/metrics", method="GET")[0] == 404
    assert endpoint.post(github(), host="localhost")[0] == 404, "it is not at the agent's own port, too"


def test_a_secret_that_was_changed_counts_from_the_next_request_on(endpoint, secret_file):
    secret_file.write_text("new\n")
    assert endpoint.post(github())[0] == 401
    assert endpoint.post(github(secret="new"))[0] == 202


def test_without_a_readable_secret_nothing_is_accepted_and_that_is_said_once(endpoint, secret_file, caplog):
    secret_file.write_text("\n")
    for headers in (github(), github(secret=""), {"X-Gitlab-Token": ""}):
        assert endpoint.post(headers) == (503, "not available")
    assert endpoint.counts == {"unavailable": 3}
    assert [record.error for record in caplog.records] == [
        f"webhook.secretFile: {secret_file} is empty; write a secret into it"
    ]
    secret_file.write_text(SECRET)
    assert endpoint.post(github())[0] == 202


def test_a_large_push_is_summed_up_and_not_kept(endpoint):
    body = PUSH[:-1] + b', "commits": "' + b"x" * (24 * 1024 * 1024) + b'"}'
    headers = github(body)
    tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        assert endpoint.post(headers, body) == (202, "the source is read now")
        assert tracemalloc.get_traced_memory()[1] - before < 8 * 1024 * 1024
    finally:
        tracemalloc.stop()


def test_what_is_too_large_is_refused_before_it_came(endpoint):
    with socket.create_connection(("127.0.0.1", endpoint.surface.port), timeout=5) as sender:
        head = f"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: {30 * 1024 * 1024}\r\n"
        sender.sendall(f"{head}X-Gitea-Signature: {'0' * 64}\r\n\r\n".encode())
        assert sender.recv(100).startswith(b"HTTP/1.1 413")
    assert endpoint.counts == {"too_large": 1}


def test_what_says_no_length_is_bounded_too(endpoint, monkeypatch):
    monkeypatch.setattr(webhook, "_LARGEST", 100)
    code, _ = endpoint.post(github(), body=iter([b"x" * 60, b"x" * 60]))
    assert code == 413


def test_a_stranger_is_refused_before_its_body_came(endpoint):
    with socket.create_connection(("127.0.0.1", endpoint.surface.port), timeout=5) as stranger:
        stranger.sendall(b"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        assert stranger.recv(100).startswith(b"HTTP/1.1 401")
        while stranger.recv(4096):
            pass  # and the connection is closed


def test_a_body_that_never_ends_is_cut_off(made):
    endpoint = made(read_timeout=0.4)
    with socket.create_connection(("127.0.0.1", endpoint.surface.port), timeout=5) as slow:
        head = f"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\nX-Gitea-Signature: {'0' * 64}\r\n\r\n"
        slow.sendall(head.encode() + b"{")
        while slow.recv(4096):
            pass
    assert eventually(lambda: endpoint.counts == {"broken_off": 1})
    assert endpoint.kicks == []


def test_a_flood_of_bad_ones_costs_little(endpoint):
    before = time.process_time()
    for _ in range(200):
        assert endpoint.post({"X-Gitlab-Token": "guess"})[0] == 401
    assert (time.process_time() - before) / 200 < 0.01, "client and server together"
    assert get(endpoint.surface, "/healthz")[0] == 200


def test_every_outcome_is_a_metric_from_the_start(endpoint):
    page = get(endpoint.surface, "/metrics")[1].decode()
    for result in HOOKS:
        assert f'xmod_webhook_requests_total{{result="{result}"}} 0.0' in page
