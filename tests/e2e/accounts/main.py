"""Every scenario of accounts, users, containers and settings, with the real Claude Code.

    python -m tests.e2e.accounts.main --report FILE [--only NAME ...]

A process of its own, since it leaves the machine's network. Exit code 2 if it can't run here.
"""

import argparse
import ctypes
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from tests.demo.check import StepFailedError
from tests.demo.machine import run_tool
from tests.e2e.accounts.containers import containers
from tests.e2e.accounts.managed import managed
from tests.e2e.accounts.other_keys import codex_keys, gemini_keys
from tests.e2e.accounts.repository import hostile_repository
from tests.e2e.accounts.stage import Stage, stage
from tests.e2e.accounts.two_keys import two_keys
from tests.e2e.accounts.two_users import two_users

CANNOT_RUN = 2
_CLONE_NEWNS = 0x00020000  # linux/sched.h
SCENARIOS: dict[str, Callable[[Stage], dict[str, object]]] = {
    "two_keys": two_keys,
    "codex_keys": codex_keys,
    "gemini_keys": gemini_keys,
    "repository": hostile_repository,
    "two_users": two_users,
    "managed": managed,
    "containers": containers,
}


def enter_private_mounts() -> None:
    """Leave the machine's mounts: what is mounted from now on is seen by this process and what it starts."""
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS) != 0:
        raise StepFailedError("a mount namespace of our own", os.strerror(ctypes.get_errno()))
    run_tool("mount", "--make-rprivate", "/")


def main() -> int:
    """Play the scenarios; return the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--only", action="append", choices=SCENARIOS)
    options = parser.parse_args()
    os.umask(0o022)
    told = {}
    try:
        enter_private_mounts()
        with stage() as made:
            for name in options.only or SCENARIOS:
                told[name] = SCENARIOS[name](made)
                options.report.write_text(json.dumps(told, indent=1))
    except StepFailedError as error:
        sys.stderr.write(f"{error}\n")
        return CANNOT_RUN
    return 0


if __name__ == "__main__":
    sys.exit(main())
