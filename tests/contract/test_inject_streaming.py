"""Streams that flow, break, stall, and are left; upstreams that are down, slow, or not who they say they are."""

import asyncio
import datetime as dt
import gzip
import ipaddress
import ssl

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.fakes.inject import REAL_KEY, InjectWorld
from tests.fakes.mock_provider import MockProvider, Mode

STREAMING = {"model": "m", "stream": True, "messages": []}


@pytest.fixture
async def world(tmp_path):
    async with MockProvider() as provider, InjectWorld(provider).serving(tmp_path) as served:
        yield served


@pytest.fixture
async def client(world):
    async with aiohttp.ClientSession(world.base_url) as session:
        yield session


async def until(condition):
    while not condition():
        await asyncio.sleep(0.005)


async def error_of(response):
    body = await response.json()
    return response.status, body["error"]["message"], response.headers.get("x-should-retry")


async def test_events_arrive_one_by_one(world, client):
    world.provider.mode = Mode(events=5, event_delay_s=0.05)
    async with client.post("/v1/messages", json=STREAMING, headers=world.bearer) as response:
        chunks = [chunk async for chunk in response.content.iter_any()]
    assert len(chunks) == 10  # message_start, block_start, 5 deltas, block_stop, message_delta, message_stop
    assert all(chunk.startswith(b"event: ") and chunk.endswith(b"\n\n") for chunk in chunks)


async def test_the_head_of_a_stream_does_not_wait_for_its_first_event(world, client):
    world.provider.mode = Mode(event_delay_s=3600)
    async with client.post("/v1/messages", json=STREAMING, headers=world.bearer) as response:
        assert response.status == 200
        assert b"message_start" in await response.content.readany()


async def test_a_long_stream_arrives_byte_for_byte(world, client):
    world.provider.mode = Mode(events=2000, answer="\u00e4" * 500)
    bodies = []
    for base, headers in ((world.provider.base_url, {}), (world.base_url, world.bearer)):
        async with client.post(f"{base}/v1/messages", json=STREAMING, headers=headers) as response:
            bodies.append((await response.read()).replace(b"msg_mock_1", b"msg_mock_2"))
    assert len(bodies[0]) > 5_000_000
    assert bodies[0] == bodies[1]


async def test_a_stream_that_breaks_off_never_looks_complete(world, client):
    world.provider.mode = Mode(events=5, break_after=3)
    received = []

    async def receive(response):
        async for chunk in response.content.iter_any():
            received.append(chunk)  # noqa: PERF401 - what came before the break is looked at

    async with client.post("/v1/messages", json=STREAMING, headers=world.bearer) as response:
        with pytest.raises(aiohttp.ClientPayloadError):
            await receive(response)
    assert b"".join(received).count(b"event: ") == 3
    world.provider.mode = Mode()
    async with client.post("/v1/messages", json=STREAMING, headers=world.bearer) as response:
        assert b"message_stop" in await response.read()


async def test_a_compressed_answer_passes_byte_for_byte(tmp_path):
    body = gzip.compress(b"event: x\n\n" * 1000)

    async def compressed(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n")
        for part in (body[:10], body[10:]):
            writer.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
            await writer.drain()
            await asyncio.sleep(0.02)
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with (
        await asyncio.start_server(compressed, "127.0.0.1", 0) as server,
        InjectWorld(MockProvider()).serving(tmp_path, upstream=_url(server)) as world,
        aiohttp.ClientSession(world.base_url, auto_decompress=False) as client,
        client.get("/v1/models", headers=world.bearer) as response,
    ):
        assert response.headers["Content-Encoding"] == "gzip"
        assert await response.read() == body


async def test_an_answer_shorter_than_its_length_never_looks_complete(tmp_path):
    async def half(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await writer.drain()
        writer.close()

    async with (
        await asyncio.start_server(half, "127.0.0.1", 0) as server,
        InjectWorld(MockProvider()).serving(tmp_path, upstream=_url(server)) as world,
        aiohttp.ClientSession(world.base_url) as client,
        client.get("/v1/models", headers=world.bearer) as response,
    ):
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()


@pytest.mark.parametrize("mode", [Mode(event_delay_s=3600), Mode(delay_s=3600)], ids=["stream", "before the answer"])
async def test_a_client_that_leaves_ends_the_providers_work(world, client, mode):
    world.provider.mode = mode
    request = asyncio.ensure_future(client.post("/v1/messages", json=STREAMING, headers=world.bearer))
    await until(lambda: world.provider.seen)
    if mode.event_delay_s:
        (await request).close()
    request.cancel()
    await until(lambda: world.provider.disconnects + world.provider.finished)
    assert (world.provider.disconnects, world.provider.finished) == (1, 0)


async def test_a_decision_runs_to_its_end_though_the_client_left(world, client):
    world.monitor.agents = {1}
    world.issuer.gate.clear()
    request = asyncio.ensure_future(client.post("/v1/messages", json=STREAMING, headers=world.bearer))
    await until(lambda: world.issuer.asks)
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)
    await until(lambda: world.connections == 0)
    world.issuer.gate.set()
    await until(lambda: world.issuer.refusals or world.issuer.given)
    assert [refused.rule for refused in world.issuer.refusals] == ["principal"]
    assert world.provider.seen == []


async def test_a_yes_to_a_client_that_left_sends_nothing(world, client):
    world.issuer.gate.clear()
    request = asyncio.ensure_future(client.get("/v1/left", headers=world.bearer))
    await until(lambda: world.issuer.asks)
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)
    await until(lambda: world.connections == 0)
    world.issuer.gate.set()
    await until(lambda: world.issuer.given == 1)
    async with client.get("/v1/stayed", headers=world.bearer) as response:
        await response.read()
    assert [seen.target for seen in world.provider.seen] == ["/v1/stayed"]


async def test_a_provider_that_is_down_is_told_at_once_and_may_be_retried(world, client):
    await world.provider.stop()
    async with client.post("/v1/messages", json=STREAMING, headers=world.bearer) as response:
        assert await error_of(response) == (
            502,
            "agent-broker: 127.0.0.1 can't be reached: Connection refused",
            None,
        )


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\n", b"SSH-2.0-OpenSSH\r\n\r\n"])
async def test_a_provider_that_does_not_answer_in_http(tmp_path, answer):
    async def garble(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    async with (
        await asyncio.start_server(garble, "127.0.0.1", 0) as server,
        InjectWorld(MockProvider()).serving(tmp_path, upstream=_url(server)) as world,
        aiohttp.ClientSession(world.base_url) as client,
    ):
        async with client.post("/v1/messages", json=STREAMING, headers=world.bearer) as response:
            status, message, _ = await error_of(response)
        assert status == 502
        assert REAL_KEY not in message


async def test_a_provider_that_is_too_slow_is_given_up(tmp_path):
    async with (
        MockProvider() as provider,
        InjectWorld(provider).serving(tmp_path, idle_read_timeout_s=0.2) as world,
        aiohttp.ClientSession(world.base_url) as client,
    ):
        provider.mode = Mode(delay_s=3600)
        async with client.post("/v1/messages", json=STREAMING, headers=world.bearer) as response:
            assert (await error_of(response))[0] == 504
        provider.mode = Mode(event_delay_s=3600)
        async with client.post("/v1/messages", json=STREAMING, headers=world.bearer) as response:
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()


async def test_the_environments_proxy_is_not_used(world, client, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with client.post("/v1/messages", json=STREAMING, headers=world.bearer) as response:
        assert response.status == 200


async def test_closing_the_endpoint_ends_streams_and_holds_nothing(tmp_path):
    async with MockProvider() as provider, aiohttp.ClientSession() as client:
        provider.mode = Mode(event_delay_s=3600)
        async with InjectWorld(provider).serving(tmp_path) as world:
            response = await client.post(f"{world.base_url}/v1/messages", json=STREAMING, headers=world.bearer)
            await response.content.readany()
        assert world.connections == 0
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()


async def test_https_upstreams_are_verified(tmp_path):
    key, certificate, authority = _certificate(tmp_path)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(certificate, key)
    provider = MockProvider()
    await provider.start(tls=server)
    trusting = ssl.create_default_context(cafile=authority)
    wrong_name = f"https://localhost:{provider.port}"
    for tls, upstream, status in ((None, "", 502), (trusting, wrong_name, 502), (trusting, "", 200)):
        folder = tmp_path / f"{status}{len(upstream)}{tls is None}"
        folder.mkdir()
        async with (
            InjectWorld(provider).serving(folder, tls=tls, upstream=upstream) as world,
            aiohttp.ClientSession(world.base_url) as client,
            client.post("/v1/messages", json=STREAMING, headers=world.bearer) as response,
        ):
            assert response.status == status
            assert (b"certificate" in await response.read()) == (status == 502)
    assert [seen.auth for seen in provider.seen] == [{"x-api-key": REAL_KEY}]
    await provider.stop()


def _url(server):
    return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def _certificate(folder):
    """Write a key and a certificate for 127.0.0.1 that nobody trusts; return key, certificate, authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test provider")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    key_file, certificate_file = folder / "key.pem", folder / "certificate.pem"
    key_file.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    certificate_file.write_bytes(certificate.public_bytes(pem))
    return key_file, certificate_file, certificate_file
