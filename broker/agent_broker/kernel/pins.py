"""Programs that outlive the monitor: their links are pinned in bpffs, and a restarted monitor takes over.

The law:

1. Each monitor pins a generation of its own: the links that deny, and the ring that they write to. Nothing is shared
   between generations, so a monitor of another version takes over like any other.
2. It takes over when its own programs are attached and its own marks are set: then the older generations' links go.
   In between both deny; there is no moment in which neither does.
3. What the older ones told and nobody read is read from their rings, before and after their links are gone.
4. A monitor that denies and stops, or is killed, leaves its generation in place. Only ``release`` removes the last one.
5. Where nothing can be denied, a monitor that is killed leaves its ring (1 MiB), so that the next one tells who killed
   it; one that stops leaves nothing.
"""

import contextlib
import ctypes
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from agent_broker.errors import UnavailableError
from agent_broker.kernel.libbpf import Libbpf
from agent_broker.kernel.ring import Ring

BPFFS = Path("/sys/fs/bpf")
_BPF_FS_MAGIC = 0xCAFE4A11  # include/uapi/linux/magic.h
_RING = "opens"
_READ_OF_ELDERS = 4096  # records, at each look; a ring of 1 MiB holds some 2,600
_MOUNT = "mount -t bpf bpf /sys/fs/bpf, and restart the monitor"


def pins_folder(root: Path) -> Path:
    """Return where the installation below ``root`` (config.layout) pins what outlives its monitors: root:root 0700."""
    return BPFFS / "agent-broker" / hashlib.sha256(os.fsencode(root)).hexdigest()[:16]


class Pins:
    """One monitor's generation, and its elders'."""

    def __init__(self, libbpf: Libbpf, folder: Path, links: Mapping[str, int], ring_fd: int) -> None:
        """Pin a generation.

        Args:
            libbpf: the library.
            folder: of all generations of this installation, below BPFFS; made with mode 0700 if it is missing.
            links: what to pin, by name.
            ring_fd: of the ring that they write to.

        Raises:
            UnavailableError: bpffs is not mounted, or the kernel refused; nothing new stays pinned.
        """
        self._libbpf = libbpf
        self._folder = folder
        self._own = folder / uuid.uuid4().hex
        _require_bpffs(folder)
        try:
            self._own.mkdir(mode=0o700, parents=True)
            folder.parent.chmod(0o700)
            folder.chmod(0o700)
            libbpf.number("bpf_obj_pin", ring_fd, os.fsencode(self._own / _RING))
            for name, link in links.items():
                libbpf.number("bpf_link__pin", link, os.fsencode(self._own / name))
        except (OSError, UnavailableError) as error:
            _remove(self._own)
            raise UnavailableError(f"denial can't be made to outlive the monitor: {error}") from error

    def take_over(self, take: Callable[[bytes], None]) -> int:
        """Remove the older generations; ``take`` gets what they told and nobody read. Return how many there were.

        Raises:
            UnavailableError: one can't be removed: both deny.
        """
        elders = [each for each in self._folder.iterdir() if each != self._own]
        for elder in elders:
            try:
                self._replace(elder, take)
            except OSError as error:
                raise UnavailableError(f"the older programs in {elder} can't be removed: {error.strerror}") from error
        return len(elders)

    def withdraw(self) -> None:
        """Remove this generation: nothing of it need outlive the monitor. The folder goes with the last one."""
        _remove(self._own)
        with contextlib.suppress(OSError):  # another generation is there
            self._folder.rmdir()

    def _replace(self, elder: Path, take: Callable[[bytes], None]) -> None:
        fd = self._libbpf.number_or_error("bpf_obj_get", os.fsencode(elder / _RING))
        if fd < 0:
            _remove(elder)
            return
        ring = Ring(self._libbpf, fd, take, at_most=_READ_OF_ELDERS)
        try:
            ring.consume()
            for link in elder.iterdir():
                if link.name != _RING:
                    link.unlink()
            ring.consume()
        finally:
            ring.close()
            os.close(fd)
        _remove(elder)


def release(folder: Path) -> int:
    """Remove every generation of an installation, so that nothing is denied any more; return how many there were.

    Raises:
        UnavailableError: not root, or the kernel refuses.
    """
    try:
        found = [each for each in folder.iterdir() if each.is_dir()] if folder.is_dir() else []
        for each in found:
            shutil.rmtree(each)
        if folder.is_dir():
            folder.rmdir()
    except OSError as error:
        hint = "run it as root, with the monitor stopped"
        raise UnavailableError(f"{folder} can't be removed: {error.strerror}", next_step=hint) from error
    return len(found)


def is_denying(folder: Path) -> bool | None:
    """Tell whether an installation's pins deny anything; None: there are none, or they are not ours to look at."""
    try:
        names = {pin.name for each in folder.iterdir() if each.is_dir() for pin in each.iterdir()}
    except OSError:
        return None
    return bool(names - {_RING}) if names else None


def _require_bpffs(folder: Path) -> None:
    place = next(each for each in (folder, *folder.parents) if each.is_dir())
    if _fs_magic(place) != _BPF_FS_MAGIC:
        raise UnavailableError(f"{BPFFS} is not mounted: denial ends when the monitor ends", next_step=_MOUNT)


def _fs_magic(place: Path) -> int:
    """Return statfs(2)'s f_type, the first word of struct statfs on the machines we run on."""
    buffer = (ctypes.c_long * 32)()
    if ctypes.CDLL(None, use_errno=True).statfs(os.fsencode(place), buffer) != 0:
        return 0
    return int(buffer[0])


def _remove(generation: Path) -> None:
    shutil.rmtree(generation, ignore_errors=True)
