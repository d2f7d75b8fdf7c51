"""Which kernel fields the programs of bpf/bcc read, and how their offsets reach them.

Each is a number of the running kernel's own: ``-DOFFSET_task_struct__tgid=2436``.
"""

import os
import platform
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from agent_broker.errors import UnavailableError

Where = tuple[str, str]
"""A structure and a path in it."""

FIELDS: Final[Mapping[str, tuple[Where, ...]]] = MappingProxyType(
    {
        "task_struct__pid": (("task_struct", "pid"),),
        "task_struct__tgid": (("task_struct", "tgid"),),
        "task_struct__ptrace": (("task_struct", "ptrace"),),
        "task_struct__state": (("task_struct", "__state"),),
        "task_struct__flags": (("task_struct", "flags"),),
        "task_struct__self_exec_id": (("task_struct", "self_exec_id"),),
        "task_struct__start_boottime": (("task_struct", "start_boottime"),),
        "task_struct__nsproxy": (("task_struct", "nsproxy"),),
        "task_struct__parent": (("task_struct", "parent"),),
        "task_struct__real_parent": (("task_struct", "real_parent"),),
        "task_struct__group_leader": (("task_struct", "group_leader"),),
        "task_struct__mm": (("task_struct", "mm"),),
        "task_struct__files": (("task_struct", "files"),),
        "task_struct__real_cred": (("task_struct", "real_cred"),),
        "task_struct__signal": (("task_struct", "signal"),),
        "task_struct__pending": (("task_struct", "pending.signal.sig"),),
        "signal_struct__live": (("signal_struct", "live.counter"),),
        "signal_struct__nr_threads": (("signal_struct", "nr_threads"),),
        "signal_struct__shared_pending": (("signal_struct", "shared_pending.signal.sig"),),
        "cred__uid": (("cred", "uid.val"),),
        "cred__user_ns": (("cred", "user_ns"),),
        "user_namespace__level": (("user_namespace", "level"),),
        "nsproxy__mnt_ns": (("nsproxy", "mnt_ns"),),
        "mnt_namespace__inum": (("mnt_namespace", "ns.inum"),),
        "mm_struct__arg_start": (("mm_struct", "arg_start"),),
        "mm_struct__arg_end": (("mm_struct", "arg_end"),),
        "mm_struct__env_start": (("mm_struct", "env_start"),),
        "mm_struct__env_end": (("mm_struct", "env_end"),),
        "mm_struct__exe_file": (("mm_struct", "exe_file"),),
        "mm_struct__owner": (("mm_struct", "owner"),),
        "file__f_inode": (("file", "f_inode"),),
        "file__private_data": (("file", "private_data"),),
        # 6.13: 90ee6ed776c0 "fs: port files to file_ref"; a new file's is 0 there, 1 before (REFERENCES_BASE)
        "file__references": (("file", "f_ref.refcnt.counter"), ("file", "f_count.counter")),
        "inode__i_mode": (("inode", "i_mode"),),
        "inode__i_uid": (("inode", "i_uid.val"),),
        "inode__i_sb": (("inode", "i_sb"),),
        "inode__i_ino": (("inode", "i_ino"),),
        "inode__i_nlink": (("inode", "i_nlink"),),
        "inode__i_size": (("inode", "i_size"),),
        "inode__i_generation": (("inode", "i_generation"),),
        "inode__i_writecount": (("inode", "i_writecount.counter"),),
        # discrete since 6.11; __i_* since 6.6 (ctime) and 6.7 (mtime); see bpf/kernel_types.h
        "inode__mtime_s": (("inode", "i_mtime_sec"), ("inode", "__i_mtime.tv_sec"), ("inode", "i_mtime.tv_sec")),
        "inode__mtime_ns": (("inode", "i_mtime_nsec"), ("inode", "__i_mtime.tv_nsec"), ("inode", "i_mtime.tv_nsec")),
        "inode__ctime_s": (("inode", "i_ctime_sec"), ("inode", "__i_ctime.tv_sec"), ("inode", "i_ctime.tv_sec")),
        "inode__ctime_ns": (("inode", "i_ctime_nsec"), ("inode", "__i_ctime.tv_nsec"), ("inode", "i_ctime.tv_nsec")),
        "super_block__s_dev": (("super_block", "s_dev"),),
        "super_block__s_magic": (("super_block", "s_magic"),),
        "super_block__s_user_ns": (("super_block", "s_user_ns"),),
        "linux_binprm__filename": (("linux_binprm", "filename"),),
        "linux_binprm__interp": (("linux_binprm", "interp"),),
        "kernel_siginfo__si_code": (("kernel_siginfo", "si_code"),),
        "files_struct__count": (("files_struct", "count.counter"),),
        "socket__sk": (("socket", "sk"),),
        "socket__file": (("socket", "file"),),
        "socket__waiters": (("socket", "wq.wait.head"),),
        "list_head__next": (("list_head", "next"),),
        "wait_queue_entry__private": (("wait_queue_entry", "private"),),
        "wait_queue_entry__entry": (("wait_queue_entry", "entry"),),
        "poll_wqueues__polling_task": (("poll_wqueues", "polling_task"),),
        "sock__family": (("sock", "__sk_common.skc_family"),),
        "sock__sk_socket": (("sock", "sk_socket"),),
        "unix_sock__peer": (("unix_sock", "peer"),),
    }
)
"""Each name of bpf/bcc's OFFSET_*, and where it is to be found: the first that the kernel has."""

OF_ITERATORS: Final[Mapping[str, tuple[Where, ...]]] = MappingProxyType(
    {
        "file__f_mode": (("file", "f_mode"),),
        # 6.8: def3ae83da02 "fs: store real path instead of fake path in backing file f_path"
        "file__named_dentry": (("backing_file", "user_path.dentry"), ("file", "f_path.dentry")),
        "dentry__d_inode": (("dentry", "d_inode"),),
        "vm_area_struct__vm_flags": (("vm_area_struct", "vm_flags"),),
        "vm_area_struct__vm_file": (("vm_area_struct", "vm_file"),),
    }
)
"""Further ones of bpf/bcc/iterators.h."""
OF_QUERIES: Final[Mapping[str, tuple[Where, ...]]] = MappingProxyType(
    {
        "task_struct__stack": (("task_struct", "stack"),),
        "task_struct__pid_links_tgid": (("task_struct", "pid_links[PIDTYPE_TGID]"),),
        "pid__tasks_tgid": (("pid", "tasks[PIDTYPE_TGID].first"),),
        "files_struct__fdt": (("files_struct", "fdt"),),
        "fdtable__fd": (("fdtable", "fd"),),
        "fdtable__max_fds": (("fdtable", "max_fds"),),
        "inode__i_private": (("inode", "i_private"),),
    }
)
"""Further ones of bpf/bcc/queries.h, and what stands for the helpers that only a kernel with BTF has."""

_OF_MACHINE: Final[Mapping[str, Mapping[str, tuple[Where, ...]]]] = MappingProxyType(
    {
        "x86_64": {
            "pt_regs__orig_ax": (("pt_regs", "orig_ax"),),
            "task_struct__status": (("task_struct", "thread_info.status"),),
        },
        "aarch64": {"pt_regs__syscallno": (("pt_regs", "syscallno"),)},
    }
)

_MAX_PATCH: Final = 255


def of_this_machine() -> Mapping[str, tuple[Where, ...]]:
    """Return the fields that programs for whatever kernel read on this kind of machine.

    Raises:
        UnavailableError: it is of a kind that nobody tried.
    """
    machine = _OF_MACHINE.get(platform.machine())
    if machine is None:
        raise UnavailableError(f"the backend bcc knows no {platform.machine()}", next_step='sensor.backend = "core"')
    return {**FIELDS, **machine}


def defines(offset_of: Callable[[str, str], int | None]) -> tuple[str, ...]:
    """Return the compiler's arguments for the running kernel, as it tells its types.

    Args:
        offset_of: a field's offset in bytes; None: the kernel has no such field (btf.KernelTypes.offset_of).

    Raises:
        UnavailableError: a field is nowhere, or the machine is of a kind that nobody tried.
    """
    fields = {**of_this_machine(), **OF_ITERATORS}
    arguments = [f"-DOFFSET_{name}={_first(name, places, offset_of)}" for name, places in fields.items()]
    base = 0 if offset_of(*FIELDS["file__references"][0]) is not None else 1
    return (*arguments, f"-DREFERENCES_BASE={base}")


def _first(name: str, places: tuple[Where, ...], offset_of: Callable[[str, str], int | None]) -> int:
    for struct, path in places:
        offset = offset_of(struct, path)
        if offset is not None:
            return offset
    raise UnavailableError(f"this kernel has no field for {name}", next_step='sensor.backend = "core"')


def version_code(release: str | None = None) -> int:
    """Return LINUX_VERSION_CODE of a release, as linux/version.h counts; None: of the running kernel."""
    numbers = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", release or os.uname().release)
    if numbers is None:
        return 0
    major, minor, patch = (int(each or 0) for each in numbers.groups())
    return (major << 16) + (minor << 8) + min(patch, _MAX_PATCH)
