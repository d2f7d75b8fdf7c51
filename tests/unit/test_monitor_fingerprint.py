"""The hash of an executable that ran: of its own bytes, or none and a reason."""

import asyncio
import hashlib
import os
import subprocess
from pathlib import Path

import msgspec
import pytest

from agent_broker.errors import IntegrityError, UnavailableError
from agent_broker.identity.executable import HashCache
from agent_broker.monitor import fingerprint
from agent_broker.monitor.fingerprint import Fingerprints, facts_by_stat, hold, is_alive

CONTENT = b"\x7fELF and so on" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "program"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def fingerprints():
    return Fingerprints(HashCache(), facts_by_stat)


def held(path):
    return os.open(path, os.O_PATH | os.O_CLOEXEC)


def facts_of(path):
    fd = held(path)
    try:
        return facts_by_stat(fd)
    finally:
        os.close(fd)


def is_closed(fd):
    try:
        os.fstat(fd)
    except OSError:
        return True
    return False


async def test_the_bytes_that_ran_are_hashed_and_known_from_then_on(program, fingerprints):
    recorded = facts_of(program)
    fd = held(program)
    assert fingerprints.known(recorded) is None

    found = await fingerprints.of(fd, recorded)

    assert (found.sha256, found.problem) == (SHA256, "")
    assert fingerprints.known(recorded) == found
    assert is_closed(fd)


async def test_a_program_that_deleted_itself_is_hashed(program, fingerprints):
    recorded = facts_of(program)
    fd = held(program)
    program.unlink()

    assert (await fingerprints.of(fd, recorded)).sha256 == SHA256


async def test_without_a_recorded_image_the_held_file_is_hashed(program, fingerprints):
    assert (await fingerprints.of(held(program), None)).sha256 == SHA256
    assert fingerprints.known(None) is None


async def test_another_file_than_the_recorded_one_is_not_hashed(program, fingerprints, tmp_path):
    other = tmp_path / "other"
    other.write_bytes(CONTENT)

    found = await fingerprints.of(held(other), facts_of(program))

    assert found.sha256 is None
    assert "not, or no longer, what it executed" in found.problem


async def test_an_executable_that_was_overwritten_is_not_hashed(program, fingerprints):
    recorded = msgspec.structs.replace(facts_of(program), mtime_ns=1)

    assert (await fingerprints.of(held(program), recorded)).sha256 is None


async def test_no_executable_is_a_reason(fingerprints):
    found = await fingerprints.of(None, None)

    assert (found.sha256, found.problem) == (None, "its executable could not be opened")


async def test_a_huge_file_is_not_hashed(program, fingerprints):
    os.truncate(program, fingerprint.MAX_HASHED_BYTES + 1)

    found = await fingerprints.of(held(program), None)

    assert found.sha256 is None
    assert "too large to hash (1073741825 bytes)" in found.problem


class Unstable:
    """Says that the file changed while it was hashed, as often as told; ``also`` happens to the file."""

    def __init__(self, times, also=lambda: None):
        self.times = times
        self.also = also

    def get(self, _facts):
        return None

    async def hash_fd(self, _fd, _facts):
        if self.times:
            self.times -= 1
            self.also()
            raise IntegrityError("the file changed while it was hashed")
        return SHA256


async def test_a_program_that_deletes_itself_while_it_is_hashed_leaves_a_doubt(program):
    found = await Fingerprints(Unstable(1, program.unlink), facts_by_stat).of(held(program), None)

    assert found.sha256 == SHA256
    assert "may be of changed bytes" in found.problem


async def test_a_program_that_is_rewritten_while_it_is_hashed_has_no_hash(program):
    rewrite = Unstable(1, lambda: program.write_bytes(b"innocent"))

    found = await Fingerprints(rewrite, facts_by_stat).of(held(program), None)

    assert (found.sha256, found.problem) == (None, "its executable was changed before it could be hashed")


async def test_a_file_that_never_rests_has_no_hash(program):
    found = await Fingerprints(Unstable(2), facts_by_stat).of(held(program), None)

    assert found.sha256 is None
    assert "could not be hashed" in found.problem


async def test_a_kernel_that_tells_no_numbers_is_a_reason(program):
    def refuse(_fd):
        raise UnavailableError("no numbers")

    found = await Fingerprints(HashCache(), refuse).of(held(program), None)

    assert found.problem == "its executable could not be hashed: no numbers"


class Stuck(Unstable):
    """Hashes nothing until it is let go."""

    def __init__(self):
        super().__init__(0)
        self.gate = asyncio.Event()

    async def hash_fd(self, fd, facts):
        await self.gate.wait()
        return await super().hash_fd(fd, facts)


async def test_an_incident_does_not_wait_for_ever_and_the_descriptor_is_closed_in_the_end(program, monkeypatch):
    monkeypatch.setattr(fingerprint, "DEADLINE_S", 0)
    hashes = Stuck()
    fingerprints = Fingerprints(hashes, facts_by_stat)
    fd = held(program)

    found = await fingerprints.of(fd, None)

    assert found.sha256 is None
    assert "was not hashed within" in found.problem
    hashes.gate.set()
    await fingerprints.close()
    assert is_closed(fd)


async def test_what_a_user_answers_for_is_not_read_since_that_may_never_end(program):
    def on_fuse(fd):
        return msgspec.structs.replace(facts_by_stat(fd), fs_magic=0x65735546)

    hashes = Stuck()
    found = await Fingerprints(hashes, on_fuse).of(held(program), None)

    assert found.sha256 is None
    assert "a user can answer for" in found.problem


def test_a_running_program_is_held_until_it_ended():
    child = subprocess.Popen(["sleep", "1000"])
    pidfd = os.pidfd_open(child.pid)
    try:
        fd = hold(child.pid)
        assert os.fstat(fd).st_ino == Path("/bin/sleep").stat().st_ino
        assert is_alive(pidfd)
        os.close(fd)
    finally:
        child.kill()
        child.wait()

    assert not is_alive(pidfd)
    assert hold(child.pid) is None
    os.close(pidfd)


def test_a_process_without_an_executable_has_none():
    assert hold(2) is None  # kthreadd
