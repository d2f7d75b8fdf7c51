"""What the demo borrows from the machine, and gives back: mounts, a network of its own, two users.

The network is a namespace with nothing but loopback: no request of any program in the demo can leave the machine, and
no port of the machine's own is in the way.
"""

import contextlib
import ctypes
import fcntl
import os
import pwd
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from pyroute2 import IPRoute

from tests.demo.check import StepFailedError

_CLONE_NEWNET = 0x40000000  # linux/sched.h
_LOOPBACK_INDEX = 1  # the first device of every network namespace
_FIRST_PORT = 917  # the product's default
_PRIVILEGED_PORTS = (*range(_FIRST_PORT, 1024), *range(700, _FIRST_PORT))
_WAIT_S = 60
_USERS_LOCK = Path("/etc/login.defs")  # what useradd and userdel are configured by; nobody replaces it
MARK = os.environ.get("AGENT_BROKER_DEMO_MARK", "")
"""In the names of users and folders that are made: whoever started the demo knows those of its own by it."""
_MOUNTS = {"/sys/fs/bpf": "bpf", "/sys/kernel/tracing": "tracefs"}


def mount_kernel_folders() -> list[str]:
    """Mount what systemd mounts elsewhere and is missing here; return which. They stay mounted."""
    missing = [folder for folder in _MOUNTS if not Path(folder).is_mount() and Path(folder).is_dir()]
    for folder in missing:
        run_tool("mount", "-t", _MOUNTS[folder], _MOUNTS[folder], folder)
    return missing


def enter_private_network() -> None:
    """Leave the machine's network for one that is loopback only; for this process and all it starts."""
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) != 0:
        raise StepFailedError("a network namespace of our own", os.strerror(ctypes.get_errno()))
    with IPRoute() as route:
        route.link("set", index=_LOOPBACK_INDEX, state="up")


def free_privileged_port() -> int:
    """Return a port that only root can bind, and that nobody has."""
    for port in _PRIVILEGED_PORTS:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return int(port)
    raise StepFailedError("a free port below 1024", "none")


@contextlib.contextmanager
def throw_away_user(prefix: str, home: Path, *, system: bool) -> Iterator[pwd.struct_passwd]:
    """Make a user with a group of its own; in the end its processes, and it, are gone."""
    name = f"{prefix}-{MARK}{secrets.token_hex(2)}"
    kind = ["--system", "--shell", "/usr/sbin/nologin"] if system else ["--shell", "/bin/bash"]
    _change_users("useradd", "--no-create-home", "--home-dir", str(home), "--user-group", *kind, name)
    try:
        account = pwd.getpwnam(name)
        try:
            yield account
        finally:
            end_processes_of(account.pw_uid)
    finally:
        _change_users("userdel", name)


def _change_users(*command: str) -> None:
    """One change at a time: a second one would say that /etc/passwd is locked."""
    with _USERS_LOCK.open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run_tool(*command)


def processes_of(uid: int) -> list[int]:
    """Return the live processes of a user of ours."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and _lives_as(entry, uid):
                found.append(int(entry.name))
    return sorted(found)


def end_processes_of(uid: int) -> None:
    """Kill, one by one, what runs as a user that the demo made; nobody else can have started it."""
    end_s = time.monotonic() + _WAIT_S
    while left := processes_of(uid):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > end_s:
            raise StepFailedError(f"no process of user {uid}", f"processes {left}")
        time.sleep(0.02)


def run_tool(*command: str) -> str:
    """Run a tool of the system; return what it printed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StepFailedError(f"{command[0]} to run", error) from error
    if done.returncode:
        raise StepFailedError(f"{' '.join(command)} to succeed", (done.stderr or done.stdout).strip())
    return done.stdout


def _lives_as(process: Path, uid: int) -> bool:
    """By its status, since /proc files of processes that hide their memory are root's."""
    fields = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines() if ":\t" in line)
    return str(uid) in fields["Uid"].split() and fields["State"][0] not in "ZX"
