"""What tools ask on agent.sock, each in its ecosystem's own protocol (agent_broker_shims).

The law:
1. The protocol says what is asked for; who asks is never in it. The issuer decides (issue, grant.tool), and journals
   before the answer leaves.
2. Which credential is meant is decided here, by the destination alone: the one with the longest path that covers it, of
   the caller's user and of this tool. One for another server, scheme or port is never meant. Where the tool's own
   configuration names it (a profile), by that name alone.
3. Whether there is one is told to the verified tool only: who is not verified is refused in either case.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

from agent_broker.clock import Clock, SystemClock
from agent_broker.errors import MisuseError
from agent_broker.ids import AgentName, CredentialId, Uid
from agent_broker.issue import MINT, RELEASE, Ask, Caller, Issued
from agent_broker.policy.destination import Destination
from agent_broker.transport.first_look import FirstLook
from agent_broker.transport.frame import ShimAnswer, ShimRequest
from agent_broker.transport.peer import Peer
from agent_broker.transport.ports import Callers, Issuer, Minter
from agent_broker.vault.record import (
    DESTINATION_ATTRIBUTE,
    MODES_ATTRIBUTE,
    PROFILE_ATTRIBUTE,
    USERNAME_ATTRIBUTE,
    Credential,
    UnknownCredentialError,
)
from agent_broker.vault.secret import Secret
from agent_broker_shims import aws, azure, cargo, docker, git, kubectl, pnpm
from agent_broker_shims.port import Answer, NotThisProtocolError, Question

_NS_PER_S = 1_000_000_000
_NONE = "none"
"""Of a credential that there is not: the issuer still says whether the caller may be told so."""


class ToolProtocol(Protocol):
    """A module of agent_broker_shims."""

    TOOL: str

    def question(self, arguments: Sequence[str], stdin: bytes, environment: Mapping[str, str]) -> Question | Answer:
        """Return what is asked for, or an answer at once; raises NotThisProtocolError."""
        ...

    def answer(self, asked: Question, username: str, password: bytes) -> bytes:
        """Return what the client reads; raises NotThisProtocolError."""
        ...

    def not_found(self, asked: Question) -> Answer:
        """Return what the client is told if there is no such credential."""
        ...


class Credentials(Protocol):
    """Who knows what the vault holds (daemon.enrolled.Enrolled)."""

    def credentials_of(self, agent: AgentName, uid: Uid) -> tuple[Credential, ...]:
        """Return the descriptions of everything of this agent, or tool, of this user."""
        ...


PROTOCOLS: Mapping[str, ToolProtocol] = {
    "git": git,
    "docker-credential-agent-broker": docker,
    "aws": aws,
    "kubectl": kubectl,
    "--cargo-plugin": cargo,
    "az": azure,
    "pnpm": pnpm,
}
"""By the name that the shim sends."""


class ToolProtocols:
    """See the module. ``handle`` answers every request whose protocol is in PROTOCOLS."""

    def __init__(
        self,
        *,
        credentials: Credentials,
        callers: Callers,
        issuer: Issuer,
        minters: Mapping[str, Minter] = MappingProxyType({}),
        clock: Clock | None = None,
    ) -> None:
        """``minters``: by kind of credential; ``clock``: the machine's if there is none."""
        self._clock = clock or SystemClock()
        self._minters = minters
        self._credentials = credentials
        self._callers = callers
        self._issuer = issuer

    async def handle(self, request: ShimRequest, peer: Peer) -> ShimAnswer:
        """Answer one request.

        Raises:
            MisuseError: it is not of its protocol.
            RefusedError, UnavailableError, IntegrityError: as the issuer.
        """
        protocol = PROTOCOLS[request.protocol]
        try:
            asked = protocol.question(request.argv, request.stdin, dict(request.env))
            if isinstance(asked, Answer):
                return ShimAnswer(*asked)
            to = Destination.parse(asked.destination) if asked.destination else None
            async with FirstLook(self._callers.caller_by_pidfd(peer.pidfd)) as caller:
                issued = await self._issue(AgentName(protocol.TOOL), to, asked, peer.uid, caller)
            if issued is None:
                return ShimAnswer(*protocol.not_found(asked))
            user = issued.credential.attributes.get(USERNAME_ATTRIBUTE, "")
            given = await self._made_of(issued, asked)
            asked = asked._replace(asked_s=self._clock.wall_ns() // _NS_PER_S)
            return ShimAnswer(0, stdout=Secret(protocol.answer(asked, user, given.reveal())))
        except NotThisProtocolError as error:
            raise MisuseError(f"not a request of {request.protocol}: {error}") from error

    async def _issue(
        self, tool: AgentName, to: Destination | None, asked: Question, uid: Uid, caller: Caller
    ) -> Issued | None:
        """Return what was issued; None: there is no such credential, and the caller may know."""
        found = self._named(tool, uid, asked.name) if to is None or asked.name else self._choose(tool, uid, to, asked)
        if to is None and found is not None and DESTINATION_ATTRIBUTE in found.attributes:
            to = Destination.parse(found.attributes[DESTINATION_ATTRIBUTE])
        name = CredentialId(f"{tool}/{uid}/{_NONE}") if found is None else found.id
        modes = () if found is None else found.attributes.get(MODES_ATTRIBUTE, "").split()
        mode, otherwise = (*modes, "", "")[:2]
        ask = Ask(caller, name, mode or RELEASE, f"agent.sock {tool}", tool=True, to=to, otherwise=otherwise)
        try:
            return await self._issuer.issue(ask)
        except UnknownCredentialError:
            return None

    async def _made_of(self, issued: Issued, asked: Question) -> Secret:
        """Return what the tool is given: the secret itself, or what is minted from it."""
        if issued.grant.mode != MINT:
            return issued.secret
        minter = self._minters[issued.credential.kind]
        return await minter.mint(issued.credential, issued.secret, issued.narrowed, asked.scope)

    def _named(self, tool: AgentName, uid: Uid, name: str) -> Credential | None:
        """Return the credential that the tool's own configuration calls by this name."""
        own = self._credentials.credentials_of(tool, uid)
        return next((each for each in own if name and each.attributes.get(PROFILE_ATTRIBUTE) == name), None)

    def _choose(self, tool: AgentName, uid: Uid, to: Destination, asked: Question) -> Credential | None:
        fitting = []
        for each in self._credentials.credentials_of(tool, uid):
            place = each.attributes.get(DESTINATION_ATTRIBUTE, "")
            if not place or asked.username not in {"", each.attributes.get(USERNAME_ATTRIBUTE, "")}:
                continue
            if any(each.attributes.get(name, "") != wanted for name, wanted in asked.requires):
                continue
            covered = Destination.parse(place)
            if covered.covers(to):
                fitting.append((len(covered.path), each))
        return max(fitting, key=lambda each: each[0])[1] if fitting else None
