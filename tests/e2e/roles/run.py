"""One turn of a real agent, and what the kernel side and the attestor say of every process in it: ``run AGENT FOLDER``.

A process of its own, in a network namespace of its own (``unshare --net``): the agent reaches the model of this test
and nothing else. Prints one JSON object.
"""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

from agent_broker.identity.attest import Attestor
from agent_broker.identity.enrolled_files import read_enrolled_files, register_files
from agent_broker.identity.environment import scan_strings
from agent_broker.identity.evidence import Evidence
from agent_broker.identity.executable import HashCache
from agent_broker.identity.scripts import SLACK_NS
from agent_broker.kernel.maps import TaskRecord
from agent_broker.kernel.sensor import CoreSensor
from agent_broker.lineage.store import Store
from agent_broker.monitor.script_starts import ScriptStarts
from tests.e2e.roles.agents import AGENTS, USER, TheAgent
from tests.fakes.mock_provider import Mode
from tests.fakes.model_apis import ModelProvider

_TURN_S = 120
_DRAIN_S = 0.01


class Watch:
    """The kernel side and the attestor, with one agent enrolled."""

    def __init__(self):
        self.store = Store(scan_strings, str)
        self.sensor = CoreSensor(self.store.apply)
        self.store.link_seeded()
        self.starts = ScriptStarts(self.sensor, self.store)
        self.attestor = Attestor(
            epoch="e1", tier="observe+", sensor=self.sensor, store=self.store, hashes=HashCache(),
            scripts=self.starts.scripts,
        )  # fmt: skip
        self.execs = []
        look = self.store.on_captured

        def captured(event):
            look(event)
            self.execs.append((event.proc_id, event.exec_id))

        self.store.on_captured = captured

    async def enroll(self, agent: TheAgent):
        table, problems = await read_enrolled_files([agent.enrollment], self.sensor, self.attestor.hashes)
        register_files(self.sensor, self.attestor.agents, table)
        self.attestor.agents = table
        return (*problems, *await self.starts.take_over(table))

    async def who(self, request):
        """Say who holds the other end of a connection to the model."""
        port = request.transport.get_extra_info("peername")[1]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if int(fields[1].partition(":")[2], 16) == port and fields[9] != "0":
                return said(await self.attestor.attest_socket(int(fields[9])))
        return {"problem": "no such connection"}

    def seen_execs(self):
        """Say of every exec of an enrolled file what it was."""
        found = []
        for proc_id, exec_id in self.execs:
            image, captured = self.store.image(exec_id), self.store.captured(exec_id)
            words = [each.decode(errors="replace") for each in captured.arguments.split(b"\0")[:4]]
            verdict = said(self.attestor.recall(TaskRecord(proc_id, exec_id, 0)))
            found.append({"argv": words, "argv0": image.argv0, "pid": image.pid, **verdict})
        return found


def said(verdict):
    if not isinstance(verdict, Evidence):
        return {"problem": getattr(verdict, "reason", str(verdict))}
    principal = verdict.principal
    return {
        "agent": principal.agent if principal else "",
        "main": bool(principal and principal.is_caller),
        "taints": verdict.taints,
        "pid": verdict.caller.pid,
    }


async def run(name, folder):
    agent = AGENTS[name](folder)
    watch = Watch()
    provider = ModelProvider(watch.who)
    await provider.start()
    agent.point_at(provider.port)
    result = {"problems": await watch.enroll(agent)}
    await asyncio.sleep(2 * SLACK_NS / 1e9)  # what was just written is too young
    provider.mode = Mode(answer="MOCK-OK", tool_cmd=agent.tool_command(provider.port))
    process = await asyncio.create_subprocess_exec(
        *agent.command, user=USER, group=USER, extra_groups=(), cwd=agent.work, env=agent.environment(provider.port),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    said_by_agent = asyncio.create_task(process.stdout.read())
    async with asyncio.timeout(_TURN_S):
        while not said_by_agent.done():
            await asyncio.sleep(_DRAIN_S)
            watch.sensor.consume()
            watch.starts.drain()
    await process.wait()
    result |= {"pid": process.pid, "code": process.returncode, "output": said_by_agent.result().decode()}
    result |= {"callers": provider.callers, "execs": watch.seen_execs()}
    await provider.stop()
    await watch.starts.close()
    watch.sensor.close()
    return result


if __name__ == "__main__":
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    os.umask(0o022)
    print(json.dumps(asyncio.run(run(sys.argv[1], Path(sys.argv[2])))))
