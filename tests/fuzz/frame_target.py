"""Fuzzes the frame decoders: what decodes encodes to the same bytes, all else is a FrameError inside the message."""

import re
import struct

from agent_broker.transport.frame import (
    NONCE_BYTES,
    FrameError,
    FrameType,
    decode_answer,
    decode_nonce,
    decode_request,
    decode_versions,
    encode_answer,
    encode_nonce,
    encode_request,
)

DECODERS = (
    (decode_request, encode_request),
    (decode_answer, encode_answer),
    (decode_versions, lambda spoken: _frame(FrameType.VERSIONS, [(32, struct.pack(f"<{len(spoken)}H", *spoken))])),
    (
        lambda frame: decode_nonce(frame, FrameType.CHALLENGE),
        lambda nonce: encode_nonce(FrameType.CHALLENGE, nonce),
    ),
    (lambda frame: decode_nonce(frame, FrameType.CONFIRM), lambda nonce: encode_nonce(FrameType.CONFIRM, nonce)),
)
MOST_MESSAGES = 40
_messages: set[str] = set()


def one_input(data: bytes) -> None:
    """Try the bytes as a frame, as the fields behind a right header, and as the values of fields in order."""
    _try_all(data)
    if not data:
        return
    frame_type = data[0] % 6
    _try_all(_header(frame_type, len(data) - 1) + data[1:])
    tags = {1: (1, 2, 2, 3, 4, 4), 2: (16, 17, 18), 3: (32,)}.get(frame_type, (48,))
    values = data[1:].split(b"\xff", len(tags) - 1)
    _try_all(_frame(frame_type, list(zip(tags, values, strict=False))))


def _try_all(frame: bytes) -> None:
    for decode, encode in DECODERS:
        position_bytes = 0
        try:
            decoded = decode(frame)
        except FrameError as refusal:
            position_bytes = refusal.position_bytes
            _messages.add(re.sub(r"\d+", "N", str(refusal)))
        else:
            assert bytes(encode(decoded)) == frame
            assert not isinstance(decoded, bytes) or len(decoded) == NONCE_BYTES
        assert 0 <= position_bytes <= len(frame)
        assert len(_messages) < MOST_MESSAGES, "a message that quotes the frame"


def _header(frame_type: int, length: int) -> bytes:
    return struct.pack("<4sHHI", b"ABRK", 1, frame_type, length)


def _frame(frame_type: int, fields: list[tuple[int, bytes]]) -> bytes:
    body = b"".join(struct.pack("<HH", tag, len(value)) + value for tag, value in fields)
    return _header(frame_type, len(body)) + body
