"""The ways to open, or to change, a file: those of tests/fakes/opener.c and taker.c."""

import shutil
from pathlib import Path

from msgspec import Struct

from tests.e2e.opens.places import OTHER_USER, ROOT, USER
from tests.fakes.denying import compiled

PROGRAMS = ("opener", "taker", "batch")

_ONE_NAME = ("plain", "relative", "symlink", "linked folder", "/proc/PID/root", "/proc/self/cwd", "chroot")
"""Forms that lead nowhere when the watched file's own name is gone."""
OPENS = "opens"
CHANGES = "changes"
"""It opens nothing: the path, or the content, is changed."""
RECEIVES = "receives"
LOOKS = "looks"
"""It neither opens nor changes what the path leads to."""


class Mechanism(Struct, frozen=True):
    """One row of the table."""

    name: str
    """As its program calls it; what follows a blank tells two rows apart."""
    title: str
    program: str = "opener"
    uid: int = USER
    kind: str = OPENS
    removed: bool = False
    """Whether the file is gone before."""
    forms: tuple[str, ...] = ()
    """Those on which it is tried; empty: all."""

    @property
    def call(self) -> str:
        """What the program calls it."""
        return self.name.partition(" ")[0]

    @property
    def file(self) -> str:
        """Its own copy of the program: what different programs do makes incidents of their own, also at once."""
        return f"{self.program}-{self.name.replace(' ', '-')}"


def _taker(name: str, title: str, kind: str = OPENS) -> Mechanism:
    return Mechanism(name, title, program="taker", kind=kind)


def _change(name: str, title: str) -> Mechanism:
    return Mechanism(name, title, kind=CHANGES)


def _look(name: str, title: str) -> Mechanism:
    return Mechanism(name, title, kind=LOOKS)


MECHANISMS = (
    Mechanism("open", "openat(AT_FDCWD), O_RDONLY"),
    Mechanism("open-old", "open, the old system call"),
    Mechanism("open-write", "open, O_WRONLY"),
    Mechanism("open-append", "open, O_RDWR, O_APPEND"),
    Mechanism("open-noatime", "open, O_NOATIME, O_NONBLOCK"),
    Mechanism("openat-dirfd", "openat by a folder's descriptor"),
    Mechanism("open-chdir", "fchdir, then open by name"),
    Mechanism("int80-open", "open by int 0x80"),
    Mechanism("int80-openat", "openat by int 0x80"),
    Mechanism("openat2", "openat2"),
    Mechanism("creat", "creat"),
    _change("truncate", "truncate"),
    Mechanism("handle", "open_by_handle_at (root)", uid=ROOT),
    Mechanism("io_uring", "io_uring, IORING_OP_OPENAT"),
    Mechanism("io_uring-openat2", "io_uring, IORING_OP_OPENAT2"),
    Mechanism("mmap", "open, then mmap"),
    Mechanism("opath-proc", "O_PATH, then /proc/self/fd/N"),
    Mechanism("proc-root", "/proc/self/root before the path"),
    Mechanism("thread", "open by another thread"),
    Mechanism("child", "open by a forked child"),
    Mechanism("exec", "execve of the file"),
    Mechanism("send", "open, then sent by SCM_RIGHTS"),
    Mechanism("receive", "received by SCM_RIGHTS", kind=RECEIVES),
    _taker("sendfile", "open, then sendfile"),
    _taker("splice", "open, then splice"),
    _taker("copy_file_range", "open, then copy_file_range"),
    _taker("preadv", "open, then preadv"),
    _change("unlink", "unlink"),
    _change("rename", "rename away"),
    _change("rename-over", "rename over it"),
    _change("rename-exchange", "renameat2, RENAME_EXCHANGE"),
    _taker("tmpfile-link", "unlink, then linkat of an O_TMPFILE", CHANGES),
    _look("link", "link, another name"),
    _look("chmod", "chmod"),
    _look("stat", "stat"),
    Mechanism("open (refused)", "open by a user who may not", uid=OTHER_USER, kind=LOOKS),
    Mechanism("open (missing)", "open of a name whose file is gone", kind=LOOKS, removed=True, forms=_ONE_NAME),
)


def compile_programs(folder: Path) -> None:
    """Put static executables into a folder, for every user: of the programs, and each mechanism's own."""
    for name in PROGRAMS:
        _put(name, folder / name)
    for row in MECHANISMS:
        _put(row.program, folder / row.file)


def _put(name: str, to: Path) -> None:
    shutil.copy(compiled(name), to)
    to.chmod(0o755)
