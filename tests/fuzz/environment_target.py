"""Fuzzes the environment parser: it never fails, it misses no variable of its table, and it keeps no value.

What it splits joins to the same bytes; what it keeps has no values, and is compared with a parser of this file's own.

An input is arguments, two NULs, environment.
"""

import hashlib
import re

import msgspec

from agent_broker.identity.environment import MAX_NAME_LENGTH, allow, danger, injected, scan_strings, split_entries
from agent_broker.identity.environment_table import FAMILIES
from agent_broker.identity.registry import Allowance

MARK = b"~a value that must not be kept~"
MOST_KEPT_ARGUMENTS = 8 * 1024
MOST_KEPT_INJECTIONS = 64
RUNTIMES = frozenset(family.runtime for family in FAMILIES)


def one_input(data: bytes) -> None:
    arguments, _, environment = data.partition(b"\0\0")
    found = scan_strings(arguments, environment)
    assert found.arguments == arguments[:MOST_KEPT_ARGUMENTS]
    _it_encodes_to_the_same_bytes(environment)
    entries = [entry for entry in environment.split(b"\0") if entry]
    _nothing_is_missed(entries, found)
    _names_are_fit_for_a_terminal(found)
    _no_value_is_kept(arguments, entries, found)
    _allowed_is_what_has_this_value(entries, found)


def _it_encodes_to_the_same_bytes(environment):
    entries = split_entries(environment)
    assert b"\0".join(map(b"".join, entries)) == environment
    for name, equals, value in entries:
        assert b"=" not in name
        assert b"\0" not in name + value
        assert equals == b"=" or (equals, value) == (b"", b"")


def _nothing_is_missed(entries, found):
    expected = []
    for entry in entries:
        name, _, value = entry.partition(b"=")
        digest = hashlib.sha256(value).hexdigest()
        rows = [each for each in FAMILIES if re.fullmatch(each.names, name.decode("latin-1"))]
        expected += [(each.runtime, digest) for each in rows]
        assert bool(danger(name.decode("latin-1"), RUNTIMES)) == bool(rows)
    kept = [(each.runtime, each.value_sha256) for each in found.injections]
    assert kept == expected[:MOST_KEPT_INJECTIONS]
    assert bool(found.problem) == (len(kept) < len(expected) or any(b"=" not in entry for entry in entries))


def _names_are_fit_for_a_terminal(found):
    for each in found.injections:
        assert len(each.name) <= MAX_NAME_LENGTH
        assert each.name.isascii()
        assert each.name.isprintable()


def _no_value_is_kept(arguments, entries, found):
    marked = b"\0".join(entry.replace(b"=", b"=" + MARK, 1) + MARK * (b"=" in entry) for entry in entries)
    again = scan_strings(arguments, marked)
    said = msgspec.msgpack.encode((again.injections, again.problem, injected(again, RUNTIMES, ())))
    assert MARK not in said
    assert [each.name for each in again.injections] == [each.name for each in found.injections]
    assert again.problem == found.problem


def _allowed_is_what_has_this_value(entries, found):
    exactly = [allow(*entry.split(b"=", 1)) if b"=" in entry else allow(entry, b"") for entry in entries]
    others = [Allowance(each.name, "0" * 64) for each in found.injections]
    assert injected(found, RUNTIMES, exactly) == ()
    assert injected(found, RUNTIMES, others) == injected(found, RUNTIMES, ())
    assert bool(found.injections) == bool(injected(found, RUNTIMES, ()))
