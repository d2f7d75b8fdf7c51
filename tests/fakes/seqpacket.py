"""Both ends of agent.sock without our code: a broker that says what it is told, and raw clients."""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

PATIENCE_S = 30  # a hung peer fails a test instead of hanging it


class ScriptedBroker:
    """Listens where a shim of ``root`` looks; the test plays the broker, message by message."""

    def __init__(self, root: Path) -> None:
        self.path = root / "run/agent-broker/agent.sock"
        self.path.parent.mkdir(parents=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.settimeout(PATIENCE_S)
        self._listener.bind(str(self.path))
        self._listener.listen(1)

    def accept(self) -> socket.socket:
        """Return the next shim's connection."""
        connection, _ = self._listener.accept()
        connection.settimeout(PATIENCE_S)
        return connection

    def close(self) -> None:
        """Stop listening; the file stays, as after a crash."""
        self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def connected(path: Path) -> socket.socket:
    """Return a client's socket."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client.settimeout(PATIENCE_S)
    client.connect(str(path))
    return client


@contextmanager
def forked(work: Callable[[], object]) -> Iterator[int]:
    """Run ``work`` in a child, then keep the child alive to the end of the block; yields its pid."""
    ready, tell = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            os.write(tell, b".")
            signal.pause()
            code = 0
        finally:
            os._exit(code)
    os.close(tell)
    try:
        if os.read(ready, 1) != b".":
            raise RuntimeError("the child failed")
        yield child
    finally:
        os.close(ready)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def open_descriptors() -> int:
    """Return how many descriptors this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))
