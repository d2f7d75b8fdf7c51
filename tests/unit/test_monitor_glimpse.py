"""What a person is shown of a process: bounded, printable, and no secret of its arguments."""

import asyncio
import os

import pytest

from agent_broker.monitor import glimpse as module
from agent_broker.monitor.glimpse import MAX_ARGUMENTS, MAX_COMMAND_CHARS, Glimpse, glimpse, offender_of
from tests.fakes.lineage_records import a_step

DOCKER = b"0::/system.slice/docker-" + b"ab" * 32 + b".scope\n"


async def test_a_process_is_seen_with_its_whole_command_and_folder(tmp_path):
    folder = tmp_path / "new\nline"
    folder.mkdir()
    process = await asyncio.create_subprocess_exec("sleep", "1000", "0" * 300, cwd=folder)
    pidfd = os.pidfd_open(process.pid)
    while b"sleep" not in (seen := glimpse(process.pid, pidfd)).arguments:
        await asyncio.sleep(0.01)  # it has not executed it yet
    process.kill()
    await process.wait()

    offender = offender_of(seen, (), "coreutils 9.1")
    assert offender.command == ("sleep", "1000", "0" * 300)
    assert offender.cwd == f"{tmp_path}/new\\nline"
    assert (offender.package, offender.container) == ("coreutils 9.1", "")
    assert glimpse(process.pid, pidfd) is None
    os.close(pidfd)


def test_without_a_look_the_recorded_arguments_are_shown():
    assert offender_of(None, (a_step(7),), "").command == ("scanner", "scanner", "-q")
    assert offender_of(None, (), "").command == ()


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (b"a\0b c\0", ("a", "b c")),
        (b"curl\0Authorization: sk-ant-api03-abcdefghijklmnop\0", ("curl", "Authorization: sk-ant-[redacted]")),
        (b"a\0\xff\x1b[2J\0", ("a", "\\xff\\x1b[2J")),
        (b"renamed by prctl", ("renamed by prctl",)),
    ],
)
def test_arguments_are_printable_and_hold_no_known_kind_of_secret(arguments, shown):
    assert offender_of(Glimpse(arguments), (), "").command == shown


def test_a_command_is_bounded_and_says_so():
    many = offender_of(Glimpse(b"x\0" * 1000), (), "").command
    long = offender_of(Glimpse(b"y" * 4096), (), "").command
    wide = offender_of(Glimpse(b"\0".join([b"z" * 500] * 8)), (), "").command

    assert (len(many), many[-1]) == (MAX_ARGUMENTS + 1, "...")
    assert long[-1] == "..."
    assert sum(map(len, wide)) <= MAX_COMMAND_CHARS + 3
    assert wide[-1] == "..."


@pytest.mark.parametrize(
    ("cgroup", "name"),
    [
        (DOCKER, "ab" * 32),
        (b"0::/docker/" + b"cd" * 32 + b"\n", "cd" * 32),
        (b"0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-" + b"12" * 32 + b".scope\n", "12" * 32),
        (b"0::/machine.slice/libpod-" + b"34" * 32 + b".scope/container\n", "34" * 32),
        (b"0::/lxc.payload.web1/init.scope\n", "web1"),
        (b"0::/machine.slice/machine-deb.scope\n", "deb"),
        (b"0::/user.slice/user-1000.slice/session-3.scope\n", ""),
        (b"", ""),
    ],
)
def test_a_container_is_named_by_its_control_group(cgroup, name):
    assert offender_of(Glimpse(cgroup=cgroup), (), "").container == name


def test_a_namespace_without_a_name_is_named_by_its_number():
    assert offender_of(Glimpse(pid_namespace=b"pid:[4026539999]"), (), "").container == "pid:[4026539999]"
    assert offender_of(Glimpse(pid_namespace=module._FIRST_PID_NAMESPACE), (), "").container == ""
