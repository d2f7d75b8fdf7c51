"""What ``tamper.py`` does, by a debugger: ``gdb -p PID -batch -x in_gdb.py`` with GDB_OLD and GDB_NEW set."""

import os
import sys
from pathlib import Path

import gdb

sys.path.insert(0, str(Path(os.environ["ATTACK_USE"]).parent))

import attacker
import tamper

debugged = gdb.selected_inferior()
found = list(tamper.places(debugged.pid, os.environ["GDB_OLD"]))
for address, coding in found:
    debugged.write_memory(address, os.environ["GDB_NEW"].encode(coding))
if found:
    attacker.ran(f"gdb: changed {len(found)} places")
