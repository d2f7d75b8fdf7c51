"""Every scenario of the ssh-agent, both daemons and the real OpenSSH: ``main --report FILE [--only NAME ...]``.

A process of its own, since it leaves the machine's network. Exit code 2 if it can't run here.
"""

import argparse
import json
import os
import sys
from pathlib import Path

from tests.demo.check import StepFailedError
from tests.e2e.ssh_agent.place import place
from tests.e2e.ssh_agent.scenarios import SCENARIOS

CANNOT_RUN = 2


def main() -> int:
    """Play the scenarios in their order; return the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--only", action="append", choices=SCENARIOS)
    options = parser.parse_args()
    os.umask(0o022)
    told: dict[str, object] = {}
    try:
        with place() as made:
            for name, play in SCENARIOS.items():
                if not options.only or name in options.only:
                    told[name] = play(made)
                    options.report.write_text(json.dumps(told, indent=1))
    except StepFailedError as error:
        sys.stderr.write(f"{error}\n")
        return CANNOT_RUN
    return 0


if __name__ == "__main__":
    sys.exit(main())
