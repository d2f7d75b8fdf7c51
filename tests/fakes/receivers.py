"""Receivers of alerts whose health a test changes by assignment, and the world around them: log, outbox, dispatch."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from agent_broker.audit.alerts import AlertLog
from agent_broker.audit.journal import DEFAULT_LIMITS, Limits
from agent_broker.audit.sinks.dispatch import Dispatch, Pace
from agent_broker.errors import RefusedError, UnavailableError
from agent_broker.monitor.incident import Incident, Offender, new_incident
from tests.fakes.clock import FakeClock
from tests.fakes.lineage_records import a_step

DECOY = "/home/u/.claude/.credentials.json"
QUICK = Pace(timeout_s=30, first_retry_s=0.005, last_retry_s=0.01)


class Receiver:
    """A sink that keeps what it took."""

    def __init__(self, name: str = "receiver", severity: str = "info") -> None:
        self.name = name
        self.severity = severity
        self.is_down = False
        self.refuses: set[str] = set()
        self.hangs = False
        self.breaks: Exception | None = None
        self.taken: list[tuple[int, Incident]] = []
        self.tries = 0
        self._changed = asyncio.Event()

    async def deliver(self, incident: Incident, number: int) -> None:
        self.tries += 1
        self._changed.set()
        if self.breaks is not None:
            raise self.breaks
        if self.hangs:
            await asyncio.Event().wait()
        if self.is_down:
            raise UnavailableError("nobody answers")
        if incident.what in self.refuses:
            raise RefusedError("sink", "this one is not for me")
        self.taken.append((number, incident))

    async def close(self) -> None:
        pass

    @property
    def whats(self) -> list[str]:
        return [incident.what for _, incident in self.taken]

    @property
    def numbers(self) -> list[int]:
        return [number for number, _ in self.taken]

    async def has(self, count: int) -> None:
        """Return once it took so many."""
        await self.until(lambda: len(self.taken) >= count)

    async def tried(self, count: int) -> None:
        """Return once so many were offered to it from now on."""
        until = self.tries + count
        await self.until(lambda: self.tries >= until)

    async def until(self, is_so) -> None:
        while not is_so():
            self._changed.clear()
            await self._changed.wait()
            await asyncio.sleep(0)


class World:
    """An alert log and its sinks, in a folder."""

    def __init__(self, folder: Path, limits: Limits = DEFAULT_LIMITS) -> None:
        self.folder = folder
        self.path = folder / "alerts.log"
        self.log = AlertLog.open(self.path, FakeClock(), limits)

    def cursor(self, name: str = "receiver") -> Path:
        return self.folder / f"{name}.cursor"

    def dispatch(self, *sinks, pace: Pace = QUICK) -> Dispatch:
        return Dispatch(self.log, self.path, self.folder, sinks, pace)

    @asynccontextmanager
    async def delivering(self, *sinks, pace: Pace = QUICK) -> AsyncIterator[Dispatch]:
        dispatch = self.dispatch(*sinks, pace=pace)
        dispatch.start()
        try:
            yield dispatch
        finally:
            await dispatch.close()

    async def record(self, first: int, count: int, severity: str = "warning") -> None:
        incidents = [an_incident(number, severity) for number in range(first, first + count)]
        await asyncio.gather(*(self.log.record(each) for each in incidents))


def an_incident(number: int = 0, severity: str = "critical", **details) -> Incident:
    return new_incident(
        kind="decoy-opened",
        time_ns=1_700_000_000_000_000_000 + number,
        severity=severity,
        what=f"incident {number}",
        tier="observe+",
        action="served-decoy",
        **{
            "lineage": (a_step(8, "self"), a_step(7), a_step(1)),
            "path": "/home/u/.claude/.credentials.json",
            **details,
        },
    )


def a_full_incident(number: int = 0, **details) -> Incident:
    """Every field set, with texts that an attacker chose."""
    return an_incident(
        number,
        path="/home/u/\nPRIORITY=7\n\u202e<b>*x*</b>.env",
        process_sha256="ab" * 32,
        agent="claude",
        next_step="look at it",
        epoch="f00d",
        offenders=(8,),
        boot_ns=5,
        role="decoy",
        holds="anthropic-api-key",
        offender=Offender(
            command=("cat", "--", "a\nAGENT_BROKER_KIND=other"),
            cwd="/tmp/x",
            package="coreutils 9.1",
            container="abc123",
        ),
        session="0b7c",
        changes=("- hooks: none", "+ hooks: 1"),
        **details,
    )


def a_whole_incident() -> Incident:
    """As a_full_incident, and what comes later: hashes of its ancestors, what was done, the state of grants."""
    first, second, third, origin = a_step(8, "self"), a_step(8, "exec"), a_step(7), a_step(1)
    parent = msgspec.structs.replace(third, sha256="cd" * 32, process_pid=4444, tampered=("somebody traced it",))
    incident = a_full_incident(lineage=(first, second, parent, msgspec.structs.replace(origin, sha256="ef" * 32)))
    return msgspec.structs.replace(
        incident,
        revision=2,
        count=12,
        last_ns=incident.time_ns + 10**9,
        paths=("/home/u/.aws/credentials",),
        response="stopped: process 4008 (SIGSTOP); frozen: 1 process, 1 grant ended; undo: sudo agent-broker thaw 7",
        grants="1 live grant, for claude/1000/api-key (inject), of claude; frozen by freeze 7",
    )
