"""Run by the system's own Python, as a process of its own: compiles, loads, attaches, and hands over the descriptors.

Why another process: python3-bpfcc belongs to the system's Python and not to our virtual environment, which so sees
none of the system's packages; and the compiler's 100 MB end with this process. Nothing of ours is imported here.

It reads one JSON object from stdin (``text``, ``flags``, ``headers``: a folder, ``hooks``, ``optional``: hooks that not
every kernel has, ``iterators``, ``queries``: programs that are only loaded, ``maps``), and answers on the socket whose
descriptor is its argument: ``names`` and ``missing`` as JSON, with a descriptor for each name. With ``numbers`` it
loads nothing: it answers with what each function ``tell_NAME`` returns, a constant. On failure it says why on stderr
and exits with 1; what bcc says (the compiler's errors, the verifier's) comes before.
"""

import importlib.util
import json
import os
import socket
import struct
import sys
from pathlib import Path
from typing import Any

PLACES = ("/usr/lib/python3/dist-packages", f"/usr/lib/python3.{sys.version_info.minor}/site-packages")
CONSTANT = struct.Struct("<BBhiQ")  # mov64 r0, number; exit: struct bpf_insn, twice
MOV_R0, EXIT = 0xB7, 0x95
TRACING = 26  # BPF_PROG_TYPE_TRACING, include/uapi/linux/bpf.h
NONE = "install the distribution's package: apt-get install python3-bpfcc, or dnf install python3-bcc"
FOREIGN = "it is not the package of the distribution (PyPI's bcc is another one); " + NONE
GROUP_OR_OTHERS_WRITE = 0o022


def the_module() -> Any:
    """Return the distribution's module bcc, from nowhere else; its other neighbours stay out of reach."""
    for place in PLACES:
        file = Path(place) / "bcc/__init__.py"
        if not file.is_file():
            continue
        status = file.stat()
        if status.st_uid != 0 or status.st_mode & GROUP_OR_OTHERS_WRITE:
            sys.exit(f"{file} is not root's alone")
        spec: Any = importlib.util.spec_from_file_location("bcc", file, submodule_search_locations=[str(file.parent)])
        module = importlib.util.module_from_spec(spec)
        sys.modules["bcc"] = module
        spec.loader.exec_module(module)
        if not hasattr(module, "BPF"):
            sys.exit(f"{file} is no compiler of BPF: {FOREIGN}")
        return module
    sys.exit(f"there is no module bcc in {' or '.join(PLACES)}: {NONE}")


def compiled(module: Any, task: dict[str, Any]) -> tuple[dict[str, int], dict[str, str]]:
    """Return descriptors by name (``link:``, ``program:``, ``map:``), and why optional hooks are missing."""
    made = of_text(module, task)
    fds: dict[str, int] = {}
    missing: dict[str, str] = {}
    for hook in (*task["hooks"], *task["optional"]):
        try:
            fds |= attached(module, made, hook)
        except Exception as error:
            if hook in task["hooks"]:
                raise
            missing[hook] = str(error)
    for name in task["iterators"]:
        fds[f"program:{name}"] = made.load_func(f"bpf_iter__{name}".encode(), TRACING).fd
    for name in task["queries"]:
        fds[f"program:{name}"] = made.load_func(f"query_{name}".encode(), module.BPF.RAW_TRACEPOINT).fd
    for name in task["maps"]:
        fds[f"map:{name}"] = made[name].map_fd
    return fds, missing


def of_text(module: Any, task: dict[str, Any]) -> Any:
    """Return what the task's text was compiled to."""
    os.environ["BCC_KERNEL_SOURCE"] = task["headers"]
    return module.BPF(text=task["text"].encode(), cflags=task["flags"])


def numbers(module: Any, task: dict[str, Any]) -> dict[str, int]:
    """Return the constant of each function."""
    made = of_text(module, task)
    found = {}
    for name in task["numbers"]:
        code = made.dump_func(f"tell_{name}".encode())
        if len(code) != CONSTANT.size:
            sys.exit(f"{name} is no constant")
        mov, _, _, found[name], leave = CONSTANT.unpack(code)
        if (mov, leave) != (MOV_R0, EXIT):
            sys.exit(f"{name} is no constant")
    return found


def attached(module: Any, made: Any, hook: str) -> dict[str, int]:
    """Return the descriptors of one hook's program and link."""
    program = made.load_func(f"on_{hook}".encode(), module.BPF.RAW_TRACEPOINT)
    link = module.lib.bpf_attach_raw_tracepoint(program.fd, hook.encode())
    if link < 0:
        raise OSError(-link, f"the hook {hook} can't be attached: {os.strerror(-link)}")
    return {f"program:{hook}": program.fd, f"link:{hook}": link}


def main() -> None:
    """Do it."""
    task = json.load(sys.stdin)
    fds: dict[str, int] = {}
    answer: dict[str, Any]
    try:
        if "numbers" in task:
            answer = {"numbers": numbers(the_module(), task)}
        else:
            fds, missing = compiled(the_module(), task)
            answer = {"names": list(fds), "missing": missing}
    except Exception as error:  # noqa: BLE001 - bcc raises nothing narrower
        sys.exit(str(error))
    with socket.socket(fileno=int(sys.argv[1])) as out:
        socket.send_fds(out, [json.dumps(answer).encode()], list(fds.values()))


if __name__ == "__main__":
    main()
