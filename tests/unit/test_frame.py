import struct

import pytest

from agent_broker.transport.frame import (
    MAX_FRAME_BYTES,
    FrameError,
    FrameType,
    ShimAnswer,
    ShimRequest,
    VersionError,
    decode_answer,
    decode_nonce,
    decode_request,
    decode_versions,
    encode_answer,
    encode_nonce,
    encode_request,
    encode_versions,
)
from agent_broker.vault.secret import Secret

CANARY = "do-not-quote-me"


def framed(body: bytes, *, frame_type: int = 1, version: int = 1, magic: bytes = b"ABRK", length: int | None = None):
    return struct.pack("<4sHHI", magic, version, frame_type, len(body) if length is None else length) + body


def field(tag: int, value: bytes) -> bytes:
    return struct.pack("<HH", tag, len(value)) + value


GET = field(1, b"get")


def test_the_bytes_of_a_request_are_these():
    request = ShimRequest("get", ("api-key",), b"in", (("A", "1=2"),))
    expected = (
        b"ABRK\x01\x00\x01\x00\x21\x00\x00\x00"
        b"\x01\x00\x03\x00get\x02\x00\x07\x00api-key\x03\x00\x02\x00in\x04\x00\x05\x00A=1=2"
    )
    assert encode_request(request) == expected
    assert decode_request(expected) == request


def test_the_bytes_of_an_answer_are_these():
    expected = b"ABRK\x01\x00\x02\x00\x12\x00\x00\x00\x10\x00\x01\x00\x03\x11\x00\x01\x00o\x12\x00\x04\x00oops"
    assert encode_answer(ShimAnswer(3, b"o", b"oops")) == expected
    assert decode_answer(expected) == ShimAnswer(3, b"o", b"oops")


@pytest.mark.parametrize(
    ("frame", "position"),
    [
        (b"", 0),
        (b"ABRK\x01", 5),
        (framed(GET, magic=b"HTTP"), 0),
        (framed(GET, frame_type=2), 6),
        (framed(GET, frame_type=77), 6),
        (framed(GET, length=len(GET) - 1), 8),
        (framed(GET) + b"\0", 8),
        (framed(GET + b"\x02"), 19),
        (framed(b""), 12),
        (framed(field(2, b"first")), 12),
        (framed(GET + field(9, CANARY.encode())), 19),
        (framed(GET + field(16, b"\0")), 19),
        (framed(GET + GET), 19),
        (framed(GET + field(3, b"a") + field(3, b"b")), 19 + 5),
        (framed(GET + field(4, b"A=1") + field(2, b"a")), 19 + 7),
        (framed(GET + struct.pack("<HH", 2, 100) + CANARY.encode()), 19),
        (framed(field(1, b"g\xffet")), 12),
        (framed(field(1, b"")), 12),
        (framed(field(1, b"two words")), 12),
        (framed(field(1, b"x" * 65)), 12),
        (framed(GET + field(2, b"\xff" + CANARY.encode())), 19),
        (framed(GET + field(2, b"a\0b")), 19),
        (framed(GET + field(3, b"")), 19),
        (framed(GET + field(4, CANARY.encode())), 19),
        (framed(GET + field(4, b"=" + CANARY.encode())), 19),
        (framed(GET + field(4, b"A=1") + field(4, b"A=2")), 19 + 7),
        (framed(GET + field(3, b"x" * (MAX_FRAME_BYTES - 22))), MAX_FRAME_BYTES),
    ],
)
def test_anything_else_is_refused_with_its_position_and_not_quoted(frame, position):
    with pytest.raises(FrameError) as caught:
        decode_request(frame)
    assert caught.value.position_bytes == position
    assert f"byte {position}" in caught.value.message
    assert caught.value.exit_code == 2
    assert CANARY not in repr(caught.value) + caught.value.explain()
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("version", [0, 2, 65535])
def test_another_version_is_told_apart_and_answered_with_ours(version):
    with pytest.raises(VersionError) as caught:
        decode_request(framed(b"\xff\xff", version=version))
    assert caught.value.position_bytes == 4
    assert decode_versions(encode_versions()) == (1,)


@pytest.mark.parametrize("body", [b"", field(32, b""), field(32, b"\1")])
def test_a_list_of_versions_is_checked_too(body):
    with pytest.raises(FrameError):
        decode_versions(framed(body, frame_type=3))


def test_a_nonce_travels_both_ways_and_has_one_length():
    assert decode_nonce(encode_nonce(FrameType.CHALLENGE, b"n" * 16), FrameType.CHALLENGE) == b"n" * 16
    with pytest.raises(FrameError):
        decode_nonce(encode_nonce(FrameType.CHALLENGE, b"n" * 16), FrameType.CONFIRM)
    with pytest.raises(FrameError):
        decode_nonce(encode_nonce(FrameType.CONFIRM, b"n" * 15), FrameType.CONFIRM)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        field(17, b"no exit code"),
        field(16, b""),
        field(16, b"\0\0"),
        field(16, b"\0") + field(17, b""),
        field(16, b"\0") + field(1, b"get"),
    ],
)
def test_an_answer_is_checked_too(body):
    with pytest.raises(FrameError):
        decode_answer(framed(body, frame_type=2))


def test_the_longest_frame_is_64_kib():
    room = MAX_FRAME_BYTES - 12 - 5 - 4
    frame = encode_answer(ShimAnswer(0, b"x" * room))
    assert len(frame) == MAX_FRAME_BYTES
    assert len(decode_answer(bytes(frame)).stdout) == room
    with pytest.raises(FrameError):
        encode_answer(ShimAnswer(0, b"x" * (room + 1)))


@pytest.mark.parametrize("code", [-1, 256])
def test_an_exit_code_is_a_byte(code):
    with pytest.raises(FrameError):
        encode_answer(ShimAnswer(code))


@pytest.mark.parametrize(
    "request_",
    [
        ShimRequest("not a name"),
        ShimRequest(""),
        ShimRequest("get", ("a\0b",)),
        ShimRequest("get", (f"\udcff{CANARY}",)),
        ShimRequest("get", env=(("A=B", "c"),)),
        ShimRequest("get", env=(("A", "1"), ("A", "2"))),
        ShimRequest("get", stdin=b"x" * MAX_FRAME_BYTES),
    ],
)
def test_what_would_not_decode_does_not_encode(request_):
    with pytest.raises(FrameError) as caught:
        encode_request(request_)
    assert CANARY not in caught.value.explain()


def test_a_secret_is_in_the_frame_and_gone_from_the_answer_once_wiped():
    answer = ShimAnswer(0, Secret(CANARY.encode()))
    frame = encode_answer(answer)
    assert decode_answer(bytes(frame)).stdout == CANARY.encode()
    assert isinstance(frame, bytearray)
    answer.wipe()
    with pytest.raises(Exception, match="wiped"):
        encode_answer(answer)


def test_neither_side_shows_what_it_carries():
    shown = repr(ShimRequest("get", (CANARY,), CANARY.encode(), (("A", CANARY),)))
    shown += repr(ShimAnswer(0, CANARY.encode(), CANARY.encode()))
    assert CANARY not in shown
    assert "get" in shown
