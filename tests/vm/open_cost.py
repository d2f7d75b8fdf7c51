"""What an open of an unmarked file costs while marked files are denied: rounds with and without, in turns.

Run in the virtual machine: ``make test-vm`` prints its line; nothing is asserted, since times are no tests.
"""

import ctypes
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from agent_broker.kernel import wire
from agent_broker.kernel.libbpf import Libbpf
from agent_broker.kernel.loader import OBJECTS
from tests.fakes.denying import compiled

ROUNDS = 21
OPENS = 20_000
_SHARED_MEMORY = "/dev/shm"
MARKS = 10_000


def main(objects: list[Path]) -> None:
    """Measure each object's program against none."""
    with tempfile.TemporaryDirectory(dir=_SHARED_MEMORY) as folder:
        program = Path(folder) / "open_loop"
        shutil.copy(compiled("open_loop"), program)
        libbpf = Libbpf()
        loaded = [_load(libbpf, each) for each in objects]
        off: list[float] = []
        on: list[list[float]] = [[] for _ in loaded]
        for _ in range(ROUNDS):
            off.append(_round(program))
            for times, each in zip(on, loaded, strict=True):
                link = libbpf.pointer("bpf_program__attach", each)
                times.append(_round(program))
                libbpf.number("bpf_link__destroy", link)
    for path, times in zip(objects, on, strict=True):
        ratio = statistics.median(times) / statistics.median(off)
        best = min(times) / min(off)
        print(
            f"open of an unmarked file with {path.stem.partition('.')[0]} and {MARKS} marks: {ratio:.3f} x "
            f"({statistics.median(off):.0f} ns without); the quickest rounds: {best:.3f} x ({min(off):.0f} ns)"
        )


def _load(libbpf: Libbpf, path: Path) -> int:
    opened = libbpf.pointer("bpf_object__open_file", str(path).encode(), None)
    libbpf.number("bpf_object__load", opened)
    marks = libbpf.optional_pointer("bpf_object__find_map_by_name", opened, b"marks")
    if marks is not None:
        fd = libbpf.number("bpf_map__fd", marks)
        for number in range(MARKS):
            key, value = wire.FILE_KEY.pack(1 << 20, number + (1 << 40)), wire.MARK.pack(0, 1, 0)
            libbpf.number_or_error("bpf_map_update_elem", fd, ctypes.create_string_buffer(key), value, 0)
    return libbpf.pointer("bpf_object__next_program", opened, None)


def _round(program: Path) -> float:
    done = subprocess.run([program, program, str(OPENS)], capture_output=True, text=True, check=True)
    return float(done.stdout)


if __name__ == "__main__":
    main([Path(each) for each in sys.argv[1:]] or [OBJECTS / "open.bpf.o"])
