"""What a large package costs at each start of its agent: unchanged, one file touched, and hashed for the first time.

A Node package of an ordinary user, enrolled and watched as the monitor does it, here in this process. Each round starts
the agent and waits until it has loaded; what is timed is the first verdict on that process, which looks at its script's
path, at the folders above and at the package. The files' pages are in memory.
"""

import asyncio
import os
import shutil
import time

from agent_broker.identity.bundle import digest_of, hash_files
from agent_broker.identity.tree import Bounds, scan_tree
from tests.bench.figures import CannotMeasureError, Figure, ms, p50
from tests.bench.stage import Stage
from tests.fakes.interpreted import OWNER, InterpretedWorld, enrolled_world, is_agent

_FILES = 2000
_FILE_BYTES = 50_000
_STARTS = 15
_COLD_ROUNDS = 5


def run(stage: Stage) -> list[Figure]:
    if shutil.which("node") is None:
        raise CannotMeasureError("node is not installed, and the interpreted agent is one of its scripts")
    stage.have(monitor=False, broker=False)
    return asyncio.run(_measure())


async def _measure() -> list[Figure]:
    async with enrolled_world() as world:
        _fill(world)
        await world.rest()
        if problems := await world.enroll():
            raise CannotMeasureError(f"the package was not taken: {problems}")
        unchanged, touched = [], []
        for _ in range(_STARTS):
            unchanged.append(await _first_verdict(world))
            world.as_user(f"import os; os.chmod({str(world.package / 'part.js')!r}, 0o644)")
            await world.rest()
            touched.append(await _first_verdict(world))
        cold = [_hash_all(world) for _ in range(_COLD_ROUNDS)]
    nothing, one, everything = p50(unchanged), p50(touched), p50(cold)
    return [
        Figure("bundle-start", nothing / 1e6, f"slowest of {_STARTS}: {ms(max(unchanged))}"),
        Figure(
            "bundle-ratio",
            nothing / everything,
            f"{ms(nothing)} / {ms(everything)}; one file touched, so all looked at and one hashed: {ms(one)}",
        ),
    ]


def _fill(world: InterpretedWorld) -> None:
    block = os.urandom(_FILE_BYTES)
    for number in range(_FILES):
        file = world.package / f"part-{number % 50}" / f"{number}.bin"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(block)
        os.chown(file.parent, OWNER, OWNER)
        os.chown(file, OWNER, OWNER)


async def _first_verdict(world: InterpretedWorld) -> int:
    process = world.start(world.node, world.script)
    await world.loaded(process)
    with world.pidfd(process) as pidfd:
        start = time.perf_counter_ns()
        verdict = await world.attestor.attest(pidfd)
        elapsed = time.perf_counter_ns() - start
    if not is_agent(verdict) or verdict.taints:
        raise CannotMeasureError(f"the agent is not known: {verdict}")
    process.kill()
    process.communicate()
    return elapsed


def _hash_all(world: InterpretedWorld) -> int:
    start = time.perf_counter_ns()
    tree = scan_tree(str(world.package), Bounds())
    digest_of(tree, hash_files(str(world.package), tree, {}))
    return time.perf_counter_ns() - start
