"""Complaints about TOML files: the right line, a hint, and never a value."""

from typing import Annotated, Literal

import msgspec
import pytest

from agent_broker.errors import MisuseError
from agent_broker.toml_document import TomlDocument


class Inner(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 917
    kind: Literal["file", "other"] = "file"


class Outer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    inject: Inner = Inner()
    rule: tuple[Inner, ...] = ()
    maybe: Inner | None = None
    names: tuple[str, ...] = ()


def complaint(text: str) -> str:
    with pytest.raises(MisuseError) as raised:
        TomlDocument(text.encode(), "f.toml").decode(Outer)
    return raised.value.message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[inject]\nport = 1\nprot = 2\n", "f.toml:3: unknown key prot in [inject]; did you mean port?"),
        ("# c\n\nzzz = 1\n", "f.toml:3: unknown key zzz; known here: inject, rule, maybe, names"),
        ("inject.port = 1\ninject.prt = 2\n", "f.toml:2: unknown key prt in [inject]; did you mean port?"),
        ('\ninject = { port = 1, "po rt" = 2 }\n', "f.toml:2: unknown key po rt in [inject]; did you mean port?"),
        ("[inject]\nport = 0\n", "f.toml:2: inject.port: expected a whole number >= 1"),
        ("[inject]\n\nport = true\n", "f.toml:3: inject.port: expected a whole number, got true or false"),
        ("inject = 3\n", "f.toml:1: inject: expected a table, got a whole number"),
        (
            "\n[[rule]]\nport = 5\n[[rule]]\n# x\nport = 1.5\n",
            "f.toml:6: rule[1].port: expected a whole number, got a number",
        ),
        (
            "rule = [\n {port = 1},\n # two\n {port = 'x'}]\n",
            "f.toml:4: rule[1].port: expected a whole number, got a string",
        ),
        ('names = ["a",\n"b",\n3]\n', "f.toml:3: names[2]: expected a string, got a whole number"),
        ("[maybe]\nprot = 1\n", "f.toml:2: unknown key prot in [maybe]; did you mean port?"),
        ("[a.b]\n", "f.toml:1: unknown key a; known here: inject, rule, maybe, names"),
        ("[[rule]]\n[[rule]]\n[rule.sub]\nx = 1\n", "f.toml:3: unknown key sub in [rule[1]]; known here: port, kind"),
        ("x = 1\n= 2\n", "f.toml:2: not TOML: Invalid statement"),
        ("x = [1,\n", "f.toml:1: not TOML: Invalid value"),
        ("x = 1\nx = 2\n", "f.toml:2: not TOML: Cannot overwrite a value"),
    ],
)
def test_names_the_line(text: str, expected: str) -> None:
    assert complaint(text) == expected


def test_an_enumeration_lists_its_values_and_quotes_none_of_the_file() -> None:
    message = complaint("[inject]\nkind = 'sk-ant-secret'\n")
    assert message == "f.toml:2: inject.kind: must be one of: file, other"


def test_bytes_that_are_not_utf8_are_located() -> None:
    with pytest.raises(MisuseError, match=r"f\.toml:2: this line is not UTF-8"):
        TomlDocument(b"a = 1\nb = '\xff'\n", "f.toml")


def test_control_characters_of_key_names_do_not_reach_the_terminal() -> None:
    assert "\x1b" not in complaint('"\\u001b[2J" = 1\n')
    assert "\\u001b[2J" in complaint('"\\u001b[2J" = 1\n')


def test_a_good_document_is_the_struct() -> None:
    text = b"names = ['a']\n[inject]\nport = 1\n[[rule]]\nkind = 'other'\n"
    assert TomlDocument(text, "f").decode(Outer) == Outer(Inner(1), (Inner(kind="other"),), None, ("a",))


def test_the_line_of_a_key_that_is_not_written_is_its_tables() -> None:
    document = TomlDocument(b"\n[inject]\nport = 1\n", "f.toml")
    assert document.line_of(("inject", "kind")) == 2
    assert document.line_of(("nothing",)) == 1
    assert document.misuse(("inject", "port"), "too odd").message == "f.toml:3: too odd"
