"""Log streams, from a blocking iterator to a reader that may leave."""

import time

import pytest

from agent.surface.client import Client, NoAgent
from tests.fakes.operations import eventually


def test_logs_are_streamed_and_end(surface, folder):
    client = Client(folder / "run" / "t.sock")
    assert list(client.logs("qwen", 2)) == ["two", "three"]
    assert list(client.logs("qwen", 0)) == []


def test_many_log_lines_arrive_whole_and_in_order(surface, operations, folder):
    operations.lines = [f"line {n}" for n in range(50_000)]
    assert list(Client(folder / "run" / "t.sock").logs("qwen", 50_000)) == operations.lines


def test_followed_logs_bring_news_and_end_when_the_reader_leaves(surface, operations, folder):
    lines = Client(folder / "run" / "t.sock").logs("qwen", 1, follow=True)
    assert next(lines) == "three"
    operations.news.set()
    assert next(lines) == "news"
    lines.close()
    assert eventually(lambda: operations.followers == 0)


def test_followed_logs_end_when_the_agent_stops(surface, operations, folder):
    lines = Client(folder / "run" / "t.sock").logs("qwen", 1, follow=True)
    assert next(lines) == "three"
    began = time.monotonic()
    surface.stop()
    assert time.monotonic() - began < 4
    with pytest.raises((StopIteration, NoAgent)):
        next(lines)
    assert operations.followers == 0
