"""Frames become lines, however they are cut."""

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shimlets.docker.logs import Lines


def frame(source: int, payload: bytes) -> bytes:
    return struct.pack(">BxxxL", source, len(payload)) + payload


WHOLE = (
    frame(1, b"one\ntw") + frame(2, b"err\r\n") + frame(1, b"o\n") + frame(1, b"caf\xc3\xa9\n") + frame(2, b"\xff\n")
)
SAID = ["one", "err", "two", "café", "\ufffd"]


@given(st.lists(st.integers(0, len(WHOLE)), max_size=8))
def test_lines_are_the_same_wherever_chunks_are_cut(cuts: list[int]):
    lines, edges = Lines(), [0, *sorted(cuts), len(WHOLE)]
    said = [line for a, b in itertools.pairwise(edges) for line in lines.after(WHOLE[a:b])]
    assert said == SAID
    assert lines.rest() == []


def test_what_ends_without_a_lines_end_is_told_last():
    lines = Lines()
    assert lines.after(frame(1, b"done\nalmost")) == ["done"]
    assert lines.rest() == ["almost"]


@pytest.mark.parametrize("chunk", [b"", b"\x01", frame(1, b"abc")[:9]])
def test_half_a_frame_is_no_line(chunk: bytes):
    assert Lines().after(chunk) == []
