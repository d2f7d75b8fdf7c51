"""A viewed file opened and read by its reader, as a program sees it: open(2) and the first read(2) together.

The broker attests the reader twice, decides, and journals durably before the open returns; the read is checked once
more. Beside it: a stranger, for whom no journal is waited for, and what making 400 bytes durable takes on this disk.
"""

import os
import shutil
import time

from tests.bench.figures import Figure, ms, p50, p99
from tests.bench.stage import Stage
from tests.bench.viewed import viewed_file

_ROUNDS, _WARM_UP = 500, 50


def run(stage: Stage) -> list[Figure]:
    reader = stage.driver("reread")
    with viewed_file(stage, reader) as path:
        stage.as_owner(reader, path, str(_WARM_UP))
        own = [sum(line) for line in stage.as_owner(reader, path, str(_ROUNDS))]
        copy = shutil.copy(reader, stage.driver("stranger"))
        others = [sum(line) for line in stage.as_owner(copy, path, str(_ROUNDS))]
    disk = f"fdatasync of an entry {ms(_durable_ns(stage))}"
    detail = f"p99 {ms(p99(own))}, {_ROUNDS} opens; a stranger {ms(p50(others))}; {disk}"
    return [Figure("view-open", p50(own) / 1e6, detail)]


def _durable_ns(stage: Stage) -> float:
    times = []
    with (stage.folder / "durable").open("ab", buffering=0) as file:
        for _ in range(100):
            file.write(b"x" * 400)
            began = time.monotonic_ns()
            os.fdatasync(file.fileno())
            times.append(time.monotonic_ns() - began)
    return p50(times)
