"""Root reads another process's event ring: what it takes, the monitor never sees, and no counter moves.

``python -m tests.fakes.ring_thief PID`` says a line once it reads, and goes on until its standard input ends.
"""

import ctypes
import re
import select
import sys
from pathlib import Path

RINGBUF = 27  # BPF_MAP_TYPE_RINGBUF, include/uapi/linux/bpf.h
SAMPLE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


def ring_of(pid):
    """Return the kernel's number of a process's ring, as /proc tells it."""
    for path in Path(f"/proc/{pid}/fdinfo").iterdir():
        try:
            text = path.read_text()
        except FileNotFoundError:  # others of its descriptors come and go
            continue
        if re.search(rf"^map_type:\s*{RINGBUF}$", text, re.MULTILINE):
            return int(re.search(r"^map_id:\s*(\d+)$", text, re.MULTILINE)[1])
    raise SystemExit(f"process {pid} has no ring")


def main():
    library = ctypes.CDLL("libbpf.so.1", use_errno=True)
    library.ring_buffer__new.restype = ctypes.c_void_p
    library.ring_buffer__new.argtypes = [ctypes.c_int, SAMPLE, ctypes.c_void_p, ctypes.c_void_p]
    library.ring_buffer__consume.argtypes = [ctypes.c_void_p]
    swallow = SAMPLE(lambda *_: 0)
    fd = library.bpf_map_get_fd_by_id(ring_of(int(sys.argv[1])))
    ring = library.ring_buffer__new(fd, swallow, None, None)
    if not ring:
        raise SystemExit("the ring can't be read")
    print("reading", flush=True)
    while not select.select([sys.stdin], [], [], 0)[0]:
        library.ring_buffer__consume(ring)


if __name__ == "__main__":
    main()
