import copy
import ctypes
import os
import pickle
import resource
import traceback
from pathlib import Path

import msgspec
import pytest

from agent_broker.errors import MisuseError
from agent_broker.vault.secret import Secret

VALUE = b"sk-test-0123456789abcdef"


def test_it_gives_its_bytes_to_who_asks_by_name():
    secret = Secret(VALUE)
    assert secret.reveal() == VALUE
    assert len(secret) == len(VALUE)
    with secret.borrow() as view:
        assert bytes(view) == VALUE
        assert view.readonly


def test_an_empty_secret_is_a_secret():
    assert Secret(b"").reveal() == b""
    assert len(Secret(b"")) == 0


@pytest.mark.parametrize("show", [repr, str, "{}".format, "{:>40}".format, "%s".__mod__, ascii, lambda s: f"{s!r:.80}"])
def test_no_representation_shows_it(show):
    assert "Secret" in show(Secret(VALUE))
    assert VALUE.decode() not in show(Secret(VALUE))


@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy, pickle.dumps])
def test_it_is_not_copied(copier):
    with pytest.raises(MisuseError):
        copier(Secret(VALUE))


@pytest.mark.parametrize("take", [bytes, list, iter, memoryview, msgspec.json.encode, msgspec.msgpack.encode, vars])
def test_nothing_takes_the_bytes_by_accident(take):
    with pytest.raises(TypeError):
        take(Secret(VALUE))


def test_a_traceback_with_local_variables_does_not_show_it():
    def fails(secret):
        with secret.borrow() as lent:
            raise ValueError(len(lent))

    try:
        fails(Secret(VALUE))
    except ValueError as error:
        shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert "lent = " in shown
    assert "secret = <Secret>" in shown
    assert VALUE.decode() not in shown


def test_equality_is_of_secrets_only_and_there_is_no_hash():
    assert Secret(VALUE) == Secret(VALUE)
    assert Secret(VALUE) != Secret(VALUE[:-1] + b"x")
    assert Secret(VALUE) != Secret(VALUE[:-1])
    assert Secret(VALUE) != VALUE
    with pytest.raises(TypeError, match="unhashable"):
        hash(Secret(VALUE))


def test_a_wiped_secret_is_gone():
    secret = Secret(VALUE)
    secret.wipe()
    secret.wipe()
    with pytest.raises(MisuseError, match="wiped"):
        secret.reveal()
    with pytest.raises(MisuseError, match="wiped"), secret.borrow():
        pass


def test_wiping_zeroes_the_memory_even_if_it_is_lent_out():
    secret = Secret(VALUE)
    with secret.borrow() as view:
        with pytest.raises(MisuseError, match="lent"):
            secret.wipe()
        assert bytes(view) == bytes(len(VALUE))
    secret.wipe()


def test_memory_that_was_being_filled_is_zeroed_on_error():
    seen = []

    def fails(view):
        view[:] = b"x" * len(view)
        seen.append(memoryview(view.obj))
        raise ValueError

    with pytest.raises(MisuseError):  # because this test kept a view
        Secret.filled(8, fails)
    assert not any(seen[0])


def test_random_secrets_differ():
    values = {Secret.random(32).reveal() for _ in range(100)}
    assert len(values) == 100
    assert {len(value) for value in values} == {32}


def test_the_kernel_neither_dumps_nor_swaps_it():
    secret = Secret(VALUE)
    assert secret.locked
    flags = _flags_of_mapping(secret)
    assert "dd" in flags  # MADV_DONTDUMP; proc(5), smaps, VmFlags
    assert "lo" in flags  # mlock


def test_it_says_so_when_the_kernel_does_not_lock_it():
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
        os.setresuid(65534, 65534, 65534)  # root may lock without limit
        secret = Secret(VALUE)
        os._exit(42 if not secret.locked and secret.reveal() == VALUE else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 42


def _flags_of_mapping(secret):
    address = ctypes.addressof(ctypes.c_char.from_buffer(secret._memory))
    inside = False
    with Path("/proc/self/smaps").open() as maps:
        for line in maps:
            head = line.split()[0]
            if "-" in head and not head.endswith(":"):
                start, end = (int(part, 16) for part in head.split("-"))
                inside = start <= address < end
            if inside and head == "VmFlags:":
                return line.split()[1:]
    pytest.fail("the secret's mapping is not in /proc/self/smaps")
