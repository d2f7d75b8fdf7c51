"""What /proc says of a process just after it was answered: for a person's eyes, and nothing else.

A process chooses its own arguments, and can rewrite them; its folder and its container are what they are. Everything
is bounded and made printable, and arguments that look like a well-known secret are cut. What can't be read is empty.
"""

import os
import re
from dataclasses import dataclass

from agent_broker.lineage.record import Step
from agent_broker.lineage.text import plain, plain_without_secrets
from agent_broker.monitor.fingerprint import is_alive
from agent_broker.monitor.incident import Offender

_MAX_READ_BYTES = 4096
MAX_ARGUMENTS = 64
MAX_ARGUMENT_CHARS = 512
MAX_COMMAND_CHARS = 2048
_MAX_CWD_CHARS = 512

_CONTAINER = re.compile(
    rb"(?:^|[/:_-])(?:docker|cri-containerd|crio|libpod|containerd|kubepods)[^\n]*?([0-9a-f]{64})"
    rb"|/(?:docker|lxc|garden|actions_job)/([0-9A-Za-z_.-]{1,64})"
    rb"|/lxc\.payload\.([0-9A-Za-z_.-]{1,64})"
    rb"|/machine-([0-9A-Za-z_.\\-]{1,64})\.scope"
)
"""Names of containers in the cgroup path: by docker, containerd, CRI-O, podman, LXC, systemd-nspawn."""


@dataclass(frozen=True, slots=True)
class Glimpse:
    """Raw bytes as /proc had them; decoded only if somebody is told."""

    arguments: bytes = b""
    cwd: bytes = b""
    cgroup: bytes = b""
    """Only of a process in another mount namespace than the machine's first: without one there is no container."""
    pid_namespace: bytes = b""
    """The same."""


def glimpse(pid: int, pidfd: int) -> Glimpse | None:
    """Look at a process that waits, or at least lives afterwards; about 20 us. None: its pid may be another's by now.

    Never raises for what a process does.
    """
    folder = f"/proc/{pid}/"
    arguments, cwd = _read(f"{folder}cmdline"), _link(f"{folder}cwd")
    cgroup = namespace = b""
    if _link(f"{folder}ns/mnt") != _FIRST_MOUNT_NAMESPACE:
        cgroup, namespace = _read(f"{folder}cgroup"), _link(f"{folder}ns/pid")
    return Glimpse(arguments, cwd, cgroup, namespace) if pidfd >= 0 and is_alive(pidfd) else None


def offender_of(seen: Glimpse | None, steps: tuple[Step, ...], package: str) -> Offender:
    """Return what a person is shown of a process; its recorded arguments if it could not be looked at."""
    seen = seen or Glimpse()
    command = _command(seen.arguments)
    if not command and steps:
        image = steps[0].image
        command = tuple(each for each in (image.argv0, *image.args_head) if each)
    return Offender(
        command=_bounded(command),
        cwd=_cut(plain(seen.cwd), _MAX_CWD_CHARS),
        package=package,
        container=_container(seen),
    )


def _command(raw: bytes) -> tuple[str, ...]:
    if not raw:
        return ()
    cut = len(raw) >= _MAX_READ_BYTES
    arguments = [plain_without_secrets(each) for each in raw.removesuffix(b"\0").split(b"\0")]
    return (*arguments, "...") if cut else tuple(arguments)


def _bounded(command: tuple[str, ...]) -> tuple[str, ...]:
    shown: list[str] = []
    left = MAX_COMMAND_CHARS
    for argument in command[:MAX_ARGUMENTS]:
        shown.append(_cut(argument, min(MAX_ARGUMENT_CHARS, left)))
        left -= len(shown[-1])
        if left <= 0:
            break
    return (*shown, "...") if len(shown) < len(command) else tuple(shown)


def _container(seen: Glimpse) -> str:
    found = _CONTAINER.search(seen.cgroup)
    if found is not None:
        return next(each for each in found.groups() if each).decode("ascii")
    if seen.pid_namespace and seen.pid_namespace != _FIRST_PID_NAMESPACE:
        return os.fsdecode(seen.pid_namespace)
    return ""


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: max(most - 3, 0)]}..."


def _read(path: str) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, _MAX_READ_BYTES)
    except OSError:
        return b""
    finally:
        os.close(fd)


def _link(path: str) -> bytes:
    try:
        return os.readlink(os.fsencode(path))  # noqa: PTH115 - bytes: a folder's name need not be text
    except OSError:
        return b""


_FIRST_MOUNT_NAMESPACE = _link("/proc/1/ns/mnt") or _link("/proc/self/ns/mnt")
_FIRST_PID_NAMESPACE = b"pid:[4026531836]"  # linux/proc_ns.h: PROC_PID_INIT_INO
