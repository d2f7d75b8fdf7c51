"""Plan, agree, apply; and again from the start if the home changed in between."""

import sys
from collections.abc import Callable
from typing import TypeVar

from agent_broker.cli.terminal import printable
from agent_broker.enroll.file_problems import HomeChangedError

MAX_NEW_PLANS = 3
"""An agent writes its files now and then; what still changes then is written all the time, or by somebody who wants
to keep the secrets where they are."""


_Plan = TypeVar("_Plan")
_Done = TypeVar("_Done")


def apply_what_holds(make: Callable[[], _Plan], carry_out: Callable[[_Plan], _Done]) -> tuple[_Plan, _Done]:
    """Return the plan that was carried out, and what it did.

    Args:
        make: makes a plan, shows it, and asks, if somebody is to be asked: anew each time.
        carry_out: applies it.

    Raises:
        HomeChangedError: it changed again and again; nothing was done.
    """
    for _ in range(MAX_NEW_PLANS):
        plan = make()
        try:
            return plan, carry_out(plan)
        except HomeChangedError as change:
            sys.stderr.write(f"{printable(change.message)}. Nothing is changed. The plan is made anew:\n")
    plan = make()
    return plan, carry_out(plan)
