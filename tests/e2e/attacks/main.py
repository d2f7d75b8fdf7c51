"""``make attacks``: every known way around the broker, carried out against it, and what it gets.

    python -m tests.e2e.attacks.main [--only NAME ...] [--write] [--verbose] [--report FILE]

Exit code 0 if each attack turned out as declared; 1 if one did not; 2 if it can't run here.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.demo.check import StepFailedError
from tests.e2e.attacks.arena import arena
from tests.e2e.attacks.measure import measure
from tests.e2e.attacks.row import Outcome, Row
from tests.e2e.attacks.show import DOCUMENT, document, print_details, print_outcome, print_table
from tests.e2e.attacks.table import ROWS
from tests.e2e.measured import keep

DIFFERS = 1
CANNOT_RUN = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry the attacks out; return the exit code."""
    options = _options(arguments)
    if os.geteuid() != 0:
        sys.stderr.write("the attacks need root: users are made, BPF programs are loaded; try: sudo make attacks\n")
        return CANNOT_RUN
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(DIFFERS))  # so that everything is taken away
    os.umask(0o022)
    rows = [row for row in ROWS if not options.only or row.name in options.only]
    began_s = time.monotonic()
    try:
        tier, outcomes = _carry_out(rows)
    except StepFailedError as error:
        sys.stderr.write(f"the attacks can't be carried out here: {error}\n")
        return CANNOT_RUN
    print_table(tier, outcomes, time.monotonic() - began_s)
    for outcome in outcomes:
        if not outcome.holds or options.verbose:
            print_details(outcome)
    text = document(tier, outcomes)
    differ = [outcome.row.name for outcome in outcomes if not outcome.holds]
    keep(options, DOCUMENT, text, {"rows": len(outcomes), "differ": differ})
    return 0 if all(outcome.holds for outcome in outcomes) else DIFFERS


def _carry_out(rows: Sequence[Row]) -> tuple[str, list[Outcome]]:
    for prepare in dict.fromkeys(row.prepare for row in rows if row.prepare is not None):
        prepare()
    with arena() as made:
        outcomes = []
        for row in rows:
            outcomes.append(measure(made, row))
            print_outcome(outcomes[-1])
        return made.tier, outcomes


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make attacks", description="The attack matrix.")
    names = [row.name for row in ROWS]
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help="of one attack; again for more")
    parser.add_argument("--write", action="store_true", help="write docs/attack-matrix.md")
    parser.add_argument("--verbose", action="store_true", help="show what each attack got")
    parser.add_argument("--report", type=Path, help="also write what was measured into this JSON file")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
