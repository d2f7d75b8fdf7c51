"""An enrolled agent on a kept connection, attested as the broker attests it: the bench stands in the broker's place.

The agent is the driver of the injection bench, and the port is the broker's own, so the kernel notes who writes on the
connection. For each request the broker's own code asks: is it the same socket (sock_diag), who alone holds it, who
wrote on it, is that still the enrolled agent's main process, untouched. Nothing is decided, decrypted or forwarded.
"""

import asyncio
import contextlib
import os
import subprocess
import time
from dataclasses import dataclass, field

from agent_broker.clock import SystemClock
from agent_broker.identity.evidence import Evidence, Unknown
from agent_broker.inject.caller import ConnectionCaller
from agent_broker.inject.peer import PeerFinder
from agent_broker.inject.sock_diag import SockDiag
from agent_broker.monitor.client import MonitorClient
from tests.bench.figures import CannotMeasureError
from tests.bench.stage import AGENT_DRIVERS, OWNER, Stage

_WARM_UP = 50
_REQUESTS = 1500
_REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Waits:
    """Nanoseconds, one for each request."""

    held: list[int] = field(default_factory=list)
    """From the request's last byte to the verdict, by who holds evidence of an earlier request: what requests pay."""
    told: list[int] = field(default_factory=list)
    """The monitor's whole evidence of the connection, by who holds none."""


async def attested(stage: Stage) -> Waits:
    """Serve one agent's requests, attesting each; the monitor must run, and the broker must not.

    Raises:
        CannotMeasureError: a verdict was not that of the agent's main process, or the agent failed.
    """
    waits, problems = Waits(), list[str]()
    async with MonitorClient(stage.layout.monitor_socket) as monitor:
        finder = PeerFinder(SockDiag(), SystemClock())

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.closing(writer):
                try:
                    caller = ConnectionCaller(writer.get_extra_info("socket"), finder, monitor)
                    with contextlib.closing(caller):
                        await _serve(reader, writer, caller, monitor, waits)
                except CannotMeasureError as error:
                    problems.append(str(error))

        async with await asyncio.start_server(serve, "127.0.0.1", stage.inject_port):
            said = await _run_agent(stage)
    if problems or len(waits.held) != _REQUESTS:
        raise CannotMeasureError("; ".join(problems) or f"the agent sent {len(waits.held)} requests: {said}")
    return waits


async def _serve(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    caller: ConnectionCaller,
    monitor: MonitorClient,
    waits: Waits,
) -> None:
    for number in range(_WARM_UP + _REQUESTS):
        await reader.readuntil(b"\r\n\r\n")
        start = time.perf_counter_ns()
        verdict = await caller.attest()
        held = time.perf_counter_ns() - start
        peer = caller.peer
        start = time.perf_counter_ns()
        whole = await monitor.attest_socket(peer.inode) if peer is not None else Unknown("the connection was closed")
        told = time.perf_counter_ns() - start
        _require_agent(verdict)
        _require_agent(whole)
        if number >= _WARM_UP:
            waits.held.append(held)
            waits.told.append(told)
        writer.write(_ANSWER)
        await writer.drain()


def _require_agent(verdict: object) -> None:
    principal = verdict.principal if isinstance(verdict, Evidence) else None
    if principal is None or not principal.is_caller or not isinstance(verdict, Evidence) or verdict.taints:
        raise CannotMeasureError(f"the agent is not known on its connection: {verdict}")


async def _run_agent(stage: Stage) -> str:
    request = stage.folder / "attested.http"
    request.write_bytes(_REQUEST)
    driver = stage.driver(AGENT_DRIVERS[1])
    process = await asyncio.create_subprocess_exec(
        driver, str(_WARM_UP + _REQUESTS), str(stage.inject_port), request,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        user=OWNER, group=OWNER, extra_groups=[], env={"PATH": os.defpath},
    )  # fmt: skip
    _, errors = await process.communicate()
    return errors.decode(errors="replace").strip() or f"it ended with {process.returncode}"
