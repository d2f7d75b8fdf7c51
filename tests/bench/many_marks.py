"""How long a monitor takes from its start until it answers with 10,000 marks in force; warm page cache.

A monitor and a root of its own, so that the others' figures are not of such a registry.
"""

import os
from pathlib import Path

from agent_broker.config.layout import Layout
from agent_broker.identity.registry import DecoyFile, Enrollment, RoleRule, save_enrollment
from tests.bench.daemons import make_monitor, monitor_status
from tests.bench.figures import CannotMeasureError, Figure, p50
from tests.bench.idle_memory import pss_bytes
from tests.bench.stage import AGENT, BROKER, OWNER, Stage

_MARKS = 10_000
_IN_A_FOLDER = 100
_ROUNDS = 3


def run(stage: Stage) -> list[Figure]:
    stage.have(monitor=False, broker=False)
    layout = Layout(stage.folder / "many")
    _furnish(layout, stage.folder / "marks")
    monitor = make_monitor(layout)
    samples, held_bytes = [], 0
    for _ in range(_ROUNDS):
        try:
            samples.append(monitor.start())
            status = monitor_status(layout)
            if status is None or status.decoys_watched != _MARKS or status.problems:
                raise CannotMeasureError(f"the marks are not in force: {status}")
            held_bytes = pss_bytes(monitor.pid)
        finally:
            monitor.stop()
    detail = f"{_MARKS // _IN_A_FOLDER} folders; worst {max(samples):.2f} s; PSS {held_bytes / 1e6:.0f} MB"
    return [Figure("start-marks", p50(samples), detail)]


def _furnish(layout: Layout, home: Path) -> None:
    layout.registry_folder.mkdir(parents=True)
    layout.config_folder.mkdir(parents=True)
    layout.config_file.write_text(f"[daemon]\nuser = {BROKER}\ngroup = {BROKER}\n")
    paths = [home / f"folder{number // _IN_A_FOLDER}/{number}" for number in range(_MARKS)]
    for folder in sorted({path.parent for path in paths}):
        folder.mkdir(parents=True)
        os.chown(folder, OWNER, OWNER)
    for path in paths:
        path.write_text("{}")
        os.chown(path, OWNER, OWNER)
    decoys = tuple(DecoyFile(str(path), "claude-oauth") for path in paths)
    rule = RoleRule(argv0_names=("asker",))
    save_enrollment(layout.registry_folder, Enrollment(AGENT, OWNER, "bench", (), rule, decoys, (), 1))
