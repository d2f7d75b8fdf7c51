"""Whatever bytes an environment holds: no error, no value kept, no variable of the table hidden."""

import hashlib

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_broker.identity.environment import Entry, injected, scan_strings, split_entries
from agent_broker.identity.environment_table import ALL_RUNTIMES, FAMILIES

VALUE = b"~a value that must not be kept~"
PATTERNS = [(family, pattern) for family in FAMILIES for pattern in family.patterns]
blocks = st.lists(st.binary(max_size=60), max_size=30).map(b"\0".join)
entry = st.binary(max_size=60).map(lambda raw: raw.replace(b"\0", b""))
values = st.binary(max_size=30).map(lambda raw: raw.replace(b"\0", b""))
names = values.map(lambda raw: raw.replace(b"=", b""))
harmless = st.text("abcdefgh_", min_size=1, max_size=12).map(lambda name: name.encode() + b"=x")


def joined(entries: list[Entry]) -> bytes:
    return b"\0".join(map(b"".join, entries))


@st.composite
def table_names(draw) -> tuple[str, str]:
    family, pattern = draw(st.sampled_from(PATTERNS))
    filling = draw(st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789", max_size=20))
    name = pattern.replace("*", filling)
    return (name if name not in family.harmless else f"{name}_"), family.runtime


@settings(deadline=None)
@given(blocks, blocks)
def test_it_never_raises_and_keeps_the_arguments(arguments, environment):
    assert scan_strings(arguments, environment).arguments == arguments[:8192]


@settings(deadline=None)
@given(st.binary(max_size=2000) | blocks)
def test_what_it_splits_joins_to_the_same_bytes(environment):
    assert joined(split_entries(environment)) == environment


@settings(deadline=None)
@given(st.lists(st.tuples(names, st.one_of(st.none(), values)), min_size=1, max_size=30))
def test_what_is_joined_splits_to_the_same_entries(variables):
    entries = [(name, b"", b"") if value is None else (name, b"=", value) for name, value in variables]

    assert split_entries(joined(entries)) == entries


@settings(deadline=None)
@given(table_names(), st.lists(entry, max_size=20), st.lists(entry, max_size=20))
def test_a_variable_of_the_table_is_found_wherever_it_stands(named, before, after):
    name, runtime = named
    block = b"\0".join([*before, f"{name}=".encode() + VALUE, *after, b""])
    found = scan_strings(b"", block)

    digest = hashlib.sha256(VALUE).hexdigest()
    assert (name, runtime, digest) in {(each.name, each.runtime, each.value_sha256) for each in found.injections}


@settings(deadline=None)
@given(table_names(), st.integers(0, 3000), st.integers(1, 60), st.booleans())
def test_neither_padding_nor_duplicates_hide_a_variable(named, padding, times, first):
    name, runtime = named
    variable = f"{name}=".encode() + VALUE
    many = [b"PADDING=" + b"x" * 20] * padding
    duplicates = [f"{name}=".encode()] * times
    entries = [variable, *duplicates, *many] if first else [*many, *duplicates, variable]
    found = scan_strings(b"", b"\0".join(entries))

    assert found.problem or len({each.value_sha256 for each in found.injections if each.runtime == runtime}) == 2
    if not found.problem:
        assert any(name in said for said in injected(found, [runtime], ()))


@settings(deadline=None)
@given(st.lists(table_names(), min_size=65, max_size=100), st.lists(harmless, max_size=20))
def test_more_than_sixty_four_are_a_problem(names, others):
    entries = [f"{name}=x".encode() for name, _ in names] + others
    found = scan_strings(b"", b"\0".join(entries))

    assert "more than 64" in found.problem
    assert len(found.injections) == 64


@settings(deadline=None)
@given(st.lists(table_names() | st.tuples(st.sampled_from(["HOME", "X"]), st.just("")), max_size=40), blocks)
def test_no_value_is_kept(names, arguments):
    block = b"\0".join(f"{name}=".encode() + VALUE for name, _ in names)
    found = scan_strings(arguments, block)
    said = msgspec.msgpack.encode((found.injections, found.problem, injected(found, ALL_RUNTIMES, ())))

    assert VALUE not in said


@settings(deadline=None)
@given(st.lists(harmless, max_size=40))
def test_an_ordinary_environment_is_clean(entries):
    found = scan_strings(b"", b"\0".join(entries))

    assert (found.injections, found.problem) == ((), "")
