"""Credential paths on the running kernel: who may open one, who is told, what is allowed, denied and learnt."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest

from agent_broker.identity.allowed import AllowedProgram
from agent_broker.identity.planted import PlantedDecoy
from agent_broker.monitor.blind import BlindAttestor
from agent_broker.monitor.learning import begin, load_lessons
from tests.fakes.credential_paths import USER, CredentialPaths

pytestmark = pytest.mark.kernel


@pytest.fixture
async def paths():
    paths = CredentialPaths()
    yield paths
    await paths.close()


@pytest.fixture
def key(paths):
    """A real key pair of the user's."""
    key = paths.new_file(".ssh/id_ed25519")
    key.unlink()
    making = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ann", "-f", str(key)]
    subprocess.run(making, check=True)
    for each in (key, key.with_suffix(".pub")):
        os.chown(each, USER, USER)
    return key


def opening(path):
    return f"os.close(os.open({str(path)!r}, os.O_RDONLY))"


def allowed(program, opens):
    sha256 = hashlib.sha256(Path(program).read_bytes()).hexdigest()
    return AllowedProgram(str(program), sha256, "", (str(opens),), "a test", 1, 0)


async def test_cat_of_an_ssh_key_is_told(paths, key):
    assert paths.start() == ()

    assert "PRIVATE KEY" in await paths.run("cat", str(key))

    (incident,) = await paths.all_told()
    assert (incident.kind, incident.severity, incident.action) == ("credential-opened", "warning", "only-seen")
    assert (incident.path, incident.role, incident.holds) == (str(key), "credential", "ssh-private-key")
    assert "and was not stopped" in incident.what
    assert incident.lineage[0].image.filename.endswith("cat")
    assert incident.process_sha256


async def test_the_packages_own_ssh_is_not_told(paths, key):
    paths.start()

    said = await paths.run("ssh-keygen", "-y", "-f", str(key))

    assert said.startswith("ssh-ed25519 ")  # it did read the key
    assert await paths.all_told() == []
    assert paths.distribution.asked == ["/usr/bin/ssh-keygen"]


async def test_a_public_key_is_nobodys_business(paths, key):
    paths.start()

    await paths.run("cat", str(key.with_suffix(".pub")))

    assert paths.marked() == {".ssh/id_ed25519"}
    assert await paths.all_told() == []


async def test_a_copy_of_ssh_is_not_ssh(paths, key):
    paths.start()
    copy = paths.folder / "ssh-keygen"
    shutil.copy("/usr/bin/ssh-keygen", copy)

    await paths.run(str(copy), "-y", "-f", str(key))

    (incident,) = await paths.all_told()
    assert (incident.severity, incident.lineage[0].image.filename) == ("warning", str(copy))


async def test_a_changed_ssh_is_not_ssh(paths, key):
    paths.distribution.tampered.add("/usr/bin/ssh-keygen")
    paths.start()

    await paths.run("ssh-keygen", "-y", "-f", str(key))

    (incident,) = await paths.all_told()
    assert incident.kind == "credential-opened"


async def test_another_package_s_program_is_not_ssh(paths):
    token = paths.new_file(".git-credentials")
    paths.start()

    await paths.run("ssh-keygen", "-y", "-f", str(token))

    (incident,) = await paths.all_told()
    assert (incident.path, incident.holds) == (str(token), "git-password")


async def test_an_interpreter_of_a_package_is_told(paths, key):
    paths.start()
    puppet = await paths.puppet()

    await puppet.do(opening(key))

    (incident,) = await paths.all_told()
    assert incident.severity == "warning"


async def test_root_without_an_agent_is_information(paths, key):
    paths.start()

    await paths.run("cat", str(key), uid=0)

    (incident,) = await paths.all_told()
    assert incident.severity == "info"


async def test_what_an_agent_started_is_critical_and_its_ssh_is_not(paths, key):
    paths.start()
    agent = await paths.puppet(agent="claude")
    child = await paths.puppet(parent=agent)
    ssh = await paths.puppet(parent=agent)
    paths.world.execute(paths.world.processes[ssh.pid], "/usr/bin/ssh-keygen")

    await ssh.become(["/usr/bin/ssh-keygen", "-y", "-f", str(key)])
    await ssh.stop()
    paths.puppets.remove(ssh)
    await child.do(opening(key))
    await agent.do(opening(key))

    told = await paths.all_told()
    assert [each.severity for each in told] == ["critical", "critical"]
    assert {f"pid {each.pid}" in incident.what for each in (child, agent) for incident in told} == {True, False}
    assert all(f"pid {ssh.pid}" not in each.what for each in told)
    assert "what claude was asked to do" in told[0].next_step


async def test_a_shell_that_an_agent_started_may_not_read_the_history(paths):
    history = paths.new_file(".bash_history", "ls\n")
    paths.start()
    alone = await paths.puppet()
    below = await paths.puppet(parent=await paths.puppet(agent="claude"))

    for each in (alone, below):
        paths.world.execute(paths.world.processes[each.pid], "/usr/bin/bash")
        await each.become(["/usr/bin/bash", "--norc", "-c", f"history -r {history}"])
        await each.stop()
        paths.puppets.remove(each)

    (incident,) = await paths.all_told()
    assert (incident.severity, f"pid {below.pid}" in incident.what) == ("critical", True)


async def test_a_tainted_ssh_is_told(paths, key):
    paths.start()
    puppet = await paths.puppet()
    paths.world.execute(
        paths.world.processes[puppet.pid], "/usr/bin/ssh-keygen", taints=("its environment sets LD_PRELOAD",)
    )

    said = await puppet.do(f"os.spawnv(os.P_WAIT, '/bin/true', ['true']) or {opening(key)}")

    assert said is None
    (incident,) = await paths.all_told()
    assert "LD_PRELOAD" in incident.what


async def test_the_agent_that_the_catalogue_names_opens_its_own_file(paths):
    token = paths.new_file(".claude/.credentials.json")
    paths.start()
    agent = await paths.puppet(agent="claude")
    child = await paths.puppet(parent=agent)

    await agent.do(opening(token))
    await child.do(opening(token))

    (incident,) = await paths.all_told()
    assert f"pid {child.pid}" in incident.what


async def test_a_decoy_wins_over_a_credential_at_the_same_path(paths):
    decoy = paths.new_file(".aws/credentials")
    paths.start()
    planted = PlantedDecoy(str(decoy), "aws-profile", USER, "ann", "planted", 0, 0)
    assert paths.enroll(planted=[planted]) == ()
    puppet = await paths.puppet()

    await puppet.do(opening(decoy))

    (incident,) = await paths.all_told()
    assert (incident.kind, incident.role, incident.holds) == ("decoy-opened", "decoy", "aws-profile")


async def test_what_the_kernel_refuses_by_itself_is_not_seen(paths):
    """As doctor says: fanotify is asked only after the mode was, and never for a name that is not there."""
    token = paths.new_file(".pgpass")
    paths.start()

    assert "Permission denied" in await paths.run("cat", str(token), uid=1)
    assert "No such file" in await paths.run("cat", str(paths.home / ".netrc"))

    assert await paths.all_told() == []


async def test_what_root_allowed_by_hash_passes_and_a_changed_program_does_not(paths):
    token = paths.new_file(".authinfo")
    tool = paths.folder / "tool"
    shutil.copy("/bin/cat", tool)
    paths.start(allowed=[allowed(tool, paths.home / ".auth*")])

    await paths.run(str(tool), str(token))
    await paths.settled()
    assert paths.told == []
    with tool.open("ab") as file:
        file.write(b"changed")
    await paths.run(str(tool), str(token))

    (incident,) = await paths.all_told()
    assert incident.lineage[0].image.filename == str(tool)


@pytest.mark.parametrize("what", ["expired", "for another path", "of an interpreter"])
async def test_what_root_did_not_allow_is_told(paths, what):
    token = paths.new_file(".authinfo")
    record = allowed("/bin/cat", token)
    if what == "expired":
        record = msgspec.structs.replace(record, expires_ns=1)
    elif what == "for another path":
        record = msgspec.structs.replace(record, opens=(str(paths.home / ".netrc"),))
    else:
        record = allowed("/usr/bin/dash", token)
    paths.start(allowed=[record])

    await (paths.run("dash", "-c", f"read x < {token}") if "interpreter" in what else paths.run("cat", str(token)))

    (incident,) = await paths.all_told()
    assert incident.path == str(token)


async def test_denied_to_all_but_those_who_may(paths, key):
    paths.start(deny=True)
    puppet = await paths.puppet()

    with pytest.raises(PermissionError):
        await puppet.do(opening(key))
    await paths.run("ssh-keygen", "-y", "-f", str(key))
    await paths.settled()
    said = await paths.run("ssh-keygen", "-y", "-f", str(key))

    assert said.startswith("ssh-ed25519 ")
    denied = [each for each in await paths.all_told() if f"pid {puppet.pid}" in each.what]
    assert [each.action for each in denied] == ["denied"]
    assert "and was denied" in denied[0].what


async def test_what_is_learnt_is_not_told_and_survives(paths):
    token = paths.new_file(".authinfo")
    begin(paths.state, 3600)
    paths.start()
    agent = await paths.puppet(agent="claude")
    child = await paths.puppet(parent=agent)
    copy = paths.folder / "cat"
    shutil.copy("/bin/cat", copy)
    os.chown(copy, USER, USER)

    await paths.run("cat", str(token))
    await paths.run("cat", str(token))
    await child.do(opening(token))
    await paths.run(str(copy), str(token))
    told = await paths.all_told()

    assert {each.severity for each in told} == {"critical", "warning"}
    assert {each.lineage[0].image.filename for each in told} == {str(copy), "/usr/bin/python3.11"}
    (proposal,) = load_lessons(paths.state).proposals
    assert (proposal.program, proposal.count, proposal.opens) == ("/usr/bin/cat", 2, str(token))
    assert proposal.lineage[0].endswith("cat")


async def test_no_descriptor_is_left_behind(paths, key):
    puppet = await paths.puppet()
    before = sorted(os.listdir("/proc/self/fd"))
    begin(paths.state, 3600)
    paths.start()

    for _ in range(3):
        await puppet.do(opening(key))
        await paths.run("ssh-keygen", "-y", "-f", str(key))
        await paths.run("cat", str(key))
    await paths.all_told()

    assert sorted(os.listdir("/proc/self/fd")) == before


async def test_a_backup_that_root_allowed_reads_decoys_and_an_agents_child_does_not(paths):
    decoy = paths.new_file("decoy")
    paths.start(allowed=[allowed("/bin/cat", decoy)])
    paths.enroll(decoy)
    below = await paths.puppet(parent=await paths.puppet(agent="claude"))
    paths.world.execute(paths.world.processes[below.pid], "/usr/bin/cat")

    await paths.run("cat", str(decoy))
    await paths.run("head", str(decoy))
    await below.become(["/usr/bin/cat", str(decoy)])
    await below.stop()
    paths.puppets.remove(below)

    told = await paths.all_told()
    assert {(each.kind, each.severity) for each in told} == {("decoy-opened", "critical")}
    assert len(told) == 2
    assert {each.lineage[0].image.filename for each in told} == {"/usr/bin/head", "/usr/bin/cat"}
    assert sum(f"pid {below.pid}" in each.what for each in told) == 1


@pytest.mark.parametrize("shared", [True, False])
async def test_a_decoy_among_the_owners_own_entries_is_left_to_their_tools(paths, shared):
    file = paths.new_file(".git-credentials", "[x]\ny = z\n")
    paths.start()
    paths.enroll(planted=[PlantedDecoy(str(file), "git-password", USER, "ann", "planted", 0, 0, shared=shared)])

    assert "z" in await paths.run("git", "config", "--file", str(file), "x.y")
    await paths.run("cat", str(file))

    told = await paths.all_told()
    assert len(told) == (1 if shared else 2)
    assert {each.kind for each in told} == {"decoy-opened"}


async def test_without_bpf_programs_are_known_while_they_wait(paths, key):
    paths.attestor = BlindAttestor("no BPF here")
    paths.start()
    puppet = await paths.puppet()

    said = await puppet.do(f"os.popen('ssh-keygen -y -f {key}; sleep 0.2').read()")
    await puppet.do(opening(key))

    assert said.startswith("ssh-ed25519 ")
    (incident,) = await paths.all_told()
    assert (incident.severity, incident.lineage) == ("warning", ())
    assert "its lineage is unknown" in incident.what


async def test_without_permission_events_an_open_is_only_seen_and_a_program_that_may_is_not_told(paths, key):
    paths.start(permission=False, deny=True)
    stranger = await paths.puppet()
    ssh = await paths.puppet()
    paths.world.execute(paths.world.processes[ssh.pid], "/usr/bin/ssh-keygen")

    await stranger.do(opening(key))
    await ssh.do(opening(key))

    (incident,) = await paths.all_told()
    assert (incident.action, f"pid {stranger.pid}" in incident.what) == ("only-seen", True)


async def test_an_agent_whose_code_was_not_hashed_yet_is_looked_at_again_before_anything_is_told(paths):
    token = paths.new_file(".gemini/.env")
    paths.start()
    agent = await paths.puppet(agent="gemini")
    child = await paths.puppet(parent=agent)
    paths.world.unknown_at_once |= {agent.pid, child.pid}

    await agent.do(opening(token))
    await child.do(opening(token))

    (incident,) = await paths.all_told()
    assert f"pid {child.pid}" in incident.what
