"""Ends when whoever reads its standard output, a pipe or a socket, has read all that is written there; after 60 s too.

For agents that take a tool's end for the end of what it prints.
"""

import fcntl
import struct
import termios
import time


def unread_bytes() -> int:
    """Return what waits: a socket tells it by TIOCOUTQ (unix(7)), a pipe by FIONREAD (pipe(7))."""
    for question in (termios.TIOCOUTQ, termios.FIONREAD):
        try:
            return struct.unpack("i", fcntl.ioctl(1, question, bytes(4)))[0]
        except OSError:
            continue
    return 0


end_s = time.monotonic() + 60
while unread_bytes() and time.monotonic() < end_s:
    time.sleep(0.01)
