"""The forms of a path: how the same watched file is reached.

Each form gives a ``Place``: fresh files, one for each name that is asked for, the path of each that is watched, and how
a program of the user is started so that it reaches the file by the other way. Mounts are made in the caller's mount
namespace, which must be a private one.

Where that is, a ``Ground`` says: a file system of the machine, or one that was made for it.
"""

import contextlib
import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from msgspec import Struct

ROOT = 0
USER = 64131
OTHER_USER = 64132
NAME = "credentials"
CONTENT = b'{"token": "decoy"}\n'


_MS_BIND, _MNT_DETACH = 4096, 2  # linux/mount.h, sys/mount.h
_LIBC = ctypes.CDLL(None, use_errno=True)


class Spot(Struct):
    """One of the files."""

    watched: Path
    given: str
    """The path that the opener is given."""
    cwd: str = "/"


class Place(Struct):
    """Where scenes play."""

    spots: dict[str, Spot]
    programs: str
    """The folder of the openers as whoever is started finds it."""
    prefix: tuple[str, ...] = ()
    """What the openers are started by."""
    prepare: Callable[[], None] | None = None
    """What happens once the files are watched, before they are opened."""


class Ground(Struct, frozen=True):
    """The file system that the files lie on."""

    at: Path = Path("/tmp")
    lower: Path | None = None
    """What is made here is seen ``at``, as of another layer; None: files are made there themselves."""
    holds_layers: bool = False
    """Whether an overlay's layers can lie here; else they lie on a tmpfs of their own."""
    overlay_options: str = ""
    """Further ones of an overlay's mount, if watched paths lie on it."""


MACHINE = Ground()


class Room(Struct):
    """One place's folder on a ground."""

    folder: Path
    beneath: Path
    """The same folder, where its files are made."""
    names: tuple[str, ...]
    programs: Path
    ground: Ground
    undo: contextlib.ExitStack

    def place(self, homes: Path, given: Path | None = None) -> Place:
        """Return the files below a folder, reached below another one (None: the same)."""
        paths = [f"{number}/{NAME}" for number in range(len(self.names))]
        spots = {
            name: Spot(homes / path, str((given or homes) / path)) for name, path in zip(self.names, paths, strict=True)
        }
        return Place(spots, str(self.programs))


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


def mount(source: str | Path, target: Path, undo: contextlib.ExitStack, kind: str = "", options: str = "") -> None:
    """Mount a file system of a kind, or (none) one path at another; in the end it is gone."""
    words = [os.fsencode(each) if each else None for each in (source, target, kind)]
    if _LIBC.mount(*words, ctypes.c_ulong(0 if kind else _MS_BIND), os.fsencode(options) if options else None):
        raise OSError(ctypes.get_errno(), f"mount of {target}: {os.strerror(ctypes.get_errno())}")
    undo.callback(_LIBC.umount2, os.fsencode(target), _MNT_DETACH)


@contextlib.contextmanager
def place(form: str, names: Iterable[str], programs: Path, ground: Ground = MACHINE) -> Iterator[Place]:
    """Give the place of one form; in the end its mounts and files are gone.

    Args:
        form: one of FORMS.
        names: of the files that there are to be.
        programs: the folder of the openers.
        ground: where the files lie.
    """
    beneath = Path(tempfile.mkdtemp(prefix="opens-", dir=ground.lower or ground.at))
    beneath.chmod(0o755)
    folder = ground.at / beneath.name
    with contextlib.ExitStack() as undo:
        if folder != beneath:
            undo.callback(shutil.rmtree, beneath)
        undo.callback(shutil.rmtree, folder)
        yield FORMS[form](Room(folder, beneath, tuple(names), programs, ground, undo))


def _files_below(folder: Path, room: Room) -> None:
    """Make each file, in a folder of its own."""
    for number in range(len(room.names)):
        new_file(new_folder(folder / str(number)) / NAME)


def _homes(room: Room) -> Path:
    _files_below(new_folder(room.beneath / "home"), room)
    return room.folder / "home"


def _others(room: Room) -> tuple[Path, Iterator[tuple[Path, Path]]]:
    """Return another folder with a folder for each file, and each file with the path of its namesake there."""
    other = new_folder(room.folder / "other")
    homes = _homes(room)
    names = [str(number) for number in range(len(room.names))]
    for name in names:
        new_folder(other / name)
    return other, ((homes / name / NAME, other / name / NAME) for name in names)


def _plain(room: Room) -> Place:
    return room.place(_homes(room))


def _relative(room: Room) -> Place:
    return _in_its_folder(room, NAME)


def _proc_cwd(room: Room) -> Place:
    return _in_its_folder(room, f"/proc/self/cwd/{NAME}")


def _in_its_folder(room: Room, given: str) -> Place:
    place = room.place(_homes(room))
    for spot in place.spots.values():
        spot.given, spot.cwd = given, str(spot.watched.parent)
    return place


def _symlink(room: Room) -> Place:
    other, pairs = _others(room)
    for file, link in pairs:
        link.symlink_to(file)
        as_user(link)
    return room.place(room.folder / "home", other)


def _symlinked_folder(room: Room) -> Place:
    homes = _homes(room)
    link = room.folder / "linked"
    link.symlink_to(homes)
    return room.place(homes, link)


def _hard_link(room: Room) -> Place:
    other, pairs = _others(room)
    for file, link in pairs:
        link.hardlink_to(file)
    return room.place(room.folder / "home", other)


def _bind_file(room: Room) -> Place:
    other, pairs = _others(room)
    for file, target in pairs:
        mount(file, new_file(target), room.undo)
    return room.place(room.folder / "home", other)


def _bind_folder(room: Room) -> Place:
    homes = _homes(room)
    target = new_folder(room.folder / "other")
    mount(homes, target, room.undo)
    return room.place(homes, target)


_ELSEWHERE = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'


def _other_namespace(room: Room) -> Place:
    homes = _homes(room)
    target = new_folder(room.folder / "other")
    place = room.place(homes, target)
    unshare = ("/usr/bin/unshare", "--user", "--map-root-user", "--mount", "/bin/sh", "-c", _ELSEWHERE, "sh")
    place.prefix = (*unshare, str(homes), str(target))
    return place


def _proc_root(room: Room) -> Place:
    homes = _homes(room)
    sleeper = subprocess.Popen(["sleep", "infinity"], user=USER, group=USER, extra_groups=[])
    room.undo.callback(sleeper.wait)
    room.undo.callback(sleeper.kill)
    return room.place(homes, Path(f"/proc/{sleeper.pid}/root{homes}"))


def _chroot(room: Room) -> Place:
    homes = _homes(room)
    programs = room.folder / "bin"
    programs.mkdir()
    mount(room.programs, programs, room.undo)
    place = room.place(homes, Path("/home"))
    place.programs = "/bin"
    place.prefix = ("/usr/bin/unshare", "--user", "--map-root-user", "/usr/sbin/chroot", str(room.folder))
    return place


def _overlay(room: Room, further: str = "") -> tuple[Path, Path, Path]:
    """Return the lower and the upper folder (in the latter is nothing yet) of the files, and the merged one."""
    base = room.folder / "overlay"
    base.mkdir()
    if not room.ground.holds_layers:
        mount("opens", base, room.undo, "tmpfs", "mode=755")
    lower, upper, work, merged = (new_folder(base / name) for name in ("lower", "upper", "work", "merged"))
    _files_below(lower, room)
    options = f"lowerdir={lower},upperdir={upper},workdir={work}{further}"
    mount("opens", merged, room.undo, "overlay", options)
    return lower, upper, merged


def _change_mode(place: Place) -> None:
    for spot in place.spots.values():
        Path(spot.given).chmod(0o740)


def _overlay_merged(room: Room) -> Place:
    _, _, merged = _overlay(room, room.ground.overlay_options)
    return room.place(merged)


def _overlay_copied_up(room: Room) -> Place:
    place = _overlay_merged(room)
    place.prepare = lambda: _change_mode(place)
    return place


def _overlay_lower(room: Room) -> Place:
    lower, _, merged = _overlay(room)
    return room.place(lower, merged)


def _overlay_upper(room: Room) -> Place:
    _, upper, merged = _overlay(room)
    place = room.place(upper, merged)
    _change_mode(place)
    return place


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
