"""The kernel side that denies files, and programs of a user that open them. Everything is real."""

import contextlib
import itertools
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from agent_broker.identity.environment import scan_strings
from agent_broker.kernel.sensor import CoreSensor
from agent_broker.lineage.store import Store

USER = 1500
CONTENT = b"#!/bin/true\n"
_HERE = Path(__file__).parent
_BUILT = _HERE.parents[1] / ".build/vm/programs"
_AS_READER_OF_ALL = ("setpriv", "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")


def compiled(name):
    """Return a program of tests/fakes, compiled here or, for the virtual machine, before it was booted."""
    source, program = _HERE / f"{name}.c", _BUILT / name
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        program.parent.mkdir(parents=True, exist_ok=True)
        unfinished = program.with_name(f"{name}-{os.getpid()}")
        subprocess.run(["cc", "-O2", "-static", "-o", unfinished, source], check=True)
        unfinished.rename(program)
    return program


def build_opener(folder, name="opener"):
    """Put opener.c's program into a folder; every user may run it."""
    return _copy("opener", folder / name)


def _copy(name, to):
    if not to.exists():
        shutil.copy(compiled(name), to)
        to.chmod(0o755)
    return to


def start_reader(folder):
    """Start reader.c as the user, with pipes for what it is told and answers; its first line is "0"."""
    program = _copy("reader", folder / "reader")
    return subprocess.Popen(
        [program], user=USER, group=USER, extra_groups=(), cwd="/", text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip


class Denying:
    """One sensor, one opener, a folder that every user can enter."""

    def __init__(self, pins=None):
        self.folder = Path(tempfile.mkdtemp(prefix="denying-", dir="/tmp"))
        self.folder.chmod(0o755)
        self.opener = build_opener(self.folder)
        self.store = Store(scan_strings, str)
        self.sensor = CoreSensor(self.store.apply, pins=pins)
        self.store.link_seeded()
        self.marks = self.sensor.marks
        self._numbers = itertools.count()

    def close(self):
        """Detach, and remove the files."""
        self.sensor.close()
        shutil.rmtree(self.folder)

    def file(self, folder=None, content=CONTENT):
        """Make a file of the user's."""
        place = (folder or self.folder) / f"folder{next(self._numbers)}"
        place.mkdir()
        path = place / "file"
        path.write_bytes(content)
        path.chmod(0o700)
        for each in (place, path):
            os.chown(each, USER, USER)
        return path

    def mark(self, path, agent=0):
        """Deny a file; return what names it in events."""
        with opened(path) as fd:
            return self.marks.mark(fd, agent)

    def open(self, how, path, *prefix, uid=USER, program=None):
        """Let a program of the user open a file; return what it says: 0, an errno, None if it became another one."""
        command = [*prefix, program or self.opener, how, path]
        if how == "handle" and uid != 0:
            command = [*_AS_READER_OF_ALL, f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *command]
            uid = 0
        return self._outcome(command, uid)

    def receive(self, path):
        """Let a program of the user receive the file's descriptor; return what it says."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with ours, theirs, Path(path).open("rb") as file:
            socket.send_fds(ours, [b"x"], [file.fileno()])
            return self._outcome([self.opener, "receive", path], USER, stdin=theirs)

    def denied(self):
        """Return the denials since the last question."""
        told = []
        self.sensor.consume()
        self.sensor.denials.consume(told.append)
        return told

    def _outcome(self, command, uid, **options):
        done = subprocess.run(
            [str(each) for each in command], user=uid, group=uid, extra_groups=(), cwd="/", env={"PATH": os.defpath},
            capture_output=True, text=True, check=False, **options,
        )  # fmt: skip
        if done.returncode or not done.stdout:
            return None if not done.returncode else f"exit code {done.returncode}: {done.stderr}"
        return int(done.stdout)


@contextlib.contextmanager
def opened(path):
    """An O_PATH descriptor."""
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)
