"""Variables that make a genuine binary run foreign code: judged at exec, from what the kernel captured.

A matching hash says which file was mapped, not which code runs: ``LD_PRELOAD=x.so claude`` and
``BUN_OPTIONS=--preload=x.js claude`` run x in the genuine binary. So a registered image whose environment at
exec names one of these is tainted: it gets no secret, and the message names the variable (never its value).

What counts is in environment_table, a row a family. A variable counts only for the runtimes that read it: PYTHONPATH
changes no compiled agent, and is in half the developers' profiles. An empty value counts too: some readers treat it
as set, and nobody needs it. What an operator's own set-up needs is allowed with exactly one value.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from itertools import islice

from agent_broker.identity.environment_table import FAMILIES, LOADER, Family
from agent_broker.identity.registry import Allowance
from agent_broker.ids import Sha256
from agent_broker.lineage.record import Captured, Injection

MAX_ARGUMENTS_BYTES = 8 * 1024
"""Kept of an image's arguments: a script whose path lies behind them is nobody's."""
MAX_NAME_LENGTH = 100
"""Characters kept of a variable's name; the table has none as long, but BASH_FUNC_* can be."""
_MAX_NAMED = 5  # so many variables are named at most
_MAX_KEPT = 64  # more injecting variables can't be an honest set-up

ENROLLED_RUNTIMES = frozenset({LOADER, "bun", "node"})
"""The runtimes of the agents that can be enrolled."""

_ANY = re.compile("|".join(family.names for family in FAMILIES))
_EACH = tuple((re.compile(family.names), family) for family in FAMILIES)
_SESSIONS = {
    b"CLAUDE_CODE_SESSION_ID": re.compile(rb"[0-9A-Za-z-]{8,64}"),
    b"TRACEPARENT": re.compile(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}"),
}
"""What Claude Code sets for its children; the second (W3C Trace Context) with CLAUDE_CODE_PROPAGATE_TRACEPARENT."""
_SETS = "its environment sets"
_SENTENCE = re.compile(rf"{_SETS} (.+?): ")

Entry = tuple[bytes, bytes, bytes]
"""Name, ``=``, value; of an entry without ``=``: all of it, and twice nothing."""


def danger(name: str, runtimes: Iterable[str]) -> str:
    """Return why a variable makes a program of these runtimes run foreign code; empty: it does not."""
    readers = frozenset(runtimes)
    return next((family.why for family in _families(name) if family.runtime in readers), "")


def allow(name: bytes, value: bytes) -> Allowance:
    """Return what lets a variable through with exactly this value; the value itself is not in it."""
    return Allowance(_shown(name), Sha256(hashlib.sha256(value).hexdigest()))


def split_entries(block: bytes) -> list[Entry]:
    """Return every entry of an environment as execve was given it, empty ones and duplicates too, in order.

    Nothing is lost: joined by NUL, they are the block, whatever its bytes are.
    """
    return [entry.partition(b"=") for entry in block.split(b"\0")]


def scan_strings(arguments: bytes, environment: bytes) -> Captured:
    """Return what is kept of a registered image's strings, as captured at exec: of variables, no value but a session's.

    An entry without "=" names no variable, but shows that somebody built the block by hand: that is a problem.
    Raises nothing, whatever the bytes are.
    """
    entries = [entry for entry in split_entries(environment) if any(entry)]
    injections = tuple(islice(_injections(entries), _MAX_KEPT + 1))
    problem = ""
    if not all(equals for _, equals, _ in entries):
        problem = "its environment has an entry without a name"
    elif len(injections) > _MAX_KEPT:
        problem = f"{_SETS} more than {_MAX_KEPT} variables that make programs run foreign code"
    home = next((value for name, equals, value in entries if name + equals == b"HOME="), None)
    digest = None if home is None else Sha256(hashlib.sha256(home).hexdigest())
    return Captured(arguments[:MAX_ARGUMENTS_BYTES], injections[:_MAX_KEPT], problem, digest, _session(entries))


def injected(captured: Captured, runtimes: Iterable[str], allowed: Iterable[Allowance]) -> tuple[str, ...]:
    """Return a sentence for each variable that makes a program of these runtimes run foreign code.

    Args:
        captured: the strings of its exec.
        runtimes: who reads its environment.
        allowed: variables that are let through with exactly the enrolled value.
    """
    permitted = {(each.name, each.value_sha256) for each in allowed}
    readers = frozenset(runtimes)
    found: dict[str, str] = {}
    for each in captured.injections:
        if each.runtime in readers and (each.name, each.value_sha256) not in permitted:
            found.setdefault(each.name, each.why)
    return tuple(f"{_SETS} {name}: {why}" for name, why in islice(found.items(), _MAX_NAMED))


def way_out(agent: str, taint: str) -> str:
    """Return what a person can do about a tainted process; for a sentence of ``injected``, names the variable."""
    found = _SENTENCE.search(taint)
    if found is None:
        return f"end {agent} and start it again, without that"
    return (
        f"start {agent} without {found[1]}; if your own set-up needs it, allow exactly its value: sudo agent-broker "
        f"unenroll {agent}, then sudo agent-broker enroll {agent} --allow-env {found[1]}=VALUE"
    )


def _session(entries: Iterable[Entry]) -> str:
    """Return the session that the entries name, else the trace; empty: neither, or it is not of that form."""
    found = {name: value for name, _, value in entries if name in _SESSIONS and _SESSIONS[name].fullmatch(value)}
    return next((found[name].decode("ascii") for name in _SESSIONS if name in found), "")


def _injections(entries: Iterable[Entry]) -> Iterator[Injection]:
    for name, _, value in entries:
        families = _families(name.decode("latin-1"))
        if families:
            digest = hashlib.sha256(value).hexdigest()
            yield from (Injection(_shown(name), family.runtime, family.why, digest) for family in families)


def _families(name: str) -> tuple[Family, ...]:
    """Return every row that a name is in; one look for the names that are in none."""
    if _ANY.fullmatch(name) is None:
        return ()
    return tuple(family for pattern, family in _EACH if pattern.fullmatch(name))


def _shown(raw: bytes) -> str:
    """Return a name in printable ASCII: it was chosen by whoever started the process, and goes to terminals."""
    name = raw.decode("latin-1").encode("unicode_escape").decode("ascii")
    return name if len(name) <= MAX_NAME_LENGTH else f"{name[: MAX_NAME_LENGTH - 3]}..."
