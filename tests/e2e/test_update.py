"""An agent is updated: see tests.e2e.update, main, own_updater and interpreted."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]


def run(name):
    done = subprocess.run(
        [sys.executable, "-m", f"tests.e2e.update.{name}"],
        cwd=Path(__file__).parents[2], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr


def test_an_update_is_refused_with_what_to_do_and_works_after_approve():
    run("main")


def test_what_the_real_agents_own_updater_writes_is_approved_by_policy_and_what_others_write_is_asked_about():
    run("own_updater")


def test_an_interpreted_agent_that_npm_updated_is_approved_with_its_writer_and_its_tarballs_shown():
    run("interpreted")
