"""What is done with the agents by recipe once they work: what each of them can do of it, and what has to come of it."""

from collections.abc import Callable, Mapping

from msgspec import Struct

from tests.e2e.agents import acts
from tests.e2e.agents.client import Client
from tests.e2e.agents.place import Place


class Deed(Struct, frozen=True):
    """One line of the page's second table."""

    what: str
    act: Callable[[Place, Client], str]
    expected: str


_STREAM = Deed("its answer is streamed", acts.stream, "piece by piece")
_WHOLE = Deed("its answer is streamed (it shows whole parts only)", acts.stream, "only as a whole")
_TOOL = Deed("it runs a tool and tells the model what came of it", acts.run_tool, "works")
_BROKER = Deed("the broker is restarted in the middle of a turn", acts.restart_broker, "works")
_MONITOR = Deed(
    "the monitor is restarted in the middle of a turn", acts.restart_monitor, "refused; started anew: works"
)
_UPDATE = Deed("it is updated", acts.update, "refused, alert agent-updated; approved: works")

DEEDS: Mapping[str, tuple[Deed, ...]] = {
    "opencode": (_WHOLE, _TOOL, _BROKER, _MONITOR),
    "aider": (_STREAM,),
    "copilot": (_STREAM, _TOOL, _BROKER, _MONITOR),
    "qwen": (_STREAM, _TOOL, _BROKER, _MONITOR, _UPDATE),
}
"""By agent. Aider has no tools; it and Copilot are root's own here, so their user can't update them. OpenCode's update
is refused, and works when approved, but its alerts differ: agent-updated, decoy-opened, and at times phantom-replayed.
"""
