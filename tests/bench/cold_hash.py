"""The hash of an agent's binary: taken for the first time, against the fastest tool; and when it is known.

Cold means that no hash is known; the file's pages are in memory for both, since a disk's speed is nobody's merit.
"""

import asyncio
import os
import shutil
import time
from pathlib import Path

from agent_broker.identity.executable import HashCache
from agent_broker.monitor.fingerprint import facts_by_stat
from tests.bench import drivers
from tests.bench.figures import CannotMeasureError, Figure, p50, us
from tests.bench.stage import Stage

_ROUNDS = 5
_WARM_ROUNDS = 2000


def run(stage: Stage) -> list[Figure]:
    stage.have(monitor=False, broker=False)
    openssl = shutil.which("openssl")
    if openssl is None:
        raise CannotMeasureError("openssl is not installed, and it is what the hash is compared with")
    spawn: list[str | Path] = [stage.driver("spawn"), "1", openssl, "dgst", "-sha256", stage.large]
    drivers.run(spawn)
    theirs, ours = [], []
    for _ in range(_ROUNDS):
        theirs += drivers.numbers(drivers.run(spawn))[0]
        ours.append(asyncio.run(_hash(stage.large, HashCache())))
    warm = asyncio.run(_warm(stage.large))
    cold, tool = p50(ours), p50(theirs)
    return [
        Figure("hash-cold", cold / tool, f"{cold / 1e9:.2f} / {tool / 1e9:.2f} s, {_ROUNDS} each"),
        Figure("hash-warm", p50(warm) / 1e3, f"worst {us(max(warm))}"),
    ]


async def _hash(path: Path, hashes: HashCache) -> int:
    fd = os.open(path, os.O_RDONLY)
    try:
        start = time.perf_counter_ns()
        await hashes.hash_fd(fd, facts_by_stat(fd))
        return time.perf_counter_ns() - start
    finally:
        os.close(fd)


async def _warm(path: Path) -> list[int]:
    hashes = HashCache()
    await _hash(path, hashes)
    return [await _hash(path, hashes) for _ in range(_WARM_ROUNDS)]
