"""The table of variables that run foreign code in a genuine binary, and what is said of an image that has one."""

import re
from pathlib import Path

import pytest

from agent_broker.identity.environment import MAX_NAME_LENGTH, allow, danger, injected, scan_strings, way_out
from agent_broker.identity.environment_table import ALL_RUNTIMES, FAMILIES, LEFT_OUT, PROGRAMS_RUNTIMES

CLAUDE = ("loader", "bun")
DOCUMENT = Path(__file__).parents[2] / "docs/environment.md"


def sentences(environment: bytes, runtimes=CLAUDE, allowed=()):
    return injected(scan_strings(b"claude\0", environment), runtimes, allowed)


@pytest.mark.parametrize(
    "name",
    ["LD_PRELOAD", "LD_AUDIT", "LD_OF_NEXT_YEAR", "GCONV_PATH", "BUN_OPTIONS", "BUN_INSPECT_PRELOAD", "NODE_PATH",
     "GLIBC_TUNABLES", "OPENSSL_CONF"],
)  # fmt: skip
def test_what_injects_into_a_bun_agent_taints(name):
    (said,) = sentences(f"HOME=/h\0{name}=x\0PATH=/p\0".encode())

    assert said.startswith(f"its environment sets {name}: ")


@pytest.mark.parametrize(
    "name",
    ["HOME", "PATH", "TMPDIR", "PYTHONPATH", "GEM_HOME", "MY_LD_PRELOAD", "NODE_ENV", "NODE_OPTIONS", "LANG",
     "BUN_INSTALL", "GTK_MODULES", "EDITOR", "HTTPS_PROXY", "ld_preload", "LD_PRELOAD\n", "XLD_A"],
)  # fmt: skip
def test_what_does_not_reach_the_agent_is_left_alone(name):
    assert danger(name, CLAUDE) == "" or name == "LD_PRELOAD\n"
    assert bool(sentences(f"{name}=x\0".encode())) == (name == "LD_PRELOAD\n")


@pytest.mark.parametrize(
    ("name", "runtimes"),
    [
        ("NODE_PATH", {"node", "bun"}),
        ("NODE_OPTIONS", {"node", "electron"}),
        ("OPENSSL_CONF", {"loader", "node"}),
        ("PYTHONPATH", {"python"}),
    ],
)
def test_a_variable_counts_for_each_runtime_that_reads_it(name, runtimes):
    assert {each.runtime for each in scan_strings(b"", f"{name}=x\0".encode()).injections} == runtimes
    assert {runtime for runtime in ALL_RUNTIMES if danger(name, [runtime])} == runtimes


@pytest.mark.parametrize("name", ["PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "PYTHONSAFEPATH"])
def test_a_harmless_name_of_a_family_is_spared_and_nothing_that_begins_like_it(name):
    assert not danger(name, ALL_RUNTIMES)
    assert danger(f"{name}_2", ALL_RUNTIMES)
    assert danger(f"{name}\n", ALL_RUNTIMES)


def test_a_variable_is_named_once_though_two_runtimes_read_it():
    assert len(sentences(b"OPENSSL_CONF=x\0", ("loader", "node"))) == 1


def test_all_that_the_loader_drops_for_set_user_id_programs_is_in_the_table_but_the_folder_for_files():
    """The list is read from the loader of this machine (glibc's sysdeps/generic/unsecvars.h)."""
    (loader, *_) = (path.read_bytes() for folder in ("/lib64", "/lib") for path in Path(folder).glob("ld-linux-*.so.*"))
    inside = loader.index(b"HOSTALIASES\0LD_AUDIT\0")
    names = loader[loader.rindex(b"\0\0", 0, inside) + 2 : loader.index(b"\0\0", inside)].decode().split("\0")

    assert {"LD_PRELOAD", "LD_AUDIT", "GCONV_PATH", "LD_LIBRARY_PATH", "TMPDIR"} <= set(names)
    assert [name for name in names if not danger(name, ["loader"])] == ["TMPDIR"]
    assert "TMPDIR" in LEFT_OUT


def test_nothing_that_is_left_out_is_in_the_table():
    words = ",".join(LEFT_OUT).replace("...", "").replace("*", "X").split(",")
    assert [word for word in map(str.strip, words) if danger(word, ALL_RUNTIMES)] == []


def test_every_row_has_a_reason_and_compiles():
    for family in FAMILIES:
        assert family.why
        for pattern in family.patterns:
            assert re.fullmatch(family.names, pattern.replace("*", "X")), pattern


@pytest.mark.parametrize("value", [b"", b"/opt/x.so", b"\xff"])
def test_a_variable_is_let_through_with_exactly_the_allowed_value(value):
    allowed = [allow(b"LD_PRELOAD", value)]

    assert sentences(b"LD_PRELOAD=%s\0" % value, allowed=allowed) == ()
    for other in (b"x", value + b" ", value + b":/evil.so", b"LD_PRELOAD"):
        assert sentences(b"LD_PRELOAD=%s\0" % other, allowed=allowed)
    assert sentences(b"LD_AUDIT=%s\0" % value, allowed=allowed)


def test_a_second_value_of_an_allowed_variable_taints():
    """Which of two entries a reader takes is its own choice."""
    allowed = [allow(b"LD_PRELOAD", b"/opt/x.so")]

    assert sentences(b"LD_PRELOAD=/opt/x.so\0LD_PRELOAD=/evil.so\0", allowed=allowed)
    assert sentences(b"LD_PRELOAD=/evil.so\0LD_PRELOAD=/opt/x.so\0", allowed=allowed)


def test_a_taint_names_the_variable_and_never_its_value():
    (taint,) = sentences(b"HOME=/h\0LD_PRELOAD=/tmp/secret-place.so\0")

    assert "LD_PRELOAD" in taint
    assert "secret-place" not in taint


def test_an_empty_value_taints_too():
    assert sentences(b"BUN_OPTIONS=\0")


def test_an_entry_without_a_name_is_a_problem():
    assert "without a name" in scan_strings(b"", b"HOME=/h\0LD_PRELOAD\0").problem


def test_more_variables_than_an_honest_set_up_has_are_a_problem():
    few = scan_strings(b"", b"".join(b"LD_X%d=1\0" % number for number in range(64)))
    many = scan_strings(b"", b"".join(b"LD_X%d=1\0" % number for number in range(20_000)))

    assert (few.problem, len(few.injections)) == ("", 64)
    assert "more than 64" in many.problem
    assert len(many.injections) == 64
    assert len(injected(many, CLAUDE, ())) == 5


def test_a_name_is_shown_in_printable_characters_and_not_at_any_length():
    hostile = b"LD_\x1b[2J\xe2\x80\xae\n" + b"x" * 10_000
    (kept,) = scan_strings(b"", hostile + b"=1\0").injections

    assert kept.name.isascii()
    assert kept.name.isprintable()
    assert len(kept.name) == MAX_NAME_LENGTH


def test_the_way_out_names_the_variable_and_the_option():
    (taint,) = sentences(b"LD_PRELOAD=/x\0")
    said = way_out("claude", f"claude: {taint}")

    assert said.startswith("start claude without LD_PRELOAD; ")
    assert "--allow-env LD_PRELOAD=VALUE" in said
    assert "--allow-env" not in way_out("claude", "claude: it was traced")


def table_of(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("| `")]


def test_the_document_has_the_table_of_the_code():
    wanted = []
    for family in FAMILIES:
        names = ", ".join(f"`{pattern}`" for pattern in family.patterns)
        spared = f"; not {', '.join(f'`{name}`' for name in family.harmless)}" if family.harmless else ""
        wanted.append(f"| {names}{spared} | {family.runtime} | {family.why} |")
    wanted += [
        f"| {', '.join(f'`{name.strip()}`' for name in names.split(','))} | {why} |" for names, why in LEFT_OUT.items()
    ]

    assert table_of(DOCUMENT.read_text()) == wanted


@pytest.mark.parametrize("name", ["npm_config_//registry/:_authToken", "XDG_CONFIG_HOME", "PREFIX"])
def test_what_leads_pnpm_or_gh_astray_takes_over_no_other_program(name):
    assert danger(name, ALL_RUNTIMES)
    assert not danger(name, PROGRAMS_RUNTIMES)
    assert danger("LD_PRELOAD", PROGRAMS_RUNTIMES)
