"""SSH's formats: requests, what is signed, keys and hosts; each with what is just not one."""

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from agent_broker.errors import IntegrityError, MisuseError
from agent_broker.ssh.binding import Limits
from agent_broker.ssh.hosts import host_keys_of, named_host
from agent_broker.ssh.keys import blob_of_line, load_private_key, public_blob, public_line, sign
from agent_broker.ssh.messages import Bind, ListKeys, SignData, Unsupported, decode_request
from agent_broker.ssh.record import KeyFacts, facts_of
from agent_broker.ssh.signed_data import FileSignature, Login, decode_signed
from agent_broker.ssh.wire import MAX_STRING_BYTES, WireError, integer, number, string

KEY = string(b"ssh-ed25519") + string(bytes(32))
HEAD = string(b"s" * 32) + bytes((50,)) + string(b"me") + string(b"ssh-connection")
LOGIN = HEAD + string(b"publickey") + b"\1" + string(b"ssh-ed25519") + string(KEY)
BOUND = HEAD + string(b"publickey-hostbound-v00@openssh.com") + b"\1" + string(b"x") + string(KEY) + string(b"host")
FILE = b"SSHSIG" + string(b"git") + string(b"") + string(b"sha512") + string(b"h" * 64)


@pytest.mark.parametrize(
    ("body", "request_"),
    [
        (b"\x0b", ListKeys()),
        (b"\x0d" + string(KEY) + string(b"data") + number(4), SignData(KEY, b"data", 4)),
        (
            b"\x1b" + string(b"session-bind@openssh.com") + string(KEY) + string(b"id") + string(b"sig") + b"\1",
            Bind(KEY, b"id", b"sig", is_forwarding=True),
        ),
        (b"\x1b" + string(b"query"), Unsupported(27, "query")),
        (b"\x11" + b"a key", Unsupported(17)),
    ],
)
def test_requests(body, request_):
    assert decode_request(body) == request_


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x0b\0",
        b"\x0d" + string(KEY) + string(b"data"),
        b"\x0d" + string(KEY) + string(b"data") + number(4) + b"x",
        b"\x0d" + number(MAX_STRING_BYTES + 1) + bytes(MAX_STRING_BYTES + 1),
        b"\x1b" + string(b"session-bind@openssh.com") + string(KEY),
        b"\x1b" + string(b"\xff"),
        bytes(1 << 20),
    ],
)
def test_what_is_no_request(body):
    with pytest.raises(WireError):
        decode_request(body)


def test_what_may_be_signed():
    assert decode_signed(LOGIN) == Login(b"s" * 32, "me", KEY, None)
    assert decode_signed(BOUND) == Login(b"s" * 32, "me", KEY, b"host")
    assert decode_signed(FILE) == FileSignature("git")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"anything at all",
        LOGIN + b"x",
        LOGIN[:-1],
        LOGIN.replace(b"ssh-connection", b"ssh-userauth\0\0"),
        LOGIN.replace(b"\1" + string(b"ssh-ed25519"), b"\0" + string(b"ssh-ed25519"), 1),
        LOGIN.replace(b"publickey", b"hostbased"),
        LOGIN.replace(bytes((50,)), bytes((51,)), 1),
        string(b"short") + LOGIN[36:],
        FILE + b"x",
        FILE.replace(string(b"git"), string(b"")),
        FILE.replace(string(b"") + string(b"sha512"), string(b"x") + string(b"sha512")),
        FILE.replace(b"sha512", b"sha1\0\0"),
        string(b"ssh-ed25519-cert-v01@openssh.com") + bytes(100),
    ],
)
def test_what_is_never_signed(data):
    with pytest.raises(WireError):
        decode_signed(data)


@pytest.mark.parametrize(("value", "data"), [(0, b""), (1, b"\1"), (0x80, b"\0\x80"), (0x7FFF, b"\x7f\xff")])
def test_integers(value, data):
    assert integer(value) == string(data)  # RFC 4251 section 5


def test_a_public_line_is_read_as_it_is_written():
    line = public_line(KEY, "me @ home")
    assert blob_of_line(line) == (KEY, "me @ home")
    for wrong in ("", "ssh-ed25519", "ssh-rsa " + line.split()[1], "ssh-ed25519 !", "ssh-ed25519 AAAA"):
        with pytest.raises(MisuseError):
            blob_of_line(wrong)


def pem(key):
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"-----BEGIN OPENSSH PRIVATE KEY-----\n",
        pem(dsa.generate_private_key(2048)),
        pem(generate_private_key(65537, 1024)),  # noqa: S505 - that is what is refused
    ],
)
def test_keys_that_are_not_taken(data):
    with pytest.raises(MisuseError):
        load_private_key(data)


def test_sha1_is_never_signed_with():
    key = generate_private_key(65537, 2048)
    with pytest.raises(MisuseError):
        sign(key, b"data", 0)


def test_a_record_says_what_was_enrolled_or_is_damaged():
    facts = KeyFacts(public_blob(Ed25519PrivateKey.generate()), "me", Limits(namespaces=("git",)))
    assert facts_of(facts.attributes(), "a key") == facts
    for wrong in ({}, {**facts.attributes(), "limits": "{"}, {**facts.attributes(), "public_key": "x"}):
        with pytest.raises(IntegrityError):
            facts_of(wrong, "a key")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("github.com", ("", "github.com", "github.com", "")),
        ("git@GitHub.com", ("git", "github.com", "github.com", "")),
        ("h:22", ("", "h", "h", "")),
        ("h:2222", ("", "h:2222", "[h]:2222", "")),
        ("[::1]:2222", ("", "::1:2222", "[::1]:2222", "")),
        (f"h=SHA256:{'a' * 43}", ("", "h", "h", f"SHA256:{'a' * 43}")),
    ],
)
def test_hosts(text, parts):
    found = named_host(text)
    assert (found.user, found.host, found.name, found.fingerprint) == parts


@pytest.mark.parametrize("text", ["", "-oX", "a b", "h:", "h:port", "h=MD5:x", "h=SHA256:short", "$(x)", "a/b", "é"])
def test_what_is_no_host(text):
    with pytest.raises(MisuseError):
        named_host(text)


def test_known_hosts_lines_become_fingerprints():
    blob = base64.b64encode(KEY).decode()
    shown = "SHA256:" + base64.b64encode(hashlib.sha256(KEY).digest()).decode().rstrip("=")
    lines = f"# Host h found\nh ssh-ed25519 {blob}\n@revoked h ssh-rsa {blob}x\nh ssh-ed25519 {blob} a comment\nh x\n"
    assert host_keys_of(lines.encode()) == (shown,)
