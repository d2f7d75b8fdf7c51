"""One client: set up without the broker, enrolled, each row tried, unenrolled, and at work again without the broker."""

import contextlib
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from msgspec import structs

from tests.e2e.clients.row import REFUSED, WORKS, Client, Outcome, Row, Stand
from tests.e2e.clients.world import PROGRAM, Clients

_BEFORE = Row("before it is enrolled", PROGRAM, "{use}")
_AFTER = Row("unenrolled, byte for byte", PROGRAM, "{use}")


def measure(clients: Clients, client: Client) -> Iterator[Outcome]:
    """Yield what was measured, row by row."""
    with client.stand(clients) as stand:
        yield _measure(clients, stand, _BEFORE)
        before = {name: _state(clients.home / name) for name in stand.files}
        _enroll(clients, client, stand)
        clients.allow(stand.filled(client.rules))
        for row in client.cases:
            yield _measure(clients, stand, row)
        _unenroll(clients, client, stand)
        changed = [name for name, state in before.items() if _state(clients.home / name) != state]
        after = _measure(clients, stand, _AFTER)
        yield structs.replace(after, problem=f"not as they were: {changed}") if changed else after


def _enroll(clients: Clients, client: Client, stand: Stand) -> None:
    if client.enroll is None:
        clients.enroll(client.tool, *(stand.filled(each) for each in client.options))
    else:
        client.enroll(clients, stand)


def _unenroll(clients: Clients, client: Client, stand: Stand) -> None:
    if client.unenroll is None:
        clients.unenroll(client.tool)
    else:
        client.unenroll(clients, stand)


def _measure(clients: Clients, stand: Stand, row: Row) -> Outcome:
    began_s = time.monotonic()
    served = stand.served()
    before = clients.alerts() if row.tells else []
    kept = _state(clients.home / row.keeps) if row.keeps else None
    with _broker_as(clients, row):
        said = clients.run(row.who, stand.filled(row.command), **row.environment)
    was_served = stand.served() > served
    told = clients.told_since(before, stand.filled(row.tells)) if row.tells else True
    problems = [f"it printed a secret: {said.text[-200:]}"] if any(each in said.text for each in stand.secrets) else []
    if row.says and stand.filled(row.says) not in said.text:
        problems.append(f"it did not say {row.says!r}")
    if not told:
        problems.append(f"no alert said {row.tells!r}")
    if kept is not None and _state(clients.home / row.keeps) != kept:
        problems.append(f"~/{row.keeps} was changed")
    result = WORKS if said.code == 0 and was_served else REFUSED
    if result == REFUSED and was_served:
        problems.append("the server was given the real credential")
    if result != row.result or problems:
        problems.append(f"exit {said.code}: {said.text[-600:]}")
    return Outcome(stand.client, stand.version, row, result, "; ".join(problems), time.monotonic() - began_s)


def _broker_as(clients: Clients, row: Row) -> AbstractContextManager[None]:
    if row.down:
        return clients.broker_down()
    return clients.broker_stopped() if row.slow else contextlib.nullcontext()


def _state(path: Path) -> tuple[object, ...]:
    try:
        facts = path.lstat()
    except FileNotFoundError:
        return ()
    return path.read_bytes(), facts.st_mode, facts.st_uid, facts.st_gid, facts.st_mtime_ns
