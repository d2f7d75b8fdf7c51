"""One settings file as the watch knows it: what it said, who wrote it since, and how it is read."""

import asyncio
import os

from agent_broker.monitor.actor import Actor
from agent_broker.monitor.pathwalk import Walk
from agent_broker.monitor.settings_diff import MAX_FILE_BYTES, Snapshot, snapshot
from agent_broker.monitor.settings_verdict import Watched


class Writer:
    """One program that wrote a file, until that is told."""

    def __init__(self, actor: Actor, doubt: str) -> None:
        self.actor = actor
        self.doubt = doubt
        self.count = 0


class WatchedFile:
    """What is known of one settings file."""

    def __init__(self, watched: Watched) -> None:
        self.watched = watched
        self.now: Snapshot | None = None
        self.problem = ""
        self.writers: dict[tuple[int, ...], Writer] = {}
        self.told: dict[tuple[int, ...], float] = {}
        """When a program was told last, by time.monotonic()."""
        self.before: Snapshot | None = None
        """What it said when its changes were told last."""
        self.telling = 0
        """Looks at it that are under way."""
        self.timer: asyncio.TimerHandle | None = None
        self.task: asyncio.Task[None] | None = None

    def is_due(self, since_s: float) -> bool:
        """Whether it is looked at, or somebody wrote it who was not told since then (by time.monotonic())."""
        return self.telling > 0 or any(self.told.get(each, since_s) <= since_s for each in self.writers)

    def read(self) -> Snapshot | None:
        """Return what is to be kept of the file as it is now; None: there is none. Waits for nobody."""
        place = self.watched.file
        with Walk(place.path) as walk:
            if walk.file is None:
                return None
            try:
                fd = os.open(f"/proc/self/fd/{walk.file}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError as error:  # EWOULDBLOCK: somebody holds a lease on it
                return snapshot(f"it can't be read: {error.strerror}".encode(), "text", hot=False)
        with os.fdopen(fd, "rb") as content:
            data = content.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            return snapshot(f"longer than {MAX_FILE_BYTES} bytes".encode(), "text", hot=False)
        return snapshot(data, place.format, hot=place.hot)

    def drop(self) -> None:
        """Let go of everything."""
        for writer in self.writers.values():
            writer.actor.close()
        if self.timer is not None:
            self.timer.cancel()
