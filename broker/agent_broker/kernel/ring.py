"""A ring: every record is handed over in the order in which the kernel reserved it."""

import ctypes
import errno
import os
import select
from collections.abc import Callable

from agent_broker.errors import UnavailableError
from agent_broker.kernel.libbpf import SAMPLE, Libbpf

_ENOUGH = -errno.EAGAIN
_TRIES = 4  # what comes between taking and asking is no reason to make somebody wait


class Ring:
    """The consumer's side of the ring. One consumer only; not thread-safe.

    Attributes:
        epoll_fd: readable when the kernel side wants us to come; a poll interval must catch what waits below its
            threshold (bpf/maps.h, WAKE_AT_BYTES).
        consumed: events handed over since the start.
    """

    def __init__(
        self, libbpf: Libbpf, map_fd: int, take: Callable[[bytes], None], *, at_most: int | None = None
    ) -> None:
        """Open the ring.

        Args:
            libbpf: the library; it must outlive the ring.
            map_fd: of the ring; it must stay open as long.
            take: called with each record, within ``consume``; what it raises, ``consume`` raises.
            at_most: records that one ``consume`` hands over: who writes faster than we read must not hold us for ever.
        """
        self._libbpf = libbpf
        self._sink = take
        self._error: Exception | None = None
        self._callback = SAMPLE(self._take)  # must live as long as the ring
        self._ring = self._libbpf.pointer("ring_buffer__new", map_fd, self._callback, None, None)
        self.epoll_fd = self._libbpf.number("ring_buffer__epoll_fd", self._ring)
        self.consumed = 0
        self._at_most = at_most
        self._left = 0
        self._unread = select.poll()  # asks the ring itself; the epoll_fd only knows of wake-ups
        self._unread.register(map_fd, select.POLLIN)

    def consume(self) -> bool:
        """Hand over everything that the kernel side has committed by now; nothing once the ring is closed.

        Returns:
            Whether the ring was empty then. If not, an event is reserved and not committed yet (microseconds, usually)
            and all that was committed behind it waits; or events come as fast as they are taken.

        Raises:
            IntegrityError: a malformed event.
            UnavailableError: libbpf failed.
        """
        if not self._ring:  # libbpf would follow the pointer
            return True
        self._left = self._at_most or 0
        for _ in range(_TRIES):
            if not self._unread.poll(0):  # first: most often nothing waits, and libbpf is the dearer one to ask
                return True
            result = self._libbpf.number_or_error("ring_buffer__consume", self._ring)
            if result == _ENOUGH:
                return False
            if result < 0:
                raise UnavailableError(f"the kernel's events can't be read: {os.strerror(-result)}")
            if self._error is not None:
                error, self._error = self._error, None
                raise error
        return not self._unread.poll(0)

    def close(self) -> None:
        """Unmap the ring; safe to call twice."""
        if self._ring:
            self._libbpf.release("ring_buffer__free", self._ring)
            self._ring = 0

    def _take(self, _context: int | None, data: int, size_bytes: int) -> int:
        # An exception can't pass through C: it is kept, and raised by consume().
        try:
            self._sink(ctypes.string_at(data, size_bytes))
        except Exception as error:  # noqa: BLE001 - all of them are raised again by consume()
            self._error = error
        self.consumed += 1
        if self._at_most is None:
            return 0
        self._left -= 1
        return 0 if self._left > 0 else _ENOUGH  # the record itself is taken: libbpf moves on before it stops
