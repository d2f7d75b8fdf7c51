"""The demo is the main job with real programs: here it must hold, say what failed, and leave nothing behind."""

import json
import os
import pwd
import secrets
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.demo.agent import CACHE_VARIABLE, PACKAGE, REAL, SAMPLE, VERSION

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

REPOSITORY = Path(__file__).parents[2]
REPORT = REPOSITORY / ".build/demo.json"
"""Left for CI, which requires that the real Claude Code ran."""


MARK = f"{secrets.token_hex(2)}-"
"""In the names of all that these demos make: other worlds may come and go meanwhile."""


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.demo.main", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "AGENT_BROKER_DEMO_MARK": MARK, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(*arguments: str, **environment: str) -> tuple[int, str]:
    demo = start(*arguments, **environment)
    said, _ = demo.communicate()
    return demo.returncode, said


def left_behind() -> tuple[set[str], set[str]]:
    users = {each.pw_name for each in pwd.getpwall() if MARK in each.pw_name}
    return users, {str(path) for path in Path("/tmp").glob(f"ab-demo-{MARK}*")}


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    yield
    assert left_behind() == (set(), set())


def test_the_main_job_holds(tmp_path: Path):
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.unlink(missing_ok=True)
    picture = tmp_path / "demo.svg"
    code, said = run("--report", str(REPORT), "--svg", str(picture))
    assert code == 0, said
    assert "All seven steps held" in said
    report = json.loads(REPORT.read_text())
    assert report["steps"] == 7
    assert report["agent"] in {REAL, SAMPLE}
    assert picture.read_text().startswith("<svg")


def test_the_main_job_holds_with_the_sample_agent():
    code, said = run("--agent", SAMPLE)
    assert code == 0, said
    assert "NOT the real Claude Code" in said


@pytest.fixture
def cache():
    """A folder that every user may enter, which pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="npm-cache-") as path:
        Path(path).chmod(0o755)
        yield Path(path)


def test_a_step_that_fails_says_what_was_expected_and_seen(cache: Path):
    package = cache / "node_modules" / PACKAGE / "package.json"
    package.parent.mkdir(parents=True)
    package.write_text(json.dumps({"version": VERSION}, indent=2))
    broken = cache / "node_modules/.bin/claude"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho 'no model today' >&2\nexit 7\n")
    broken.chmod(0o755)
    code, said = run("--agent", REAL, **{CACHE_VARIABLE: str(cache)})
    assert code == 1
    assert "the agent to end well" in said
    assert "exit code 7: no model today" in said
    assert "All seven" not in said


def test_an_interrupted_demo_takes_everything_away():
    demo = start()
    for line in demo.stdout:
        if "claude -p" in line:
            demo.send_signal(signal.SIGINT)
            break
    said, _ = demo.communicate()
    assert demo.returncode == 1
    assert "interrupted" in said
