"""The endpoint's promises on real sockets: loopback TCP and unix, a real provider, an issuer that says yes or no."""

import asyncio
import gzip
import io
import json
import re

import aiohttp
import pytest

from agent_broker.errors import IntegrityError, RefusedError, UnavailableError
from agent_broker.inject.phantom import new_phantom
from tests.fakes.inject import REAL_KEY, InjectWorld
from tests.fakes.issuer import open_descriptors
from tests.fakes.mock_provider import MockProvider, Mode

STREAMING = {"model": "m", "stream": True, "messages": []}
WHOLE = {"model": "m", "messages": []}


@pytest.fixture
async def world(tmp_path):
    async with MockProvider() as provider, InjectWorld(provider).serving(tmp_path) as served:
        yield served


@pytest.fixture(params=["tcp", "unix"])
async def client(world, request):
    connector = aiohttp.UnixConnector(world.unix_path) if request.param == "unix" else None
    base = "http://broker.invalid" if connector else world.base_url
    async with aiohttp.ClientSession(base, connector=connector, auto_decompress=False) as session:
        session.headers["X-Test-Channel"] = f"inject {request.param}"
        yield session


async def raw(world, request: bytes, answers: int = 1) -> bytes:
    """Send bytes that no client library would, and return the answers (heads, and bodies of a told length)."""
    reader, writer = await asyncio.open_connection(*world.base_url.removeprefix("http://").split(":"))
    writer.write(request)
    received = b""
    for _ in range(answers):
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        received += head + await reader.readexactly(int(length[1]) if length else 0)
    writer.close()
    await writer.wait_closed()
    return received


async def refusal(response) -> tuple[int, str, str]:
    body = await response.json()
    assert body["type"] == "error"
    return response.status, body["error"]["type"], body["error"]["message"]


async def test_the_agent_gets_its_answer_and_the_provider_the_real_key(world, client):
    async with client.post("/v1/messages?beta=true", json=STREAMING, headers=world.bearer) as response:
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        assert b"MOCK-OK" in await response.read()
    seen = world.provider.seen[-1]
    assert (seen.method, seen.target, seen.auth) == ("POST", "/v1/messages?beta=true", {"x-api-key": REAL_KEY})
    assert seen.headers["host"] == world.provider.base_url.removeprefix("http://")
    assert world.phantom not in json.dumps(seen.headers)
    assert [ask.channel for ask in world.issuer.asks] == [client.headers["X-Test-Channel"]]


async def test_an_answer_that_is_not_streamed_passes_with_its_length(world, client):
    async with client.post("/v1/messages", json=WHOLE, headers=world.bearer) as response:
        assert (await response.json())["content"][0]["text"] == "MOCK-OK"
        assert int(response.headers["Content-Length"]) > 0
        assert "Transfer-Encoding" not in response.headers


async def test_each_request_of_a_kept_connection_is_decided_anew(world, client):
    for _ in range(3):
        async with client.post("/v1/messages", json=WHOLE, headers=world.bearer) as response:
            assert response.status == 200
            await response.read()
    assert len(world.issuer.asks) == 3
    assert len({id(ask.caller) for ask in world.issuer.asks}) == 1
    world.monitor.agents.clear()
    world.monitor.taints += 1
    async with client.post("/v1/messages", json=WHOLE, headers=world.bearer) as response:
        assert (await refusal(response))[:2] == (403, "permission_error")
    assert len(world.provider.seen) == 3


async def test_a_stranger_with_the_phantom_is_refused_and_the_provider_hears_nothing(world, client):
    world.monitor.agents = {1}
    async with client.post("/v1/messages", json=STREAMING, headers=world.bearer) as response:
        status, kind, message = await refusal(response)
        assert (status, kind) == (403, "permission_error")
        assert "not claude" in message
        assert response.headers["x-should-retry"] == "false"
        assert response.headers["Connection"] == "close"
    assert world.provider.seen == []
    assert [refused.rule for refused in world.issuer.refusals] == ["principal"]


async def test_a_body_that_is_refused_does_not_hide_the_answer(world, client):
    world.monitor.agents = {1}
    async with client.post("/v1/messages", data=io.BytesIO(b"x" * 3_000_000), headers=world.bearer) as response:
        assert response.status == 403


async def test_a_monitor_that_is_down_refuses(world, client):
    world.monitor.down = True
    async with client.post("/v1/messages", json=WHOLE, headers=world.bearer) as response:
        assert "the monitor does not answer" in (await refusal(response))[2]
    assert world.provider.seen == []


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            RefusedError("policy", "no rule allows it", detail="SECRET-DETAIL", next_step="see policy.d"),
            (403, "permission_error"),
        ),
        (UnavailableError("the journal can't be written", next_step="free some space"), (503, "api_error")),
        (IntegrityError("claude/0/active is damaged"), (500, "api_error")),
        (ValueError("SECRET-DETAIL"), (500, "api_error")),
    ],
)
async def test_every_no_is_told_in_the_providers_shape(world, client, caplog, error, expected):
    world.issuer.failure = error
    async with client.post("/v1/messages", json=WHOLE, headers=world.bearer) as response:
        got = await refusal(response)
    assert got[:2] == expected
    assert "SECRET-DETAIL" not in got[2] + caplog.text
    if isinstance(error, RefusedError | UnavailableError):
        assert error.next_step in got[2]


@pytest.mark.parametrize(
    "headers",
    [{}, {"x-api-key": "sk-ant-x"}, {"Authorization": f"Bearer {new_phantom()}"}],
    ids=["no", "key", "unknown"],
)
async def test_without_a_known_phantom_nobody_is_asked(world, client, headers):
    async with client.post("/v1/messages", json=WHOLE, headers=headers) as response:
        assert (await refusal(response))[:2] == (401, "authentication_error")
    assert (world.issuer.asks, world.provider.seen) == ([], [])


async def test_the_agents_probes_are_answered_here(world, client):
    for method, path in (("HEAD", "/api/hello"), ("GET", "/api/hello"), ("HEAD", "/"), ("GET", "/?x=1")):
        async with client.request(method, path) as response:
            assert response.status == 200
    async with client.post("/api/hello") as response:
        assert response.status == 401
    assert (world.issuer.asks, world.provider.seen) == ([], [])


async def test_a_decoys_value_is_refused_and_reported(world, client):
    world.decoys.values.add("sk-ant-oat01-decoy")
    for headers in ({"x-api-key": "sk-ant-oat01-decoy"}, {**world.bearer, "x-api-key": "sk-ant-oat01-decoy"}):
        async with client.post("/v1/messages", json=WHOLE, headers=headers) as response:
            status, _, message = await refusal(response)
            assert status == 401
            assert "decoy" not in message
    assert world.decoys.reports == [client.headers["X-Test-Channel"]] * 2
    assert world.provider.seen == []


@pytest.mark.parametrize(
    ("method", "target", "headers"),
    [
        ("POST", "/v1/messages", {"x-goog-api-key": "ya29.the-decoys-own-value"}),
        ("POST", "/v1/messages", {"Cookie": "a=b; session=ya29.the-decoys-own-value"}),
        ("POST", "/v1/messages", {"Authorization": "Basic eDp5YTI5LnRoZS1kZWNveXMtb3duLXZhbHVl"}),
        ("POST", "/v1/messages?key=ya29.the-decoys-own-value", {}),
        ("HEAD", "/api/hello", {"x-api-key": "ya29.the-decoys-own-value"}),
    ],
)
async def test_a_decoys_value_is_found_wherever_it_passes(world, client, method, target, headers):
    world.decoys.values.add("ya29.the-decoys-own-value")
    async with client.request(method, target, headers={**world.bearer, **headers}) as response:
        assert response.status == 401
    assert world.decoys.reports == [client.headers["X-Test-Channel"]]
    assert world.provider.seen == []


async def test_a_compressed_request_and_unknown_headers_pass_untouched(world, client):
    body = gzip.compress(json.dumps(WHOLE).encode())
    headers = {**world.bearer, "Content-Encoding": "gzip", "anthropic-beta": "a,b", "User-Agent": "claude-cli/2"}
    async with client.post("/v1/nothing", data=body, headers=headers) as response:
        assert response.status == 404
    seen = world.provider.seen[-1]
    assert seen.headers["content-encoding"] == "gzip"
    assert seen.headers["anthropic-beta"] == "a,b"
    assert seen.headers["user-agent"] == "claude-cli/2"


async def test_a_body_of_unknown_length_is_streamed_on(world, client):
    async def parts():
        yield b'{"model": "m",'
        await asyncio.sleep(0.02)
        yield b'"messages": []}'

    headers = {**world.bearer, "Content-Type": "application/json"}
    async with client.post("/v1/messages", data=parts(), headers=headers) as response:
        assert response.status == 200
    assert world.provider.seen[-1].headers["transfer-encoding"] == "chunked"
    assert world.provider.seen[-1].json == WHOLE


async def test_a_large_body_arrives_whole(world, client):
    async with client.post("/v1/messages", data=io.BytesIO(b"y" * 5_000_000), headers=world.bearer) as response:
        assert response.status == 200
    assert world.provider.seen[-1].body_bytes == 5_000_000


async def test_a_client_that_expects_100_continue_is_told_to_go_on(world):
    head = f"POST /v1/messages HTTP/1.1\r\nHost: h\r\nx-api-key: {world.phantom}\r\nExpect: 100-continue\r\n"
    answer = await raw(world, f"{head}Content-Length: 2\r\n\r\n{{}}".encode(), answers=1)
    assert answer == b"HTTP/1.1 100 Continue\r\n\r\n"
    answer = await raw(world, f"{head}Content-Length: 2\r\n\r\n{{}}".encode(), answers=2)
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 ")
    assert "expect" not in world.provider.seen[-1].headers


async def test_a_client_that_is_refused_is_not_told_to_go_on(world):
    world.monitor.agents = {1}
    head = f"POST /v1/messages HTTP/1.1\r\nHost: h\r\nx-api-key: {world.phantom}\r\nExpect: 100-continue\r\n"
    assert (await raw(world, f"{head}Content-Length: 2\r\n\r\n{{}}".encode())).startswith(b"HTTP/1.1 403 ")


async def test_a_redirect_passes_and_is_not_followed(world, client):
    async with MockProvider() as other:
        world.provider.mode = Mode(status=307, location=f"{other.base_url}/v1/messages")
        async with client.post("/v1/messages", json=WHOLE, headers=world.bearer, allow_redirects=False) as response:
            assert response.status == 307
            assert response.headers["Location"] == f"{other.base_url}/v1/messages"
        assert (len(world.provider.seen), other.seen) == (1, [])


async def test_no_header_is_added_on_the_way(world):
    head = f"GET /v1/nothing HTTP/1.1\r\nHost: h\r\nx-api-key: {world.phantom}\r\nConnection: close\r\n\r\n"
    assert (await raw(world, head.encode())).startswith(b"HTTP/1.1 404 ")
    assert set(world.provider.seen[-1].headers) == {"host", "x-api-key"}


async def test_the_provider_s_own_error_passes_as_it_is(world, client):
    world.provider.mode = Mode(reject=[REAL_KEY])
    async with client.post("/v1/messages", json=WHOLE, headers=world.bearer) as response:
        assert await refusal(response) == (401, "authentication_error", "invalid x-api-key (mock 401)")


async def test_head_and_empty_answers_keep_their_form(world, client):
    async with client.head("/v1/nothing", headers=world.bearer) as response:
        assert response.status == 404
        assert int(response.headers["Content-Length"]) > 0
        assert await response.read() == b""


@pytest.mark.parametrize(
    ("request_line", "headers", "status"),
    [
        ("POST http://evil.example/v1/messages HTTP/1.1", "Content-Length: 0", 400),
        ("POST //evil.example/v1/messages HTTP/1.1", "Content-Length: 0", 400),
        ("GET /v1/../../etc HTTP/1.1", "X: 1", 400),
        ("CONNECT api.anthropic.com:443 HTTP/1.1", "X: 1", 400),
        ("GET /v1/responses HTTP/1.1", "Connection: Upgrade\r\nUpgrade: websocket", 426),
        ("POST /v1/messages HTTP/1.1", "Content-Length: 3\r\nTransfer-Encoding: chunked", 400),
        ("POST /v1/messages HTTP/1.1", "Content-Length: 3\r\nContent-Length: 4", 400),
        ("POST /v1/messages HTTP/1.0", "Content-Length: 0", 400),
        ("POST /v1/messages HTTP/1.1", "X-Long: " + "a" * 20_000, 400),
        ("POST /v1/messages HTTP/1.1", "Bad Header: 1", 400),
        ("POST /v1/messages HTTP/1.1", "X-Copy: {phantom}\r\nContent-Length: 0", 400),
        ("GARBAGE", "X: 1", 400),
    ],
)
async def test_what_is_not_a_plain_exchange_is_refused(world, caplog, request_line, headers, status):
    head = f"{request_line}\r\nHost: h\r\nAuthorization: Bearer {world.phantom}\r\n{headers}\r\n\r\n"
    answer = await raw(world, head.format(phantom=world.phantom).encode())
    assert answer.startswith(f"HTTP/1.{0 if b'HTTP/1.0' in answer[:8] else 1} {status} ".encode())
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["type"] == "error"
    assert (world.issuer.asks, world.provider.seen) == ([], [])
    assert world.phantom not in caplog.text + answer.decode()


async def test_nothing_that_was_sent_is_logged(world, client, caplog):
    caplog.set_level("DEBUG")
    async with client.post("/v1/messages", json=WHOLE, headers=world.bearer):
        pass
    await raw(world, f"POST /v1/messages HTTP/1.1\r\nx-api-key {world.phantom}\r\n\r\n".encode())
    world.issuer.failure = ValueError(world.phantom)
    async with client.post("/v1/messages", json=WHOLE, headers=world.bearer):
        pass
    assert "ValueError" in caplog.text
    assert world.phantom not in caplog.text
    assert REAL_KEY not in caplog.text


async def test_oauth_tokens_go_into_authorization_with_their_beta(world, client):
    world.use("anthropic-oauth", json.dumps({"accessToken": "oat-real", "expiresAt": 4102444800000}).encode())
    headers = {"x-api-key": world.phantom, "anthropic-beta": "a"}
    async with client.post("/v1/messages", json=WHOLE, headers=headers) as response:
        assert response.status == 200
    seen = world.provider.seen[-1]
    assert seen.auth == {"authorization": "Bearer oat-real"}
    assert seen.headers["anthropic-beta"] == "a,oauth-2025-04-20"


async def test_an_access_token_that_the_provider_refuses_is_refreshed_for_the_next_request(world, client):
    stored = {"accessToken": "oat-old", "refreshToken": "ort-1", "expiresAt": 4102444800000}
    world.use("anthropic-oauth", json.dumps(stored).encode())
    world.provider.mode = Mode(reject=["oat-old"], new_access="oat-new")
    for status in (401, 200):
        async with client.post("/v1/messages", json=WHOLE, headers=world.bearer) as response:
            assert response.status == status


async def test_a_login_that_has_ended_is_told_to_the_agent_at_once(world, client):
    stored = {"accessToken": "oat-old", "refreshToken": "ort-1", "expiresAt": 1}
    world.use("anthropic-oauth", json.dumps(stored).encode())
    world.provider.mode = Mode(token_status=400)
    async with client.post("/v1/messages", json=WHOLE, headers=world.bearer) as response:
        status, kind, message = await refusal(response)
        assert (status, kind) == (401, "authentication_error")
        assert "log in again" in message
        assert response.headers["x-should-retry"] == "false"


async def test_one_user_holds_a_bounded_number_of_connections_and_the_oldest_idle_one_makes_room(tmp_path):
    async with MockProvider() as provider, InjectWorld(provider).serving(tmp_path, per_user=6) as world:
        pairs = [await asyncio.open_connection(*world.base_url.removeprefix("http://").split(":")) for _ in range(4)]
        answers = []
        for reader, writer in reversed(pairs):
            writer.write(b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n")
            answers += await asyncio.gather(reader.readline(), return_exceptions=True)
        assert answers[:3] == [b"HTTP/1.1 200 OK\r\n"] * 3
        assert answers[3] == b"" or isinstance(answers[3], ConnectionError)
        assert world.connections == 3
        for _, writer in pairs:
            writer.close()
        async with aiohttp.ClientSession(world.base_url) as session, session.get("/") as response:
            assert response.status == 200


async def test_the_descriptors_of_gone_connections_come_back(world):
    async with aiohttp.ClientSession(world.base_url) as session, session.get("/") as response:
        await response.read()
    before = open_descriptors()
    for _ in range(20):
        reader, writer = await asyncio.open_unix_connection(world.unix_path)
        writer.write(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        await reader.read()
        writer.close()
        await writer.wait_closed()
    assert (world.connections, open_descriptors()) <= (0, before)
