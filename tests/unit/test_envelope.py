import hashlib
import hmac
import traceback

import msgspec
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from agent_broker.errors import IntegrityError, MisuseError
from agent_broker.vault.envelope import Keys
from agent_broker.vault.secret import Secret

ROOT = bytes(range(32))
SALT = bytes(range(100, 132))
VALUE = b"sk-test-the-plaintext-itself"
FACTS = b"who, what, which"


@pytest.fixture
def keys():
    return Keys(Secret(ROOT), SALT)


def hkdf(purpose):
    """RFC 5869 for one block of output, written out."""
    extracted = hmac.digest(SALT, ROOT, "sha256")
    return hmac.digest(extracted, purpose + b"\x01", "sha256")


@pytest.mark.parametrize("value", [b"", b"x", VALUE, bytes(1 << 20)])
def test_what_is_sealed_unseals(keys, value):
    assert keys.unseal(keys.seal(Secret(value), FACTS), FACTS, "it").reveal() == value


def test_the_format_is_what_the_document_says(keys):
    sealed = keys.seal(Secret(VALUE), FACTS)
    wrapping = hkdf(b"agent-broker vault 1: wrap")
    data_key = AESGCM(wrapping).decrypt(sealed.key_nonce, sealed.wrapped_key, b"key\0" + FACTS)
    assert len(data_key) == 32
    assert AESGCM(data_key).decrypt(sealed.nonce, sealed.ciphertext, b"value\0" + FACTS) == VALUE
    assert keys.check == hkdf(b"agent-broker vault 1: check")
    mac = hmac.digest(hkdf(b"agent-broker vault 1: manifest"), b"text", hashlib.sha256)
    assert keys.authenticate(b"text") == mac


@pytest.mark.parametrize("field", ["key_nonce", "wrapped_key", "nonce", "ciphertext"])
def test_every_flipped_bit_is_found(keys, field):
    sealed = keys.seal(Secret(VALUE), FACTS)
    content = getattr(sealed, field)
    for position in range(len(content) * 8):
        flipped = bytearray(content)
        flipped[position // 8] ^= 1 << position % 8
        with pytest.raises(IntegrityError, match="the thing"):
            keys.unseal(msgspec.structs.replace(sealed, **{field: bytes(flipped)}), FACTS, "the thing")


@pytest.mark.parametrize("field", ["key_nonce", "wrapped_key", "nonce", "ciphertext"])
@pytest.mark.parametrize("content", [b"", b"short", bytes(64)])
def test_parts_of_a_wrong_length_are_found(keys, field, content):
    sealed = msgspec.structs.replace(keys.seal(Secret(VALUE), FACTS), **{field: content})
    with pytest.raises(IntegrityError):
        keys.unseal(sealed, FACTS, "it")


def test_parts_of_two_values_do_not_mix(keys):
    one, two = keys.seal(Secret(VALUE), FACTS), keys.seal(Secret(b"other"), FACTS)
    mixed = msgspec.structs.replace(one, nonce=two.nonce, ciphertext=two.ciphertext)
    with pytest.raises(IntegrityError):
        keys.unseal(mixed, FACTS, "it")


def test_a_wrapped_key_is_not_a_value(keys):
    sealed = keys.seal(Secret(VALUE), FACTS)
    swapped = msgspec.structs.replace(sealed, nonce=sealed.key_nonce, ciphertext=sealed.wrapped_key)
    with pytest.raises(IntegrityError):
        keys.unseal(swapped, FACTS, "it")


def test_other_facts_do_not_unseal(keys):
    with pytest.raises(IntegrityError):
        keys.unseal(keys.seal(Secret(VALUE), FACTS), FACTS + b"!", "it")


@pytest.mark.parametrize(("root", "salt"), [(bytes(32), SALT), (ROOT, bytes(32))])
def test_another_root_key_or_salt_does_not_unseal_and_shows_in_the_check(keys, root, salt):
    other = Keys(Secret(root), salt)
    assert other.check != keys.check
    assert other.authenticate(b"text") != keys.authenticate(b"text")
    with pytest.raises(IntegrityError):
        other.unseal(keys.seal(Secret(VALUE), FACTS), FACTS, "it")


def test_two_seals_of_one_value_share_nothing(keys):
    seen = [keys.seal(Secret(VALUE), FACTS) for _ in range(50)]
    for field in ("key_nonce", "wrapped_key", "nonce", "ciphertext"):
        assert len({getattr(sealed, field) for sealed in seen}) == 50
    assert all(sealed.nonce != sealed.key_nonce for sealed in seen)


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_root_key_has_32_bytes(length):
    with pytest.raises(MisuseError, match="32 bytes"):
        Keys(Secret(bytes(length)), SALT)


def test_forgotten_keys_open_nothing(keys):
    sealed = keys.seal(Secret(VALUE), FACTS)
    keys.wipe()
    with pytest.raises(MisuseError, match="wiped"):
        keys.unseal(sealed, FACTS, "it")


def test_a_failed_unsealing_shows_nothing_in_its_traceback(keys):
    sealed = keys.seal(Secret(VALUE), FACTS)
    broken = msgspec.structs.replace(sealed, ciphertext=sealed.ciphertext[:-1] + b"\0\0")
    with pytest.raises(IntegrityError) as caught:
        keys.unseal(broken, FACTS, "it")
    shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert "wrapping = " in shown
    for hidden in (VALUE, hkdf(b"agent-broker vault 1: wrap"), ROOT):
        assert hidden.decode("latin-1") not in shown
        assert repr(hidden) not in shown
        assert hidden.hex() not in shown
