"""The frame of agent.sock: one SEQPACKET message, and exactly one way to write each.

What is guaranteed:

- Whatever decodes encodes back to the same bytes; everything else is a ``FrameError`` that names the
  position and quotes nothing, because what follows it may be a secret.
- A frame is at most ``MAX_FRAME_BYTES`` long, in both directions.
- The header has the same layout in every version, so that either side can say which versions it speaks.

Layout, little-endian; the shim's half is shims/frame.h:

    magic "ABRK", u16 version, u16 type, u32 length of what follows
    then fields in ascending order of their tags: u16 tag, u16 length, value

    REQUEST    PROTOCOL (one), ARGUMENT (any number), STDIN (if not empty), ENVIRONMENT "NAME=VALUE" (any number)
    ANSWER     EXIT_CODE (one, a byte), STDOUT (if not empty), STDERR (if not empty)
    VERSIONS   SPOKEN (one, u16 each): the answer to a frame of another version
    CHALLENGE  NONCE (one, 16 bytes): the broker asks the writer to send it back (see transport.peer)
    CONFIRM    NONCE (one): the writer does
"""

import re
import struct
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import NamedTuple

from msgspec import Struct

from agent_broker.errors import MisuseError
from agent_broker.vault.secret import Secret

MAX_FRAME_BYTES = 64 * 1024  # below the default socket buffer (net.core.wmem_default, 208 KiB)
VERSION = 1
NONCE_BYTES = 16

_MAGIC = b"ABRK"
_HEADER = struct.Struct("<4sHHI")
_FIELD = struct.Struct("<HH")
_PROTOCOL_NAME = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_MAX_EXIT_CODE = 255  # what wait(2) can carry


class FrameType(IntEnum):
    """What a frame is; numbers are never used again for something else."""

    REQUEST = 1
    ANSWER = 2
    VERSIONS = 3
    CHALLENGE = 4
    CONFIRM = 5


class Tag(IntEnum):
    """What a field is; numbers are never used again for something else."""

    PROTOCOL = 1
    ARGUMENT = 2
    STDIN = 3
    ENVIRONMENT = 4
    EXIT_CODE = 16
    STDOUT = 17
    STDERR = 18
    SPOKEN = 32
    NONCE = 48


_TAGS = {
    FrameType.REQUEST: frozenset({Tag.PROTOCOL, Tag.ARGUMENT, Tag.STDIN, Tag.ENVIRONMENT}),
    FrameType.ANSWER: frozenset({Tag.EXIT_CODE, Tag.STDOUT, Tag.STDERR}),
    FrameType.VERSIONS: frozenset({Tag.SPOKEN}),
    FrameType.CHALLENGE: frozenset({Tag.NONCE}),
    FrameType.CONFIRM: frozenset({Tag.NONCE}),
}
_MANY = frozenset({Tag.ARGUMENT, Tag.ENVIRONMENT})


class FrameError(MisuseError):
    """These bytes are no frame of the expected type.

    Attributes:
        position_bytes: where in the message it went wrong.
    """

    def __init__(self, what: str, position_bytes: int) -> None:
        super().__init__(
            f"malformed message: {what} at byte {position_bytes}",
            next_step="use the shim that was installed with this broker",
        )
        self.position_bytes = position_bytes


class VersionError(FrameError):
    """The frame is of a version that is not spoken here; ``encode_versions`` is the answer to it."""


class ShimRequest(Struct, frozen=True):
    """What a shim asks. Shows its protocol only: the rest may be secret (git's ``store`` sends one)."""

    protocol: str
    """1 to 64 characters of ``A-Z a-z 0-9 . _ -``."""
    argv: tuple[str, ...] = ()
    """The arguments after the protocol's name."""
    stdin: bytes = b""
    env: tuple[tuple[str, str], ...] = ()
    """Name and value; names are unique."""

    def __repr__(self) -> str:
        return f"ShimRequest({self.protocol!r}, {len(self.argv)} arguments, {len(self.stdin)} bytes of stdin)"


class ShimAnswer(Struct, frozen=True):
    """What a shim prints and returns. Never shows its bytes: they may be a secret."""

    exit_code: int
    """0 to 255."""
    stdout: bytes | Secret = b""
    """A Secret is copied nowhere but into the frame."""
    stderr: bytes = b""

    def wipe(self) -> None:
        """Forget the secret, if it holds one."""
        if isinstance(self.stdout, Secret):
            self.stdout.wipe()

    def __repr__(self) -> str:
        return f"ShimAnswer(exit_code={self.exit_code}, {len(self.stdout)} bytes, {len(self.stderr)} bytes of stderr)"


class _Field(NamedTuple):
    tag: Tag
    value: bytes
    position_bytes: int


def encode_request(request: ShimRequest) -> bytes:
    """Return the only frame of this request.

    Raises:
        FrameError: no frame can hold it: too long, or text that a request may not contain.
    """
    fields: list[tuple[Tag, bytes | Secret]] = [(Tag.PROTOCOL, _bytes(request.protocol))]
    fields += [(Tag.ARGUMENT, _bytes(argument)) for argument in request.argv]
    fields += [(Tag.STDIN, request.stdin)] if request.stdin else []
    fields += [(Tag.ENVIRONMENT, _bytes(f"{name}={value}")) for name, value in request.env]
    frame = bytes(_encode(FrameType.REQUEST, fields))
    if decode_request(frame) != request:
        raise FrameError("a name that contains '='", 0)
    return frame


def decode_request(frame: bytes) -> ShimRequest:
    """Return the request of a frame.

    Raises:
        VersionError: a frame of another version.
        FrameError: anything else that ``encode_request`` would not have written.
    """
    protocol, stdin, argv = "", b"", []
    env: dict[str, str] = {}
    for field in _decode(frame, FrameType.REQUEST, required=Tag.PROTOCOL):
        if field.tag is Tag.PROTOCOL:
            if not _PROTOCOL_NAME.fullmatch(field.value):
                raise FrameError("a protocol's name that is not 1 to 64 of A-Z a-z 0-9 . _ -", field.position_bytes)
            protocol = field.value.decode("ascii")
        elif field.tag is Tag.ARGUMENT:
            argv.append(_text(field))
        elif field.tag is Tag.STDIN:
            stdin = _not_empty(field)
        else:
            name, equals, value = _text(field).partition("=")
            if not name or not equals or name in env:
                raise FrameError("a variable without a name, or given twice", field.position_bytes)
            env[name] = value
    return ShimRequest(protocol, tuple(argv), stdin, tuple(env.items()))


def encode_answer(answer: ShimAnswer) -> bytearray:
    """Return the only frame of this answer, in memory that the caller can overwrite after use.

    Raises:
        FrameError: no frame can hold it: too long, or an exit code beyond a byte.
    """
    if not 0 <= answer.exit_code <= _MAX_EXIT_CODE:
        raise FrameError("an exit code beyond a byte", 0)
    fields: list[tuple[Tag, bytes | Secret]] = [(Tag.EXIT_CODE, bytes((answer.exit_code,)))]
    fields += [(Tag.STDOUT, answer.stdout)] if len(answer.stdout) else []
    fields += [(Tag.STDERR, answer.stderr)] if answer.stderr else []
    return _encode(FrameType.ANSWER, fields)


def decode_answer(frame: bytes) -> ShimAnswer:
    """Return the answer of a frame; raises as ``decode_request`` does."""
    exit_code, stdout, stderr = 0, b"", b""
    for field in _decode(frame, FrameType.ANSWER, required=Tag.EXIT_CODE):
        if field.tag is Tag.EXIT_CODE:
            if len(field.value) != 1:
                raise FrameError("an exit code that is not one byte", field.position_bytes)
            exit_code = field.value[0]
        elif field.tag is Tag.STDOUT:
            stdout = _not_empty(field)
        else:
            stderr = _not_empty(field)
    return ShimAnswer(exit_code, stdout, stderr)


def encode_versions() -> bytes:
    """Return the answer to a frame of another version: the versions that are spoken here."""
    return bytes(_encode(FrameType.VERSIONS, [(Tag.SPOKEN, struct.pack("<H", VERSION))]))


def decode_versions(frame: bytes) -> tuple[int, ...]:
    """Return the versions that the other side speaks; raises as ``decode_request`` does."""
    field = next(_decode(frame, FrameType.VERSIONS, required=Tag.SPOKEN))
    if len(field.value) % 2 or not field.value:
        raise FrameError("a list of versions that is not one", field.position_bytes)
    return struct.unpack(f"<{len(field.value) // 2}H", field.value)


def encode_nonce(frame_type: FrameType, nonce: bytes) -> bytes:
    """Return a CHALLENGE or CONFIRM frame with this nonce."""
    return bytes(_encode(frame_type, [(Tag.NONCE, nonce)]))


def decode_nonce(frame: bytes, frame_type: FrameType) -> bytes:
    """Return the nonce of a CHALLENGE or CONFIRM frame; raises as ``decode_request`` does."""
    field = next(_decode(frame, frame_type, required=Tag.NONCE))
    if len(field.value) != NONCE_BYTES:
        raise FrameError("a nonce of another length", field.position_bytes)
    return field.value


def _encode(frame_type: FrameType, fields: Sequence[tuple[Tag, bytes | Secret]]) -> bytearray:
    size = _HEADER.size + sum(_FIELD.size + len(value) for _, value in fields)
    if size > MAX_FRAME_BYTES:
        raise FrameError(f"more than {MAX_FRAME_BYTES} bytes", MAX_FRAME_BYTES)
    frame = bytearray(size)  # at once: growing would leave copies behind
    _HEADER.pack_into(frame, 0, _MAGIC, VERSION, frame_type, size - _HEADER.size)
    position = _HEADER.size
    for tag, value in fields:
        _FIELD.pack_into(frame, position, tag, len(value))
        start, position = position + _FIELD.size, position + _FIELD.size + len(value)
        if isinstance(value, Secret):
            with value.borrow() as borrowed:
                frame[start:position] = borrowed
        else:
            frame[start:position] = value
    return frame


def _decode(frame: bytes, frame_type: FrameType, *, required: Tag) -> Iterator[_Field]:
    """Check the whole frame, then return its fields; the first one is ``required``, once."""
    _check_header(frame, frame_type)
    fields = list(_walk(frame, _TAGS[frame_type]))
    if not fields or fields[0].tag is not required:
        raise FrameError(f"no field {required}", _HEADER.size)
    return iter(fields)


def _check_header(frame: bytes, frame_type: FrameType) -> None:
    if len(frame) > MAX_FRAME_BYTES:
        raise FrameError(f"more than {MAX_FRAME_BYTES} bytes", MAX_FRAME_BYTES)
    if len(frame) < _HEADER.size:
        raise FrameError("no whole header", len(frame))
    magic, version, found_type, length = _HEADER.unpack_from(frame)
    if magic != _MAGIC:
        raise FrameError("no magic number", 0)
    if version != VERSION:
        raise VersionError(f"version {version}, while {VERSION} is spoken here,", 4)
    if found_type != frame_type:
        raise FrameError(f"a type that is not {frame_type.name}", 6)
    if length != len(frame) - _HEADER.size:
        raise FrameError("a length that is not the message's", 8)


def _walk(frame: bytes, allowed: frozenset[Tag]) -> Iterator[_Field]:
    position, previous = _HEADER.size, 0
    while position < len(frame):
        if len(frame) - position < _FIELD.size:
            raise FrameError("no whole field", position)
        tag, length = _FIELD.unpack_from(frame, position)
        start = position + _FIELD.size
        if tag not in allowed:
            raise FrameError("an unknown field", position)
        if tag < previous or (tag == previous and tag not in _MANY):
            raise FrameError("a field out of order or given twice", position)
        if length > len(frame) - start:
            raise FrameError("a field that ends beyond the message", position)
        yield _Field(Tag(tag), frame[start : start + length], position)
        position, previous = start + length, tag


def _bytes(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise FrameError("text that is not UTF-8", 0) from None  # the cause would quote it


def _text(field: _Field) -> str:
    try:
        text = field.value.decode()
    except UnicodeDecodeError:
        raise FrameError("text that is not UTF-8", field.position_bytes) from None  # the cause would quote it
    if "\0" in text:
        raise FrameError("text with a NUL", field.position_bytes)
    return text


def _not_empty(field: _Field) -> bytes:
    if not field.value:
        raise FrameError("an empty field that should be absent", field.position_bytes)
    return field.value
