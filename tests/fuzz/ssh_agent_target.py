"""Fuzzes what the ssh-agent socket reads: a request is understood in full or refused; nothing is signed by guess."""

import hashlib
import re

from agent_broker.errors import MisuseError, RefusedError
from agent_broker.ssh.binding import Bindings, Limits
from agent_broker.ssh.keys import is_genuine, load_public, without_certificate
from agent_broker.ssh.messages import Bind, ListKeys, SignData, Unsupported, decode_request
from agent_broker.ssh.signed_data import FileSignature, Login, decode_signed
from agent_broker.ssh.wire import WireError, string

MOST_MESSAGES = 40
_messages: set[str] = set()


def one_input(data: bytes) -> None:
    """Try the bytes as a message, as what is to be signed, and as keys and signatures."""
    try:
        request = decode_request(data)
    except WireError as error:
        _note(error)
    else:
        _take(request, data)
    _signed(data)
    _key(data)


def _take(request, data: bytes) -> None:
    match request:
        case ListKeys():
            assert data == b"\x0b"
        case SignData(key, text, flags):
            assert data == b"\x0d" + string(key) + string(text) + flags.to_bytes(4)
            _signed(text)
            _key(key)
        case Bind(host_key, session_id, signature, is_forwarding):
            parts = (b"session-bind@openssh.com", host_key, session_id, signature)
            assert data[:-1] == b"\x1b" + b"".join(map(string, parts))
            assert bool(data[-1]) == is_forwarding
            _bind(request)
        case Unsupported(number):
            assert number not in {11, 13}


def _bind(bind: Bind) -> None:
    """Random bytes are never a host's signature; and then nothing is signed on the connection."""
    bindings = Bindings()
    try:
        bindings.add(bind)
    except RefusedError as error:
        _note(error)
    else:
        raise AssertionError("a host's signature that nobody made")
    lax = Limits(needs_binding=False, allows_forwarding=True)
    assert bindings.refusal_of(FileSignature("git"), b"", lax) is not None


def _signed(data: bytes) -> None:
    try:
        wanted = decode_signed(data)
    except WireError as error:
        _note(error)
        return
    if isinstance(wanted, Login):
        assert not data.startswith(b"SSHSIG")
        assert string(wanted.session_id) == data[: 4 + len(wanted.session_id)]
        assert string(wanted.key) in data
    else:
        assert wanted.namespace
        assert data.startswith(b"SSHSIG" + string(wanted.namespace.encode()))


def _key(data: bytes) -> None:
    try:
        key = load_public(data)
    except MisuseError as error:
        _note(error)
    else:
        assert not is_genuine(key, data, hashlib.sha256(data).digest())
    try:
        without_certificate(data)
    except WireError as error:
        _note(error)


def _note(error: MisuseError | RefusedError) -> None:
    _messages.add(re.sub(r"\d+", "N", error.message))
    assert len(_messages) < MOST_MESSAGES, "a message that quotes its input"
