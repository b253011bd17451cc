"""The operator's block is checked whole."""

import pytest

from shimlets.process.options import Options, read


def test_all_have_defaults():
    assert read({}) == Options((), 10.0, 10 << 20)


def test_all_are_read():
    assert read({"path": ["/opt/bin"], "stopGrace": 2, "logBytes": 8192}) == Options(("/opt/bin",), 2.0, 8192)


@pytest.mark.parametrize(
    "options",
    [
        {"colour": 1},
        {"path": "/opt/bin"},
        {"path": ["bin"]},
        {"stopGrace": -1},
        {"stopGrace": "10s"},
        {"stopGrace": True},
        {"logBytes": 1},
        {"logBytes": 1e6},
    ],
)
def test_what_is_wrong_is_named(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        read(options)
