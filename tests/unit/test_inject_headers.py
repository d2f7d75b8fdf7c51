"""Which headers pass, and where the credential goes."""

import pytest
from multidict import CIMultiDict

from agent_broker.errors import IntegrityError
from agent_broker.inject.answer import RequestRefusedError
from agent_broker.inject.headers import (
    check_framing,
    only_phantom,
    presented_tokens,
    put_credential,
    response_headers,
    upstream_headers,
)
from agent_broker.inject.phantom import new_phantom

PHANTOM = new_phantom()
HTTP_1_1 = (1, 1)


def test_a_plain_request_passes_the_framing_check():
    check_framing("POST", HTTP_1_1, CIMultiDict({"Content-Length": "12"}))
    check_framing("POST", HTTP_1_1, CIMultiDict({"Transfer-Encoding": "Chunked"}))
    check_framing("HEAD", HTTP_1_1, CIMultiDict())


@pytest.mark.parametrize(
    ("method", "version", "headers", "status"),
    [
        ("CONNECT", (1, 1), [], 400),
        ("GET", (1, 0), [], 400),
        ("GET", (1, 1), [("Upgrade", "websocket")], 426),
        ("POST", (1, 1), [("Content-Length", "5"), ("Transfer-Encoding", "chunked")], 400),
        ("POST", (1, 1), [("Content-Length", "5"), ("Content-Length", "5")], 400),
        ("POST", (1, 1), [("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked")], 400),
        ("POST", (1, 1), [("Transfer-Encoding", "gzip, chunked")], 400),
        ("POST", (1, 1), [("Content-Length", "+5")], 400),
        ("POST", (1, 1), [("Content-Length", "\u0665")], 400),
        ("POST", (1, 1), [("Content-Length", "")], 400),
    ],
)
def test_a_request_that_can_be_read_in_two_ways_is_refused(method, version, headers, status):
    with pytest.raises(RequestRefusedError) as refused:
        check_framing(method, version, CIMultiDict(headers))
    assert refused.value.status == status


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {PHANTOM}"},
        {"authorization": f"bearer   {PHANTOM} "},
        {"X-Api-Key": PHANTOM},
        {"X-Goog-Api-Key": PHANTOM},
        {"Authorization": f"Bearer {PHANTOM}", "x-api-key": PHANTOM},
        {"Authorization": f"Bearer {PHANTOM}", "x-api-key": "sk-ant-another"},
        {"Authorization": f"Bearer {PHANTOM}", "x-api-key": ""},
    ],
)
def test_the_phantom_is_found_in_each_authentication_header(headers):
    assert only_phantom(presented_tokens(CIMultiDict(headers))) == PHANTOM


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Basic {PHANTOM}"},
        {"Authorization": PHANTOM},
        {"Authorization": f"Bearer {PHANTOM}", "X-Debug": f"key={PHANTOM}"},
        {"Authorization": f"Bearer {PHANTOM}", "Cookie": f"a={PHANTOM.upper()}"},
        {"Proxy-Authorization": f"Bearer {PHANTOM}"},
    ],
)
def test_a_phantom_where_none_belongs_is_refused(headers):
    with pytest.raises(RequestRefusedError) as refused:
        presented_tokens(CIMultiDict(headers))
    assert (refused.value.status, refused.value.rule) == (400, "phantom-place")


def test_no_refusal_repeats_the_phantom():
    for headers in ({"X-Debug": PHANTOM}, {"Authorization": f"Basic {PHANTOM}"}):
        with pytest.raises(RequestRefusedError) as refused:
            presented_tokens(CIMultiDict(headers))
        assert PHANTOM not in refused.value.explain() + refused.value.detail


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer sk-ant-real"}, {"Authorization": "Basic eA=="}])
def test_a_request_without_a_phantom_is_unauthenticated(headers):
    with pytest.raises(RequestRefusedError) as refused:
        only_phantom(presented_tokens(CIMultiDict(headers)))
    assert refused.value.status == 401


def test_two_different_phantoms_are_refused():
    headers = CIMultiDict({"Authorization": f"Bearer {PHANTOM}", "x-api-key": new_phantom()})
    with pytest.raises(RequestRefusedError) as refused:
        only_phantom(presented_tokens(headers))
    assert refused.value.rule == "two-phantoms"


def test_a_repeated_header_is_looked_at_in_full():
    headers = CIMultiDict([("x-api-key", "sk-ant-other"), ("x-api-key", PHANTOM)])
    assert presented_tokens(headers) == ("sk-ant-other", PHANTOM)


def test_hop_by_hop_headers_and_all_authentication_end_here():
    headers = CIMultiDict(
        [
            ("Host", "127.0.0.1:917"),
            ("Authorization", f"Bearer {PHANTOM}"),
            ("X-API-Key", "sk-ant-other"),
            ("Connection", "keep-alive, X-Private"),
            ("Connection", "x-more"),
            ("X-Private", "1"),
            ("X-More", "1"),
            ("Keep-Alive", "timeout=5"),
            ("TE", "trailers"),
            ("Trailer", "x-sum"),
            ("Transfer-Encoding", "chunked"),
            ("Proxy-Authorization", "Basic eA=="),
            ("Proxy-Connection", "keep-alive"),
            ("Expect", "100-continue"),
            ("Content-Encoding", "gzip"),
            ("anthropic-version", "2023-06-01"),
            ("X-Twice", "1"),
            ("X-Twice", "2"),
        ]
    )
    assert list(upstream_headers(headers).items()) == [
        ("Content-Encoding", "gzip"),
        ("anthropic-version", "2023-06-01"),
        ("X-Twice", "1"),
        ("X-Twice", "2"),
    ]


def test_the_response_loses_its_hop_by_hop_headers_only():
    headers = CIMultiDict(
        [
            ("Transfer-Encoding", "chunked"),
            ("Connection", "close"),
            ("Content-Encoding", "br"),
            ("Set-Cookie", "a=1"),
            ("Set-Cookie", "b=2"),
            ("request-id", "r1"),
        ]
    )
    assert list(response_headers(headers).items()) == [
        ("Content-Encoding", "br"),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
        ("request-id", "r1"),
    ]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("anthropic-api-key", {"x-api-key": "real"}),
        ("anthropic-auth-token", {"Authorization": "Bearer real"}),
        ("anthropic-oauth", {"Authorization": "Bearer real", "anthropic-beta": "oauth-2025-04-20"}),
        ("openai-api-key", {"Authorization": "Bearer real"}),
        ("openai-oauth", {"Authorization": "Bearer real"}),
        ("gemini-api-key", {"x-goog-api-key": "real"}),
        ("google-oauth", {"Authorization": "Bearer real"}),
    ],
)
def test_each_kind_of_credential_has_its_one_place(kind, expected):
    headers: CIMultiDict[str] = CIMultiDict()
    put_credential(headers, kind, "real")
    assert dict(headers) == expected


def test_the_oauth_beta_joins_those_of_the_agent_once():
    headers = CIMultiDict([("Anthropic-Beta", "a-1, b-2"), ("anthropic-beta", "c-3")])
    put_credential(headers, "anthropic-oauth", "real")
    assert headers.getall("anthropic-beta") == ["a-1,b-2,c-3,oauth-2025-04-20"]
    put_credential(headers, "anthropic-oauth", "real")
    assert headers.getall("anthropic-beta") == ["a-1,b-2,c-3,oauth-2025-04-20"]


def test_a_login_names_its_account_and_not_the_client_s():
    headers = CIMultiDict([("chatgpt-account-id", "theirs"), ("ChatGPT-Account-ID", "too")])
    put_credential(headers, "openai-oauth", "real", {"account_id": "ours"})
    assert headers.getall("chatgpt-account-id") == ["ours"]
    with pytest.raises(IntegrityError):
        put_credential(headers, "openai-oauth", "real", {"account_id": "a\r\nb"})
    put_credential(headers, "openai-oauth", "real")
    assert "chatgpt-account-id" not in headers


@pytest.mark.parametrize("value", ["", "sk ant", "sk\r\nX-Evil: 1", "sk\n", "schl\u00fcssel", "\x00"])
def test_a_credential_that_no_header_may_carry_is_damage(value):
    headers: CIMultiDict[str] = CIMultiDict()
    with pytest.raises(IntegrityError) as broken:
        put_credential(headers, "anthropic-api-key", value)
    assert not headers
    assert not value.strip() or value not in str(broken.value)


def test_a_kind_that_can_not_be_injected_is_an_error():
    with pytest.raises(IntegrityError):
        put_credential(CIMultiDict(), "original-file", "real")
