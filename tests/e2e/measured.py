"""What a table of the tests says on this machine: its program run in a process of its own, and its report read."""

import json
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def report_of(module: str, cannot_run: int, folder: Path) -> dict:
    """Run ``python -m module --report FILE``; return the report, and under ``said`` what it printed."""
    report = folder / "report.json"
    done = subprocess.run(
        [sys.executable, "-m", module, "--report", str(report)],
        cwd=REPOSITORY, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != cannot_run, done.stderr
    assert report.exists(), done.stdout + done.stderr
    return {**json.loads(report.read_text()), "said": done.stdout}
