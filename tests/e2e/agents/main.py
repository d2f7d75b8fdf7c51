"""``make clients``: every agent from npm, enrolled in every layout and login, used, attacked, updated, unenrolled.

    python -m tests.e2e.agents.main [--only TEXT ...] [--write] [--report FILE]

Exit code 0 if each row turned out as declared; 1 if one did not; 2 if it can't run here.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.demo.check import StepFailedError
from tests.e2e.agents.deeds import measure_deeds
from tests.e2e.agents.place import place
from tests.e2e.agents.row import DeedOutcome, DeedRow, WayOutcome, WayRow
from tests.e2e.agents.show import DOCUMENT, document, print_outcome
from tests.e2e.agents.table import DEEDS, WAYS
from tests.e2e.agents.ways import measure_way
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
    began_s = time.monotonic()
    try:
        tier, ways, deeds = _measure(_chosen(WAYS, options.only), _chosen(DEEDS, options.only))
    except StepFailedError as error:
        sys.stderr.write(f"the agents can't be proven here: {error}\n")
        return CANNOT_RUN
    outcomes = (*ways, *deeds)
    differ = [each.row.name for each in outcomes if not each.holds]
    sys.stdout.write(f"{len(outcomes)} rows in {time.monotonic() - began_s:.0f} s; {len(differ)} differ\n")
    text = document(tier, ways, deeds)
    keep(options, DOCUMENT, text, {"rows": len(outcomes), "differ": differ})
    return DIFFERS if differ else 0


def _measure(ways: Iterable[WayRow], deeds: Sequence[DeedRow]) -> tuple[str, list[WayOutcome], list[DeedOutcome]]:
    with place() as made:
        of_ways = []
        for way in ways:
            of_ways.append(measure_way(made, way))
            print_outcome(of_ways[-1])
        of_deeds = []
        for deed in measure_deeds(made, deeds):
            of_deeds.append(deed)
            print_outcome(deed)
        return made.tier, of_ways, of_deeds


def _chosen(rows: Sequence, only: Sequence[str] | None) -> Sequence:  # type: ignore[type-arg]
    return [row for row in rows if not only or any(word in row.name for word in only)]


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make clients", description="The agents, proven one by one.")
    parser.add_argument("--only", action="append", metavar="TEXT", help="rows whose name has it; again for more")
    parser.add_argument("--write", action="store_true", help="write docs/clients.md")
    parser.add_argument("--report", type=Path, help="also write what was measured into this JSON file")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
