"""SIGUSR1, at which a Node agent opens its debugger to everybody: who gets it from others is tainted."""

import os
import signal

import pytest

from agent_broker.identity.evidence import Evidence
from tests.kernel.test_connection_writers import stage  # noqa: F401 - a fixture

pytestmark = pytest.mark.kernel

SEND = "os.kill({pid}, {number})"
QUEUE = "ctypes.CDLL(None).sigqueue({pid}, {number}, 0)"
BY_THREAD = "ctypes.CDLL(None).syscall(234, {pid}, {pid}, {number})"  # tgkill
BY_DATA = (
    "[fcntl.fcntl(r, 8, {pid}) + fcntl.fcntl(r, 10, {number}) + fcntl.fcntl(r, 4, 0o20000) + os.write(w, b'x')"
    " for fcntl in [__import__('fcntl')] for r, w in [os.pipe()]][0]"
)  # F_SETOWN, F_SETSIG, F_SETFL O_ASYNC


async def ignoring(stage):  # noqa: F811
    agent = await stage.puppet(stage.agent)
    await agent.do("__import__('signal').signal(10, __import__('signal').SIG_IGN)")
    return agent


async def judge(stage, agent):  # noqa: F811
    pidfd = os.pidfd_open(agent.pid)
    try:
        return await stage.attestor.attest(pidfd)
    finally:
        os.close(pidfd)


@pytest.mark.parametrize("send", [SEND, QUEUE, BY_THREAD, BY_DATA])
async def test_a_process_of_the_user_that_sends_it_taints_the_agent(stage, send):  # noqa: F811
    agent, other = await ignoring(stage), await stage.puppet()
    assert not (await judge(stage, agent)).taints
    await other.do(send.format(pid=agent.pid, number=10))

    verdict = await judge(stage, agent)

    assert isinstance(verdict, Evidence)
    assert "SIGUSR1" in verdict.taints[0]


async def test_a_child_of_the_agent_is_another_process(stage):  # noqa: F811
    agent = await ignoring(stage)
    await agent.do("[p or (os.kill(os.getppid(), 10), os._exit(0)) for p in [os.fork()]][0]")
    await agent.do("os.wait()[0]")

    assert "SIGUSR1" in (await judge(stage, agent)).taints[0]


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGWINCH, signal.SIGCONT])
async def test_other_signals_change_nothing(stage, number):  # noqa: F811
    agent, other = await ignoring(stage), await stage.puppet()
    await agent.do(f"__import__('signal').signal({int(signal.SIGUSR2)}, __import__('signal').SIG_IGN)")
    await other.do(SEND.format(pid=agent.pid, number=int(number)))

    assert (await judge(stage, agent)).taints == ()


async def test_what_it_sends_itself_and_what_root_sends_changes_nothing(stage):  # noqa: F811
    agent = await ignoring(stage)
    await agent.do("os.kill(os.getpid(), 10)")
    os.kill(agent.pid, signal.SIGUSR1)

    assert (await judge(stage, agent)).taints == ()


async def test_one_that_waits_survives_an_exec_and_taints(stage):  # noqa: F811
    starter = await stage.puppet()
    await starter.do("__import__('signal').pthread_sigmask(0, [10])")
    await starter.do("os.kill(os.getpid(), 10)")
    await starter.become([str(stage.agent), "-c", "import time; time.sleep(60)"])
    while stage.attestor.describe(starter.pid)[0][0].image.filename != str(stage.agent):
        pass

    assert "SIGUSR1 was waiting" in (await judge(stage, starter)).taints[0]
