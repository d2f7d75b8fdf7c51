"""The forms of a path: how the same watched file is reached.

Each form gives a ``Place``: a fresh file, the path that is watched, and how a program of the user is started so that it
reaches the file by the other way. Mounts are made in the caller's mount namespace, which must be a private one.

Where that is, a ``Ground`` says: a file system of the machine, or one that was made for it.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec import Struct

USER = 64131
OTHER_USER = 64132
NAME = "credentials"
CONTENT = b'{"token": "decoy"}\n'


class Place(Struct):
    """Where one scene plays."""

    folder: Path
    watched: Path
    given: str
    """The path that the opener is given."""
    cwd: str = "/"
    prefix: tuple[str, ...] = ()
    """What the opener is started by."""
    program: str = ""
    """The opener's path as it is started; empty: its own."""
    prepare: Callable[[], None] | None = None
    """What happens once the file is watched, before it is opened."""


class Ground(Struct, frozen=True):
    """Where the files lie."""

    at: Path = Path("/tmp")


MACHINE = Ground()


class Room(Struct):
    """One scene's folder."""

    folder: Path
    undo: contextlib.ExitStack


def as_user(*paths: Path) -> None:
    """Give files to the user."""
    for path in paths:
        os.chown(path, USER, USER, follow_symlinks=False)


def new_folder(path: Path) -> Path:
    """Make a folder of the user."""
    path.mkdir()
    as_user(path)
    return path


def new_file(path: Path) -> Path:
    """Make a file of the user with a decoy's content; executable, so that it can be tried."""
    path.write_bytes(CONTENT)
    path.chmod(0o700)
    as_user(path)
    return path


def run(*command: str | Path) -> None:
    """Run a tool of the machine."""
    subprocess.run(command, check=True, capture_output=True)


@contextlib.contextmanager
def place(form: str, ground: Ground = MACHINE) -> Iterator[Place]:
    """Give the place of one form; in the end its mounts and files are gone."""
    folder = Path(tempfile.mkdtemp(prefix="opens-", dir=ground.at))
    folder.chmod(0o755)
    with contextlib.ExitStack() as undo:
        undo.callback(shutil.rmtree, folder)
        yield FORMS[form](Room(folder, undo))


def _home(room: Room) -> Path:
    return new_file(new_folder(room.folder / "home") / NAME)


def _plain(room: Room) -> Place:
    file = _home(room)
    return Place(room.folder, file, str(file))


def _relative(room: Room) -> Place:
    file = _home(room)
    return Place(room.folder, file, NAME, cwd=str(file.parent))


def _symlink(room: Room) -> Place:
    file = _home(room)
    link = new_folder(room.folder / "other") / "link"
    link.symlink_to(file)
    return Place(room.folder, file, str(link))


def _symlinked_folder(room: Room) -> Place:
    file = _home(room)
    link = room.folder / "linked"
    link.symlink_to(file.parent)
    return Place(room.folder, file, str(link / NAME))


def _hard_link(room: Room) -> Place:
    file = _home(room)
    link = new_folder(room.folder / "other") / "innocent"
    link.hardlink_to(file)
    return Place(room.folder, file, str(link))


def _bind_file(room: Room) -> Place:
    file = _home(room)
    target = new_file(new_folder(room.folder / "other") / "mounted")
    run("mount", "--bind", file, target)
    room.undo.callback(run, "umount", "--lazy", target)
    return Place(room.folder, file, str(target))


def _bind_folder(room: Room) -> Place:
    file = _home(room)
    target = new_folder(room.folder / "other")
    run("mount", "--bind", file.parent, target)
    room.undo.callback(run, "umount", "--lazy", target)
    return Place(room.folder, file, str(target / NAME))


_ELSEWHERE = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'


def _other_namespace(room: Room) -> Place:
    file = _home(room)
    target = new_folder(room.folder / "other")
    unshare = ("/usr/bin/unshare", "--user", "--map-root-user", "--mount", "/bin/sh", "-c", _ELSEWHERE, "sh")
    return Place(room.folder, file, str(target / NAME), prefix=(*unshare, str(file.parent), str(target)))


def _proc_root(room: Room) -> Place:
    file = _home(room)
    sleeper = subprocess.Popen(["sleep", "infinity"], user=USER, group=USER, extra_groups=[])
    room.undo.callback(sleeper.wait)
    room.undo.callback(sleeper.kill)
    return Place(room.folder, file, f"/proc/{sleeper.pid}/root{file}")


def _proc_cwd(room: Room) -> Place:
    file = _home(room)
    return Place(room.folder, file, f"/proc/self/cwd/{NAME}", cwd=str(file.parent))


def _chroot(room: Room) -> Place:
    file = _home(room)
    program = "/bin/opener"
    prefix = ("/usr/bin/unshare", "--user", "--map-root-user", "/usr/sbin/chroot", str(room.folder))
    return Place(room.folder, file, f"/home/{NAME}", prefix=prefix, program=program)


def _overlay(room: Room) -> tuple[Path, Path, Path]:
    """Return lower and upper file (the latter is not there yet) and the merged one."""
    base = room.folder / "overlay"
    base.mkdir()
    run("mount", "-t", "tmpfs", "-o", "mode=755", "opens", base)  # its own folder may lie on an overlay already
    room.undo.callback(run, "umount", "--lazy", base)
    lower, upper, work, merged = (new_folder(base / name) for name in ("lower", "upper", "work", "merged"))
    file = new_file(lower / NAME)
    run("mount", "-t", "overlay", "-o", f"lowerdir={lower},upperdir={upper},workdir={work}", "opens", merged)
    room.undo.callback(run, "umount", "--lazy", merged)
    return file, upper / NAME, merged / NAME


def _overlay_merged(room: Room) -> Place:
    _, _, merged = _overlay(room)
    return Place(room.folder, merged, str(merged))


def _overlay_copied_up(room: Room) -> Place:
    _, _, merged = _overlay(room)

    def copy_up() -> None:
        merged.chmod(0o740)

    return Place(room.folder, merged, str(merged), prepare=copy_up)


def _overlay_lower(room: Room) -> Place:
    lower, _, merged = _overlay(room)
    return Place(room.folder, lower, str(merged))


def _overlay_upper(room: Room) -> Place:
    _, upper, merged = _overlay(room)
    merged.chmod(0o740)
    return Place(room.folder, upper, str(merged))


FORMS: dict[str, Callable[[Room], Place]] = {
    "plain": _plain,
    "relative": _relative,
    "symlink": _symlink,
    "linked folder": _symlinked_folder,
    "hard link": _hard_link,
    "bind file": _bind_file,
    "bind folder": _bind_folder,
    "other mount ns": _other_namespace,
    "/proc/PID/root": _proc_root,
    "/proc/self/cwd": _proc_cwd,
    "chroot": _chroot,
    "overlay": _overlay_merged,
    "copied up": _overlay_copied_up,
    "through lower": _overlay_lower,
    "through upper": _overlay_upper,
}
OVERLAYS = ("overlay", "copied up", "through lower", "through upper")
