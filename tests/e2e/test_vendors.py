"""Codex and Gemini CLI with the logins that the broker keeps alive, enrolled: see tests.e2e.vendors.main."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]


@pytest.mark.parametrize(
    ("agent", "layout", "way"),
    [
        ("codex", "npm, Node 20", "ChatGPT login"),
        ("gemini", "npm, Node 20", "Google login"),
    ],
)
def test_the_agent_works_others_get_nothing_and_the_home_is_given_back(agent, layout, way):
    done = subprocess.run(
        [sys.executable, "-m", "tests.e2e.vendors.main", agent, layout, way],
        cwd=Path(__file__).parents[2], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert "all is well" in told["said"]
    assert told["phantom_at_provider"] == []
    assert told["tool"] == told["stranger"] == "refused (403), alert phantom-replayed"
    assert told["changed"] == []
