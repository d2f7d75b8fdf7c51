"""Looks at every interpreted agent or tool as soon as its exec is heard of, and keeps the packages' watch drained.

The path of a script is worth most right after the exec (identity.scripts); nobody need ask first.
"""

import asyncio
from pathlib import Path

from agent_broker.identity.agent import AgentTable
from agent_broker.identity.scripts import Scripts
from agent_broker.ids import ExecId
from agent_broker.kernel.events import Exec
from agent_broker.kernel.sensor import Sensor
from agent_broker.lineage.store import Store
from agent_broker.monitor.mounts import MountWatch
from agent_broker.monitor.name_watch import FanotifyNameWatch
from agent_broker.monitor.tree_watch import FanotifyTreeWatch

_MAX_LOOKS = 256
"""Under way at once; more starts than that wait for their first question."""


class ScriptStarts:
    """See the module. Lives in the monitor's event loop.

    Attributes:
        scripts: the judge of interpreted agents.
        agents: whose starts are looked at; replaced with the attestor's.
    """

    def __init__(self, sensor: Sensor, store: Store) -> None:
        """Watch nothing yet.

        Raises:
            UnavailableError: the kernel refuses fanotify.
        """
        self._watch = FanotifyTreeWatch()
        self._names = FanotifyNameWatch()
        self.scripts = Scripts(sensor, self._watch, self._names, _mount_namespace())
        self._mounts = MountWatch(self.drain, settle_s=0)
        self.agents = AgentTable()
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._looks: set[asyncio.Task[None]] = set()
        store.on_captured = self.note

    def note(self, event: Exec) -> None:
        """Take the exec of a registered file (Store.on_captured); looks in the next turn of the loop."""
        self._loop.call_soon(self._start, event.exec_id)

    async def take_over(self, agents: AgentTable) -> tuple[str, ...]:
        """Watch and hash the packages of these agents; return a sentence for each problem."""
        self.agents = agents
        return await self.scripts.prepare((*agents.known, *agents.tools))

    def drain(self) -> None:
        """Take what happened to the packages, before the kernel's queue fills."""
        self.scripts.take_changes()

    async def close(self) -> None:
        """End every look, and the watch."""
        for look in self._looks:
            look.cancel()
        await asyncio.gather(*self._looks, return_exceptions=True)
        self._mounts.close()
        self._watch.close()
        self._names.close()

    def _start(self, exec_id: ExecId) -> None:
        image, captured = self._store.image(exec_id), self._store.captured(exec_id)
        if image is None or captured is None:
            return
        uid = image.uid
        for known in (*self.agents.candidates(image, uid), *self.agents.tool_candidates(image, uid)):
            if known.binary.script is not None and len(self._looks) < _MAX_LOOKS:
                look = self._loop.create_task(self.scripts.examine(image, captured, known))
                self._looks.add(look)
                look.add_done_callback(self._looks.discard)


def _mount_namespace() -> int:
    """Return the inode number of this process's mount namespace."""
    return Path("/proc/self/ns/mnt").stat().st_ino
