"""What a process is now, where that differs from what it was when it was started; and whose agent it was."""

import os
import shutil
import subprocess
import sys

import pytest

from agent_broker.identity.evidence import Unknown
from agent_broker.kernel import process
from tests.fakes.torture import Torture, processes

pytestmark = pytest.mark.kernel

OWNER, OTHER = 1500, 1600


@pytest.fixture
def torture():
    torture = Torture()
    yield torture
    torture.close()


def a_sudo(torture):
    program = torture.folder / "sudo"
    shutil.copy(torture.leaf, program)
    program.chmod(0o4755)
    return str(program)


@pytest.mark.parametrize("uid", [0, OTHER])
async def test_an_agent_that_somebody_else_executed_is_not_the_owners(torture, uid):
    """Its descendant became the owner, by a setuid program; the agent itself was another user's all the time."""
    await torture.enroll(OWNER)
    words = ("say", "agent", "fork", "exec", a_sudo(torture), "sudo", "become", str(OWNER))
    words += ("exec", torture.leaf, "leaf", "say", "leaf")
    speakers = torture.start(*words, uid=uid or None).follow("agent", "leaf")

    assert (await torture.expect(speakers, agent=None)).uid == OWNER


@pytest.mark.parametrize("has_info", [True, False])
async def test_a_process_that_became_somebody_else_without_an_exec_has_no_evidence(torture, has_info, monkeypatch):
    if not has_info:
        monkeypatch.setattr(process, "_PIDFD_GET_INFO", 0)  # a kernel before Linux 6.13
    await torture.enroll(OWNER)
    words = ("say", "agent", "fork", "exec", a_sudo(torture), "sudo", "say", "before", "become", str(OTHER))
    family = torture.start(*words, "say", "after", uid=OWNER)
    before = await torture.expect(family.follow("agent", "before"))
    family.go()
    after = family.hear("after")

    assert (before.uid, after.uid) == (OWNER, OTHER)
    for known in (None, before.freshness):
        verdict = await torture.attest(after, known)
        assert isinstance(verdict, Unknown)
        assert "runs as user 1600" in verdict.reason


async def test_an_agent_that_ended_and_was_not_reaped_is_unknown(torture):
    await torture.enroll(os.getuid())
    family = torture.start("say", "agent", "fork-and-go", "say", "child")
    agent = family.hear("agent")
    known = (await torture.attest(agent)).freshness
    family.go()
    family.hear("child")
    await torture.ended(agent)

    assert isinstance(await torture.attest(agent, known), Unknown)
    assert isinstance(await torture.attest(agent), Unknown)


def test_an_exec_by_a_thread_older_than_the_monitor_keeps_the_origin():
    code = (
        "import os, sys, threading\n"
        "def run():\n sys.stdin.readline(); os.execv('/bin/sleep', ['sleep', '60'])\n"
        "threading.Thread(target=run).start(); print('up', flush=True); threading.Event().wait()\n"
    )
    old = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    old.stdout.readline()
    torture = Torture()
    try:
        before, _ = torture.attestor.describe(old.pid)
        old.stdin.write(b"\n")
        old.stdin.flush()
        steps = before
        while not steps or steps[0].image.argv0 != "sleep":
            steps, gap = torture.attestor.describe(old.pid)
        assert gap == ""
        assert processes(steps) == processes(before)
        assert not steps[1].image.observed
    finally:
        old.kill()
        old.wait()
        old.stdin.close()
        old.stdout.close()
        torture.close()
