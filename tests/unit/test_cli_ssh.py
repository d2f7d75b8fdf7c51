"""``ssh keys`` and ``ssh limit`` as commands: a real home, real sockets, a broker in memory."""

import json
import subprocess

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent_broker.cli.main import main
from agent_broker.ids import AgentName, CredentialId, Uid
from agent_broker.ssh.binding import Limits, fingerprint
from agent_broker.ssh.keys import public_blob, public_line, sealed_form
from agent_broker.ssh.record import KIND, KeyFacts, facts_of
from agent_broker.vault.record import Credential
from tests.fakes.control import FakeBroker, ServedBroker
from tests.fakes.enroll_world import UID, EnrollWorld

ID = CredentialId(f"ssh/{UID}/id")
KEY, HOST, OTHER = (Ed25519PrivateKey.generate() for _ in range(3))
BLOB = public_blob(KEY)


@pytest.fixture
def ab(served: ServedBroker, world: FakeBroker, home: EnrollWorld, capsys: pytest.CaptureFixture[str]):
    attributes = KeyFacts(BLOB, "me@laptop", Limits()).attributes()
    record = Credential(ID, KIND, AgentName("ssh"), Uid(UID), 1, 0, 0, attributes)
    world.vault[ID] = (record, sealed_form(KEY))
    folder = home.make_folder(home.home / ".ssh")
    lines = f"good,10.0.0.7 {public_line(public_blob(HOST), '')}\n[good]:2222 {public_line(public_blob(OTHER), '')}\n"
    hosts = home.make(folder / "known_hosts", lines)
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", hosts], check=True, capture_output=True)
    home.make(hosts, hosts.read_bytes())

    def run(*words: str) -> tuple[int, str, str]:
        code = main(["ssh", *words])
        out, err = capsys.readouterr()
        return code, out, err

    def limit(*words: str) -> tuple[int, str, str]:
        return run("limit", "id", "--user", str(UID), "--home", str(home.home), "--yes", *words)

    run.limit = limit
    return run


def limits(world: FakeBroker) -> Limits:
    return facts_of(world.vault[ID][0].attributes, ID).limits


def test_keys_are_shown_without_their_private_halves(ab) -> None:
    code, out, _ = ab("keys", "--json")
    (shown,) = json.loads(out)
    assert (code, shown["key"], shown["fingerprint"]) == (0, "id", fingerprint(BLOB))
    assert shown["limits"] == {
        "destinations": [], "needs_binding": True, "allows_forwarding": False, "namespaces": None,
    }  # fmt: skip
    assert "me@laptop" in ab("keys")[1]


@pytest.mark.parametrize(("named", "key"), [("good", HOST), ("git@10.0.0.7", HOST), ("good:2222", OTHER)])
def test_a_host_is_known_by_its_key_in_known_hosts_hashed_or_not(ab, world: FakeBroker, named: str, key) -> None:
    code, _, err = ab.limit("--host", named)

    assert code == 0
    (found,) = limits(world).destinations
    assert found.host_keys == (fingerprint(public_blob(key)),)
    assert found.user == ("git" if "@" in named else "")
    assert found.host_keys[0] in err
    assert world.vault[ID][1] == sealed_form(KEY)


def test_what_is_not_said_again_is_as_it_was_enrolled(ab, world: FakeBroker) -> None:
    assert ab.limit("--forwarding", "--sign", "git", "--any-client")[0] == 0
    assert limits(world) == Limits(needs_binding=False, allows_forwarding=True, namespaces=("git",))
    assert ab.limit()[0] == 0
    assert limits(world) == Limits()


@pytest.mark.parametrize(
    "words", [("--host", "unknown"), ("--host", "-oX"), ("--host", "good", "--any-client"), ("--host", "good=SHA256:x")]
)
def test_what_can_not_be_changes_nothing(ab, world: FakeBroker, words: tuple[str, ...]) -> None:
    assert ab.limit(*words)[0] == 2
    assert limits(world) == Limits()


def test_a_key_that_is_not_there_is_said(ab) -> None:
    assert ab("limit", "other", "--user", str(UID), "--yes")[0] == 2
