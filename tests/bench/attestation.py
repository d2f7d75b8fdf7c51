"""How long the broker waits for the monitor's word on a process: everything cached, and at growing lineage depth.

The broker's own client asks the running monitor, from this process; so the round trip over the socket, both ends'
encoding and both processes' scheduling are part of the figure. The warm peer is an enrolled agent that sends request
after request on a kept connection (agent_connection.py). For the depth, peers are chains of processes below this one
that only wait: each is forked by the one above it and executes a program of its own.
"""

import asyncio
import os
import subprocess
import sys
import time

from agent_broker.identity.evidence import Evidence, Unchanged
from agent_broker.monitor.client import MonitorClient
from tests.bench.agent_connection import attested
from tests.bench.figures import CannotMeasureError, Figure, p50, p99, us
from tests.bench.stage import Stage

_DEPTHS = (2, 16, 64)
_WARM_UP = 50
_ROUNDS = 1500
_CHAIN = """
import os, sys
if int(sys.argv[1]) <= 1:
    print(os.getpid(), flush=True)
    sys.stdin.read()
elif os.fork() == 0:
    os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", sys.argv[2], str(int(sys.argv[1]) - 1), sys.argv[2]])
else:
    os.wait()
"""


class _Peer:
    """A process with ``depth`` recorded processes above it, at least; ends with ``close``."""

    def __init__(self, depth: int) -> None:
        self._chain = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _CHAIN, str(depth), _CHAIN],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        said = self._chain.stdout.readline() if self._chain.stdout else ""
        if not said:
            raise CannotMeasureError("a chain of processes could not be made")
        self.depth = depth
        self.pidfd = os.pidfd_open(int(said))
        self.samples: list[int] = []
        self.known: list[int] = []
        """The same, asked by who holds evidence already, as on a kept connection."""

    def close(self) -> None:
        os.close(self.pidfd)
        self._chain.communicate()


def run(stage: Stage) -> list[Figure]:
    stage.have(monitor=True, broker=False)
    peers = [_Peer(depth) for depth in _DEPTHS]
    try:
        asyncio.run(_ask_all(stage, peers))
    finally:
        for peer in peers:
            peer.close()
    few, some, many = (p50(peer.samples) for peer in peers)
    held = [p50(peer.known) for peer in peers]
    agent = asyncio.run(attested(stage))
    return [
        Figure(
            "attest-warm",
            p50(agent.held) / 1e3,
            f"p99 {us(p99(agent.held))} of {len(agent.held):,}; told whole to who holds no evidence: "
            f"{us(p50(agent.told))}; a process that is nobody, by pidfd: {us(few)}",
        ),
        Figure(
            "attest-depth",
            held[-1] / held[0],
            f"{us(held[0])}; 64: {us(held[-1])}; told whole: {us(few)}, 16: {us(some)}, 64: {us(many)}",
        ),
    ]


async def _ask_all(stage: Stage, peers: list[_Peer]) -> None:
    async with MonitorClient(stage.layout.monitor_socket) as client:
        for number in range(_WARM_UP + _ROUNDS):
            for peer in peers:
                start = time.perf_counter_ns()
                verdict = await client.attest(peer.pidfd)
                elapsed = time.perf_counter_ns() - start
                if not isinstance(verdict, Evidence) or len(verdict.steps) < peer.depth:
                    raise CannotMeasureError(f"the lineage was not found: {verdict}")
                start = time.perf_counter_ns()
                if not isinstance(await client.attest(peer.pidfd, verdict.freshness), Unchanged):
                    raise CannotMeasureError("a process that only waits has changed")
                again = time.perf_counter_ns() - start
                if number >= _WARM_UP:
                    peer.samples.append(elapsed)
                    peer.known.append(again)
