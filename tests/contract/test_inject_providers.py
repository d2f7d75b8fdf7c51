"""Each provider's credentials through the endpoint: the phantom in its header, the real one where its kind belongs."""

import json

import aiohttp
import pytest

from tests.fakes.inject import InjectWorld
from tests.fakes.model_apis import ModelProvider

KEY = "the-real-key-of-this-provider"
ENDS_MS = 4102444800000
OPENAI_LOGIN = {"access_token": "oa-real", "refresh_token": "rt-real", "account_id": "acc-1"}
GOOGLE_LOGIN = {"access_token": "ya29.real", "refresh_token": "1//real", "expiry_date": ENDS_MS}
CODE_ASSIST = "/v1internal:streamGenerateContent?alt=sse"
GEMINI = "/v1beta/models/m:streamGenerateContent?alt=sse"
BODY = {"contents": [], "input": [], "request": {"contents": []}}


@pytest.fixture
async def world(tmp_path):
    async with ModelProvider() as provider, InjectWorld(provider).serving(tmp_path) as world:
        yield world


@pytest.mark.parametrize(
    ("kind", "secret", "header", "asked"),
    [
        ("openai-api-key", KEY, "authorization", ("/v1/responses", {"authorization": f"Bearer {KEY}"})),
        ("openai-oauth", OPENAI_LOGIN, "authorization",
         ("/backend-api/codex/responses", {"authorization": "Bearer oa-real"})),
        ("gemini-api-key", KEY, "x-goog-api-key", (GEMINI, {"x-goog-api-key": KEY})),
        ("gemini-api-key", KEY, "authorization", (GEMINI, {"x-goog-api-key": KEY})),
        ("google-oauth", GOOGLE_LOGIN, "authorization", (CODE_ASSIST, {"authorization": "Bearer ya29.real"})),
    ],
)  # fmt: skip
async def test_the_provider_sees_the_real_credential_alone_and_answers(world, kind, secret, header, asked):
    target, sent = asked
    stored = secret if isinstance(secret, str) else json.dumps(secret)
    world.use(kind, stored.encode(), {"account_id": "acc-1"})
    value = world.phantom if header.startswith("x-") else f"Bearer {world.phantom}"
    headers = {header: value, "ChatGPT-Account-ID": "somebody-else", "x-api-key": "another"}
    async with (
        aiohttp.ClientSession(world.base_url) as session,
        session.post(target, json=BODY, headers=headers) as response,
    ):
        assert response.status == 200
        assert "MOCK-OK" in await response.text()
    (seen,) = world.provider.seen
    assert (seen.target, seen.auth) == (target, sent)
    if kind == "openai-oauth":
        assert seen.headers["chatgpt-account-id"] == "acc-1"
    assert world.phantom not in str(seen)


@pytest.mark.parametrize(
    ("kind", "secret", "target"),
    [("openai-oauth", OPENAI_LOGIN, "/backend-api/conversations"), ("google-oauth", GOOGLE_LOGIN, "/v1/projects")],
)
async def test_a_login_is_not_used_for_what_is_not_a_model(world, kind, secret, target):
    world.use(kind, json.dumps(secret).encode())
    async with aiohttp.ClientSession(world.base_url) as session:
        for _ in range(20):  # the agent itself asks: it is not held against its process
            async with session.post(target, json=BODY, headers=world.bearer) as response:
                assert response.status == 403
                assert "for its models alone" in await response.text()
    assert world.provider.seen == []


async def test_codex_s_attempt_at_a_websocket_is_refused_at_once_so_that_it_falls_back(world):
    world.use("openai-api-key", KEY.encode())
    headers = {**world.bearer, "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    async with aiohttp.ClientSession(world.base_url) as session:
        async with session.get("/v1/responses", headers=headers) as response:
            assert response.status == 426
        async with session.post("/v1/responses", json=BODY, headers=world.bearer) as response:
            assert response.status == 200
    assert [each.method for each in world.provider.seen] == ["POST"]
