"""What hangs is ended and named: in a test, in what cleans up after it, and beyond Python's reach."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFTEST = """
import pathlib, sys
sys.path.insert(0, {root!r})
from tests import hangs
hangs.AGAIN_S = 1
from tests.conftest import pytest_configure
"""
WAITING = """
import asyncio, subprocess, time
import pytest

async def waits():
    await asyncio.Event().wait()

async def test_task():
    other = asyncio.create_task(waits(), name="the other")
    try:
        await other
    finally:
        await waits()

def test_context():
    with subprocess.Popen(["sleep", "1000"]) as process:
        print("left alone", process.pid)
        raise ValueError

@pytest.fixture
def world():
    yield
    time.sleep(1000)

def test_fixture(world):
    assert not "its own failure"

def test_after():
    pass
"""
DEAF = """
import pathlib, signal, time

def test_fails():
    assert False

def test_deaf():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    pathlib.Path("runs").touch()
    time.sleep(1000)
"""


def begin(folder, text):
    (folder / "conftest.py").write_text(CONFTEST.format(root=str(ROOT)))
    (folder / "test_it.py").write_text(text)
    plugins = ("-p", "pytest_asyncio.plugin", "-p", "pytest_timeout")
    options = (
        *plugins,
        "-o",
        "asyncio_mode=auto",
        "-o",
        "timeout=2",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(folder),
    )
    environment = {**os.environ, "COLUMNS": "200", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environment.pop("PYTEST_XDIST_WORKER", None)
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", *options, "test_it.py"], cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment,
    )  # fmt: skip


@pytest.fixture(scope="module")
def waited(tmp_path_factory):
    said = begin(tmp_path_factory.mktemp("waiting"), WAITING).communicate(timeout=120)[0]
    left = [int(line.split()[-1]) for line in said.splitlines() if line.startswith("left alone")]
    os.kill(left[0], signal.SIGKILL)
    return said


def test_a_task_that_waits_fails_and_says_where_each_waits(waited):
    assert "FAILED test_it.py::test_task - Failed: not over after 2 s" in waited
    assert "the other: test_it.py:6 > locks.py" in waited


def test_what_cleans_up_is_ended_too_and_the_next_test_runs(waited):
    assert "ERROR test_it.py::test_task" in waited
    assert "FAILED test_it.py::test_context" in waited
    assert "FAILED test_it.py::test_fixture - AssertionError" in waited
    assert "ERROR test_it.py::test_fixture - Failed: not over" in waited
    assert "3 failed, 1 passed, 2 errors" in waited


def test_what_no_longer_listens_is_killed_and_what_failed_is_said_last(tmp_path):
    said = begin(tmp_path, DEAF).communicate(timeout=120)[0]
    assert "test_it.py::test_deaf hangs for good: pytest is killed" in said
    assert 'test_it.py", line 10 in test_deaf' in said
    *_, failed, last = (line for line in said.splitlines() if line)
    assert failed.endswith("FAILED test_it.py::test_fails")
    assert last.endswith("pytest was killed; it ran test_it.py::test_deaf")


def test_who_is_told_to_end_lists_what_failed_and_what_ran(tmp_path):
    process = begin(tmp_path, DEAF)
    end_s = time.monotonic() + 60
    while not (tmp_path / "runs").exists() and time.monotonic() < end_s:
        time.sleep(0.02)
    process.terminate()
    said = process.communicate(timeout=120)[0]
    assert "pytest was told to end; it ran test_it.py::test_deaf (call)" in said
    assert "FAILED test_it.py::test_fails" in said
