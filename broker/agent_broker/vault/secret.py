"""The only type that holds a secret.

What it promises:

1. The bytes lie in an anonymous private mapping of their own that is left out of core dumps (MADV_DONTDUMP) and,
   as far as RLIMIT_MEMLOCK allows, never swapped (mlock; ``locked`` says whether). They are zeroed by ``wipe()``
   and when the object dies.
2. No representation, format, pickle, copy, or traceback with local variables shows them.
3. Two secrets are compared in constant time (their lengths are not hidden).

What it does not: ``reveal()`` hands out an ordinary ``bytes``, which Python can't wipe; so it is called where the
bytes leave the process, and its result is not kept. Prefer ``borrow()``, which copies nothing.
"""

import ctypes
import hmac
import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ClassVar, NoReturn

from agent_broker.errors import MisuseError, UnavailableError

_LIBC = ctypes.CDLL(None, use_errno=True)

_SPARE_MOST = 64
_spare: list[tuple[mmap.mmap, bool]] = []
"""Zeroed one-page mappings for the next secrets: making, locking and unmapping one takes longer than unsealing."""

os.register_at_fork(after_in_child=_spare.clear)  # a child does not inherit locks, mlock(2)


class Secret:
    """Secret bytes. ``len()`` works; everything else that could show them does not.

    Attributes:
        locked: True if the kernel promised not to swap the bytes out.
    """

    __slots__ = ("__weakref__", "_length", "_memory", "locked")

    def __init__(self, value: bytes | bytearray | memoryview) -> None:
        """Copy ``value``; the caller's own copy is the caller's to forget."""
        self._length = len(value)
        self._memory: mmap.mmap | None
        self._memory, self.locked = _take_memory(len(value))
        self._memory[: self._length] = value

    @classmethod
    def filled(cls, length_bytes: int, fill: Callable[[memoryview], object]) -> "Secret":
        """Return a secret whose bytes ``fill`` writes in place, so that no other copy exists.

        Raises:
            Whatever ``fill`` raises; the memory is zeroed then.
        """
        secret = cls(bytes(length_bytes))
        try:
            with secret._view() as view:
                fill(view)
        except BaseException:
            secret.wipe()
            raise
        return secret

    @classmethod
    def random(cls, length_bytes: int) -> "Secret":
        """Return fresh random bytes of the kernel's generator."""
        return cls.filled(length_bytes, _fill_with_random)

    @contextmanager
    def borrow(self) -> Iterator[memoryview]:
        """Lend a read-only view of the bytes for the duration of the ``with`` block.

        Raises:
            MisuseError: wiped already.
        """
        with self._view() as view, view.toreadonly() as lent:
            yield lent

    def reveal(self) -> bytes:
        """Return a copy of the bytes (see the module's third paragraph).

        Raises:
            MisuseError: wiped already.
        """
        return self._present()[: self._length]

    def wipe(self) -> None:
        """Zero the bytes and give the memory back. Twice is fine.

        Raises:
            MisuseError: they are lent out at this moment; they are zeroed all the same.
        """
        memory, self._memory = self._memory, None
        if memory is None:
            return
        memory[:] = bytes(len(memory))
        if _is_lent(memory):  # whoever has the view keeps an empty mapping, which is nobody else's next
            raise MisuseError("a secret was wiped while it was lent out")
        if len(memory) == mmap.PAGESIZE and len(_spare) < _SPARE_MOST:
            _spare.append((memory, self.locked))
        else:
            memory.close()

    @contextmanager
    def _view(self) -> Iterator[memoryview]:
        with memoryview(self._present()) as whole, whole[: self._length] as view:
            yield view

    def _present(self) -> mmap.mmap:
        if self._memory is None:
            raise MisuseError("this secret was wiped already")
        return self._memory

    def __del__(self) -> None:
        if hasattr(self, "_memory"):
            with suppress(MisuseError):  # zeroed; whoever kept a view of it keeps the empty mapping
                self.wipe()

    def __len__(self) -> int:
        return self._length

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        with self.borrow() as mine, other.borrow() as theirs:
            return hmac.compare_digest(mine, theirs)

    __hash__: ClassVar[None]  # type: ignore[assignment]  # a hash would be a fingerprint of the secret

    def __repr__(self) -> str:
        return "<Secret>"

    def __format__(self, _spec: str) -> str:
        return repr(self)

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise MisuseError("a secret can't be pickled or copied")


def _take_memory(length_bytes: int) -> tuple[mmap.mmap, bool]:
    """Return a zeroed mapping of whole pages, and whether it is locked."""
    if _spare and length_bytes <= mmap.PAGESIZE:
        return _spare.pop()
    pages = max(1, -(-length_bytes // mmap.PAGESIZE))
    memory = mmap.mmap(-1, pages * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_DONTDUMP)
    return memory, _lock(memory)


def _is_lent(memory: mmap.mmap) -> bool:
    """Tell whether a view of the mapping exists: the interpreter refuses to resize it then, even to the same size."""
    try:
        memory.resize(len(memory))
    except BufferError:
        return True
    return False


def _lock(memory: mmap.mmap) -> bool:
    first = ctypes.c_char.from_buffer(memory)
    return bool(_LIBC.mlock(ctypes.c_void_p(ctypes.addressof(first)), ctypes.c_size_t(len(memory))) == 0)


def _fill_with_random(view: memoryview) -> None:
    with Path("/dev/urandom").open("rb", buffering=0) as source:
        filled = source.readinto(view)
    if filled != len(view):
        raise UnavailableError("the kernel's random generator gave fewer bytes than asked for")
