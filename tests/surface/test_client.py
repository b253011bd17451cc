"""The CLI's side of the local socket, against a real server."""

import os

import pytest

from agent.surface.client import Client, Declined, NoAgent


def test_words_reach_the_agent_over_the_socket(surface, operations, folder):
    client = Client(folder / "run" / "t.sock")
    assert client.approve_prune([]) == ["old"]
    client.restart("qwen")
    assert client.rollout(["qwen"]) == ["qwen"]
    assert client.rollout([]) == ["qwen", "slow"]
    assert client.adopt("src-0") == 2
    assert client.cancel_rollout([]) == ["slow"]
    client.suspend("qwen", "why")
    client.suspend(None)
    assert client.resume("qwen") == {"names": ["qwen"], "by_spec": {}}
    assert client.resume(None)["by_spec"] == {"slow": "slow.yaml:1"}
    client.retry("qwen")
    assert client.forget("qwen") == ["pid 77, running at 127.0.0.1:18000"]
    client.rescan()
    assert operations.words == [
        ("approve",),
        ("restart", "qwen"),
        ("rollout", "qwen"),
        ("rollout",),
        ("adopt", "src-0"),
        ("cancel",),
        ("suspend", "qwen", "why"),
        ("suspend", None, ""),
        ("resume", "qwen"),
        ("resume", None),
        ("retry", "qwen"),
        ("forget", "qwen"),
        ("rescan",),
    ]


def test_a_refused_word_brings_its_sentence(surface, folder):
    client = Client(folder / "run" / "t.sock")
    with pytest.raises(Declined, match="qwen: its removal is not held") as caught:
        client.approve_prune(["qwen"])
    assert not caught.value.unknown
    with pytest.raises(Declined, match="no service is called nobody") as caught:
        client.restart("nobody")
    assert caught.value.unknown


def test_nobody_on_the_socket_is_one_clear_sentence(folder):
    with pytest.raises(NoAgent, match=r"no agent answers on .*; is it running"):
        Client(folder / "none.sock").status()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file away")
def test_root_may_ask_any_agent(surface, folder):
    os.chown(folder / "run" / "t.sock", 12345, -1)
    assert Client(folder / "run" / "t.sock").status()["instance"] == "t"
