"""libbpf's one place for its messages outlives whoever loaded it."""

import subprocess
import sys

_PROGRAM = """
import ctypes, gc, os
from agent_broker.errors import UnavailableError
from agent_broker.kernel.libbpf import Libbpf

def say():
    try:
        Libbpf().pointer("bpf_object__open_file", b"/nowhere.o", None)
    except UnavailableError as error:
        return error.message

said = say()
gc.collect()
others = [ctypes.CFUNCTYPE(ctypes.c_int)(lambda: os._exit(3)) for _ in range(2000)]  # where it was
ctypes.CDLL("libbpf.so.1").bpf_object__open_file(b"/nowhere.o", None)
print(said)
"""


def test_messages_are_kept_when_nobody_has_the_library_any_more():
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert "/nowhere.o" in done.stdout
