"""Plain scalars by YAML 1.2's core schema; test_reading.py shows them in documents."""

import math

from hypothesis import given
from hypothesis import strategies as st

from agent.spec.scalar import plain


@given(st.integers(-(10**30), 10**30))
def test_whole_numbers_are_numbers(number: int):
    assert plain(str(number)) == number


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_are_read_back_the_same(number: float):
    assert plain(repr(number)) == number


@given(st.text(max_size=12))
def test_nothing_makes_it_raise_and_text_stays_text(text: str):
    value = plain(text)
    assert value == text or not isinstance(value, str)


def test_not_a_number_is_none_of_the_others():
    assert math.isnan(plain(".nan"))
    assert plain("nan") == "nan"
    assert plain("inf") == "inf"
