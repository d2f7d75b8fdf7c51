"""Runs the bytes of the agent from a file that is no proper one: ``odd_executable.py memfd|tmpfile|deleted``."""

import os
import shutil
import sys
from pathlib import Path

import attacker


def main(how: str) -> None:
    folder = Path(attacker.SET["LOOT"])
    if how == "memfd":
        fd = os.memfd_create("claude", 0)
    elif how == "tmpfile":
        fd = os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o755)
    else:
        fd = os.open(folder / "claude", os.O_CREAT | os.O_RDWR, 0o755)
    with Path(attacker.AGENT).open("rb") as genuine, os.fdopen(fd, "wb", closefd=False) as copy:
        shutil.copyfileobj(genuine, copy, 1 << 24)
    program = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
    os.close(fd)  # a file that is open for writing can't be executed
    if how == "deleted":
        (folder / "claude").unlink()
    os.set_inheritable(program, True)
    attacker.ran(how)
    os.execve(program, ["claude", "-p", attacker.SET["NONCE"]], os.environ)


main(sys.argv[1])
