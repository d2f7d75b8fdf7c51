"""``agent-broker run --with NAME... -- CMD``: what the launcher asks on agent.sock (shims/launcher.c).

The law:
1. The caller is the launcher itself, as it was enrolled (the tool ``run``): identity.tool. What it asks for is bound to
   the program that it will become: each secret is for the programs that root named, and no other.
2. The program is looked at here, by package or by hash (identity.command), and the launcher executes that file, told by
   its numbers. Only what a secret of this user names is ever hashed.
3. Which secrets there are, and for what, is told to the verified launcher only.
4. The journal has every secret with the program that it went to, before the answer leaves.

The answer's stdout is items that end with NUL; shims/launcher.c has the letters.
"""

import asyncio
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Final

from agent_broker.errors import MisuseError, RefusedError
from agent_broker.identity.command import Command, command_of
from agent_broker.identity.distribution import Distribution
from agent_broker.ids import AgentName, CredentialId, Uid
from agent_broker.issue import RELEASE, Ask, Issued
from agent_broker.transport.frame import ShimAnswer, ShimRequest
from agent_broker.transport.peer import Peer
from agent_broker.transport.ports import Callers, Issuer
from agent_broker.transport.tool_protocols import Credentials
from agent_broker.vault.launched import KIND, SECRET_MARK, TOOL, Delivery, Launched, launched_of
from agent_broker.vault.record import UnknownCredentialError
from agent_broker.vault.secret import Secret

PROTOCOL: Final = "run"
_MAX_NAMES: Final = 16
_NONE: Final = "none"


class Launches:
    """See the module. ``handle`` answers every request of PROTOCOL."""

    def __init__(self, *, credentials: Credentials, callers: Callers, issuer: Issuer, packages: Distribution) -> None:
        self._credentials = credentials
        self._callers = callers
        self._issuer = issuer
        self._packages = packages

    async def handle(self, request: ShimRequest, peer: Peer) -> ShimAnswer:
        """Answer one request: ``NAME... -- PATH``.

        Raises:
            MisuseError: not that, or no secret of this name is for the program.
            RefusedError, UnavailableError, IntegrityError: as the issuer, and as identity.command.
        """
        names, path = _parsed(request.argv)
        found = self._launched(peer.uid)
        if not all(name in found and path in found[name].programs for name in names):
            await self._require_verified(peer)
            raise MisuseError(
                f"no secret of these names is for {path}",
                next_step="agent-broker secret list; root adds one: sudo agent-broker secret add NAME --for PROGRAM",
            )
        wanted = {name: found[name] for name in names}
        command = await self._command(path, wanted, peer)
        issued = [await self._issue(f"{TOOL}/{peer.uid}/{name}", path, peer) for name in names]
        given = tuple(zip(wanted.values(), (each.secret for each in issued), strict=True))
        items = [*_command_items(command), *(item for each, secret in given for item in _items(each, secret.reveal()))]
        said = _guarantee(PurePosixPath(path).name)
        return ShimAnswer(0, stdout=Secret(b"".join(each + b"\0" for each in items)), stderr=said)

    def _launched(self, uid: Uid) -> dict[str, Launched]:
        held = self._credentials.credentials_of(AgentName(TOOL), uid)
        return {each.id.split("/", 2)[2]: launched_of(each.attributes, each.id) for each in held if each.kind == KIND}

    async def _require_verified(self, peer: Peer) -> None:
        try:
            await self._issue(f"{TOOL}/{peer.uid}/{_NONE}", "", peer)
        except UnknownCredentialError:
            return

    async def _command(self, path: str, wanted: dict[str, Launched], peer: Peer) -> Command:
        """Look at the program; why it is refused is for the verified launcher only."""
        try:
            named = {file: sha256 for each in wanted.values() for file, sha256 in each.files.items()}
            return await asyncio.to_thread(command_of, path, named, self._packages)
        except RefusedError:
            await self._require_verified(peer)
            raise

    async def _issue(self, credential: str, path: str, peer: Peer) -> Issued:
        caller = self._callers.caller_by_pidfd(peer.pidfd)
        ask = Ask(caller, CredentialId(credential), RELEASE, f"agent.sock {PROTOCOL}", tool=True, about=path)
        return await self._issuer.issue(ask)


def _parsed(words: Sequence[str]) -> tuple[tuple[str, ...], str]:
    *names, mark, path = words if len(words) > 2 else ("", "", "")  # noqa: PLR2004 - NAME -- PATH
    if mark != "--" or not path.startswith("/") or not path.isprintable() or len(names) > _MAX_NAMES:
        raise MisuseError(f"run takes 1 to {_MAX_NAMES} names, --, and the path of a program")
    return tuple(dict.fromkeys(names)), path


def _command_items(command: Command) -> list[bytes]:
    return [
        b"X" + command.path.encode(),
        b"N" + command.numbers.encode(),
        *(b"A" + word.encode() for word in command.words),
    ]


def _items(launched: Launched, secret: bytes) -> list[bytes]:
    if b"\0" in secret:
        raise MisuseError("a secret with a NUL in it can't be given to a program")
    return [item for each in launched.deliveries for item in _delivered(each, secret)]


def _delivered(how: Delivery, secret: bytes) -> list[bytes]:
    if not how.file:
        return [b"E" + how.variable.encode() + b"=" + secret]
    named = b"F" + how.variable.encode() if how.variable else b"O" + how.option.encode()
    return [named, b"D" + how.file.encode().replace(SECRET_MARK.encode(), secret)]


def _guarantee(program: str) -> bytes:
    """Return what is said once, since this is the weakest way to give a secret away."""
    return (
        f"agent-broker: {program} has the secret itself now: what it starts inherits it, and your other programs can "
        "read it there while it runs\n"
    ).encode()
