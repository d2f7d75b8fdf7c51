"""A vault in a test's folder, that can be closed and opened again."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from agent_broker.clock import Clock
from agent_broker.vault.file import Credential, Vault
from agent_broker.vault.secret import Secret

ROOT = bytes(range(32))
KEY = "claude/1000/api-key"
OAUTH = "claude/1000/oauth"


@contextmanager
def reopening(path: Path, clock: Clock) -> Iterator[Callable[..., Vault]]:
    """Yield a function that opens the vault, after closing it if it is open; its ``close`` leaves it closed."""
    opened: list[Vault] = []

    def again(root: bytes = ROOT) -> Vault:
        while opened:
            opened.pop().close()
        opened.append(Vault.open(path, Secret(root), clock))
        return opened[-1]

    def close() -> None:
        while opened:
            opened.pop().close()

    again.close = close  # type: ignore[attr-defined]
    try:
        yield again
    finally:
        close()


def put(
    vault: Vault,
    credential_id: str = KEY,
    secret: bytes = b"sk-test-1",
    kind: str = "anthropic-api-key",
    **attributes: str,
) -> Credential:
    agent, owner, *_ = credential_id.split("/")
    return vault.put(
        credential_id, kind=kind, agent=agent, owner_uid=int(owner), attributes=attributes, secret=Secret(secret)
    )


def edit(path: Path, statement: str, *values: object) -> list[tuple[object, ...]]:
    """What an attacker does who can write the file while no broker has it open; return what the statement gives."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(statement, values).fetchall()
