"""An attestor that says what a test wrote down: for what travels over monitor.sock, not for who is whom."""

import asyncio
import os

from agent_broker.identity.evidence import Unchanged
from tests.unit.test_issue import AGENT, evidence


class ScriptedAttestor:
    """Knows one process; ``slow`` makes it need waiting first."""

    def __init__(self):
        self.answer = evidence()
        self.slow = False
        self.gate = asyncio.Event()
        self.pidfds = []
        self.parents = {}

    def attest_now(self, pidfd, known=None):
        self.pidfds.append(os.fstat(pidfd).st_ino)
        if self.slow:
            return None
        return Unchanged(known) if known == getattr(self.answer, "freshness", 0) else self.answer

    def attest_socket_now(self, _inode, known=None):
        return Unchanged(known) if known else self.answer

    def other_end_of(self, inode):
        return inode + 1

    def parents_of(self, pidfd):
        return self.parents.get(os.fstat(pidfd).st_ino, ())

    async def attest(self, _pidfd, _known=None):
        await self.gate.wait()
        return self.answer

    async def attest_socket(self, _inode, _known=None):
        return self.answer

    def recheck_now(self, known):
        return None if self.slow else Unchanged(known)

    async def recheck(self, known):
        await self.gate.wait()
        return Unchanged(known)

    def confirm_now(self, pidfd, known):
        self.pidfds.append(os.fstat(pidfd).st_ino)
        return None if self.slow else Unchanged(known)

    async def confirm(self, _pidfd, known):
        await self.gate.wait()
        return Unchanged(known)

    def describe(self, pid):
        return ((AGENT,), "") if pid == 1 else ((), "gone")
