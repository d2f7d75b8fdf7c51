"""``make clients``: every tool that can be enrolled, with the real client; writes docs/clients-tools.md.

    python -m tests.e2e.clients.main [--only TOOL ...] [--write] [--report FILE]

Exit code 0 if each row turned out as declared; 1 if one did not; 2 if it can't run here.
"""

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.demo.check import StepFailedError
from tests.e2e.clients.measure import measure
from tests.e2e.clients.row import Outcome
from tests.e2e.clients.show import DOCUMENT, document, print_outcome
from tests.e2e.clients.table import BY_HAND, CLIENTS
from tests.e2e.clients.world import clients
from tests.e2e.measured import keep

DIFFERS = 1
CANNOT_RUN = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the rows; return the exit code."""
    options = _options(arguments)
    if os.geteuid() != 0:
        sys.stderr.write("this needs root: users are made, BPF programs are loaded; try: sudo make clients\n")
        return CANNOT_RUN
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(DIFFERS))  # so that everything is taken away
    os.umask(0o022)
    try:
        tier, outcomes = _measure(options.only)
    except StepFailedError as error:
        sys.stderr.write(f"the tools can't be proven here: {error}\n")
        return CANNOT_RUN
    differ = [each.name for each in outcomes if not each.holds]
    sys.stdout.write(f"{len(outcomes)} rows; {len(differ)} differ\n")
    text = document(tier, outcomes)
    keep(options, DOCUMENT, text, {"rows": len(outcomes), "differ": differ})
    return DIFFERS if differ else 0


def _measure(only: Sequence[str] | None) -> tuple[str, list[Outcome]]:
    outcomes = []
    wanted = [each for each in CLIENTS if not only or {each.tool, each.name} & {*only}]
    wanted += [each for each in BY_HAND if only and {each.tool, each.name} & {*only}]
    for prepare in dict.fromkeys(each.prepare for each in wanted if each.prepare is not None):
        prepare()
    with clients() as made:
        for client in wanted:
            for outcome in measure(made, client):
                outcomes.append(outcome)
                print_outcome(outcome)
        tier = str(json.loads(made.broker("doctor", "--json"))["tier"])
    return tier, outcomes


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make clients", description="The tools, proven one by one.")
    parser.add_argument("--only", action="append", metavar="TOOL", help="this tool, or client of one; again for more")
    parser.add_argument("--write", action="store_true", help="write docs/clients-tools.md")
    parser.add_argument("--report", type=Path, help="also write what was measured into this JSON file")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
