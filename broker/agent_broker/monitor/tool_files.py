"""A package updates a tool: the new file is looked at once the package manager has finished, so that git goes on.

The law: this decides nothing. It only has the registry read again when a tool's file, its shim or dpkg's database is
another one than before; whether the new file is good is found out there (identity.enrolled_files). Until then the new
file is nobody's, and is refused.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from agent_broker.errors import AgentBrokerError
from agent_broker.identity.registry import Enrollment

LOOK_S: Final = 2.0
"""Between two looks; what changed must be the same at the next one: dpkg replaces files first, and its lists after."""
_DATABASES: Final = ("/var/lib/dpkg/status", "/var/lib/dpkg/info", "/var/lib/rpm", "/usr/lib/sysimage/rpm")

_log = logging.getLogger(__name__)
_State = tuple[tuple[int, ...], ...]


class ToolFiles:
    """See the module. Lives in the monitor's event loop; nothing is done while no tool is enrolled."""

    def __init__(self, reload: Callable[[], Awaitable[object]], look_s: float = LOOK_S) -> None:
        """``reload`` reads the registry again, and calls ``take``; it may raise an AgentBrokerError."""
        self._reload = reload
        self._look_s = look_s
        self._paths: tuple[str, ...] = ()
        self._known: _State = ()
        self._last: _State = ()
        self._task: asyncio.Task[None] | None = None

    def take(self, tools: Sequence[Enrollment]) -> None:
        """Look after the files of these, as they are now."""
        files = {each.path for tool in tools for each in tool.binaries}
        files |= {tool.serving.shim for tool in tools if tool.serving is not None}
        self._paths = (*sorted(files), *_DATABASES) if files else ()
        self._known = self._last = self._state()

    def start(self) -> None:
        """Look from now on."""
        self._task = asyncio.get_running_loop().create_task(self._go_on())

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _go_on(self) -> None:
        while True:
            await asyncio.sleep(self._look_s)
            await self.look()

    async def look(self) -> None:
        """Look once; have the registry read again if something changed, and has not changed since the last look."""
        before, self._last = self._last, self._state()
        if self._last == self._known or self._last != before:
            return
        try:
            await self._reload()
        except AgentBrokerError as error:
            self._known = self._last  # as it stands it can't be read: wait for the next change
            _log.warning("the registry can't be read again: %s", error.message)

    def _state(self) -> _State:
        return tuple(_version(path) for path in self._paths)


def _version(path: str) -> tuple[int, ...]:
    try:
        facts = Path(path).lstat()
    except OSError:
        return ()
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns
