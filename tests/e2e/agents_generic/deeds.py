"""What is done with the agents by recipe once they work: what each of them can do of it, and what has to come of it."""

from collections.abc import Callable, Mapping

from msgspec import Struct

from tests.demo.check import require
from tests.e2e.agents import acts, attacks
from tests.e2e.agents.client import Client
from tests.e2e.agents.place import Place


class Deed(Struct, frozen=True):
    """One line of the page's second table."""

    what: str
    act: Callable[[Place, Client], str]
    expected: str


def _update(place: Place, client: Client) -> str:
    """As acts.update; and what the agent says tells its user what to do, unless it keeps that to itself."""
    place.update(client)
    refused = acts.refuse_turn(place, client)
    said = " ".join(refused.said.split())
    for words in (f"{client.name} at ", " is not what was enrolled", f"sudo agent-broker approve {client.name}"):
        require((words in said) == client.tells_why, f"it to show {words!r}: {client.tells_why}", said[-2000:])
    return f"{refused.told}; approved: {acts.approve(place, client)}"


_STREAM = Deed("its answer is streamed", acts.stream, "piece by piece")
_WHOLE = Deed("its answer is streamed (it shows whole parts only)", acts.stream, "only as a whole")
_TOOL = Deed("it runs a tool and tells the model what came of it", acts.run_tool, "works")
_BROKER = Deed("the broker is restarted in the middle of a turn", acts.restart_broker, "works")
_MONITOR = Deed(
    "the monitor is restarted in the middle of a turn", acts.restart_monitor, "refused; started anew: works"
)
_BY_COMMAND = Deed(
    "a command that its user has it run uses its phantom", attacks.use_by_tool, "refused (403), alert phantom-replayed"
)
_REPLAYED = "refused (403), alert phantom-replayed"
_BY_TOOL = Deed("a tool of it uses its phantom", attacks.use_by_tool, _REPLAYED)
_BY_STRANGER = Deed("another process of its user uses the phantom", attacks.use_by_stranger, _REPLAYED)
_DEBUGGED = Deed(
    "a debugger of its user's attaches to it", attacks.debug, "refused, alert agent-tainted, agent-tampered"
)
_TAMPERED = Deed(_DEBUGGED.what, attacks.debug, "refused, alert agent-tainted, agent-tampered, decoy-opened")
"""It reads its login again, as nobody."""
_TAMPERED_CONFIG = Deed(
    _DEBUGGED.what, attacks.debug, "refused, alert agent-tainted, agent-tampered, credential-opened"
)
_UPDATED = "it is updated"
_UPDATE = Deed(_UPDATED, _update, "refused, alert agent-updated; approved: works")
_WATCHED = Deed(_UPDATED, _update, "refused, alert agent-updated, decoy-opened; approved: works")
"""Its login is watched, and a version that was not approved is a stranger there."""
_CONFIG = Deed(
    "it is updated (it says only: HTTP 403)",
    _update,
    "refused, alert agent-updated, credential-opened; approved: works",
)
"""As above: the file may hold GitHub's login."""

DEEDS: Mapping[str, tuple[Deed, ...]] = {
    "opencode": (_WHOLE, _TOOL, _BY_TOOL, _BY_STRANGER, _TAMPERED, _BROKER, _MONITOR, _WATCHED),
    "aider": (_STREAM, _BY_COMMAND, _BY_STRANGER, _DEBUGGED, _UPDATE),
    "copilot": (_STREAM, _TOOL, _BY_TOOL, _BY_STRANGER, _TAMPERED_CONFIG, _BROKER, _MONITOR, _CONFIG),
    "qwen": (_STREAM, _TOOL, _BY_TOOL, _BY_STRANGER, _DEBUGGED, _BROKER, _MONITOR, _UPDATE),
}
"""By agent. Aider has no tools."""
