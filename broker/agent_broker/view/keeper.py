"""The view's life in the broker: what is shown, the mount that the monitor makes, and its renewal when it ended.

The law of this module:
1. Nothing is mounted before there is a file to show.
2. The mount is asked for until there is one, and again when it ended (aborted, given up by the kernel, unmounted).
3. What is shown is what root's registry says. A file that the vault can't give whole is not shown, and that is said.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, Protocol

from agent_broker.errors import AgentBrokerError
from agent_broker.identity.viewed import ViewedFile, load_viewed
from agent_broker.vault.file import Vault
from agent_broker.vault.record import Credential
from agent_broker.vault.secret import Secret
from agent_broker.view.channel import Channel
from agent_broker.view.content import KIND, Content
from agent_broker.view.gate import Gate
from agent_broker.view.server import ViewServer
from agent_broker.view.tree import FileFolder

_DEVICE: Final = "/dev/fuse"
_RETRY_S: Final = 0.5
_LOG = logging.getLogger(__name__)


class Mounter(Protocol):
    """The monitor's client."""

    async def mount_view(self, fd: int) -> str:
        """Mount with a descriptor of /dev/fuse; return why it can't be."""
        ...


class VaultStore:
    """Implements view.content.Store on the vault."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def describe(self, credential: str) -> Credential:
        """See Store."""
        return self._vault.describe(credential)  # type: ignore[arg-type]

    def unseal(self, credential: str) -> Secret:
        """See Store."""
        return self._vault.unseal(credential)  # type: ignore[arg-type]

    def put(self, viewed: ViewedFile, attributes: dict[str, str], content: Secret) -> None:
        """See Store."""
        self._vault.put(
            viewed.content_id,
            kind=KIND,
            agent=viewed.name,
            owner_uid=viewed.owner_uid,
            attributes=attributes,
            secret=content,
        )


class ViewKeeper:
    """See the module. ``reload`` may be called at any time; ``run`` as a task of the event loop."""

    def __init__(
        self, registry: Path, vault: Vault, mounter: Mounter, gate: Gate, journal: Callable[[Content], Awaitable[None]]
    ) -> None:
        """``journal``: notes durably that a file was written."""
        self.problem = ""
        """Why files are not shown; empty: they are, or there are none."""
        self._registry = registry
        self._store = VaultStore(vault)
        self._mounter = mounter
        self._gate = gate
        self._server = ViewServer(gate, journal)
        self._channel: Channel | None = None
        self._wanted = asyncio.Event()

    @property
    def problems(self) -> tuple[str, ...]:
        """Why files are not shown, as sentences."""
        return (f"the file view is not served: {self.problem}",) if self.problem else ()

    @property
    def files(self) -> tuple[ViewedFile, ...]:
        """What is shown."""
        return tuple(each.viewed for each in self._server.contents.values())

    def reload(self) -> None:
        """Read the registry again.

        Raises:
            IntegrityError, MisuseError: see load_viewed; what was shown is shown on.
        """
        shown = self._server.contents
        wanted: dict[FileFolder, Content] = {}
        for viewed in load_viewed(self._registry):
            folder = FileFolder(viewed.owner_uid, viewed.name)
            known = shown.get(folder)
            if known is not None and known.viewed == viewed:
                wanted[folder] = known
                continue
            try:
                wanted[folder] = Content(viewed, self._store, self._store.unseal(viewed.decoy_id).reveal())
            except AgentBrokerError as error:
                _LOG.error("%s is not shown: %s", viewed.absolute, error.message)
        self._server.show(wanted)
        if wanted:
            self._wanted.set()

    async def run(self) -> None:
        """Keep it mounted until cancelled."""
        try:
            while True:
                await self._wanted.wait()
                await self._serve()
                await asyncio.sleep(_RETRY_S)
        finally:
            if self._channel is not None:
                await self._channel.close()
            self._server.close()

    async def _serve(self) -> None:
        """Mount, and return when that ended or could not be done."""
        fd = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        channel = Channel(fd, self._server)
        try:
            problem = await self._mounter.mount_view(fd)
        except AgentBrokerError as error:
            problem = error.message
        if problem != self.problem and problem:
            _LOG.warning("files are not shown: %s", problem)
        self.problem = problem
        if problem:
            await channel.close()
            return
        self._channel = channel
        channel.start()
        await channel.ended.wait()
        self.problem = "the file view was ended"
