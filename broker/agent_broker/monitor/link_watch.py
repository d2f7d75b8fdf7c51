"""A viewed file's link is no link any more: some program has put a file in its place, and the next secret may be in it.

The law: it is looked at now and then, without following anything or opening the file; it is told once for each time
that the link went, after two looks that agree, and not while the file is being enrolled. What is done about it is a
person's: who did it is not known here, and root writes into no home by itself.
"""

import asyncio
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from agent_broker.clock import Clock
from agent_broker.identity.viewed import ViewedFile
from agent_broker.monitor.detection import printable, storable
from agent_broker.monitor.incident import Incident, incident_now
from agent_broker.monitor.pathwalk import Walk

LOOK_S: Final = 2.0
_LOOKS: Final = 2
_ENROLLING_NS: Final = 30 * 1_000_000_000
"""For so long after it was registered the file may still be there."""


class LinkWatch:
    """See the module. Lives in the monitor's event loop; nothing is done while no file is a view."""

    def __init__(
        self, view_folder: Path, publish: Callable[[Incident], None], clock: Clock, tier: str, look_s: float = LOOK_S
    ) -> None:
        self._view_folder = view_folder
        self._publish = publish
        self._clock = clock
        self._tier = tier
        self._look_s = look_s
        self._files: tuple[ViewedFile, ...] = ()
        self._since_ns: dict[ViewedFile, int] = {}
        self._gone: dict[ViewedFile, int] = {}
        """How often in a row another file was seen there."""
        self._task: asyncio.Task[None] | None = None

    def take(self, files: Iterable[ViewedFile]) -> None:
        """Look after these."""
        self._files = tuple(files)
        now_ns = self._clock.boot_ns()
        self._since_ns = {each: self._since_ns.get(each, now_ns) for each in self._files}
        self._gone = {each: count for each, count in self._gone.items() if each in self._files}

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
            self.look()

    def look(self) -> None:
        """Look once, and tell what is new."""
        for viewed in self._files:
            if not _is_other(viewed, viewed.target(self._view_folder)):
                self._gone.pop(viewed, None)
                continue
            if self._clock.boot_ns() - self._since_ns[viewed] <= _ENROLLING_NS:
                continue
            count = self._gone[viewed] = self._gone.get(viewed, 0) + 1
            if count == _LOOKS:
                self._publish(self._incident(viewed))

    def _incident(self, viewed: ViewedFile) -> Incident:
        place = printable(viewed.absolute)
        return incident_now(
            self._clock,
            kind="decoy-replaced",
            severity="warning",
            what=f"the link {place}, by which {', '.join(viewed.readers)} read the file, was replaced by another "
            "file; what is written there now is in plaintext, and the vault's version is older",
            tier=self._tier,
            action="only-seen",
            path=storable(viewed.absolute),
            role="decoy",
            next_step=f"sudo agent-broker unenroll --file {place} keeps both versions; then enroll it again; if the "
            "program does that each time, the file can't be a view",
        )


def _is_other(viewed: ViewedFile, target: str) -> bool:
    """Whether something else than our link is in the place; a missing one holds no secret."""
    with Walk(viewed.absolute) as walk:
        if not walk.directories or walk.next_name != viewed.base:
            return False
        try:
            mode = os.stat(viewed.base, dir_fd=walk.directories[-1], follow_symlinks=False).st_mode
            return not stat.S_ISLNK(mode) or os.readlink(viewed.base, dir_fd=walk.directories[-1]) != target
        except OSError:
            return False
