"""What a table of the tests says on this machine: its program run in a process of its own, and its report read."""

import argparse
import contextlib
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

from tests.demo.processes import killed

REPOSITORY = Path(__file__).parents[2]
_WITHIN_S = 1800  # s; less than pytest gives a test of a whole world
_ITS_END_S = 60  # s
_VERSION = re.compile(r"^(\|[^|\n]*\|)[^|\n]*\|", re.MULTILINE)  # the second cell of a table's line


def keep(options: argparse.Namespace, page: Path, text: str, told: dict) -> None:
    """Write what was measured: the page if all of it was (``--write``), and what ``report_of`` reads (``--report``)."""
    if options.write and not options.only:
        page.write_text(text)
    if options.report:
        options.report.write_text(json.dumps({**told, "document": text}))


def report_of(module: str, cannot_run: int, folder: Path) -> dict:
    """Run ``python -m module --report FILE``; return the report, and under ``said`` what it printed."""
    report = folder / "report.json"
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", module, "--report", str(report)],
        cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        said, complained = process.communicate(timeout=_WITHIN_S)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"{module} did not end within {_WITHIN_S} s: {_ended(process)}") from None
    except BaseException:
        print(_ended(process))  # pytest shows it
        raise
    assert process.returncode != cannot_run, complained
    assert report.exists(), said + complained
    return {**json.loads(report.read_text()), "said": said}


def without_versions(page: str) -> str:
    """Return a page whose tables lack their second column: a distribution updates its tools, what comes of it stays.

    The page on disk says the versions of the day on which it was written.
    """
    return _VERSION.sub(r"\1", page)


def _ended(process: "subprocess.Popen[str]") -> str:
    """Have a program take its world down; return the last of what it said."""
    process.send_signal(signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=_ITS_END_S)
    return "".join(killed(process))[-3000:]
