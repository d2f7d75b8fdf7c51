"""A value is found wherever a thief would put it, by its digest, with bounded work."""

import base64

import pytest
from multidict import CIMultiDict

from agent_broker.honeytoken.presented import MAX_PIECES, MAX_TEXT_CHARS, digest_of, digests_of, pieces_of
from agent_broker.inject.headers import MAX_CARRIED_CHARS, MAX_CARRIED_TEXTS, carried_values

TOKEN = "ghp_0123456789abcdefghijklmnopqrstuvwxyz"
SECRET = "abc/def+ghi=jkl/mno+pqr=stu/vwx+yz012345"

PLACES = {
    "whole": TOKEN,
    "spaces": f"  {TOKEN} ",
    "bearer": f"Bearer {TOKEN}",
    "github": f"token {TOKEN}",
    "cookie": f"a=b; session={TOKEN}; c=d",
    "quoted": f'Digest username="x", response="{TOKEN}"',
    "user": "Basic " + base64.b64encode(f"{TOKEN}:x".encode()).decode(),
    "password": "Basic " + base64.b64encode(f"deploy:{TOKEN}".encode()).decode(),
    "no padding": "basic " + base64.b64encode(f"deployer:{TOKEN}".encode()).decode().rstrip("="),
    "address": f"/v1/models?key={TOKEN}&alt=sse",
    "aws": f"AWS4-HMAC-SHA256 Credential={TOKEN}/20260101/us-east-1/s3/aws4_request, Signature=0123456789abcdef",
    "git": f"protocol=https\nhost=github.com\nusername=x\npassword={TOKEN}\n",
    "docker": f'{{"ServerURL":"x","Username":"y","Secret":"{TOKEN}"}}',
    "url": f"https://deploy:{TOKEN}@git.example/x.git",
}


@pytest.mark.parametrize("text", PLACES.values(), ids=PLACES.keys())
def test_a_value_is_found(text):
    assert TOKEN in pieces_of(text)


@pytest.mark.parametrize("text", [SECRET, f"Bearer {SECRET}", f"x; {SECRET}; y"])
def test_a_value_with_separators_in_it_is_found(text):
    assert SECRET in pieces_of(text)


def test_what_a_client_sends_anyway_is_nobody_s_value():
    assert pieces_of("gzip, br") == ()
    assert pieces_of("application/json") == ("application/json",)
    assert digests_of(("short", "user:profile")) == ()
    assert digests_of((TOKEN,)) == (digest_of(TOKEN),)


def test_the_work_is_bounded():
    flood = " ".join(f"{number:020d}" for number in range(100_000))
    assert len(pieces_of(flood)) == MAX_PIECES
    assert max(map(len, pieces_of("x" * 1_000_000))) == MAX_TEXT_CHARS
    headers = CIMultiDict((f"x-{number}", f"{number:020d}") for number in range(1000))
    assert len(list(carried_values(headers, "/"))) == MAX_CARRIED_TEXTS - 1  # the address is one
    wide = CIMultiDict((f"x-{number}", f"{number:08000d}") for number in range(100))
    assert sum(map(len, carried_values(wide, "/"))) <= MAX_CARRIED_CHARS


def test_authentication_is_looked_at_first_whatever_comes_before():
    headers = CIMultiDict((f"x-{number}", f"{number:020d}") for number in range(1000))
    headers.add("X-Api-Key", TOKEN)
    assert TOKEN in set(carried_values(headers, "/"))


@pytest.mark.parametrize("text", ["\udcff" * 20, "Basic " + "=" * 20, "Basic !!!!!!!!!!!!!!!!!!!!", "\0" * 40])
def test_hostile_text_is_only_text(text):
    assert all(digest_of(piece) for piece in pieces_of(text))
