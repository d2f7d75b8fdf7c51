"""The process that compiles (kernel.bcc.compiling): what it is told, and what it hands over."""

import json
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from agent_broker.errors import UnavailableError

PYTHON: Final = "/usr/bin/python3"
"""The distribution's: python3-bpfcc is for no other."""
COMPILING: Final = Path(__file__).with_name("compiling.py")
_COMPILE_S: Final = 300  # an emulated processor takes 104 s by headers
_ANSWER_BYTES: Final = 64 * 1024
_MAX_FDS: Final = 64
_LAST_WORDS: Final = 3


class Made(Struct, frozen=True):
    """What the compiling process handed over."""

    fds: dict[str, int]
    missing: dict[str, str]
    """Optional hooks that the kernel refused, and why."""


def make(task: Mapping[str, object]) -> Made:
    """Have programs compiled, loaded and attached.

    Args:
        task: what kernel.bcc.compiling reads.

    Raises:
        UnavailableError: the package is missing, or the kernel or the compiler refused.
    """
    answer, fds = _answered(task)
    return Made(dict(zip(answer["names"], fds, strict=True)), answer["missing"])


def numbers(task: Mapping[str, object]) -> dict[str, int]:
    """Have programs compiled that tell numbers, and return these.

    Raises:
        UnavailableError: see ``make``.
    """
    answer, _ = _answered(task)
    return {name: int(number) for name, number in answer["numbers"].items()}


def _answered(task: Mapping[str, object]) -> tuple[dict[str, Any], list[int]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        said = _run(json.dumps(task), theirs)
        if said:
            raise UnavailableError(f"the backend bcc can't be had: {said}", next_step='sensor.backend = "core"')
        text, fds, _, _ = socket.recv_fds(ours, _ANSWER_BYTES, _MAX_FDS, socket.MSG_CMSG_CLOEXEC)
    return json.loads(text), fds


def _run(task: str, answer: socket.socket) -> str:
    """Run kernel.bcc.compiling; return why it failed, empty if it did not."""
    command = [PYTHON, "-I", "-S", str(COMPILING), str(answer.fileno())]
    try:
        done = subprocess.run(
            command,
            input=task, capture_output=True, text=True, timeout=_COMPILE_S, check=False,
            pass_fds=(answer.fileno(),), env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}, cwd="/",
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    words = [line for line in lines[:-_LAST_WORDS] if " error: " in line][:1] + lines[-_LAST_WORDS:]
    return "; ".join(words) or f"exit {done.returncode}" if done.returncode else ""
