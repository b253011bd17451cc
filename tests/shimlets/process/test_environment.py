"""Marks are read as they were written, and only one's own."""

import pytest

from agent.contracts import Placement, Workload, encode
from shimlets.process.environment import Carried, carried, mark_of
from tests.contract.shimlet_contract import service_of

SERVICE = service_of("a", Workload(command=("x",)), shimlet="process", goalset="g")
PLACEMENT = Placement(1, 18001)
MARK = Carried(SERVICE, PLACEMENT, encode(SERVICE, PLACEMENT), "salt:hash", "run", 77, 12.5)


def block(**more: str) -> bytes:
    variables = mark_of(MARK, owner="me", uid=5) | {"XMOD_PID": "77", "PATH": "/bin", **more}
    return b"\0".join(f"{key}={value}".encode() for key, value in variables.items()) + b"\0"


def test_a_mark_is_read_as_it_was_written():
    assert carried(block(), owner="me", uid=5) == MARK


def test_another_owners_or_users_mark_is_not_ours():
    assert carried(block(), owner="you", uid=5) is None
    assert carried(block(), owner="me", uid=6) is None
    assert carried(b"PATH=/bin\0", owner="me", uid=5) is None


def test_variables_that_are_no_text_do_no_harm():
    assert carried(b"X=\xff\xfe\0" + block(), owner="me", uid=5) == MARK


@pytest.mark.parametrize("more", [{"XMOD_MARK": "{"}, {"XMOD_MARK": "[]"}, {"XMOD_PID": "x"}, {"XMOD_STARTED": "x"}])
def test_a_broken_mark_is_told(more):
    with pytest.raises(ValueError, match=r"."):
        carried(block(**more), owner="me", uid=5)
