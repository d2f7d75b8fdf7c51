"""What keyring asks on agent.sock: for passwords, and to keep and delete them (agent_broker_shims.keyring).

The law:
1. Who asks is an enrolled program that uses keyring, and nobody's word (issue, grant.tool). To set and to delete, a
   rule with the mode ``store`` must allow it; release alone does not.
2. What root moved here (``enroll keyring``) is root's: it comes first, nobody sets a password for a place that it
   covers, and nobody deletes it. So a program that may store can't put its own login in the place of the user's.
3. What is set is bounded: in number for a user, and in length.
4. Whether there is a password is told to verified programs only.
"""

import hashlib
from typing import Final

from agent_broker.errors import MisuseError, RefusedError
from agent_broker.ids import AgentName, CredentialId, Uid
from agent_broker.issue import RELEASE, STORE, Ask, Caller
from agent_broker.policy.destination import Destination
from agent_broker.transport.first_look import FirstLook
from agent_broker.transport.frame import ShimAnswer, ShimRequest
from agent_broker.transport.peer import Peer
from agent_broker.transport.ports import Callers, Issuer, Keeper
from agent_broker.transport.tool_protocols import Credentials
from agent_broker.vault.record import DESTINATION_ATTRIBUTE, USERNAME_ATTRIBUTE, Credential, UnknownCredentialError
from agent_broker.vault.secret import Secret
from agent_broker_shims import keyring
from agent_broker_shims.keyring import Asked
from agent_broker_shims.port import Answer, NotThisProtocolError

COMMAND: Final = "keyring"
BACKEND: Final = "keyring-backend"
STORED_KIND: Final = "keyring-stored"
"""Of what programs set; everything else below the tool's name is root's."""
SERVICE_ATTRIBUTE: Final = "service"
MAX_STORED: Final = 200
"""For a user."""
MAX_PASSWORD_BYTES: Final = 8 << 10
_TOOL: Final = AgentName(keyring.TOOL)
_NONE: Final = "none"


class Keyrings:
    """See the module. ``handle`` answers every request of COMMAND and of BACKEND."""

    def __init__(self, *, credentials: Credentials, callers: Callers, issuer: Issuer, keeper: Keeper) -> None:
        self._credentials = credentials
        self._callers = callers
        self._issuer = issuer
        self._keeper = keeper

    async def handle(self, request: ShimRequest, peer: Peer) -> ShimAnswer:
        """Answer one request.

        Raises:
            MisuseError: it is not keyring's, or there is no room.
            RefusedError, UnavailableError, IntegrityError: as the issuer.
        """
        try:
            asked = (
                keyring.command_line(request.argv) if request.protocol == COMMAND else keyring.backend(request.stdin)
            )
            if isinstance(asked, Answer):
                return ShimAnswer(*asked)
            if asked.operation == "get":
                return await self._get(asked, peer)
            return await (self._set(asked, peer) if asked.operation == "set" else self._delete(asked, peer))
        except NotThisProtocolError as error:
            raise MisuseError(f"not a request of {request.protocol}: {error}") from error

    async def _get(self, asked: Asked, peer: Peer) -> ShimAnswer:
        async with FirstLook(self._callers.caller_by_pidfd(peer.pidfd)) as caller:
            found = self._choose(asked, peer.uid)
            name = self._none(peer.uid) if found is None else found.id
            try:
                issued = await self._issuer.issue(self._ask(asked, name, RELEASE, caller))
            except UnknownCredentialError:
                return ShimAnswer(*keyring.NOT_FOUND)
        user = issued.credential.attributes.get(USERNAME_ATTRIBUTE, "")
        return ShimAnswer(0, stdout=Secret(keyring.answer(asked, user, issued.secret.reveal())))

    async def _set(self, asked: Asked, peer: Peer) -> ShimAnswer:
        name = _stored_id(asked, peer.uid)
        await self._issuer.permit(self._ask(asked, name, STORE, self._callers.caller_by_pidfd(peer.pidfd)))
        held = self._credentials.credentials_of(_TOOL, peer.uid)
        self._require_not_roots(asked, held)
        stored = {each.id for each in held if each.kind == STORED_KIND}
        password = asked.password.encode()
        if len(stored | {name}) > MAX_STORED or len(password) > MAX_PASSWORD_BYTES:
            raise MisuseError(
                f"the broker keeps {MAX_STORED} passwords of at most {MAX_PASSWORD_BYTES} bytes for a user of keyring",
                next_step="delete some",
            )
        attributes = {SERVICE_ATTRIBUTE: asked.service, USERNAME_ATTRIBUTE: asked.username or ""}
        secret = Secret(password)
        self._keeper.put(name, kind=STORED_KIND, agent=_TOOL, owner_uid=peer.uid, attributes=attributes, secret=secret)
        secret.wipe()
        return ShimAnswer(0)

    async def _delete(self, asked: Asked, peer: Peer) -> ShimAnswer:
        name = _stored_id(asked, peer.uid)
        await self._issuer.permit(self._ask(asked, name, STORE, self._callers.caller_by_pidfd(peer.pidfd)))
        held = self._credentials.credentials_of(_TOOL, peer.uid)
        if name not in {each.id for each in held if each.kind == STORED_KIND}:
            self._require_not_roots(asked, held)
            return ShimAnswer(1, stderr=b"agent-broker: there is no such password\n")
        self._keeper.delete(name)
        return ShimAnswer(0)

    def _choose(self, asked: Asked, uid: Uid) -> Credential | None:
        held = self._credentials.credentials_of(_TOOL, uid)
        fitting = [each for each in held if asked.username in {None, each.attributes.get(USERNAME_ATTRIBUTE, "")}]
        if moved := _covering(asked, fitting):
            return moved
        same = (each for each in fitting if each.attributes.get(SERVICE_ATTRIBUTE) == asked.service)
        return next((each for each in same if each.kind == STORED_KIND), None)

    def _ask(self, asked: Asked, credential: CredentialId, mode: str, caller: Caller) -> Ask:
        return Ask(caller, credential, mode, f"agent.sock {_TOOL}", tool=True, to=_place(asked.service))

    @staticmethod
    def _none(uid: Uid) -> CredentialId:
        return CredentialId(f"{_TOOL}/{uid}/{_NONE}")

    @staticmethod
    def _require_not_roots(asked: Asked, held: tuple[Credential, ...]) -> None:
        if _covering(asked, held) is not None:
            raise RefusedError(
                "keyring",
                "root keeps the password of this service",
                next_step="sudo agent-broker unenroll keyring puts it back",
            )


def _covering(asked: Asked, held: tuple[Credential, ...] | list[Credential]) -> Credential | None:
    """Return what root moved here for a place that covers the service; the longest path first."""
    wanted = _place(asked.service)
    found = []
    for each in held:
        place = each.attributes.get(DESTINATION_ATTRIBUTE, "")
        if wanted is None or not place or each.kind == STORED_KIND:
            continue
        covered = Destination.parse(place)
        if covered.covers(wanted):
            found.append((len(covered.path), each))
    return max(found, key=lambda each: each[0])[1] if found else None


def _place(service: str) -> Destination | None:
    """Return the destination that a service's name is; None: it is a name, and no URL."""
    try:
        return Destination.parse(service)
    except MisuseError:
        return None


def _stored_id(asked: Asked, uid: Uid) -> CredentialId:
    digest = hashlib.sha256(f"{asked.service}\0{asked.username}".encode()).hexdigest()
    return CredentialId(f"{_TOOL}/{uid}/s-{digest[:48]}")
