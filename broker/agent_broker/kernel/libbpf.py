"""The part of libbpf (version 1.0 and newer) that we use, through ctypes over the distribution's libbpf.so.1.

One function here is one function there; an error becomes an UnavailableError that carries libbpf's own last
words, since the verifier's verdict is in them. Function and struct names: libbpf.h and bpf.h of libbpf 1.1.
"""

import ctypes
import errno
import os
from collections import deque
from collections.abc import Callable
from typing import Any

from agent_broker.errors import UnavailableError

_LIBRARY = "libbpf.so.1"
_INSTALL = "install libbpf: apt-get install libbpf1, or dnf install libbpf"

_PRINT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
SAMPLE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
"""ring_buffer_sample_fn."""

_MESSAGE_BYTES = 4096
_LIBC = ctypes.CDLL(None)
_MESSAGES: deque[str] = deque(maxlen=20)
"""libbpf's last words: it has one place to say them for the whole process."""
_Signatures = dict[str, list[Any]]

_POINTER_FUNCTIONS: _Signatures = {
    "bpf_object__open_file": [ctypes.c_char_p, ctypes.c_void_p],
    "bpf_object__next_map": [ctypes.c_void_p, ctypes.c_void_p],
    "bpf_object__next_program": [ctypes.c_void_p, ctypes.c_void_p],
    "bpf_object__find_map_by_name": [ctypes.c_void_p, ctypes.c_char_p],
    "bpf_program__attach": [ctypes.c_void_p],
    "bpf_program__attach_iter": [ctypes.c_void_p, ctypes.c_void_p],
    "ring_buffer__new": [ctypes.c_int, SAMPLE, ctypes.c_void_p, ctypes.c_void_p],
}
_INT_FUNCTIONS: _Signatures = {
    "bpf_object__load": [ctypes.c_void_p],
    "bpf_map__reuse_fd": [ctypes.c_void_p, ctypes.c_int],
    "bpf_map__set_max_entries": [ctypes.c_void_p, ctypes.c_uint],
    "bpf_map__fd": [ctypes.c_void_p],
    "bpf_link__fd": [ctypes.c_void_p],
    "bpf_link__destroy": [ctypes.c_void_p],
    "bpf_link__pin": [ctypes.c_void_p, ctypes.c_char_p],
    "bpf_obj_pin": [ctypes.c_int, ctypes.c_char_p],
    "bpf_obj_get": [ctypes.c_char_p],
    "bpf_obj_get_info_by_fd": [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p],
    "bpf_program__fd": [ctypes.c_void_p],
    "bpf_iter_create": [ctypes.c_int],
    "bpf_link_create": [ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_void_p],
    "bpf_prog_test_run_opts": [ctypes.c_int, ctypes.c_void_p],
    "bpf_map_update_elem": [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_ulonglong],
    "bpf_map_update_batch": [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p],
    "bpf_map_lookup_elem": [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p],
    "bpf_map_delete_elem": [ctypes.c_int, ctypes.c_void_p],
    "ring_buffer__consume": [ctypes.c_void_p],
    "ring_buffer__epoll_fd": [ctypes.c_void_p],
}
_VOID_FUNCTIONS = ("bpf_object__close", "ring_buffer__free")
_NAME_FUNCTIONS = ("bpf_map__name", "bpf_program__name")


def _keep_message(_level: int, template: bytes | None, arguments: int | None) -> int:
    # A va_list reaches us as a pointer in both ABIs we run on (x86-64: array; arm64: passed indirectly).
    text = ctypes.create_string_buffer(_MESSAGE_BYTES)
    size = ctypes.c_size_t(_MESSAGE_BYTES)
    if template and _LIBC.vsnprintf(text, size, template, ctypes.c_void_p(arguments)) > 0:
        _MESSAGES.append(text.value.decode(errors="replace").strip())
    return 0


_KEEPER = _PRINT(_keep_message)
"""Never freed: libbpf calls it as long as the process lives, also when nobody has a Libbpf any more."""


class Libbpf:
    """The loaded library. Its functions are called with the GIL released; it keeps libbpf's last messages."""

    def __init__(self) -> None:
        try:
            self._dll = ctypes.CDLL(_LIBRARY, use_errno=True)
        except OSError as error:
            raise UnavailableError(f"{_LIBRARY} can't be loaded: {error}", next_step=_INSTALL) from error
        self._declare()
        self._dll.libbpf_set_print(_KEEPER)

    def pointer(self, function: str, *arguments: object) -> int:
        """Call a function that returns a pointer.

        Raises:
            UnavailableError: it returned NULL, with errno and libbpf's last words.
        """
        result: int | None = getattr(self._dll, function)(*arguments)
        if not result:
            raise self._failure(function, ctypes.get_errno())
        return result

    def optional_pointer(self, function: str, *arguments: object) -> int | None:
        """Call an iteration function: NULL is its end."""
        result: int | None = getattr(self._dll, function)(*arguments)
        return result

    def number(self, function: str, *arguments: object) -> int:
        """Call a function that returns a number, negative for an error.

        Raises:
            UnavailableError: it was negative.
        """
        result: int = getattr(self._dll, function)(*arguments)
        if result < 0:
            raise self._failure(function, -result)
        return result

    def number_or_error(self, function: str, *arguments: object) -> int:
        """Call a function that returns a number; an error comes back as its negative errno."""
        result: int = getattr(self._dll, function)(*arguments)
        return result

    def release(self, function: str, pointer: int) -> None:
        """Call a destructor."""
        getattr(self._dll, function)(pointer)

    def name(self, function: str, pointer: int) -> str:
        """Call a function that returns a name."""
        result: bytes = getattr(self._dll, function)(pointer)
        return result.decode()

    def raw(self, function: str) -> Callable[..., int]:
        """Return a function itself, for a hot path."""
        bound: Callable[..., int] = getattr(self._dll, function)
        return bound

    def _declare(self) -> None:
        for name, arguments in _POINTER_FUNCTIONS.items():
            self._set(name, arguments, ctypes.c_void_p)
        for name, arguments in _INT_FUNCTIONS.items():
            self._set(name, arguments, ctypes.c_int)
        for name in _VOID_FUNCTIONS:
            self._set(name, [ctypes.c_void_p], None)
        for name in _NAME_FUNCTIONS:
            self._set(name, [ctypes.c_void_p], ctypes.c_char_p)

    def _set(self, name: str, arguments: list[Any], result: Any) -> None:
        function = getattr(self._dll, name)
        function.argtypes = arguments
        function.restype = result

    def _failure(self, function: str, number: int) -> UnavailableError:
        words = "; ".join(list(_MESSAGES)[-3:])
        reason = os.strerror(number) if number else "no reason given"
        denied = number in {errno.EPERM, errno.EACCES}
        hint = "run as root, with CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN" if denied else ""
        return UnavailableError(f"libbpf: {function} failed: {reason}{f' ({words})' if words else ''}", next_step=hint)
