"""Does an attestation cost more on a busy machine? The real store and attestor, over a kernel that is a world.

Each question is about a fresh process, as shims are, below the same agent; what differs is how many others are tracked.
The sizes take turns, so that a slow moment of the machine hits all alike.
"""

import asyncio
import gc
import random
import time

from agent_broker.identity.attest import Attestor
from agent_broker.identity.environment import scan_strings
from agent_broker.identity.executable import HashCache
from agent_broker.ids import Epoch
from agent_broker.lineage.store import Store
from tests.bench.figures import CannotMeasureError, Figure, p50, us
from tests.bench.stage import Stage
from tests.fakes.kernel import FakeKernel, a_file

_SIZES = (10, 10_000, 100_000)
_QUESTIONS = 1500
_TOOL = a_file(7)


class _Machine:
    """One fake kernel with its store, attestor and a population."""

    def __init__(self, size: int) -> None:
        self.kernel = FakeKernel()
        self.store = Store(scan_strings, str)
        self.kernel.sink = self.store.apply
        origin = self.kernel.boot()
        self.kernel.consume()
        self.store.link_seeded()
        self.attestor = Attestor(
            epoch=Epoch("bench"), tier="observe+", sensor=self.kernel, store=self.store, hashes=HashCache()
        )
        self.shell = self.kernel.run(self.kernel.run(origin, "/usr/bin/agent"), "/bin/sh", file=_TOOL)
        chosen = random.Random(size)  # noqa: S311 - a tree of any shape will do, the same in each run
        parents = [origin]
        for _ in range(size):
            parents.append(self.kernel.run(chosen.choice(parents[-50:]), "/usr/bin/tool", file=_TOOL))
        self.kernel.consume()
        self.samples: list[int] = []

    async def ask(self) -> None:
        """Attest one fresh process, and let it end."""
        process = self.kernel.run(self.shell, "/usr/bin/shim", file=_TOOL)
        start = time.perf_counter_ns()
        verdict = await self.attestor.attest(process.pidfd)
        self.samples.append(time.perf_counter_ns() - start)
        if len(getattr(verdict, "steps", ())) != 4:
            raise CannotMeasureError(f"the attestation did not find the lineage: {verdict}")
        self.kernel.exit(process)


def run(stage: Stage) -> list[Figure]:
    stage.have(monitor=False, broker=False)
    machines = [_Machine(size) for size in _SIZES]
    asyncio.run(_ask_all(machines))
    few, some, many = (p50(machine.samples[_QUESTIONS // 10 :]) for machine in machines)
    machines.clear()
    gc.collect()
    return [Figure("answers-flat", many / few, f"{us(few)}; 10,000: {us(some)}; 100,000: {us(many)}")]


async def _ask_all(machines: list[_Machine]) -> None:
    for _ in range(_QUESTIONS):
        for machine in machines:
            await machine.ask()
