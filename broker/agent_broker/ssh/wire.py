"""SSH's data types (RFC 4251 section 5). The law: what is too long, too short, or has something behind it is refused.

Nothing is copied before its length is known to be in the message, so a length that lies costs nothing.
"""

import struct
from typing import Final

from agent_broker.errors import MisuseError

MAX_STRING_BYTES: Final = 32 * 1024
"""Of one string in a message: a certificate of some 4 KiB with room. OpenSSH's agent takes 256 KiB (AGENT_MAX_LEN)."""

_U32: Final = struct.Struct(">I")


class WireError(MisuseError):
    """Bytes that are not what SSH's formats allow; says what, quotes nothing."""


class Reader:
    """Takes a message apart from its start; ``end`` says that it was all."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def byte(self) -> int:
        """Return the next byte.

        Raises:
            WireError: there is none.
        """
        return self._take(1)[0]

    def boolean(self) -> bool:
        """Return the next byte as a truth value: all but zero are true. Raises as ``byte``."""
        return self.byte() != 0

    def number(self) -> int:
        """Return the next four bytes as a number. Raises as ``byte``."""
        return int(_U32.unpack(self._take(_U32.size))[0])

    def string(self) -> bytes:
        """Return the next string.

        Raises:
            WireError: it is longer than the message, or than MAX_STRING_BYTES.
        """
        length = self.number()
        if length > MAX_STRING_BYTES:
            raise WireError(f"a string of {length} bytes, where {MAX_STRING_BYTES} are the most")
        return self._take(length)

    def text(self) -> str:
        """Return the next string as UTF-8.

        Raises:
            WireError: as ``string``, or it is none.
        """
        try:
            return self.string().decode()
        except UnicodeDecodeError:
            raise WireError("a name that is not UTF-8") from None

    def positive(self) -> int:
        """Return the next multiple precision integer.

        Raises:
            WireError: as ``string``, or it is negative.
        """
        data = self.string()
        if data and data[0] & 0x80:
            raise WireError("a negative number")
        return int.from_bytes(data)

    def end(self) -> None:
        """Make sure that nothing is left.

        Raises:
            WireError: something is.
        """
        if self._at != len(self._data):
            raise WireError(f"{len(self._data) - self._at} bytes behind the end of the message")

    @property
    def is_at_end(self) -> bool:
        """Whether nothing is left."""
        return self._at == len(self._data)

    def _take(self, length: int) -> bytes:
        taken = self._data[self._at : self._at + length]
        if len(taken) != length:
            raise WireError(f"the message ends {length - len(taken)} bytes early")
        self._at += length
        return taken


def string(data: bytes) -> bytes:
    """Return bytes as a string."""
    return _U32.pack(len(data)) + data


def number(value: int) -> bytes:
    """Return a number of 0 to 2^32-1 as four bytes."""
    return _U32.pack(value)


def integer(value: int) -> bytes:
    """Return a number that is not negative as a multiple precision integer."""
    return string(value.to_bytes(value.bit_length() // 8 + 1) if value else b"")
