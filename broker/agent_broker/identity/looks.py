"""What an attestation has to look at first: a hash, a script and its package, a distribution's package.

Each in the turn of the caller's lineage (identity.look_turns): the caller's lineage is known by then, and complete.
"""

from msgspec import Struct

from agent_broker.identity.evidence import Evidence, Unknown
from agent_broker.identity.executable import HashCache, hash_running
from agent_broker.identity.look_turns import LookTurns
from agent_broker.identity.principal import Needed, ScriptChecks
from agent_broker.identity.tool import ToolJudge
from agent_broker.kernel.sensor import Sensor
from agent_broker.lineage.record import Step

NOT_YET = "the enrolled file was not looked at yet"
"""What is known while a hash or a look at a script is under way: asked again later, it may be more."""


class Needs(Struct, frozen=True):
    """An answer that waits for a look at something."""

    evidence: Evidence
    needed: Needed

    def not_yet(self) -> Unknown:
        """Return what can be said without the look."""
        return Unknown(NOT_YET, uid=self.evidence.uid, steps=self.evidence.steps)


class Looks:
    """See the module. One event loop."""

    def __init__(self, sensor: Sensor, hashes: HashCache, scripts: ScriptChecks | None, tools: ToolJudge) -> None:
        self._sensor = sensor
        self._hashes = hashes
        self._scripts = scripts
        self._tools = tools
        self._turns = LookTurns()

    async def look(self, needed: Needed, steps: tuple[Step, ...]) -> str:
        """Take a hash, or look at a script or package, for a lineage; return why it can't be done, or nothing."""
        async with self._turns.turn(steps) as refused:
            return refused or await self._look(needed)

    async def _look(self, needed: Needed) -> str:
        if needed.image is None:
            await self._tools.look_up(needed.packages)
            return ""
        if needed.known is None or needed.captured is None or self._scripts is None:
            return await hash_running(needed.image, self._sensor, self._hashes)
        await self._scripts.examine(needed.image, needed.captured, needed.known)
        return ""
