"""A broker that is killed anywhere in a refresh: no token is used that is not stored, and what is lost is told."""

import asyncio
import json
import signal
import sys
import time
from pathlib import Path

import pytest

from agent_broker.clock import SystemClock
from agent_broker.inject.oauth_servers import ANTHROPIC, LOGIN_SERVERS
from tests.fakes.login_server import LoginWorld
from tests.fakes.refresher import STEPS
from tests.fakes.vaults import OAUTH, put, reopening

ROOT = Path(__file__).parents[2]
LOST = ("answered", "written", "served")
"""Steps at which the provider has rotated the token and the vault does not have the new one."""


class Broken:
    """A vault whose broker can be started again and again, and the provider."""

    def __init__(self, world, path, again, kind):
        self.world, self.path, self.again, self.kind = world, path, again, kind
        self.row = LOGIN_SERVERS[kind]
        self.before = world.log_in(kind, left_s=-1)
        put(again(), OAUTH, json.dumps(self.before).encode(), kind)
        again.close()
        self.process = None

    async def run(self, step):
        """Run a broker; return its exit status and what it printed."""
        command = (sys.executable, "-m", "tests.fakes.refresher", str(self.path), self.world.token_urls[self.kind])
        self.process = await asyncio.create_subprocess_exec(
            *command, self.kind, step, cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        printed, _ = await self.process.communicate()
        return self.process.returncode, printed.decode().strip()

    def kill(self):
        self.process.kill()

    def stored(self):
        try:
            return json.loads(self.again().unseal(OAUTH).reveal())
        finally:
            self.again.close()


@pytest.fixture
async def broken(tmp_path):
    path = tmp_path / "vault"
    path.mkdir(mode=0o700)
    async with LoginWorld(time.time) as world:
        with reopening(path / "vault.sqlite3", SystemClock()) as again:
            yield Broken(world, path / "vault.sqlite3", again, ANTHROPIC.kind)


async def killed_at(broken, step):
    if step == "served":
        broken.world.on_token = broken.kill
    status, printed = await broken.run(step)
    broken.world.on_token = lambda: None
    assert (status, printed) == (-signal.SIGKILL, "")
    assert len(broken.world.refreshes(broken.kind)) == (step != "asking")


@pytest.mark.parametrize("step", [*STEPS, "served"])
async def test_a_broker_killed_in_a_refresh_goes_on_with_what_is_stored(broken, step):
    broken.world.forgives_reuse = True
    await killed_at(broken, step)
    refresh = broken.row.fields.refresh
    is_old = broken.stored()[refresh] == broken.before[refresh]
    assert is_old == (step in {*LOST, "asking"})
    status, token = await broken.run("")
    assert status == 0
    assert token in broken.world.access
    assert broken.stored()[broken.row.fields.access] == token
    sent = [form["refresh_token"] for form in broken.world.refreshes(broken.kind)]
    again = [broken.before[refresh]] * 2 if step in LOST else [broken.before[refresh]]
    assert sent == again  # the old token is tried again exactly when the new one was lost


@pytest.mark.parametrize("step", LOST)
async def test_where_the_provider_sees_a_reuse_the_login_ends_and_it_is_said(broken, step):
    await killed_at(broken, step)
    status, said = await broken.run("")
    assert status == 4
    assert "the provider has ended this login" in said
    assert "sudo agent-broker login claude" in said
    assert len(broken.world.refreshes(broken.kind)) == 2


@pytest.mark.parametrize("step", [step for step in STEPS if step not in LOST])
async def test_where_nothing_was_lost_no_old_token_is_sent_again(broken, step):
    await killed_at(broken, step)
    status, token = await broken.run("")
    assert (status, token in broken.world.access, broken.world.revoked) == (0, True, False)
