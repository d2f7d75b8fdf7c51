"""The real CLIs log in, in a private room, against login servers on loopback; their user's home is closed to others."""

import asyncio
import json
import os
import shutil
import threading
import time

import pytest

from agent_broker.identity.registry import EnrolledBinary
from tests.e2e.roles.agents import Codex
from tests.fakes.login_server import LoginWorld
from tests.fakes.login_stage import UID, LoginStage, sha256_of

pytestmark = [pytest.mark.e2e]


class Served:
    """A login world in a thread of its own; a context manager."""

    def __enter__(self):
        self.world = LoginWorld(time.time)
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self._do(self.world.start())
        return self.world

    def __exit__(self, *_):
        self._do(self.world.__aexit__())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    def _do(self, coroutine):
        asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()


@pytest.fixture
def stage():
    with LoginStage() as made:
        yield made


def installed(stage, program, name):
    """Copy an executable into the user's closed home, as an installer would; return it enrolled."""
    path = stage.home / name
    shutil.copy(program, path)
    os.chown(path, UID, UID)
    path.chmod(0o700)
    return EnrolledBinary(str(path), sha256_of(path), path.stat().st_size)


def test_codex_logs_in_by_a_code_and_its_tokens_are_in_the_vault_alone(stage):
    stage.enroll("codex", installed(stage, Codex(stage.root / "codex").binary, "codex"))
    with Served() as world:
        config = stage.root / "etc/agent-broker/config.toml"
        config.parent.mkdir(parents=True)
        config.write_text(f'[upstream.openai]\noauth_token_url = "{world.base_url}/oauth/token"\n')
        terminal = stage.run(agent="codex")
        terminal.until("ABCD-EFGH")
        assert terminal.end() == 0, terminal.text
    kind, version, _, secret = stage.held("codex")
    tokens = json.loads(secret)
    assert (kind, version) == ("openai-oauth", 2)
    assert tokens["access_token"] in world.access
    assert tokens["refresh_token"] == "openai-oauth-1-refresh"
    assert tokens["account_id"] == "acc"
    assert "openai-oauth-1-refresh" not in terminal.text
    assert not (stage.home / ".codex").exists()
    assert stage.in_room() == []
