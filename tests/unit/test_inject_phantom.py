"""Phantom tokens and the book that knows them."""

import pytest

from agent_broker.errors import IntegrityError
from agent_broker.inject.phantom import PREFIX, PhantomBook, PhantomEntry, is_phantom, mentions_phantom, new_phantom
from tests.fakes.issuer import MemoryVault


def book_of(vault):
    book = PhantomBook(vault)
    book.reload()
    return book


def test_phantoms_are_recognisable_and_differ():
    phantoms = {new_phantom() for _ in range(100)}
    assert len(phantoms) == 100
    assert all(is_phantom(phantom) and mentions_phantom(f"x={phantom.upper()}") for phantom in phantoms)


def test_a_phantom_carries_160_random_bits():
    assert len(new_phantom()) - len(PREFIX) == 32  # base32: five bits a character


@pytest.mark.parametrize("value", ["", PREFIX, PREFIX + "a" * 31, PREFIX + "a" * 33, PREFIX + "1" * 32, "sk-ant-x"])
def test_what_is_not_a_phantom(value):
    assert not is_phantom(value)


def test_the_book_names_what_a_phantom_stands_for():
    vault, phantom = MemoryVault(), new_phantom()
    key = vault.put("key", "anthropic-api-key", b"real")
    vault.put("phantom", "phantom", phantom.encode(), {"credential": key})
    owner = vault.describe(key).owner_uid
    assert book_of(vault).find(phantom) == PhantomEntry("claude", owner, key)


def test_the_book_says_which_phantom_names_an_account_and_which_leaves_it_to_the_folder():
    vault, own, named = MemoryVault(), new_phantom(), new_phantom()
    key = vault.put("key", "anthropic-api-key", b"real")
    vault.put("phantom", "phantom", own.encode(), {"credential": key})
    vault.put("work/phantom", "phantom", named.encode(), {"credential": key, "account": "work"})
    book = book_of(vault)
    assert (book.find(own).account, book.find(named).account) == ("", "work")


@pytest.mark.parametrize("value", ["", "real", pytest.param(new_phantom(), id="another"), "\udc80x"])
def test_the_book_knows_nothing_else(value):
    vault = MemoryVault()
    vault.put("key", "anthropic-api-key", b"real")
    vault.put("phantom", "phantom", new_phantom().encode(), {"credential": "claude/0/key"})
    assert book_of(vault).find(value) is None


def test_a_reload_forgets_what_the_vault_no_longer_holds():
    vault, phantom = MemoryVault(), new_phantom()
    record = vault.put("phantom", "phantom", phantom.encode(), {"credential": "claude/0/key"})
    book = book_of(vault)
    assert book.find(phantom)
    del vault.records[record]
    assert book.reload() == 0
    assert book.find(phantom) is None


def test_a_damaged_record_is_named_and_the_book_keeps_what_it_had():
    vault, phantom = MemoryVault(), new_phantom()
    vault.put("phantom", "phantom", phantom.encode(), {"credential": "claude/0/key"})
    book = book_of(vault)
    bad = vault.put("bad", "phantom", b"no phantom at all")
    with pytest.raises(IntegrityError, match=bad) as broken:
        book.reload()
    assert "no phantom at all" not in broken.value.explain()
    assert book.find(phantom)


def test_a_phantom_that_names_no_credential_or_two_is_damage():
    vault, phantom = MemoryVault(), new_phantom()
    record = vault.put("one", "phantom", phantom.encode())
    with pytest.raises(IntegrityError, match=record):
        book_of(vault)
    vault.put("one", "phantom", phantom.encode(), {"credential": "claude/0/a"})
    vault.put("two", "phantom", phantom.encode(), {"credential": "claude/0/b"})
    with pytest.raises(IntegrityError, match="same phantom"):
        book_of(vault)
