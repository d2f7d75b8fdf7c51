"""Decoys that are presented on agent.sock: in a shim's arguments or its input, as git and docker hand secrets over."""

from collections.abc import Awaitable, Callable

from agent_broker.daemon.decoy_use import DecoyUse
from agent_broker.errors import RefusedError
from agent_broker.transport.frame import ShimAnswer, ShimRequest
from agent_broker.transport.peer import Peer
from agent_broker.transport.ports import Callers

Handle = Callable[[ShimRequest, Peer], Awaitable[ShimAnswer]]

CHANNEL = "agent.sock"


def refusing_decoys(handle: Handle, uses: DecoyUse, callers: Callers) -> Handle:
    """Return a handler that reports and refuses a request with a decoy's value in it, and hands on all others."""

    async def looked_at(request: ShimRequest, peer: Peer) -> ShimAnswer:
        value = uses.value_in((*request.argv, request.stdin.decode("utf-8", "replace")))
        if value is None:
            return await handle(request, peer)
        await uses.report_decoy_used(callers.caller_by_pidfd(peer.pidfd), CHANNEL, value)
        raise RefusedError("decoy", "this value is not valid")

    return looked_at
