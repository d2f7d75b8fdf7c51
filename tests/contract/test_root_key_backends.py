"""Every backend of the root key passes keyring's own contract suite, and ours on top."""

import contextlib
import subprocess
import sys

import pytest
from keyring.errors import PasswordDeleteError
from keyring.testing.backend import BackendBasicTests

from agent_broker.clock import SystemClock
from agent_broker.errors import IntegrityError
from agent_broker.vault.file import Vault
from agent_broker.vault.root_key import SERVICE, USERNAME, describe_root_key, load_root_key, make_backend
from agent_broker.vault.root_key_file import KeyFileKeyring
from agent_broker.vault.root_key_session import SessionKeyring
from agent_broker.vault.root_key_systemd import SystemdCredsKeyring
from tests.fakes.session import session_with_keyring

LOADS = """
import sys
from pathlib import Path
from agent_broker.vault.root_key import load_root_key
from agent_broker.vault.root_key_systemd import SystemdCredsKeyring
choice, key_file, *SystemdCredsKeyring.command = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
print(load_root_key(choice, key_file=Path(key_file)).reveal().hex())
"""
every_choice = pytest.mark.parametrize("choice", ["file", "systemd-creds", "secret-service"], indirect=True)


@pytest.fixture(scope="module")
def session_address(tmp_path_factory):
    with session_with_keyring(tmp_path_factory.mktemp("session")) as address:
        yield address


@pytest.fixture(autouse=True)
def key_file(tmp_path, session_address, monkeypatch):
    """Of each test's own; with a session, and a host key for systemd-creds that is not the machine's."""
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", session_address)
    sealing = ("env", f"SYSTEMD_CREDENTIAL_SECRET={tmp_path / 'host-key'}", "systemd-creds")
    monkeypatch.setattr(SystemdCredsKeyring, "command", sealing)
    return tmp_path / "root.key"


@pytest.fixture
def choice(request, key_file):
    """A choice whose backend keeps nothing yet."""
    yield request.param
    with contextlib.suppress(PasswordDeleteError):
        make_backend(request.param, key_file=key_file).delete_password(SERVICE, USERNAME)


class KeyringContract(BackendBasicTests):
    @pytest.fixture(autouse=True)
    def _init_properties(self, key_file):
        self.keyring = self.made(key_file)
        self.credentials_created = set()
        yield
        self.cleanup()


class TestKeyFile(KeyringContract):
    made = KeyFileKeyring


class TestSystemdCreds(KeyringContract):
    made = SystemdCredsKeyring


class TestSession(KeyringContract):
    @staticmethod
    def made(_key_file):
        return SessionKeyring()


@every_choice
def test_the_key_is_made_once_and_then_the_same(choice, key_file):
    first = load_root_key(choice, key_file=key_file)
    assert len(first) == 32
    assert load_root_key(choice, key_file=key_file) == first
    make_backend(choice, key_file=key_file).delete_password(SERVICE, USERNAME)
    assert load_root_key(choice, key_file=key_file) != first


@every_choice
def test_a_vault_opens_with_it(choice, key_file):
    for _ in range(2):
        root_key = load_root_key(choice, key_file=key_file)
        Vault.open(key_file.with_name("vault.sqlite3"), root_key, SystemClock()).close()


@every_choice
@pytest.mark.parametrize("kept", ["", "AAAA", "not base64 at all!", "A" * 43])
def test_what_is_kept_but_no_key_is_refused_not_replaced(choice, key_file, kept):
    backend = make_backend(choice, key_file=key_file)
    backend.set_password(SERVICE, USERNAME, kept)
    with pytest.raises(IntegrityError, match="not a root key"):
        load_root_key(choice, key_file=key_file)
    assert backend.get_password(SERVICE, USERNAME) == kept


@every_choice
def test_two_first_uses_at_once_end_with_one_key(choice, key_file):
    command = [sys.executable, "-c", LOADS, choice, str(key_file), *SystemdCredsKeyring.command]
    with contextlib.ExitStack() as stack:
        daemons = [stack.enter_context(_piped(command)) for _ in range(4)]
        for daemon in daemons:
            assert daemon.stdout.readline() == "ready\n"
        for daemon in daemons:
            daemon.stdin.write("\n")
            daemon.stdin.flush()
        keys = [daemon.communicate()[0] for daemon in daemons]
    assert keys == [load_root_key(choice, key_file=key_file).reveal().hex() + "\n"] * 4


@every_choice
def test_doctor_can_say_where_it_is_and_who_can_read_it(choice, key_file):
    sentence = describe_root_key(choice, key_file=key_file)
    expected = {
        "file": str(key_file),
        "systemd-creds": str(key_file.with_suffix(".cred")),
        "secret-service": "every process of that session's user",
    }
    assert expected[choice] in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize("choice", ["file", "systemd-creds"], indirect=True)
def test_its_file_is_private(choice, key_file):
    load_root_key(choice, key_file=key_file)
    path = key_file if choice == "file" else key_file.with_suffix(".cred")
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    with pytest.raises(IntegrityError, match="0600"):
        load_root_key(choice, key_file=key_file)
    path.chmod(0o600)


def _piped(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
