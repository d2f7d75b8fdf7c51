"""``make bench``: measures what the product costs and shows it beside the bars, one table.

    python -m tests.bench.main [NAME...] [--json FILE]

Run as root from the repository's folder. A missed bar is shown, and is no failure: the exit code is 1 only if a bench
could not run. Without names, all benches run, in this order; each stands for a module of this folder.
"""

import argparse
import contextlib
import os
import signal
import sys
import time
from importlib import import_module
from pathlib import Path

from tests.bench.figures import CannotMeasureError, Figure
from tests.bench.report import Report
from tests.bench.stage import Stage, stage

BENCHES = (
    "start_up",
    "idle_memory",
    "shim_process",
    "shim_protocols",
    "answers",
    "injection",
    "ssh_sign",
    "view_open",
    "agent_turn",
    "attestation",
    "flood",
    "decoy_alert",
    "marked_opens",
    "many_marks",
    "monitor_cost",
    "backends",
    "exec_capture",
    "exec_burst",
    "forced_loss",
    "tracked_processes",
    "cold_hash",
    "bundle_check",
)
"""The first two before anything else is imported that the daemons use too (tests.bench.daemons)."""


def main() -> int:
    """Run the benches that the command line names; return the exit code."""
    parser = argparse.ArgumentParser(description="measure what the product costs, beside the bars it should reach")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of: {', '.join(BENCHES)}; none: all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--keep", action="store_true", help="leave the folder with the daemons' logs")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(BENCHES)
    if unknown:
        parser.error(f"no such bench: {', '.join(sorted(unknown))}")
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"  # its handlers can hang a forked child, which only executes a driver
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that everything is cleaned up
    report = Report()
    try:
        with stage(keep=arguments.keep) as made:
            if arguments.keep:
                print(f"kept: {made.folder}", file=sys.stderr)
            for name in [each for each in BENCHES if each in arguments.names or not arguments.names]:
                _run(name, made, report)
    except CannotMeasureError as error:
        report.failed("stage", str(error))
    report.show()
    if arguments.json:
        report.write(arguments.json)
    return 1 if report.failures else 0


def _run(name: str, made: Stage, report: Report) -> None:
    began = time.monotonic()
    print(f"measuring {name} ...", end="", file=sys.stderr, flush=True)
    figures: list[Figure] = []
    with contextlib.ExitStack() as undo:
        undo.callback(lambda: print(f" {time.monotonic() - began:.0f} s", file=sys.stderr))
        try:
            figures = import_module(f"tests.bench.{name}").run(made)
        except Exception as error:  # noqa: BLE001 - the others are measured all the same; the table and exit code tell
            report.failed(name, f"{type(error).__name__}: {error}")
    report.add(figures)


if __name__ == "__main__":
    sys.exit(main())
