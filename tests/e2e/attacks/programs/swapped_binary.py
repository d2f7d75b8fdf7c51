"""Runs foreign code from the agent's place: ``swapped_binary.py rename|in-place|mapping PROGRAM``.

rename: PROGRAM lies in the agent's place while it is started, the genuine file when its hash could be taken.
in-place: the agent's own file (same inode, size of PROGRAM) holds PROGRAM while it runs, and is then put right again.
mapping: the genuine file is mapped writable and shared while the agent is started from it.
"""

import mmap
import os
import shutil
import subprocess
import sys
from pathlib import Path

import attacker

PLACE = Path(attacker.AGENT).resolve()


def main(how: str, program: Path) -> None:
    aside = PLACE.with_name("aside")
    if how == "mapping":
        hold_mapping()
    elif how == "rename":
        PLACE.rename(aside)
        shutil.copy(program, PLACE)
        run(then=lambda: aside.rename(PLACE))
    else:
        shutil.copy2(PLACE, aside)
        facts = PLACE.stat()
        shutil.copyfile(program, PLACE)  # the same inode
        run(then=lambda: None)
        shutil.copyfile(aside, PLACE)
        os.utime(PLACE, ns=(facts.st_atime_ns, facts.st_mtime_ns))
        aside.unlink()


def run(then) -> None:
    attacker.note("in place")
    environment = {**os.environ, "ATTACK_DELAY_S": "1"}
    with subprocess.Popen([attacker.AGENT], env=environment) as started:
        then()
        started.wait()


def hold_mapping() -> None:
    with PLACE.open("r+b") as file:
        mapping = mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
    attacker.ran("holds a writable mapping of the agent's file, and no descriptor")
    try:
        subprocess.run([attacker.AGENT, "-p", attacker.SET["NONCE"]], check=False)
    except OSError as error:
        attacker.note(f"the kernel refuses to start the agent: {error}")
    mapping.close()


main(sys.argv[1], Path(sys.argv[2]))
