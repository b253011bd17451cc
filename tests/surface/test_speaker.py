"""The kernel says who speaks."""

import os
import pwd
import socket

from agent.surface.client import Client
from agent.surface.speaker import SPEAKER, speaker


def test_the_user_at_the_other_end_is_named():
    here, there = socket.socketpair(socket.AF_UNIX)
    with here, there:
        assert speaker(here) == pwd.getpwuid(os.geteuid()).pw_name


def test_nobody_is_named_over_tcp_or_without_a_socket():
    with socket.socket(socket.AF_INET) as tcp:
        assert speaker(tcp) == ""
    assert speaker(None) == ""


def test_a_word_is_answered_with_its_speaker_known(surface, operations, folder, monkeypatch):
    heard = []
    monkeypatch.setattr(operations, "restart", lambda name: heard.append((name, SPEAKER.get())))
    Client(folder / "run" / "t.sock").restart("qwen")
    assert heard == [("qwen", pwd.getpwuid(os.geteuid()).pw_name)]
    assert SPEAKER.get() == ""
