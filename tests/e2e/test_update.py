"""An agent is updated: see tests.e2e.update.main."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]


def test_an_update_is_refused_with_what_to_do_and_works_after_approve():
    done = subprocess.run(
        [sys.executable, "-m", "tests.e2e.update.main"],
        cwd=Path(__file__).parents[2], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
