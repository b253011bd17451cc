"""When a plan has something to do."""

import pytest

from agent.surface.plan_view import Action, PlanRow, PlanView


@pytest.mark.parametrize(
    ("actions", "something"),
    [
        ((), False),
        ((Action.NONE, Action.KEEP), False),
        ((Action.NONE, Action.CREATE), True),
        ((Action.REPLACE,), True),
        ((Action.REMOVE,), True),
        ((Action.HELD,), True),
        ((Action.INVALID,), True),
        ((Action.CONFLICT,), True),
    ],
)
def test_only_what_is_right_or_kept_leaves_nothing_to_do(actions, something):
    assert PlanView(tuple(PlanRow(action, "x") for action in actions)).something is something
