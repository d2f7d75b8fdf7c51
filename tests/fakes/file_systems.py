"""File systems of their own, made and mounted for a test: ext4, tmpfs, btrfs, and an overlay of two folders."""

import shutil
import subprocess
from pathlib import Path

KINDS = ("ext4", "tmpfs", "btrfs", "overlay")
_IMAGE_BYTES = {"ext4": 32 << 20, "btrfs": 128 << 20}
_MAKE = {"ext4": ("mkfs.ext4", "-q"), "btrfs": ("mkfs.btrfs", "-q")}


class FileSystem:
    """Mounted at ``at`` until it is closed."""

    def __init__(self, kind, folder: Path):
        self.kind = kind
        if shutil.which("modprobe"):  # fails for what is built in; what is really missing, mount(8) says
            subprocess.run(["modprobe", "-a", "loop", "ext4", "btrfs", "overlay"], check=False, capture_output=True)
        self.at = folder / kind
        self.at.mkdir()
        self.lower = self.at
        """Where a file may be made that is then seen at ``at``; of an overlay, its lower layer."""
        if kind == "tmpfs":
            _run("mount", "-t", "tmpfs", "-o", "mode=0755", "none", self.at)
        elif kind == "overlay":
            self._overlay(folder)
        else:
            image = folder / f"{kind}.img"
            with image.open("wb") as file:
                file.truncate(_IMAGE_BYTES[kind])
            _run(*_MAKE[kind], image)
            _run("mount", "-o", "loop", image, self.at)
        self.at.chmod(0o755)

    def _overlay(self, folder):
        layers = folder / "layers"
        layers.mkdir()
        _run("mount", "-t", "tmpfs", "-o", "mode=0755", "none", layers)
        for name in ("lower", "upper", "work"):
            (layers / name).mkdir()
        self.lower = layers / "lower"
        options = f"lowerdir={layers}/lower,upperdir={layers}/upper,workdir={layers}/work,index=on,nfs_export=on"
        _run("mount", "-t", "overlay", "-o", options, "none", self.at)

    def close(self):
        """Unmount."""
        _run("umount", "-l", self.at)
        if self.lower != self.at:
            _run("umount", "-l", self.lower.parent)


def _run(*command):
    done = subprocess.run([str(each) for each in command], check=False, capture_output=True, text=True)
    assert done.returncode == 0, (command, done.stderr)
