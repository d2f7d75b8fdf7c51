"""The broker's answers are those of OpenSSH's own ssh-agent: the same list, and signatures that are as good."""

import asyncio
import contextlib
import os
import random
import socket
import subprocess

import pytest

from agent_broker.ssh.binding import Limits
from agent_broker.ssh.keys import blob_of_line, is_genuine, load_public
from agent_broker.ssh.messages import RSA_SHA2_256, RSA_SHA2_512
from agent_broker.ssh.wire import Reader, number, string
from tests.e2e.patience import listens, until
from tests.fakes.sign import SignWorld

KINDS = [("ed25519", 0), ("rsa", 2048), ("rsa", 3072), ("ecdsa", 256), ("ecdsa", 384), ("ecdsa", 521)]
FLAGS = (0, RSA_SHA2_256, RSA_SHA2_512, RSA_SHA2_256 | RSA_SHA2_512)
SEED = 20261123


@contextlib.contextmanager
def openssh_agent(folder):
    """OpenSSH's own, with all keys of a folder."""
    path = folder / "openssh.sock"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    try:
        assert until(lambda: listens(path))
        env = {**os.environ, "SSH_AUTH_SOCK": str(path)}
        for key in sorted(each.with_suffix("") for each in folder.glob("*.pub")):
            subprocess.run(["ssh-add", "-q", key], env=env, check=True)
        yield path
    finally:
        agent.terminate()
        agent.wait()


def ask(path, body):
    with socket.socket(socket.AF_UNIX) as end:
        end.connect(str(path))
        end.sendall(string(body))
        answer = b""
        while len(answer) < 4 or len(answer) < 4 + int.from_bytes(answer[:4]):
            piece = end.recv(65536)
            if not piece:
                return b""
            answer += piece
        return answer[4:]


def sign_request(blob, data, flags):
    return b"\x0d" + string(blob) + string(data) + number(flags)


def something_to_sign(rng, blob):
    """A login or a file's signature, with parts of any length."""

    def text(longest):
        return bytes(rng.randrange(33, 127) for _ in range(rng.randrange(1, longest)))

    if rng.random() < 0.5:
        return (
            b"SSHSIG"
            + string(text(40))
            + string(b"")
            + string(rng.choice([b"sha256", b"sha512"]))
            + string(rng.randbytes(64))
        )
    head = string(rng.randbytes(rng.choice([20, 32, 64]))) + bytes((50,)) + string(text(60)) + string(b"ssh-connection")
    method = rng.choice([b"publickey", b"publickey-hostbound-v00@openssh.com"])
    host = string(string(b"ssh-ed25519") + string(rng.randbytes(32))) if method != b"publickey" else b""
    return head + string(method) + b"\1" + string(b"any") + string(blob) + host


@pytest.fixture
async def both(tmp_path):
    """Paths of OpenSSH's agent and ours, with the same keys; this process is the verified tool."""
    world = SignWorld(tmp_path)
    world.monitor.tools.add(os.path.realpath("/proc/self/exe"))
    lines = []
    for kind, bits in KINDS:
        size = ["-b", str(bits)] if bits else []
        name = tmp_path / f"{kind}{bits}"
        made = ("-t", kind, *size, "-N", "", "-C", f"{kind} {bits} bits", "-f", name)
        subprocess.run(["ssh-keygen", "-q", *made], check=True)
        lines.append(name.with_suffix(".pub").read_text().strip())
    with openssh_agent(tmp_path) as theirs:
        for kind, bits in KINDS:
            world.take_key(tmp_path / f"{kind}{bits}", Limits(needs_binding=False))
        async with world.serving(max_per_user=64):

            async def of_ours(body):
                return await asyncio.to_thread(ask, world.path, body)

            yield theirs, of_ours, [blob_of_line(line) for line in lines]


async def test_both_list_the_same_keys_with_the_same_comments(both):
    theirs, of_ours, keys = both
    assert listed(ask(theirs, b"\x0b")) == listed(await of_ours(b"\x0b")) == sorted(keys)


def listed(answer):
    reader = Reader(answer)
    assert reader.byte() == 12
    keys = [(reader.string(), reader.text()) for _ in range(reader.number())]
    reader.end()
    return sorted(keys)


async def test_both_sign_with_the_same_algorithm_and_the_key(both):
    theirs, of_ours, keys = both
    rng = random.Random(SEED)  # noqa: S311 - the same inputs each time
    for blob, _ in keys * 8:
        data, flags = something_to_sign(rng, blob), rng.choice(FLAGS)
        if blob[4:11] == b"ssh-rsa" and not flags:
            continue  # SHA-1: see the next test
        answers = ask(theirs, sign_request(blob, data, flags)), await of_ours(sign_request(blob, data, flags))
        signatures = [signature_in(each) for each in answers]
        assert algorithm(signatures[0]) == algorithm(signatures[1])
        for each in signatures:
            assert is_genuine(load_public(blob), each, data)
        if algorithm(signatures[0]) in {"ssh-ed25519", "rsa-sha2-256", "rsa-sha2-512"}:
            assert signatures[0] == signatures[1]  # nothing random is in these


def signature_in(answer):
    reader = Reader(answer)
    assert reader.byte() == 14
    signature = reader.string()
    reader.end()
    return signature


def algorithm(signature):
    return Reader(signature).text()


async def test_what_differs_is_said(both):
    """SHA-1, data of no known kind, and every request that would change the keys: OpenSSH's does it, ours does not."""
    theirs, of_ours, keys = both
    rsa = next(blob for blob, _ in keys if blob[4:11] == b"ssh-rsa")
    login = something_to_sign(random.Random(1), rsa)  # noqa: S311 - as above
    for body in (sign_request(rsa, login, 0), sign_request(rsa, b"anything", RSA_SHA2_256), b"\x13"):
        assert ask(theirs, body)[:1] in {b"\x0e", b"\x06"}
        assert await of_ours(body) == b"\x05"


@pytest.mark.parametrize("body", [b"\x0d", b"\x0d" + string(b"no key") + string(b"data") + bytes(4), b"\x63", b"\x1b"])
async def test_both_refuse(both, body):
    theirs, of_ours, _ = both
    assert ask(theirs, body)[:1] in {b"\x05", b""}
    assert await of_ours(body) == b"\x05"
