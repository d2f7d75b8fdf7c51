import os
import subprocess
import sys

import keyring.backend
import pytest

from agent_broker.errors import IntegrityError, MisuseError, UnavailableError
from agent_broker.vault.root_key import describe_root_key, load_root_key, make_backend
from agent_broker.vault.root_key_session import SessionKeyring
from agent_broker.vault.root_key_systemd import SystemdCredsKeyring


@pytest.fixture
def key_file(tmp_path):
    return tmp_path / "root.key"


@pytest.fixture
def sealing(tmp_path, monkeypatch):
    """systemd-creds with a host key of this test's own."""
    command = ("env", f"SYSTEMD_CREDENTIAL_SECRET={tmp_path / 'host-key'}", "systemd-creds")
    monkeypatch.setattr(SystemdCredsKeyring, "command", command)


HOSTILE = """
from keyring.backend import KeyringBackend
class Keyring(KeyringBackend):
    priority = 99
    def get_password(self, service, username):
        return "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE="  # 32 bytes that the attacker knows
    def set_password(self, service, username, password):
        print("stolen", password)
    def delete_password(self, service, username):
        pass
"""

LOADER = """
import sys
from pathlib import Path
import hostile  # as an installed plug-in would be
from agent_broker.vault.root_key import load_root_key, make_backend
key_file = Path(sys.argv[1])
print(load_root_key("file", key_file=key_file).reveal().hex())
print(vars(make_backend("file", key_file=key_file)), vars(make_backend("secret-service", key_file=key_file)))
"""


def test_the_users_keyring_configuration_has_no_say(tmp_path, key_file):
    (tmp_path / "hostile.py").write_text(HOSTILE)
    (tmp_path / "python_keyring").mkdir()
    configuration = f"[backend]\ndefault-keyring=hostile.Keyring\nkeyring-path={tmp_path}\n"
    (tmp_path / "python_keyring/keyringrc.cfg").write_text(configuration)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(tmp_path), os.environ.get("PYTHONPATH", ""))),
        "PYTHON_KEYRING_BACKEND": "hostile.Keyring",
        "XDG_CONFIG_HOME": str(tmp_path),
        "XDG_DATA_HOME": str(tmp_path),
        "KEYRING_PROPERTY_PATH": str(tmp_path / "attackers.key"),
        "KEYRING_PROPERTY_COMMAND": "/bin/false",
        "KEYRING_PROPERTY_PREFERRED_COLLECTION": "/attackers/collection",
    }
    assert _chosen_by_keyring(environment) == "hostile"  # or this test proves nothing
    done = subprocess.run(
        [sys.executable, "-c", LOADER, key_file], env=environment, capture_output=True, text=True, check=True
    )
    key, attributes = done.stdout.splitlines()
    assert bytes.fromhex(key) == load_root_key("file", key_file=key_file).reveal()
    assert bytes.fromhex(key) != b"A" * 32
    assert attributes == f"{{'path': {key_file!r}}} {{}}"
    assert not (tmp_path / "attackers.key").exists()


def _chosen_by_keyring(environment):
    code = "import keyring; print(type(keyring.get_keyring()).__module__)"
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_keyrings_own_search_never_finds_our_file_backends():
    names = {type(backend).__name__ for backend in keyring.backend.get_all_keyring()}
    assert not names & {"KeyFileKeyring", "SystemdCredsKeyring"}


@pytest.mark.parametrize("choice", ["", "keyring", "FILE"])
def test_unknown_choices_are_refused(choice, key_file):
    for ask in (load_root_key, make_backend, describe_root_key):
        with pytest.raises(MisuseError, match="known: file, systemd-creds, secret-service"):
            ask(choice, key_file=key_file)


def test_a_missing_folder_says_so(tmp_path):
    with pytest.raises(UnavailableError, match="can't be opened"):
        load_root_key("file", key_file=tmp_path / "none" / "root.key")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610])
def test_a_key_file_open_to_others_is_refused(key_file, mode):
    load_root_key("file", key_file=key_file)
    key_file.chmod(mode)
    with pytest.raises(IntegrityError, match="0600"):
        load_root_key("file", key_file=key_file)


def test_a_key_file_of_another_user_is_refused(key_file):
    load_root_key("file", key_file=key_file)
    os.chown(key_file, 12345, 0)
    with pytest.raises(IntegrityError, match="0600"):
        load_root_key("file", key_file=key_file)


def test_a_link_in_place_of_the_key_file_is_refused(key_file):
    load_root_key("file", key_file=key_file)
    key_file.rename(key_file.with_name("elsewhere"))
    key_file.symlink_to("elsewhere")
    with pytest.raises(UnavailableError, match="can't be opened"):
        load_root_key("file", key_file=key_file)


def test_a_pipe_in_place_of_the_key_file_does_not_hang(key_file):
    os.mkfifo(key_file, 0o600)
    with pytest.raises(IntegrityError, match="regular file"):
        load_root_key("file", key_file=key_file)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"agent-broker": "x"}', b"\xff\xfe"])
def test_a_key_file_that_is_none_is_refused_and_kept(key_file, content):
    key_file.write_bytes(content)
    key_file.chmod(0o600)
    with pytest.raises(IntegrityError, match="not a root-key file"):
        load_root_key("file", key_file=key_file)
    assert key_file.read_bytes() == content


def test_a_backend_that_is_not_installed_says_so(key_file, monkeypatch):
    monkeypatch.setattr(SystemdCredsKeyring, "command", ("no-such-systemd-creds",))
    for ask in (load_root_key, describe_root_key):
        with pytest.raises(UnavailableError, match="not installed") as caught:
            ask("systemd-creds", key_file=key_file)
        assert "config.toml" in caught.value.next_step


def test_the_users_path_does_not_choose_the_program(key_file, tmp_path, monkeypatch):
    (tmp_path / "systemd-creds").write_text("#!/bin/sh\ntouch $0.ran\ncat\n")
    (tmp_path / "systemd-creds").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    describe_root_key("systemd-creds", key_file=key_file)
    assert not (tmp_path / "systemd-creds.ran").exists()


def test_secrets_are_never_arguments_and_the_environment_is_empty(key_file, tmp_path, monkeypatch):
    seen = tmp_path / "seen"
    recorder = tmp_path / "recorder"
    recorder.write_text(f'#!/bin/sh\necho "$@" >>{seen}\n/usr/bin/env >>{seen}\n/bin/cat\n')
    recorder.chmod(0o755)
    monkeypatch.setattr(SystemdCredsKeyring, "command", ("env", str(recorder)))
    monkeypatch.setenv("SYSTEMD_CREDENTIAL_SECRET", "/attackers/host-key")
    backend = make_backend("systemd-creds", key_file=key_file)
    backend.set_password("service", "user", "sk-test-hidden")
    assert backend.get_password("service", "user") == "sk-test-hidden"
    assert "--name=agent-broker-root-key" in seen.read_text()
    assert "sk-test-hidden" not in seen.read_text()
    assert "SYSTEMD" not in seen.read_text()


@pytest.mark.usefixtures("sealing")
def test_a_sealed_file_does_not_open_on_another_machine(key_file, tmp_path):
    load_root_key("systemd-creds", key_file=key_file)
    (tmp_path / "host-key").unlink()
    with pytest.raises(IntegrityError, match="systemd-creds can't open"):
        load_root_key("systemd-creds", key_file=key_file)


@pytest.mark.usefixtures("sealing")
def test_a_flipped_bit_in_a_sealed_file_is_found(key_file):
    load_root_key("systemd-creds", key_file=key_file)
    sealed = key_file.with_suffix(".cred")
    content = bytearray(sealed.read_bytes())
    content[len(content) // 2] ^= 1
    sealed.write_bytes(content)
    with pytest.raises(IntegrityError):
        load_root_key("systemd-creds", key_file=key_file)


@pytest.mark.usefixtures("sealing")
def test_the_sealed_file_does_not_hold_the_key(key_file):
    make_backend("systemd-creds", key_file=key_file).set_password("service", "user", "sk-test-hidden")
    assert b"sk-test-hidden" not in key_file.with_suffix(".cred").read_bytes()


def test_a_sealer_that_fails_is_unavailable_and_leaves_no_file(key_file, monkeypatch):
    monkeypatch.setattr(SystemdCredsKeyring, "command", ("false",))
    with pytest.raises(UnavailableError, match="can't seal"):
        load_root_key("systemd-creds", key_file=key_file)
    assert list(key_file.parent.iterdir()) == []


@pytest.mark.parametrize("address", [None, "unix:path=/nonexistent", "garbage"])
def test_a_session_that_does_not_answer_is_unavailable(key_file, monkeypatch, address):
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
    if address:
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", address)
    with pytest.raises(UnavailableError, match="Secret Service does not answer"):
        load_root_key("secret-service", key_file=key_file)
    with pytest.raises(UnavailableError, match="Secret Service does not answer"):
        SessionKeyring().set_password("service", "user", "password")
