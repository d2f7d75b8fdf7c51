"""May the program of an alert be allowed to open what it opened; and if so, what to write down.

The law: only a program that the user can't change or steer is allowed, as it is now. Refused are one whose bytes are
not known or changed since, one that the user could replace, one that runs what it is given (an interpreter), one that
somebody tampered with, and one that an agent started: allowing those would allow whatever stands behind them.
"""

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from agent_broker.audit.acks import Alert
from agent_broker.cli.story import shown
from agent_broker.enroll.beneath import open_without_links
from agent_broker.enroll.roles import interpreter_of
from agent_broker.errors import AgentBrokerError, RefusedError
from agent_broker.identity.allowed import AllowedProgram, allow, is_interpreter
from agent_broker.identity.executable import hash_open_file
from agent_broker.ids import Sha256

RULE: Final = "allow-program"
KINDS: Final = ("decoy-opened", "credential-opened")
"""Kinds of alerts that a program raises by opening a file."""
_LAUNCHERS: Final = re.compile(
    r"xargs|luajit[0-9.]*|php[0-9.]*-(cgi|fpm)|ghci?|R|Rscript|julia|expect|gdb|lldb[0-9-]*|strace|ld-.*|qemu-.*|ssh|sudo"
    r"|su|doas|pkexec|runuser|setpriv|systemd-run|nsenter|unshare|chroot|timeout|nohup|nice"
)
"""What runs what it is given, beside the interpreters that no allowlist takes (identity.allowed)."""
_MAX_BYTES: Final = 1 << 30  # of an executable that is hashed for this


def allowed_program(alert: Alert, reason: str, now_ns: int, lasts_ns: int) -> AllowedProgram:
    """Return the record for an alert's program, after looking at the file as it is now. Root calls it.

    Args:
        alert: what it did.
        reason: of the person.
        now_ns: CLOCK_REALTIME.
        lasts_ns: how long it is allowed; 0: for ever.

    Raises:
        RefusedError: it can't be allowed; the message says why.
    """
    for problem in _problems(alert):
        raise _refused(problem)
    place = _checked_place(alert)
    offender = alert.offender
    return AllowedProgram(
        program=place,
        sha256=_require_same_bytes(place, alert),
        package=offender.package if offender is not None else "",
        opens=tuple(dict.fromkeys((alert.path, *alert.paths))),
        reason=reason,
        added_ns=now_ns,
        expires_ns=now_ns + lasts_ns if lasts_ns else 0,
    )


def write_allowed(folder: Path, record: AllowedProgram) -> None:
    """Write the record where the monitor reads it; in force after a reload.

    Raises:
        UnavailableError: the disk refuses.
    """
    allow(folder, record)


def _problems(alert: Alert) -> Iterator[str]:
    """Yield what the record of the alert itself says against it."""
    if alert.kind not in KINDS or not alert.path:
        yield "this alert is not about a program that opened a file"
        return
    if not alert.lineage or alert.process_sha256 is None:
        yield "its program is not known: without its hash nobody could tell it from another"
        return
    image, agent = alert.lineage[0].image, alert.agent
    if agent:
        yield f"it descends from the agent {shown(agent)}: whatever that is told to run would be allowed with it"
    if not image.observed:
        yield "nobody saw it start: it is older than the monitor"
    for step in alert.lineage:
        for taint in (*step.image.taints, *step.tampered):
            yield f"{shown(step.image.filename)} (pid {step.image.pid}) was tampered with: {shown(taint)}"
    if image.user_namespace or image.user_mounted:
        yield "it ran in a name space or from a file system of the user's own, where its name means nothing"
    if image.interp and image.interp != image.filename:
        yield f"it is a script, and {shown(image.interp)}, which ran it, runs any script"
    if image.file.owner_uid != 0 or image.file.mode & (stat.S_IWGRP | stat.S_IWOTH):
        yield f"{shown(image.filename)} can be changed by others than root"


def _checked_place(alert: Alert) -> str:
    name = alert.lineage[0].image.filename
    if not name.startswith("/"):
        raise _refused("it was started by a path that depends on its folder, so it can't be found again")
    place = os.path.realpath(name)
    for each in (os.path.basename(name), os.path.basename(place)):  # noqa: PTH119 - of a text
        if is_interpreter(each) or interpreter_of(each) is not None or _LAUNCHERS.fullmatch(each):
            raise _refused(f"{shown(each)} runs what it is given: allowing it would allow every program")
    for path in (Path(place), *Path(place).parents):
        try:
            facts = path.lstat()
        except OSError as error:
            raise _refused(f"{shown(str(path))} can't be looked at: {error.strerror}") from error
        if facts.st_uid != 0 or facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise _refused(f"{shown(str(path))} can be changed by others than root")
    return place


def _require_same_bytes(place: str, alert: Alert) -> Sha256:
    try:
        fd = open_without_links(place, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            facts = os.fstat(fd)
            if not stat.S_ISREG(facts.st_mode) or facts.st_size > _MAX_BYTES or os.pread(fd, 2, 0) == b"#!":
                raise _refused(f"{shown(place)} is not a program of its own: a script, or no regular file")
            sha256 = hash_open_file(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise _refused(f"{shown(place)} can't be read: {error.strerror}") from error
    except RefusedError:
        raise
    except AgentBrokerError as error:
        raise _refused(f"{shown(place)}: {error.message}") from error
    if sha256 != alert.process_sha256:
        raise _refused(f"{shown(place)} is not the file any more that was run: it was changed since")
    return sha256


def _refused(why: str) -> RefusedError:
    return RefusedError(
        RULE, f"this program can't be allowed: {why}", next_step="acknowledge it without --allow, or change how it runs"
    )
