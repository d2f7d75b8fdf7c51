"""What ~/.ssh may hold, what moves, and that all of it comes back (needs root)."""

import os
import subprocess
from pathlib import Path

import pytest

from agent_broker.enroll.file_problems import UnsafeFileError
from agent_broker.errors import MisuseError
from agent_broker.identity.registry import load_registry
from agent_broker.policy.document import load_policy
from agent_broker.ssh.keys import load_private_key, load_sealed, public_blob
from agent_broker.ssh.record import facts_of
from tests.contract.test_enroll_crash import killed_at
from tests.fakes.enroll_world import UID
from tests.fakes.login_stage import Terminal
from tests.fakes.ssh_world import PASSPHRASE, SshWorld

OPENSSH = {"/usr/bin/ssh", "/usr/bin/ssh-add", "/usr/bin/ssh-keygen"}
KINDS = {
    "ed25519": ("ed25519",),
    "rsa": ("rsa", "-b", "2048"),
    "rsa-pem": ("rsa", "-b", "2048", "-m", "PEM"),
    "rsa-pkcs8": ("rsa", "-b", "2048", "-m", "PKCS8"),
    "ecdsa": ("ecdsa", "-b", "256"),
    "ecdsa-521": ("ecdsa", "-b", "521"),
    "ecdsa-pem": ("ecdsa", "-b", "384", "-m", "PEM"),
}
CONFIGS = {
    "none": None,
    "empty": "",
    "hosts": "# mine\nHost a\n\tUser me\n\nHost *\n  Compression yes\n",
    "no end of the last line": "Host a\n  User me",
    "CRLF": "# mine\r\nHost a\r\n  User me\r\n",
    "another agent": "# mine\nIdentityAgent ~/.other/agent.sock\nHost a\n  User me\n",
    "another agent, quoted, in capitals": 'IDENTITYAGENT = "/a b/agent.sock"\nHost a\n',
    "another agent of one host": "Host a\n  IdentityAgent /other\n",
    "match": "Match host a exec true\n  User me\n",
}


@pytest.fixture
def world():
    world = SshWorld()
    yield world
    world.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_moves_and_a_decoy_of_its_kind_takes_its_place(world, kind):
    line = world.key("id", *KINDS[kind])
    path = world.ssh / "id"
    head, before = path.read_bytes().splitlines()[0], world.snapshot()

    report = world.enroll()

    assert path.read_bytes().splitlines()[0] == head
    decoy = load_private_key(path.read_bytes())
    assert type(decoy) is type(load_sealed(world.credential("id").content))
    assert public_blob(decoy) != public_blob(load_sealed(world.credential("id").content))
    facts = facts_of(world.credential("id").attributes, "id")
    assert (facts.blob, facts.comment) == (public_blob(load_sealed(world.credential("id").content)), "id@test")
    assert (world.ssh / "id.pub").read_text().strip() == line
    assert not any("still holds" in warning for warning in report.warnings)
    world.unenroll()
    assert world.snapshot() == before


def test_what_is_registered_is_a_tool_that_asks_itself_and_a_rule_for_the_user(world):
    world.key("id")
    world.enroll()

    (enrolled,) = load_registry(world.site().tools_dir)
    assert enrolled.serving.shim == ""
    assert {binary.path for binary in enrolled.binaries} == OPENSSH
    assert [decoy.path for decoy in enrolled.decoys] == [str(world.ssh / "id")]
    (rule,) = load_policy(world.site().policy_dir).rules
    assert (rule.session, rule.credential.text, "sign" in rule.modes) == ("user", f"ssh/{UID}/*", True)
    assert world.limits("id")["needs_binding"]
    assert load_registry(world.site().registry_dir) == ()


def test_a_script_that_is_named_comes_beside_ssh(world):
    world.key("id")
    script = world.make(world.home / "deploy", b"#!/usr/bin/python3 -I\n", mode=0o755)
    interpreter = os.path.realpath("/usr/bin/python3")

    plan = world.plan(script)

    found = {each.enrolled.path: each.enrolled.script for each in plan.binaries}
    assert set(found) == {*OPENSSH, interpreter}
    assert found[interpreter].path == str(script)
    assert [each for each in OPENSSH if found[each] is not None] == []
    role = plan.tool.role
    assert set(role.argv0_names) == {"ssh", "ssh-keygen", "ssh-add", "/usr/bin/python3"}
    assert set(role.runtimes) == {"loader", "sasl", "python"}
    assert role.required_options


def test_a_native_program_that_is_named_takes_the_place_of_ssh(world):
    world.key("id")

    assert [each.enrolled.path for each in world.plan(Path("/usr/bin/ssh")).binaries] == ["/usr/bin/ssh"]


def test_what_is_named_and_is_not_there_is_refused(world):
    world.key("id")

    with pytest.raises(MisuseError, match="can't be opened"):
        world.plan(world.home / "nothing")


@pytest.mark.parametrize("name", CONFIGS)
def test_ssh_finds_the_socket_whatever_the_configuration_says_and_all_of_it_comes_back(world, name):
    world.key("id")
    if CONFIGS[name] is not None:
        world.make(world.config, CONFIGS[name], mode=0o644)
    before = world.snapshot()

    world.enroll()

    told = subprocess.run(["ssh", "-G", "-F", world.config, "a"], capture_output=True, text=True, check=True).stdout
    assert f"identityagent {world.socket}" in told.splitlines()
    world.unenroll()
    assert world.snapshot() == before


@pytest.mark.parametrize("text", ["IdentityAgent $HOME/a b\n", "IdentityAgent\n", "\ufeffHost a\n", "Host \udcff\n"])
def test_a_configuration_that_is_not_understood_stops_it(world, text):
    world.key("id")
    world.make(world.config, text.encode("utf-8", "surrogateescape"))
    before = world.snapshot()
    with pytest.raises(MisuseError):
        world.enroll()
    assert world.snapshot() == before


def test_what_the_user_adds_to_the_configuration_later_stays(world):
    world.key("id")
    world.make(world.config, "Host a\n  User me\n")
    world.enroll()
    world.config.write_text(world.config.read_text() + "Host b\n  User you\n")

    world.unenroll()

    assert world.config.read_text() == "Host a\n  User me\nHost b\n  User you\n"


def test_a_passphrase_is_asked_for_once_and_the_encrypted_file_comes_back(world):
    world.key("id", passphrase=PASSPHRASE)
    world.answers = ["wrong", PASSPHRASE]
    before = world.snapshot()

    world.enroll()

    assert world.asked == [str(world.ssh / "id")] * 2
    assert (
        public_blob(load_sealed(world.credential("id").content))
        == facts_of(world.credential("id").attributes, "id").blob
    )
    assert PASSPHRASE.encode() not in b"".join(record.content for record in world.store.records.values())
    load_private_key((world.ssh / "id").read_bytes())  # the decoy asks for none
    world.unenroll()
    assert world.snapshot() == before


@pytest.mark.parametrize("answers", [None, [""], ["a", "b", "c", PASSPHRASE]])
def test_a_key_whose_passphrase_is_not_told_stays_and_is_named(world, answers):
    world.key("id", passphrase=PASSPHRASE)
    world.key("other")
    world.answers = answers
    held = (world.ssh / "id").read_bytes()

    plan = world.plan()
    world.apply(plan)

    assert any("passphrase" in warning and "/id" in warning for warning in plan.warnings)
    assert (world.ssh / "id").read_bytes() == held
    assert f"ssh/{UID}/id" not in world.store.records


def test_a_missing_public_file_is_made_and_goes_again(world):
    line = world.key("id")
    (world.ssh / "id.pub").unlink()
    before = world.snapshot()

    world.enroll()

    assert (world.ssh / "id.pub").read_text().split()[:2] == line.split()[:2]
    world.unenroll()
    assert world.snapshot() == before


def test_a_copy_of_a_key_becomes_a_decoy_too_and_is_one_credential(world):
    world.key("id")
    world.make(world.ssh / "id.old", (world.ssh / "id").read_bytes())

    world.enroll()

    assert [key for key, record in world.store.records.items() if record.kind == "ssh-key"] == [f"ssh/{UID}/id"]
    assert b"BEGIN" in (world.ssh / "id.old").read_bytes()
    assert (world.ssh / "id.old").read_bytes() != (world.ssh / "id").read_bytes()


def test_a_key_that_the_configuration_names_below_the_home_moves_and_one_elsewhere_is_told(world):
    world.key("id")
    folder = world.make_folder(world.home / "keys")
    (world.ssh / "id").rename(folder / "deploy key")
    (world.ssh / "id.pub").rename(folder / "deploy key.pub")
    world.make(world.config, 'Host a\n  IdentityFile "~/keys/deploy key"\n  IdentityFile /etc/ssh/other\n')

    plan = world.plan()
    world.apply(plan)

    assert [credential.id for credential in plan.credentials] == [f"ssh/{UID}/deploy-key"]
    assert any("/etc/ssh/other" in warning for warning in plan.warnings)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"-----BEGIN OPENSSH PRIVATE KEY-----\nbm90IGEga2V5\n-----END OPENSSH PRIVATE KEY-----\n", "no private key"),
        (b"-----BEGIN RSA PRIVATE KEY-----\n" + b"A" * 1000, "no private key"),
    ],
)
def test_what_only_looks_like_a_key_stays_and_is_named(world, content, why):
    world.key("id")
    path = world.make(world.ssh / "odd", content)

    plan = world.plan()
    world.apply(plan)

    assert any(why in warning and "odd" in warning for warning in plan.warnings)
    assert path.read_bytes() == content


def test_links_pipes_and_folders_are_passed_over(world):
    world.key("id")
    (world.ssh / "link").symlink_to("/etc/ssh/ssh_host_ed25519_key")
    os.mkfifo(world.ssh / "id_pipe")
    world.make_folder(world.ssh / "id_folder")
    world.make(world.ssh / "id_long", b"-----BEGIN OPENSSH PRIVATE KEY-----\n" + b"A" * 100_000)

    plan = world.plan()

    assert [credential.id for credential in plan.credentials] == [f"ssh/{UID}/id"]
    assert any("is a link" in warning for warning in plan.warnings)


def test_a_home_without_keys_is_not_enrolled(world):
    world.make(world.ssh / "known_hosts", "a ssh-ed25519 AAAA\n")
    with pytest.raises(MisuseError, match="no private key"):
        world.plan()


def test_a_folder_that_is_a_link_is_refused(world):
    world.key("id")
    world.ssh.rename(world.home / "elsewhere")
    world.ssh.symlink_to(world.home / "elsewhere")
    with pytest.raises((UnsafeFileError, MisuseError)):
        world.plan()


@pytest.mark.parametrize(
    "step", ["sealed credential id", "journal: rewriting", "swapped .ssh/id.pub", "swapped .ssh/id", "registered"]
)
def test_a_kill_loses_nothing(world, step):
    """Of the steps, those where something of SSH's own is half done; test_enroll_crash has all of them."""
    world.key("id")
    (world.ssh / "id.pub").unlink()
    world.make(world.config, "Host a\n")
    secret = (world.ssh / "id").read_bytes()
    before = world.snapshot()

    killed_at(world, step, world.enroll)
    world.recover()

    if step == "registered":
        assert world.snapshot()[".ssh/id"].data != secret
        assert world.credential("id").content
        world.unenroll()
    assert world.snapshot() == before


def test_a_person_is_asked_at_the_terminal_and_nothing_of_the_answer_is_shown(world):
    world.key("id", passphrase=PASSPHRASE)
    environment = {**os.environ, "AGENT_BROKER_ROOT": str(world.state), "COLUMNS": "200"}
    words = ("enroll", "ssh", "--user", str(UID), "--home", str(world.home), "--dry-run")
    terminal = Terminal(words, environment)
    try:
        for answer in ("wrong", PASSPHRASE):
            asked = len(terminal.text)
            terminal.until(rf"(?s)\A.{{{asked}}}.*Passphrase of {world.ssh}/id \(empty: leave it\)")
            terminal.type_hidden(f"{answer}\n")
        assert terminal.end() == 0, terminal.text
    finally:
        terminal.close()
    assert f"ssh/{UID}/id" in terminal.text
    assert PASSPHRASE not in terminal.text
    assert "wrong" not in terminal.text
