"""What can be asked on agent.sock: one table, one async handler a protocol.

    claude-api-key-helper [ACCOUNT]
                            the phantom of the caller's user, for Claude's ``apiKeyHelper``. Never a secret:
                            a phantom is worthless outside the broker's own endpoint, so nobody is attested
    phantom AGENT [ACCOUNT] the same for any agent, for ``agent-broker run --as``
    get NAME                the secret of credential AGENT/CALLER_UID/NAME itself, AGENT being the agent that the
                            caller descends from; the weakest mode, given only if a policy allows its release.
                            Its exact bytes: no newline is added
    git ...                 what tools ask in their own protocols: tool_protocols

The law of this channel: the main process of an agent never asks here, its helpers do. A process that wrote a
request, left its socket to a child and then became the agent by ``exec`` would look exactly like it
(transport.peer says why the socket can't see that), so evidence that the caller *is* the agent counts as none.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from agent_broker.errors import MisuseError, RefusedError
from agent_broker.identity.evidence import Evidence, Freshness, Unknown, Verdict
from agent_broker.ids import AgentName, CredentialId, Uid
from agent_broker.issue import RELEASE, Ask, Caller
from agent_broker.transport.frame import ShimAnswer, ShimRequest
from agent_broker.transport.peer import Peer
from agent_broker.transport.ports import Callers, Issuer

Handler = Callable[[ShimRequest, Peer], Awaitable[ShimAnswer]]

CLAUDE = AgentName("claude")
_CREDENTIAL_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class Agents(Protocol):
    """What the protocols ask about enrolments and phantoms."""

    def phantom_for(self, agent: AgentName, uid: Uid, account: str) -> str | None:
        """Return the phantom of this user's agent, of this account if one is named; None: it is not enrolled."""
        ...

    def agents_of(self, uid: Uid) -> tuple[AgentName, ...]:
        """Return the enrolled agents of this user."""
        ...


class Protocols:
    """The handler of agent.sock: ``AgentSocket(path, Protocols(...).handle)``."""

    def __init__(
        self, *, agents: Agents, callers: Callers, issuer: Issuer, tools: Mapping[str, Handler] | None = None
    ) -> None:
        """``tools``: the handlers of the tools' protocols (tool_protocols); None: none is spoken."""
        self._agents = agents
        self._callers = callers
        self._issuer = issuer
        self._handlers: dict[str, Handler] = {
            "claude-api-key-helper": self._claude_api_key_helper,
            "get": self._get,
            "phantom": self._phantom,
            **(tools or {}),
        }

    @property
    def names(self) -> tuple[str, ...]:
        """The protocols that are spoken."""
        return tuple(self._handlers)

    async def handle(self, request: ShimRequest, peer: Peer) -> ShimAnswer:
        """Answer one request.

        Raises:
            MisuseError: no such protocol, or not its arguments.
            RefusedError, UnavailableError, IntegrityError: as the handler of the protocol.
        """
        handler = self._handlers.get(request.protocol)
        if handler is None:
            raise MisuseError(
                "this broker does not speak that protocol", next_step=f"it speaks: {', '.join(self.names)}"
            )
        return await handler(request, peer)

    async def _claude_api_key_helper(self, request: ShimRequest, peer: Peer) -> ShimAnswer:
        if len(request.argv) > 1 or not all(map(_CREDENTIAL_NAME.fullmatch, request.argv)):
            raise MisuseError("the helper takes the name of one account, or nothing")
        return self._phantom_of(CLAUDE, peer.uid, "".join(request.argv))

    async def _phantom(self, request: ShimRequest, peer: Peer) -> ShimAnswer:
        if len(request.argv) not in {1, 2} or not all(map(_CREDENTIAL_NAME.fullmatch, request.argv)):
            raise MisuseError("phantom takes the name of an agent, and perhaps of one of its accounts")
        agent, account = (*request.argv, "")[:2]
        return self._phantom_of(AgentName(agent), peer.uid, account)

    def _phantom_of(self, agent: AgentName, uid: Uid, account: str) -> ShimAnswer:
        phantom = self._agents.phantom_for(agent, uid, account)
        if phantom is None:
            raise RefusedError(
                "enrolment", f"{agent} is not enrolled for this user", next_step=f"sudo agent-broker enroll {agent}"
            )
        return ShimAnswer(0, stdout=phantom.encode() + b"\n")

    async def _get(self, request: ShimRequest, peer: Peer) -> ShimAnswer:
        if len(request.argv) != 1 or not _CREDENTIAL_NAME.fullmatch(request.argv[0]):
            raise MisuseError("get takes the name of one credential", next_step="agent-broker credentials lists them")
        caller = _Helper(self._callers.caller_by_pidfd(peer.pidfd))
        agent = self._agent_of(await caller.look(), peer.uid)
        credential = CredentialId(f"{agent}/{peer.uid}/{request.argv[0]}")
        issued = await self._issuer.issue(Ask(caller, credential, RELEASE, "agent.sock get"))
        return ShimAnswer(0, stdout=issued.secret)

    def _agent_of(self, verdict: Verdict, uid: Uid) -> AgentName:
        """Name the agent whose credential is meant.

        Without an agent in the lineage nothing is released. The question still goes to the issuer, with an agent of
        the user's: it is the issuer that records refusals and raises the alert.
        """
        if isinstance(verdict, Evidence) and verdict.principal is not None:
            return verdict.principal.agent
        enrolled = self._agents.agents_of(uid)
        if not enrolled:
            raise RefusedError("enrolment", "no agent is enrolled for this user", next_step="sudo agent-broker enroll")
        return enrolled[0]


class _Helper:
    """A caller on a channel where agents do not speak themselves (see the module).

    Who asks must be known to name the credential, before the issuer looks: its first look is ours, taken a moment ago.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._first: Verdict | None = None

    async def look(self) -> Verdict:
        """Attest, and keep the verdict for the issuer's first question."""
        self._first = await self.attest()
        return self._first

    async def attest(self, known: Freshness | None = None) -> Verdict:
        if known is None and self._first is not None:
            first, self._first = self._first, None
            return first
        verdict = await self._caller.attest(known)
        if isinstance(verdict, Evidence) and verdict.principal is not None and verdict.principal.is_caller:
            return Unknown(
                "the agent's main process does not ask here: another program asked, and then became it",
                next_step="ask through agent-broker-shim",
                uid=verdict.uid,
                steps=verdict.steps,
            )
        return verdict
