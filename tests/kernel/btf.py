"""Reads struct layouts from the BTF of a compiled object, with libbpf's own parser."""

import ctypes
from pathlib import Path

_KIND_STRUCT = 4  # BTF_KIND_STRUCT, linux/btf.h
_KIND_FLAG = 1 << 31


def struct_layout(path: Path, name: str) -> tuple[int, dict[str, int]]:
    """Return (size in bytes, {member: offset in bytes}) of a struct."""
    dll = _library()
    btf = dll.btf__parse(str(path).encode(), None)
    try:
        number = dll.btf__find_by_name_kind(btf, name.encode(), _KIND_STRUCT)
        if number < 0:
            raise LookupError(f"{path.name} has no struct {name}")
        at = dll.btf__type_by_id(btf, number)
        _, info, size = (ctypes.c_uint * 3).from_address(at)
        members = {}
        for index in range(info & 0xFFFF):
            name_at, _, offset = (ctypes.c_uint * 3).from_address(at + 12 + 12 * index)
            bits = offset & 0xFFFFFF if info & _KIND_FLAG else offset
            members[dll.btf__name_by_offset(btf, name_at).decode()] = bits // 8
        return size, members
    finally:
        dll.btf__free(btf)


def _library() -> ctypes.CDLL:
    dll = ctypes.CDLL("libbpf.so.1")
    for name, arguments, result in (
        ("btf__parse", [ctypes.c_char_p, ctypes.c_void_p], ctypes.c_void_p),
        ("btf__find_by_name_kind", [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint], ctypes.c_int),
        ("btf__type_by_id", [ctypes.c_void_p, ctypes.c_uint], ctypes.c_void_p),
        ("btf__name_by_offset", [ctypes.c_void_p, ctypes.c_uint], ctypes.c_char_p),
        ("btf__free", [ctypes.c_void_p], None),
    ):
        function = getattr(dll, name)
        function.argtypes = arguments
        function.restype = result
    return dll
