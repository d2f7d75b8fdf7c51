"""Settings of an enrolled agent in a home of its own user, watched on the real kernel (see fakes.updating)."""

import asyncio
import contextlib
import json
import os

import msgspec

from agent_broker.clock import SystemClock
from agent_broker.identity.registry import SettingsFile
from agent_broker.kernel.maps import TaskRecord
from agent_broker.monitor.actor import Actors
from agent_broker.monitor.settings_verdict import Seen
from agent_broker.monitor.settings_watch import SettingsWatch
from tests.fakes.updating import USER, Updating


class Package:
    def __init__(self, name, *, intact=True):
        self.name, self.intact = name, intact


class Packages:
    """A distribution in which these files belong to packages."""

    def __init__(self):
        self.owned = {}

    def owner_of(self, path, _facts):
        return self.owned.get(path)


class SettingsWorld(Updating):
    def __init__(self):
        self.settings_files = ()
        super().__init__()
        home = self.folder / "home"
        os.chown(home, USER, USER)
        self.settings = home / ".claude/settings.json"
        self.hot = home / ".claude.json"
        self.settings.parent.mkdir()
        os.chown(self.settings.parent, USER, USER)
        self.settings_files = (
            SettingsFile(str(self.settings), "json"),
            SettingsFile(str(self.hot), "json", hot=True),
        )  # fmt: skip
        self.put(self.settings, {"model": "opus", "env": {"ANTHROPIC_API_KEY": "the-old-secret"}})
        self.put(self.hot, {"numStartups": 1, "mcpServers": {}})
        self.packages = Packages()
        self.watch = None

    def put(self, path, value):
        path.write_text(value if isinstance(value, str) else json.dumps(value))
        os.chown(path, USER, USER)

    def enrollment(self):
        return msgspec.structs.replace(super().enrollment(), settings=self.settings_files)

    def ended(self, pid):
        self.sensor.consume()
        found = self.store.ended(pid)
        return None if found is None else TaskRecord(*found, self.store.taints_of(*found))

    def start_watch(self, fold_s=10.0):
        self.watch = SettingsWatch(
            actors=Actors(self.attestor), ended=self.ended, packages=self.packages, publish=self.incidents.append,
            seen=Seen(SystemClock(), "e1", "observe+"), fold_s=fold_s,
        )  # fmt: skip
        return self.watch.apply_registry([self.enrollment()])

    async def told(self, count=1):
        """Wait for so many incidents, and return them."""
        while len(self.incidents) < count:
            await asyncio.sleep(0.005)
        return self.incidents

    async def quiet(self):
        """Stop watching: everything that was seen is told then."""
        self.watch, watch = None, self.watch
        await watch.close()
        return self.incidents

    async def tool_of(self, agent, code):
        """Have the agent run a tool, and wait until it is done; returns its exit status."""
        argv = ["/usr/bin/python3", "-c", code]
        return await agent.do(f"os.spawnv(os.P_WAIT, {argv[0]!r}, {argv!r})")

    @contextlib.asynccontextmanager
    async def tool_at_work(self, agent, code):
        """Have the agent run a tool that has done this, and lives until the context ends."""
        end = self.folder / "end-of-the-tool"
        os.mkfifo(end)
        os.chown(end, USER, USER)
        argv = ["/usr/bin/python3", "-c", f"{code}; open({str(end)!r}).read()"]
        pid = await agent.do(f"os.spawnv(os.P_NOWAIT, {argv[0]!r}, {argv!r})")
        try:
            yield
        finally:
            await asyncio.to_thread(end.write_text, "")
            await agent.do(f"os.waitpid({pid}, 0)")

    async def close(self):
        if self.watch is not None:
            await self.quiet()
        await super().close()
