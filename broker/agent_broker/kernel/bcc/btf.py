"""Where a field lies in the running kernel's structures: read from its own BTF with libbpf's parser.

Functions: btf.h of libbpf 1.0 and newer; layout of a type: linux/btf.h (struct btf_type, struct btf_member).
"""

import ctypes
import os
from types import TracebackType
from typing import Final, Self

from agent_broker.errors import UnavailableError

_LIBRARY: Final = "libbpf.so.1"
_STRUCT, _UNION, _TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _TYPE_TAG = 4, 5, 8, 9, 10, 11, 18
_MODIFIERS: Final = frozenset({_TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _TYPE_TAG})
_HAS_BITFIELDS: Final = 1 << 31
_Words = ctypes.c_uint * 3


class KernelTypes:
    """The running kernel's types; a context manager."""

    def __init__(self) -> None:
        """Read them.

        Raises:
            UnavailableError: the kernel tells no types (CONFIG_DEBUG_INFO_BTF), or libbpf is missing.
        """
        try:
            self._dll = ctypes.CDLL(_LIBRARY, use_errno=True)
        except OSError as error:
            raise UnavailableError(f"{_LIBRARY} can't be loaded: {error}", next_step="install libbpf1") from error
        _declare(self._dll)
        self._types: int | None = self._dll.btf__load_vmlinux_btf()
        if not self._types:
            raise UnavailableError(f"the kernel tells no types (BTF): {os.strerror(ctypes.get_errno())}")

    def offset_of(self, struct: str, path: str) -> int | None:
        """Return the offset in bytes of a member, as ``member.member``, anonymous ones unnamed; None: there is none."""
        number = self._dll.btf__find_by_name_kind(self._types, struct.encode(), _STRUCT)
        at = 0
        for name in path.split("."):
            found = self._member(number, name) if number >= 0 else None
            if found is None:
                return None
            at += found[0]
            number = found[1]
        return at

    def close(self) -> None:
        """Forget them; safe to call twice."""
        if self._types:
            self._dll.btf__free(self._types)
            self._types = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _member(self, number: int, name: str) -> tuple[int, int] | None:
        """Return a member's offset in bytes and its type's number."""
        at, info = self._bare(number)
        if info >> 24 & 0x1F not in {_STRUCT, _UNION}:
            return None
        for index in range(info & 0xFFFF):
            name_at, kind, offset = _Words.from_address(at + 12 + 12 * index)
            bits = offset & 0xFFFFFF if info & _HAS_BITFIELDS else offset
            called = self._dll.btf__name_by_offset(self._types, name_at).decode()
            if called == name:
                return bits // 8, kind
            inner = self._member(kind, name) if not called else None
            if inner is not None:
                return bits // 8 + inner[0], inner[1]
        return None

    def _bare(self, number: int) -> tuple[int, int]:
        """Return where a type lies and its info word, typedefs and the like taken off."""
        while True:
            at = self._dll.btf__type_by_id(self._types, number)
            _, info, following = _Words.from_address(at)
            if info >> 24 & 0x1F not in _MODIFIERS:
                return at, info
            number = following


def _declare(dll: ctypes.CDLL) -> None:
    for name, arguments, result in (
        ("btf__load_vmlinux_btf", [], ctypes.c_void_p),
        ("btf__find_by_name_kind", [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint], ctypes.c_int),
        ("btf__type_by_id", [ctypes.c_void_p, ctypes.c_uint], ctypes.c_void_p),
        ("btf__name_by_offset", [ctypes.c_void_p, ctypes.c_uint], ctypes.c_char_p),
        ("btf__free", [ctypes.c_void_p], None),
    ):
        function = getattr(dll, name)
        function.argtypes = arguments
        function.restype = result
