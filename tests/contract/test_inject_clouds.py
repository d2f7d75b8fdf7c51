"""Bedrock and Vertex through the endpoint: AWS's and Google's own code verifies what the broker signs and mints."""

import asyncio
import io
import json

import aiohttp
import pytest

from agent_broker.clock import SystemClock
from agent_broker.inject.sigv4 import MAX_BODY_BYTES
from tests.fakes.cloud_apis import CloudProvider
from tests.fakes.cloud_logins import AWS_KEYS, LOGIN, PROJECT, SERVICE_ACCOUNT, SESSION_KEYS, cloud_mode
from tests.fakes.inject import InjectWorld

REGION = {"regions": "eu-west-1"}
PLACE = {"project": PROJECT, "regions": "us-east5 global"}
INVOKE = "/model/eu.anthropic.claude-opus-5-5/invoke-with-response-stream"
ARN = "/model/arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile%2Fabc/invoke"
CLAUDE = f"/v1/projects/{PROJECT}/locations/us-east5/publishers/anthropic/models/claude-opus-5-5:streamRawPredict"
GEMINI = "/v1beta1/publishers/google/models/gemini-3-pro:streamGenerateContent?alt=sse"
BODY = {"messages": [], "stream": True, "contents": []}


class DatedClock(SystemClock):
    """The machine's, whose date tests set."""

    off_ns = 0

    def wall_ns(self):
        return super().wall_ns() + self.off_ns


class Watch:
    """Keeps which logins have ended."""

    def __init__(self):
        self.ended = []

    async def login_ended(self, credential, mark):
        self.ended.append((credential.id, mark))


@pytest.fixture
async def world(tmp_path):
    async with CloudProvider() as provider:
        provider.mode = cloud_mode()
        world = InjectWorld(provider)
        world.clock = DatedClock()
        world.watch = Watch()
        async with world.serving(tmp_path):
            yield world


async def ask(world, target, method="POST", body=None, **headers):
    data = json.dumps(BODY).encode() if body is None else body
    sent = {**world.bearer, "Content-Type": "application/json", **headers}
    async with (
        aiohttp.ClientSession(world.base_url) as session,
        session.request(method, target, data=io.BytesIO(data) if method == "POST" else None, headers=sent) as response,
    ):
        return response.status, await response.read()


@pytest.mark.parametrize("keys", [AWS_KEYS, SESSION_KEYS])
@pytest.mark.parametrize("target", [INVOKE, ARN, "/model/eu.anthropic.claude-v1:0/invoke"])
async def test_bedrock_gets_a_signature_that_botocore_computes_too(world, keys, target):
    world.use("aws-keys", json.dumps(keys).encode(), REGION)
    status, said = await ask(world, target)
    assert (status, world.provider.refusals) == (200, [])
    assert said
    (seen,) = world.provider.seen
    assert seen.target == target
    assert seen.auth == {"authorization": f"AWS4 {keys['aws_access_key_id']}/eu-west-1/bedrock"}
    assert seen.json == BODY
    assert world.phantom not in str(seen)


async def test_what_a_client_sends_of_a_signature_is_dropped(world):
    world.use("aws-keys", json.dumps(AWS_KEYS).encode(), REGION)
    forged = {"x-amz-date": "20200101T000000Z", "X-Amz-Security-Token": "theirs", "x-amz-content-sha256": "0" * 64}
    status, _ = await ask(world, INVOKE, **forged, **{"x-amz-user-agent": "aws-sdk-js/3", "x-api-key": "theirs"})
    assert (status, world.provider.refusals) == (200, [])
    (seen,) = world.provider.seen
    assert "theirs" not in str(seen)
    assert seen.headers["x-amz-user-agent"] == "aws-sdk-js/3"


async def test_the_list_of_models_is_read_and_nothing_else_of_bedrock_s_control_plane(world):
    world.use("aws-keys", json.dumps(AWS_KEYS).encode(), REGION)
    assert (await ask(world, "/inference-profiles?type=SYSTEM_DEFINED", "GET"))[0] == 200
    for target, method in (
        ("/inference-profiles", "POST"),
        ("/inference-profiles/x", "DELETE"),
        ("/model/m/async-invoke", "POST"),
        ("/model/m/invoke", "GET"),
        ("/guardrails", "GET"),
        ("/?Action=GetSessionToken", "POST"),
    ):
        assert (await ask(world, target, method))[0] == 403
    assert len(world.provider.seen) == 1


@pytest.mark.parametrize(
    "model",
    [
        "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile%2Fabc",
        "arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Aapplication-inference-profile%2Fabc",
    ],
)
async def test_a_model_in_another_region_is_refused(world, model):
    world.use("aws-keys", json.dumps(AWS_KEYS).encode(), REGION)
    status, said = await ask(world, f"/model/{model}/invoke")
    assert status == 403
    assert b"eu-west-1 alone" in said
    assert world.provider.seen == []


@pytest.mark.parametrize("model", ["a%2F..%2F..%2Fguardrails", "..%2Fx", "%2e%2e", "a%252F..%252Fx"])
async def test_an_encoded_slash_is_no_way_out_of_the_model_s_name(world, model):
    world.use("aws-keys", json.dumps(AWS_KEYS).encode(), REGION)
    assert (await ask(world, f"/model/{model}/invoke"))[0] in {400, 403}
    assert world.provider.seen == []


async def test_a_body_that_bedrock_would_not_take_is_refused_before_it_is_whole(world):
    world.use("aws-keys", json.dumps(AWS_KEYS).encode(), REGION)
    status, said = await ask(world, INVOKE, body=b"x" * (MAX_BODY_BYTES + 1))
    assert status == 413
    assert b"25000000 bytes" in said
    assert world.provider.seen == []


async def test_a_large_body_passes_whole(world):
    world.use("aws-keys", json.dumps(AWS_KEYS).encode(), REGION)
    assert (await ask(world, INVOKE, body=json.dumps({**BODY, "pad": "x" * (8 << 20)}).encode()))[0] == 200
    assert world.provider.seen[0].body_bytes > 8 << 20


async def test_a_body_whose_length_is_not_told_is_signed_as_well(world):
    world.use("aws-keys", json.dumps(AWS_KEYS).encode(), REGION)

    async def pieces():
        for piece in (b'{"messages": [], ', b'"stream": true}'):
            yield piece

    async with (
        aiohttp.ClientSession(world.base_url) as session,
        session.post(INVOKE, data=pieces(), headers=world.bearer) as response,
    ):
        assert response.status == 200
    (seen,) = world.provider.seen
    assert (seen.json, "transfer-encoding" in seen.headers) == ({"messages": [], "stream": True}, False)


async def test_a_stored_key_that_is_none_is_never_told(world):
    world.use("aws-keys", b'{"aws_access_key_id": "AKIASECRETSECRET"}', REGION)
    status, said = await ask(world, INVOKE)
    assert status == 500
    assert b"AKIA" not in said


async def test_a_bedrock_api_key_goes_as_it_is(world):
    world.use("bedrock-api-key", b"ABSK-the-real-one", REGION)
    assert (await ask(world, INVOKE))[0] == 200
    assert world.provider.seen[0].auth == {"authorization": "Bearer ABSK-the-real-one"}


@pytest.mark.parametrize(("kind", "secret"), [("google-service-account", SERVICE_ACCOUNT), ("google-adc", LOGIN)])
async def test_a_token_is_minted_once_and_vertex_sees_it_alone(world, kind, secret):
    world.use(kind, json.dumps(secret).encode(), PLACE)
    answers = await asyncio.gather(*(ask(world, CLAUDE) for _ in range(8)))
    assert [status for status, _ in answers] == [200] * 8
    assert all(b"MOCK-OK" in said for _, said in answers)
    assert len(world.provider.grants) == 1
    (token,) = world.provider.given
    asked = [each for each in world.provider.seen if each.target == CLAUDE]
    assert [each.auth for each in asked] == [{"authorization": f"Bearer {token}"}] * 8
    assert world.phantom not in str(world.provider.seen)


async def test_gemini_s_requests_get_the_project_and_the_first_location(world):
    world.use("google-service-account", json.dumps(SERVICE_ACCOUNT).encode(), {**PLACE, "account_id": "billed"})
    status, said = await ask(world, GEMINI, **{"x-goog-user-project": "somebody-s"})
    assert status == 200
    assert b"MOCK-OK" in said
    seen = world.provider.seen[-1]
    assert seen.target == GEMINI.replace("/publishers", f"/projects/{PROJECT}/locations/us-east5/publishers")
    assert seen.headers["x-goog-user-project"] == "billed"


async def test_an_api_key_for_vertex_goes_where_it_belongs_and_names_no_project(world):
    world.use("vertex-api-key", b"AIza-the-real-one")
    world.provider.mode.google_accounts.clear()
    world.provider.mode.google_logins.clear()
    async with (
        aiohttp.ClientSession(world.base_url) as session,
        session.post(GEMINI, json=BODY, headers={"x-goog-api-key": world.phantom}) as response,
    ):
        assert response.status == 200
    seen = world.provider.seen[0]
    assert (seen.target, seen.auth) == (GEMINI, {"x-goog-api-key": "AIza-the-real-one"})
    assert (await ask(world, CLAUDE))[0] == 403


@pytest.mark.parametrize(
    "target",
    [
        CLAUDE.replace(PROJECT, "another-project"),
        CLAUDE.replace("us-east5", "europe-west1"),
        CLAUDE.replace(":streamRawPredict", ":fetchPredictOperation"),
        f"/v1/projects/{PROJECT}/locations/us-east5/endpoints",
        f"/v1/projects/{PROJECT}/locations/us-east5/publishers/anthropic/models/a%2Fb:rawPredict",
        "/v1/projects",
    ],
)
async def test_another_project_location_or_service_is_refused(world, target):
    world.use("google-service-account", json.dumps(SERVICE_ACCOUNT).encode(), PLACE)
    assert (await ask(world, target))[0] in {400, 403}
    assert world.provider.seen == []
    assert world.provider.grants == []


@pytest.mark.parametrize("problem", ["revoked", "key"])
async def test_a_credential_that_google_refuses_is_told_once_and_not_sent_again(world, problem):
    world.use("google-adc", json.dumps(LOGIN).encode(), PLACE)
    if problem == "revoked":
        world.provider.mode.google_logins["another"] = world.provider.mode.google_logins.pop(LOGIN["refresh_token"])
    else:
        other = {**SERVICE_ACCOUNT, "client_email": "nobody@project.iam.gserviceaccount.com"}
        world.use("google-service-account", json.dumps(other).encode(), PLACE)
    for _ in range(3):
        status, said = await ask(world, CLAUDE)
        assert status == 401
        assert b"no more" in said
    assert len(world.provider.grants) == 1
    assert len(world.watch.ended) == 1


async def test_a_token_that_vertex_refuses_is_replaced_with_the_next_request(world):
    world.use("google-adc", json.dumps(LOGIN).encode(), PLACE)
    assert (await ask(world, CLAUDE))[0] == 200
    (first,) = world.provider.given
    world.provider.given.clear()
    world.provider.mode.new_access = "ya29.the-next"
    assert (await ask(world, CLAUDE))[0] == 401
    assert (await ask(world, CLAUDE))[0] == 200
    assert world.provider.seen[-1].auth == {"authorization": "Bearer ya29.the-next"}
    assert first != "ya29.the-next"


async def test_a_login_server_that_fails_is_not_asked_in_a_storm_and_what_is_left_is_used(world):
    world.use("google-service-account", json.dumps(SERVICE_ACCOUNT).encode(), PLACE)
    world.provider.mode.token_status = 503
    for _ in range(3):
        status, said = await ask(world, CLAUDE)
        assert status == 503
        assert b"try again in a minute" in said
    assert len(world.provider.grants) == 1
    assert world.watch.ended == []


async def test_a_machine_whose_date_is_off_mints_with_google_s_date(world):
    world.use("google-service-account", json.dumps(SERVICE_ACCOUNT).encode(), PLACE)
    world.clock.off_ns = 3 * 86_400 * 10**9  # the one date that the endpoint and its peers have
    assert (await ask(world, CLAUDE))[0] == 200
    assert len(world.provider.grants) == 2
    assert world.watch.ended == []
