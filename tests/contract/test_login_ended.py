"""A login that the provider has ended, from the agent's request to the alert log: one alert, and one clear sentence."""

import asyncio
import json

import aiohttp
import pytest

from agent_broker.audit.alerts import AlertLog
from agent_broker.clock import SystemClock
from agent_broker.daemon.login_ended import LoginEnded
from tests.fakes.inject import InjectWorld
from tests.fakes.mock_provider import MockProvider, Mode

REQUESTS = 50


@pytest.fixture
async def world(tmp_path):
    async with MockProvider() as provider, InjectWorld(provider).serving(tmp_path, per_user=256) as served:
        tokens = {"accessToken": "oat-real", "refreshToken": "ort-real", "expiresAt": 1_000}
        served.use("anthropic-oauth", json.dumps(tokens).encode())
        yield served


@pytest.fixture
def log(tmp_path):
    log = AlertLog.open(tmp_path / "alerts.log", SystemClock())
    yield log
    log.close()


async def ask(world):
    """Send one request on a connection of its own, as an agent's parallel turns do; return status and message."""
    async with aiohttp.ClientSession() as session:
        body = {"model": "m", "messages": []}
        async with session.post(f"{world.base_url}/v1/messages", json=body, headers=world.bearer) as response:
            return response.status, (await response.json())["error"]["message"], response.headers["x-should-retry"]


async def test_a_flood_of_requests_with_an_ended_login_is_one_alert_and_one_question_to_the_provider(world, log):
    world.tokens._watch = LoginEnded(log.record, SystemClock())
    world.provider.mode = Mode(token_status=400, token_delay_s=0.05)
    answers = await asyncio.gather(*(ask(world) for _ in range(REQUESTS)))
    told = "agent-broker: the provider has ended this login\n  log in again: sudo agent-broker login claude"
    assert set(answers) == {(401, told, "false")}
    (alert,) = log.recent(10)
    assert (alert.kind, alert.severity, alert.agent, alert.count) == ("login-ended", "warning", "claude", 1)
    assert "sudo agent-broker login claude" in alert.next_step
    assert len(world.provider.seen) == 1
    assert "ort-real" not in repr(alert)
    assert "oat-real" not in repr(alert)


async def test_an_access_token_that_is_revoked_in_its_time_ends_in_the_same_alert(world, log):
    world.tokens._watch = LoginEnded(log.record, SystemClock())
    tokens = {"accessToken": "oat-real", "refreshToken": "ort-real", "expiresAt": 4_102_444_800_000}
    world.use("anthropic-oauth", json.dumps(tokens).encode())
    world.provider.mode = Mode(reject=["oat-real"], token_status=401)
    async with aiohttp.ClientSession() as session:
        body = {"model": "m", "messages": []}
        async with session.post(f"{world.base_url}/v1/messages", json=body, headers=world.bearer) as response:
            assert response.status == 401  # the provider's own word
    answers = [await ask(world) for _ in range(3)]
    assert {status for status, _, _ in answers} == {401}
    assert all("sudo agent-broker login claude" in message for _, message, _ in answers)
    assert len(log.recent(10)) == 1
    assert len([each for each in world.provider.seen if each.target.endswith("/token")]) == 1
