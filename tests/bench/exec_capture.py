"""What the capture of arguments and environment adds to an exec: one program, enrolled and not, in turn.

Both are copies of the same static program, started with an environment of a usual size by the same driver while the
monitor runs. What an exec of everybody else costs is another figure (monitor_cost, "exec").
"""

import shutil

import msgspec

from agent_broker.identity.registry import save_enrollment
from tests.bench import drivers
from tests.bench.figures import Figure, p50, us
from tests.bench.stage import Stage, enrolled, enrollment

_ROUNDS = 2000
_ENVIRONMENT = {f"BENCH_VARIABLE_{number}": "x" * 60 for number in range(40)}


def run(stage: Stage) -> list[Figure]:
    stage.have(monitor=False, broker=False)
    registered = stage.folder / "bin" / "registered"
    shutil.copyfile(stage.driver("empty"), registered)
    registered.chmod(0o755)
    before = enrollment(stage)
    with_it = msgspec.structs.replace(before, binaries=(*before.binaries, enrolled(registered)))
    save_enrollment(stage.layout.registry_folder, with_it)
    try:
        stage.have(monitor=True, broker=False)
        command = [stage.driver("spawn"), str(_ROUNDS), registered, "--", stage.driver("empty")]
        lines = drivers.numbers(drivers.run(command, environment=_ENVIRONMENT))
    finally:
        stage.have(monitor=False, broker=False)
        save_enrollment(stage.layout.registry_folder, before)
    captured, plain = (p50([line[column] for line in lines]) for column in (0, 1))
    size = sum(len(name) + len(value) + 2 for name, value in _ENVIRONMENT.items())
    return [Figure("exec-captured", (captured - plain) / 1e3, f"{us(captured)} / {us(plain)}; {size:,} bytes")]
