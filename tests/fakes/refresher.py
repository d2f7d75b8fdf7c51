"""A process that refreshes one login from a real vault, and is killed by the kernel at a chosen step.

    python -m tests.fakes.refresher VAULT TOKEN_URL KIND STEP

It prints the access token once it may be used, and dies of SIGKILL before that if STEP is one of ``STEPS``.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

from agent_broker.clock import SystemClock
from agent_broker.daemon.serve import VaultTokens
from agent_broker.errors import UnavailableError
from agent_broker.inject.oauth import TokenKeeper
from agent_broker.vault.file import Vault
from agent_broker.vault.secret import Secret
from tests.fakes.vaults import OAUTH, ROOT

STEPS = ("asking", "answered", "written", "committed", "tidied")
"""Before the request leaves; the answer is here and nothing is stored; the change is in the open transaction; it is
committed; it is stored and about to be used. ``served``: while the server makes the tokens (the test kills)."""


class Fatal:
    """Kills this process when its step comes."""

    def __init__(self, step: str) -> None:
        self._step = step

    def at(self, step: str) -> None:
        if step == self._step:
            os.kill(os.getpid(), signal.SIGKILL)


class Tokens(VaultTokens):
    """The product's own store, with places to die at."""

    def __init__(self, vault: Vault, fatal: Fatal) -> None:
        super().__init__(vault)
        self._fatal = fatal

    def store(self, credential, secret):
        self._fatal.at("answered")
        super().store(credential, secret)
        self._fatal.at("tidied")


def watch_database(vault: Vault, fatal: Fatal) -> None:
    def traced(statement: str) -> None:
        if statement == "COMMIT":
            fatal.at("written")
        if "wal_checkpoint" in statement:
            fatal.at("committed")

    vault._database._connection.set_trace_callback(traced)


async def main() -> int:
    path, url, kind, step = sys.argv[1:]
    fatal = Fatal(step)
    vault = Vault.open(Path(path), Secret(ROOT), SystemClock())
    keeper = TokenKeeper(Tokens(vault, fatal), SystemClock(), token_urls={kind: url})
    watch_database(vault, fatal)
    fatal.at("asking")
    try:
        print(await keeper.access_token(vault.describe(OAUTH), vault.unseal(OAUTH)), flush=True)
    except UnavailableError as error:
        print(error.explain(), flush=True)
        return 4
    finally:
        await keeper.close()
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
