"""The table of opens: every mechanism on every form of path, carried out; the second half of ``make attacks``.

    python -m tests.e2e.opens.main [--only MECHANISM ...] [--write] [--report FILE]

A process of its own: it leaves the machine's mount namespace. Exit code 0 if each cell is as declared; 1 if one is not;
2 if it can't run here.
"""

import argparse
import asyncio
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.e2e.opens.mechanisms import MECHANISMS, Mechanism, compile_programs
from tests.e2e.opens.places import FORMS
from tests.e2e.opens.show import DOCUMENT, Cells, differing, document, print_tables
from tests.e2e.opens.trial import DENYING, NONE, OBSERVE, OBSERVE_PLUS, Mode, Table

DIFFERS = 1
CANNOT_RUN = 2
_CLONE_NEWNS = 0x20000  # linux/sched.h
_MODES = (OBSERVE_PLUS, DENYING, OBSERVE, NONE)
"""ENFORCE needs another kernel: tests/vm/test_open_table.py."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry all out; return the exit code."""
    options = _options(arguments)
    if os.geteuid() != 0:
        sys.stderr.write("the table of opens needs root: it mounts, and loads BPF programs; try: sudo make attacks\n")
        return CANNOT_RUN
    os.umask(0o022)
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS) != 0:
        sys.stderr.write(f"no mount namespace of our own: {os.strerror(ctypes.get_errno())}\n")
        return CANNOT_RUN
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    began_s = time.monotonic()
    rows = [row for row in MECHANISMS if not options.only or row.name in options.only]
    measured = asyncio.run(_carry_out(rows))
    differ = [line for mode in _MODES for line in differing(mode, measured[mode])]
    if options.only:
        _print_cells(measured)
    else:
        print_tables(measured, time.monotonic() - began_s)
        _keep(options, document(measured), len(measured[OBSERVE_PLUS]), differ)
    for line in differ:
        print(f"not as declared: {line}")
    return DIFFERS if differ else 0


def _keep(options: argparse.Namespace, text: str, cells: int, differ: list[str]) -> None:
    if options.write:
        DOCUMENT.write_text(text)
    if options.report:
        options.report.write_text(json.dumps({"cells": cells, "differ": differ, "document": text}))


async def _carry_out(rows: Sequence[Mechanism]) -> dict[Mode, Cells]:
    with tempfile.TemporaryDirectory(prefix="opens-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        compile_programs(Path(folder))
        table = Table(Path(folder))
        try:
            return {
                mode: {(row.name, form): await table.cell(row, form, mode) for row in rows for form in FORMS}
                for mode in _MODES
            }
        finally:
            table.close()


def _print_cells(measured: dict[Mode, Cells]) -> None:
    for mode, cells in measured.items():
        for (name, form), cell in cells.items():
            print(f"{mode.name}: {name} on {form}: {cell.result} ({cell.detail})")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The table of opens.")
    names = [row.name for row in MECHANISMS]
    parser.add_argument(
        "--only", action="append", choices=names, metavar="MECHANISM", help="one of them; again for more"
    )
    parser.add_argument("--write", action="store_true", help="write docs/open-table.md")
    parser.add_argument("--report", type=Path, help="also write what was measured into this JSON file")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
