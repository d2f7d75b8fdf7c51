"""Field offsets from the headers of the running kernel, for one that tells no types (BTF).

Law: with headers of another version everything compiles, and the programs read wrong fields without an error. So
headers are only used if they say that they are the running kernel's own, to the last digit of its version where it
tells that, and if nobody but root could have written them. What they can't say (a kernel that was built again with
another configuration under the same name) the self-check finds (kernel.bcc.self_check).

They are read by the compiler alone, in a program that is never loaded: each of its functions returns an offset.
"""

import os
import platform
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

from agent_broker.errors import UnavailableError
from agent_broker.kernel.bcc.fields import OF_QUERIES, Where, of_this_machine

BTF: Final = Path("/sys/kernel/btf/vmlinux")
ROOT: Final = Path("/")
_INCLUDES: Final = (
    "linux/sched.h", "linux/sched/signal.h", "linux/sched/task_stack.h", "linux/fs.h", "linux/fdtable.h",
    "linux/binfmts.h", "linux/cred.h", "linux/user_namespace.h", "linux/nsproxy.h", "linux/ns_common.h",
    "linux/mm_types.h", "linux/pid.h", "linux/net.h", "linux/poll.h", "net/sock.h", "net/af_unix.h",
)  # fmt: skip
_FS: Final = "include/linux/fs.h"
"""Where every field lies that has more than one place."""
_HIDDEN: Final[Mapping[Where, Where]] = {("mnt_namespace", "ns.inum"): ("ns_common", "inum")}
"""Structures that no header tells: fs/mount.h, where struct ns_common comes first (since 5.11, 1a7b8969e664)."""
REGISTERS: Final = "REGISTERS_AT"
_CODE: Final = "LINUX_VERSION_CODE"
_NUMBERS: Final[Mapping[str, str]] = {
    REGISTERS: "THREAD_SIZE - TOP_OF_STACK_PADDING - sizeof(struct pt_regs)",  # task_pt_regs()
    _CODE: _CODE,
}
_PADDING: Final = """#ifdef TOP_OF_KERNEL_STACK_PADDING
#define TOP_OF_STACK_PADDING TOP_OF_KERNEL_STACK_PADDING
#else
#define TOP_OF_STACK_PADDING 0
#endif"""
_ARCHITECTURES: Final = {"x86_64": "x86", "aarch64": "arm64"}
_EXACT: Final = re.compile(r"\bDebian (\d+)\.(\d+)\.(\d+)")
"""In ``uname -v``: Debian's release names the ABI, and its version here."""
_GROUP_OR_OTHERS_WRITE: Final = 0o022
_MAX_PATCH: Final = 255


class Headers(Struct, frozen=True):
    """The folders of the running kernel's headers."""

    build: Path
    """Of its configuration: what was generated for it."""
    source: Path
    """What all its configurations share; often the same folder."""

    def flags(self) -> tuple[str, ...]:
        """Return the compiler's arguments, in the order of the kernel's own build (LINUXINCLUDE)."""
        of_machine = f"arch/{_architecture()}/include"
        return tuple(
            f"-I{folder}"
            for folder in (
                self.source / of_machine, self.build / of_machine / "generated",
                self.source / "include", self.build / "include",
                self.source / of_machine / "uapi", self.build / of_machine / "generated/uapi",
                self.source / "include/uapi", self.build / "include/generated/uapi",
            )
        )  # fmt: skip


def of_running_kernel(root: Path = ROOT) -> Headers:
    """Return the headers of the running kernel.

    Args:
        root: of the file system.

    Raises:
        UnavailableError: there are none, they are of another version, or not root's alone.
    """
    release = os.uname().release
    modules, shared = root / "lib/modules" / release, root / "usr/src" / f"linux-headers-{release}"
    for build in (modules / "build", shared):
        if not (build / "include").is_dir():
            continue
        headers = Headers(build.resolve(), _source_of(build).resolve())
        _require_own(headers, root)
        _require_release(headers, release)
        return headers
    raise UnavailableError(
        f"the kernel tells no types (BTF) that may be used, and its headers are neither in {modules / 'build'} nor in "
        f"{shared}",
        next_step=_install(release),
    )


def _source_of(build: Path) -> Path:
    """Return the folder that has what all configurations share: beside, as Debian does it, or the same."""
    release = re.sub(r"-[a-z0-9]+$", "", build.resolve().name)
    for folder in (build, build.parent / "source", build.resolve().parent / f"{release}-common"):
        if (folder / _FS).is_file():
            return folder
    raise UnavailableError(f"{build} has no {_FS}", next_step=_install(os.uname().release))


def _require_release(headers: Headers, release: str) -> None:
    file = headers.build / "include/generated/utsrelease.h"
    try:
        said = re.search(r'^#define UTS_RELEASE "(.*)"$', file.read_text(), re.MULTILINE)
    except (OSError, UnicodeDecodeError) as error:
        raise UnavailableError(f"{file} can't be read: {error}", next_step=_install(release)) from error
    if said is None or said[1] != release:
        other = "no kernel that it names" if said is None else f"the kernel {said[1]}"
        raise UnavailableError(
            f"{headers.build} is of {other}, and {release} runs: with it, wrong fields would be read",
            next_step=_install(release),
        )


def require_version(code: int, version: str | None = None) -> None:
    """Compare the headers' LINUX_VERSION_CODE with the running kernel, where that tells more than its release does.

    Raises:
        UnavailableError: they are of another one.
    """
    exact = _EXACT.search(os.uname().version if version is None else version)
    if exact is None:
        return
    major, minor, patch = (int(each) for each in exact.groups())
    if code != (major << 16) + (minor << 8) + min(patch, _MAX_PATCH):
        raise UnavailableError(
            f"the headers are of Linux {code >> 16}.{code >> 8 & 255}.{code & 255}, and {major}.{minor}.{patch} runs "
            "under the same name",
            next_step="upgrade both packages, then boot the kernel anew",
        )


def _require_own(headers: Headers, root: Path) -> None:
    """Refuse what others than root could have written: the folders, those above them, and what says the version."""
    files = [each / "include/generated/utsrelease.h" for each in (headers.build,)]
    for path in (headers.build, headers.source, *files):
        for each in (path, *path.parents):
            if each == root.resolve():
                break
            if each.exists() and (each.stat().st_uid != 0 or each.stat().st_mode & _GROUP_OR_OTHERS_WRITE):
                raise UnavailableError(f"{each} is not root's alone", next_step=_install(os.uname().release))


def _install(release: str) -> str:
    return (
        f"install the running kernel's headers: apt-get install linux-headers-{release}, or dnf install "
        f"kernel-devel-{release}"
    )


def _architecture() -> str:
    return _ARCHITECTURES[platform.machine()]


def questions(headers: Headers) -> tuple[str, tuple[str, ...]]:
    """Return the program whose functions, by the names that are returned too, tell the numbers.

    Raises:
        UnavailableError: the machine is of a kind that nobody tried.
    """
    fs = (headers.source / _FS).read_text(errors="replace")
    answers = dict(_NUMBERS)
    for name, places in {**of_this_machine(), **OF_QUERIES}.items():
        struct, path = _place(places, fs)
        answers[f"OFFSET_{name}"] = f"__builtin_offsetof(struct {struct}, {path})"
    functions = [f"long tell_{name}(void *ctx) {{ return {value}; }}" for name, value in answers.items()]
    text = "\n".join([*(f"#include <{each}>" for each in _INCLUDES), _PADDING, *functions, ""])
    return text, tuple(answers)


def _place(places: Iterable[Where], fs: str) -> Where:
    """Return the first place that there is: if the text does not say so after all, the compiler refuses."""
    *earlier, last = places
    found = next((each for each in earlier if re.search(rf"\b{each[1].partition('.')[0]}\b", fs)), last)
    return _HIDDEN.get(found, found)


def defines(headers: Headers, numbers: Mapping[str, int]) -> tuple[str, ...]:
    """Return the compiler's arguments for the running kernel, from what ``questions`` were answered with.

    Raises:
        UnavailableError: the headers are of another version (require_version).
    """
    require_version(numbers[_CODE])
    fs = (headers.source / _FS).read_text(errors="replace")
    referred, *_ = places = of_this_machine()["file__references"]
    # one less than fields.defines: a query takes no reference of its own
    base = -1 if _place(places, fs) == referred else 0
    offsets = [f"-D{name}={number}" for name, number in numbers.items() if name != _CODE]
    return (*offsets, f"-DREFERENCES_BASE=({base})")
