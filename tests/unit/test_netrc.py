"""A netrc's words: which are passwords, and that no decoy of the file keeps one."""

import netrc

import pytest

from agent_broker.errors import MisuseError
from agent_broker.honeytoken.file_likeness import decoy_of_file
from agent_broker.honeytoken.netrc import netrc_secrets


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("machine a login b password c", [("a", "c")]),
        ("machine a\n\tlogin b\n\tpassword\n  c\nmachine d password e", [("a", "c"), ("d", "e")]),
        ("# mine\nmachine a login password password #c", [("a", "#c")]),
        ('machine "a" password "c d"\ndefault login x account y password z', [("a", "c d"), ("", "y"), ("", "z")]),
        ("machine a login b\nmacdef init\npassword no\n\nmachine d password e", [("d", "e")]),
        ("machine a login machine password machine", [("a", "machine")]),
        ("machine a password", []),
        ('machine a password ""', []),
        ("machine", []),
        ("", []),
        ("password c", []),
        ("[global]\npassword = c", []),
    ],
)
def test_the_passwords_are_found(text, found):
    assert [(each.machine, text[each.start : each.end]) for each in netrc_secrets(text)] == found


@pytest.mark.parametrize(
    "text",
    [
        "machine a login b password cc1",
        "machine a login b\npassword\n  hunter\n",
        "machine a login b password aB3\nmachine d login e password a-much-longer-one-2",
        'machine a login b password "two words"',
    ],
)
def test_a_decoy_keeps_no_password_and_reads_as_before(tmp_path, text):
    decoy, values = decoy_of_file(text.encode())
    (tmp_path / "was").write_text(text)
    (tmp_path / "is").write_bytes(decoy)
    was, now = (netrc.netrc(str(tmp_path / name)).hosts for name in ("was", "is"))

    assert {host: login for host, (login, _, _) in was.items()} == {host: login for host, (login, _, _) in now.items()}
    assert not {each[2] for each in was.values()} & {each[2] for each in now.values()}
    assert len(values) == len(was)


def test_a_netrc_without_a_password_has_no_decoy():
    with pytest.raises(MisuseError):
        decoy_of_file(b"machine a login b")
