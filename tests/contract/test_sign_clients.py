"""The ssh-agent socket with the real clients: OpenSSH and its sshd, git over ssh, ssh-keygen, paramiko, asyncssh."""

import shutil
import sys
from pathlib import Path

import pytest

from agent_broker.ssh.binding import Destination, Limits
from tests.fakes.sign import SignWorld
from tests.fakes.sshd import running_sshd

IDENTITY = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
KINDS = [("ed25519", 0), ("rsa", 2048), ("ecdsa", 256), ("ecdsa", 384), ("ecdsa", 521)]


@pytest.fixture
async def world(tmp_path):
    async with SignWorld(tmp_path).serving() as served:
        yield served


@pytest.fixture
def sshd(tmp_path):
    with running_sshd(tmp_path / "sshd") as server:
        yield server


@pytest.fixture
def other_sshd(tmp_path):
    with running_sshd(tmp_path / "other") as server:
        yield server


def ssh(world, sshd, *options, to="root@127.0.0.1", program="ssh"):
    known = world.folder / f"known_{sshd.port}"
    known.write_text(sshd.known_hosts_line)
    quiet = ("-F", "none", "-o", "BatchMode=yes", "-o", f"UserKnownHostsFile={known}", "-o", "LogLevel=ERROR")
    return (program, *quiet, "-p", str(sshd.port), *options, to)


@pytest.mark.parametrize(("kind", "bits"), KINDS)
async def test_a_login_with_every_kind_of_key(world, sshd, kind, bits):
    sshd.authorize(world.add_key("id", kind, bits=bits))

    assert await world.run(*ssh(world, sshd), "echo", "in") == (0, "in\n")

    (about,) = {ask.about for ask in world.issuer.asks}
    assert about == f"login as 'root' at {sshd.fingerprint}"
    assert {ask.channel for ask in world.issuer.asks} == {"ssh-agent"}


@pytest.mark.parametrize("host_key", ["rsa", "ecdsa"])
async def test_a_host_with_another_kind_of_key_proves_its_session_too(world, tmp_path, host_key):
    with running_sshd(tmp_path / "host", host_key) as sshd:
        sshd.authorize(world.add_key())
        assert await world.run(*ssh(world, sshd), "echo", "in") == (0, "in\n")


async def test_public_key_files_choose_among_keys_and_no_private_file_is_needed(world, sshd):
    world.add_key("first")
    sshd.authorize(world.add_key("second"))
    chosen = ("-o", "IdentitiesOnly=yes", "-i", world.folder / "second.pub")

    assert await world.run(*ssh(world, sshd, *chosen), "echo", "in") == (0, "in\n")
    assert [ask.credential.rpartition("/")[2] for ask in world.issuer.asks] == ["second"]


async def test_identity_agent_in_the_configuration_needs_no_variable(world, sshd):
    sshd.authorize(world.add_key())
    with_agent = ("-o", f"IdentityAgent={world.path}")

    assert await world.run(*ssh(world, sshd, *with_agent), "echo", "in", SSH_AUTH_SOCK="/nowhere") == (0, "in\n")


async def test_ssh_add_lists_and_adds_deletes_and_locks_nothing(world):
    line = world.add_key()
    world.add_key("spare")
    assert (await world.run("ssh-add", "-L"))[1].splitlines()[0] == line

    for arguments in (["-D"], ["-d", world.folder / "id.pub"]):
        code, said = await world.run("ssh-add", *arguments)
        assert code != 0, said
    assert "2 keys" not in (await world.run("ssh-add", "-l"))[1]
    assert len((await world.run("ssh-add", "-l"))[1].splitlines()) == 2


async def test_git_over_ssh_pushes_and_clones(world, sshd):
    sshd.authorize(world.add_key())
    bare = world.folder / "repo.git"
    await world.run("git", "init", "-q", "--bare", bare)
    command = " ".join(map(str, ssh(world, sshd)[:-1]))
    url = f"root@127.0.0.1:{bare}"
    git = ("git", "-c", f"core.sshCommand={command}", "-c", "protocol.version=2")
    await world.run("git", "init", "-q", "work")
    assert (await world.run("git", "-C", "work", "commit", "-q", "--allow-empty", "-m", "x", **IDENTITY))[0] == 0

    code, said = await world.run(*git, "-C", "work", "push", "-q", url, "HEAD:main")
    assert code == 0, said
    code, said = await world.run(*git, "clone", "-q", "-b", "main", url, "copy")
    assert code == 0, said
    assert len(world.issuer.asks) == 2


async def test_a_file_is_signed_and_verified_by_ssh_keygen(world):
    line = world.add_key()
    (world.folder / "allowed").write_text(f"me@host {line}\n")
    (world.folder / "file").write_text("text")

    code, said = await world.run("ssh-keygen", "-Y", "sign", "-n", "git", "-f", "id.pub", "file")
    assert code == 0, said
    verify = ("ssh-keygen", "-Y", "verify", "-f", "allowed", "-I", "me@host", "-n", "git", "-s", "file.sig")
    code, said = await world.run(*verify, stdin=b"text")
    assert code == 0, said
    assert [ask.about for ask in world.issuer.asks] == ["signature of a file, namespace 'git'"]


async def test_git_signs_commits_with_the_key(world):
    line = world.add_key()
    (world.folder / "allowed").write_text(f"a@b {line}\n")
    options = ("gpg.format=ssh", f"user.signingKey={world.folder}/id.pub", "gpg.ssh.allowedSignersFile=../allowed")
    settings = [part for option in options for part in ("-c", option)]
    await world.run("git", "init", "-q", "work")

    code, said = await world.run(
        "git", *settings, "-C", "work", "commit", "-q", "-S", "--allow-empty", "-m", "x", **IDENTITY
    )
    assert code == 0, said
    code, said = await world.run("git", *settings, "-C", "work", "verify-commit", "HEAD")
    assert code == 0, said
    assert 'Good "git" signature' in said


PARAMIKO = """
import sys, paramiko
client = paramiko.SSHClient()
client.load_host_keys(sys.argv[2])
client.connect("127.0.0.1", int(sys.argv[1]), "root", look_for_keys=False)
print(client.exec_command("echo in")[1].read().decode(), end="")
client.close()
"""
ASYNCSSH = """
import asyncio, sys, asyncssh
async def main():
    async with asyncssh.connect("127.0.0.1", int(sys.argv[1]), username="root", known_hosts=sys.argv[2]) as host:
        print((await host.run("echo in")).stdout, end="")
asyncio.run(main())
"""


@pytest.mark.parametrize("program", [PARAMIKO, ASYNCSSH], ids=["paramiko", "asyncssh"])
@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
async def test_clients_that_prove_no_host_need_the_keys_opt_out(world, sshd, program, kind):
    sshd.authorize(world.add_key("id", kind))
    world.monitor.tools.add(str(Path(sys.executable).resolve()))
    known = world.folder / "known"
    known.write_text(sshd.known_hosts_line)
    client = (sys.executable, "-c", program, str(sshd.port), known)

    code, said = await world.run(*client)
    assert code != 0
    assert "in\n" not in said.splitlines(keepends=True)
    assert set(world.refused.rules) == {"destination"}

    world.limit("id", Limits(needs_binding=False))
    assert await world.run(*client) == (0, "in\n")


async def test_an_unverified_process_gets_neither_keys_nor_signatures(world, sshd):
    sshd.authorize(world.add_key())
    impostor = world.folder / "ssh"
    shutil.copy("/usr/bin/ssh", impostor)

    code, said = await world.run(*ssh(world, sshd, program=str(impostor)), "echo", "in")
    assert code == 255
    assert "Permission denied" in said
    shutil.copy("/usr/bin/ssh-add", world.folder / "list")
    assert "agent refused operation" in (await world.run(world.folder / "list", "-l"))[1]


async def test_a_key_for_one_host_is_not_used_for_another(world, sshd, other_sshd):
    line = world.add_key()
    for server in (sshd, other_sshd):
        server.authorize(line)
    world.limit("id", Limits(destinations=(Destination("good.example", (sshd.fingerprint,), "root"),)))

    assert await world.run(*ssh(world, sshd), "echo", "in") == (0, "in\n")
    code, said = await world.run(*ssh(world, other_sshd), "echo", "in")
    assert (code, "Permission denied" in said) == (255, True)
    world.limit("id", Limits(destinations=(Destination("good.example", (sshd.fingerprint,), "deploy"),)))
    code, _ = await world.run(*ssh(world, sshd), "echo", "in")
    assert code == 255
    assert world.refused.rules == ["destination", "destination"]


async def test_a_forwarded_agent_is_refused_unless_the_key_allows_it(world, sshd, other_sshd):
    line = world.add_key()
    for server in (sshd, other_sshd):
        server.authorize(line)
    hop = " ".join(map(str, ssh(world, other_sshd)))
    script = f"{hop} echo hopped"

    code, said = await world.run(*ssh(world, sshd, "-A"), script)
    assert code == 255
    assert "Permission denied" in said
    assert set(world.refused.rules) == {"forwarded"}

    world.limit("id", Limits(allows_forwarding=True))
    assert await world.run(*ssh(world, sshd, "-A"), script) == (0, "hopped\n")


async def test_a_jump_host_needs_no_forwarding(world, sshd, other_sshd):
    line = world.add_key()
    for server in (sshd, other_sshd):
        server.authorize(line)
    jump = " ".join(map(str, ssh(world, sshd, "-W", "%h:%p")))

    assert await world.run(*ssh(world, other_sshd, "-o", f"ProxyCommand={jump}"), "echo", "in") == (0, "in\n")


async def test_a_dead_agent_is_a_plain_no_at_once(world, sshd):
    sshd.authorize(world.add_key())
    await world.socket.close()

    code, said = await world.run(*ssh(world, sshd), "echo", "in")
    assert (code, "Permission denied" in said) == (255, True)
