"""A real process of any user that does what it is told, one line of Python at a time, and stays alive in between."""

import asyncio
import json
import sys

_SOURCE = """
import ctypes, json, mmap, os, sys
def openat2(path):
    how = (ctypes.c_ulonglong * 3)(os.O_RDONLY, 0, 0)
    fd = ctypes.CDLL(None, use_errno=True).syscall(437, -100, os.fsencode(path), ctypes.byref(how), 24)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "openat2")
    return fd
for line in sys.stdin:
    try:
        value = eval(json.loads(line))
        answer = [value if isinstance(value, (int, str, type(None))) else str(value), None]
    except OSError as error:
        answer = [None, error.errno]
    print(json.dumps(answer), flush=True)
"""


class Puppet:
    """See the module."""

    def __init__(self, process):
        self._process = process
        self.pid = process.pid

    @classmethod
    async def start(cls, uid, *, program=sys.executable):
        """Start one; the program must be a Python that the user may execute."""
        process = await asyncio.create_subprocess_exec(
            program, "-c", _SOURCE, user=uid, group=uid, extra_groups=(), cwd="/", env={},
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        puppet = cls(process)
        await puppet.do("None")
        return puppet

    async def do(self, expression):
        """Evaluate one expression there; an OSError is raised here with its errno."""
        self._process.stdin.write(json.dumps(expression).encode() + b"\n")
        value, errno = json.loads(await self._process.stdout.readline())
        if errno is not None:
            raise OSError(errno, expression)
        return value

    async def become(self, argv):
        """Execute another program in its place; it does nothing here any more."""
        self._process.stdin.write(json.dumps(f"os.execv({argv[0]!r}, {argv!r})").encode() + b"\n")
        await self._process.stdin.drain()

    async def stop(self):
        """End it."""
        self._process.stdin.close()
        await self._process.wait()

    async def kill(self):
        """End it in the middle of whatever it does."""
        self._process.kill()
        await self._process.wait()
