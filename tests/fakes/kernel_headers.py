"""Headers of the running kernel, made up from what it tells of its types: for machines that have none of their own.

Each structure has the members that the product asks for, where the kernel has them; nothing else is in these files.
"""

import os
import shutil
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

from agent_broker.kernel.bcc import headers
from agent_broker.kernel.bcc.btf import KernelTypes
from agent_broker.kernel.bcc.fields import OF_QUERIES, of_this_machine, version_code
from agent_broker.kernel.bcc.programs import SOURCES

_IN_BTF = {"pid_links[PIDTYPE_TGID]": ("pid_links", 16), "tasks[PIDTYPE_TGID].first": ("tasks", 8)}
"""Members of arrays, which BTF's offsets don't reach into: the array, and how many bytes after its start they are."""
_WHOLE = {"pt_regs": 168}
"""Sizes of structures in bytes, where the product asks for that (x86-64)."""


def write(root: Path, *, release: str | None = None, code: int = 0, shifted: Collection[str] = ()) -> Path:
    """Write them below ``root``; return their folder.

    Args:
        root: of a file system, as headers.of_running_kernel takes it.
        release: of the kernel that they say they are of; None: that which runs.
        code: the LINUX_VERSION_CODE that they tell; 0: the running kernel's.
        shifted: names of fields.FIELDS that lie 4 bytes further on than they do.
    """
    running = os.uname().release
    build = root / "lib/modules" / running / "build"
    shutil.copytree(SOURCES / "stub/include", build / "include")
    for name in headers._INCLUDES:
        empty = build / "include" / name
        empty.parent.mkdir(parents=True, exist_ok=True)
        empty.write_text("")
    (build / "include/linux/compiler_types.h").write_text("")
    with (build / "include/linux/version.h").open("a") as file:
        file.write(f"#define LINUX_VERSION_CODE {code or version_code()}\n")
    (build / "include/linux/fs.h").write_text(_structures(shifted))
    generated = build / "include/generated"
    generated.mkdir()
    (generated / "utsrelease.h").write_text(f'#define UTS_RELEASE "{release or running}"\n')
    return build


def _structures(shifted: Collection[str]) -> str:
    members: dict[str, list[str]] = defaultdict(list)
    with KernelTypes() as types:
        for name, places in {**of_this_machine(), **OF_QUERIES}.items():
            for struct, path in places:
                member, more = _IN_BTF.get(path, (path, 0))
                offset = types.offset_of(struct, member)
                if offset is None:
                    continue
                told, shown = headers._HIDDEN.get((struct, path), (struct, path))
                members[told].append(_member(shown, offset + more + 4 * (name in shifted)))
                break
    lines = ["#pragma once", "enum { PIDTYPE_TGID = 0 };", "#define THREAD_SIZE 16384"]
    for struct, inside in members.items():
        if struct in _WHOLE:
            inside.append(f"char all_of_it[{_WHOLE[struct]}];")
        lines.append(f"struct {struct} {{ union {{ {' '.join(inside)} }}; }};")
    return "\n".join([*lines, ""])


def _member(path: str, offset: int) -> str:
    """Return a member of a union that begins with so many bytes of padding: ``a.b`` is a structure's."""
    *outer, inner = path.replace("[PIDTYPE_TGID]", "").split(".")
    text = f"int {inner};"
    if "[PIDTYPE_TGID]" in path and not outer:
        text = f"int {inner}[1];"
    for name in reversed(outer):
        array = "[1]" if f"{name}[PIDTYPE_TGID]" in path else ""
        text = f"struct {{ {text} }} {name}{array};"
    padding = f"char at_{offset}_{inner}[{offset}]; " if offset else ""
    return f"struct {{ {padding}{text} }} __attribute__((packed));"
