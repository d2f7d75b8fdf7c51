"""What ``doctor`` says of the next tier: why it is not reached here, and what to change so that it is.

What the kernel did when the monitor tried decides which tier it is (monitor.tiers); what it says of itself is only
read to tell a person what to change.
"""

import gzip
import platform
from pathlib import Path

from msgspec import Struct

from agent_broker.cli.finding import Finding
from agent_broker.kernel.pins import is_denying, pins_folder
from agent_broker.monitor.messages import MonitorStatus

MODULES = Path("/sys/kernel/security/lsm")
_CONFIGS = (Path("/proc/config.gz"), Path(f"/boot/config-{platform.release()}"))
_BTF = Path("/sys/kernel/btf/vmlinux")
_KERNEL = "the distribution's own kernel has it (apt-get install linux-image-amd64 or -arm64, dnf install kernel)"
_PERMISSION = "CONFIG_FANOTIFY_ACCESS_PERMISSIONS=y"


class KernelFacts(Struct, frozen=True):
    """What the running kernel says of itself; None: it does not say."""

    has_bpf_lsm: bool | None
    """Whether it was built with CONFIG_BPF_LSM."""
    modules: tuple[str, ...] | None
    """Its list of security modules."""
    has_btf: bool
    """Whether it describes its own types, which every program of ours needs."""


def next_tier(status: MonitorStatus, kernel: KernelFacts) -> Finding | None:
    """Return why the next tier is not reached and how to reach it; None: this is the highest."""
    match status.tier:
        case "observe+":
            why = status.why_not_denied.partition(" (")[0] or "the kernel takes no program that denies"
            return Finding("next tier", "warning", f"enforce is not reached: {why}", _to_enforce(kernel))
        case "observe":
            step = f"boot Linux 5.15 or newer with {_PERMISSION}: {_KERNEL}"
            return Finding("next tier", "warning", "observe+ is not reached: no open can be held up here", step)
        case "none" if not status.blind:
            step = "see the monitor's problem above"
            if not kernel.has_btf:
                step = f"boot a kernel with CONFIG_DEBUG_INFO_BTF=y ({_BTF} is missing): {_KERNEL}"
            return Finding("next tier", "warning", "observe+ is not reached: the kernel side is not loaded", step)
        case _:
            return None


def _to_enforce(kernel: KernelFacts) -> str:
    if kernel.has_bpf_lsm is False:
        return f"boot a kernel with CONFIG_BPF_LSM=y: {_KERNEL}"
    if kernel.modules is None:
        return f"mount -t securityfs securityfs /sys/kernel/security; if {MODULES} lacks bpf, boot with lsm=...,bpf"
    if "bpf" not in kernel.modules:
        wanted = ",".join([*(each for each in kernel.modules if each != "capability"), "bpf"])
        return (
            f"boot with lsm={wanted}: add it to GRUB_CMDLINE_LINUX in /etc/default/grub, then update-grub "
            f"(Fedora: grubby --update-kernel=ALL --args=lsm={wanted}), and reboot"
        )
    return (
        "the kernel has BPF LSM and refuses its programs (a container, a restricted virtual machine): run on its host"
    )


def read_kernel_facts() -> KernelFacts:
    """Ask the running kernel."""
    try:
        modules: tuple[str, ...] | None = tuple(MODULES.read_text().strip().split(","))
    except OSError:
        modules = None
    return KernelFacts(_built_with_bpf_lsm(), modules, _BTF.exists())


def _built_with_bpf_lsm() -> bool | None:
    for each in _CONFIGS:
        try:
            data = each.read_bytes()
            lines = (gzip.decompress(data) if each.suffix == ".gz" else data).splitlines()
        except (OSError, EOFError):
            continue
        return b"CONFIG_BPF_LSM=y" in lines
    return None


def left_in_kernel(root: Path) -> Finding | None:
    """Return what a monitor that is gone has left in the kernel; None: nothing, or nobody but root may know."""
    denying = is_denying(pins_folder(root))
    if denying is None:
        return None
    if denying:
        return Finding(
            "denial",
            "warning",
            "the monitor is gone, and what it denied stays denied, also to the agents that start now",
            "start it; to end the denial: sudo agent-broker monitor --release-pins",
        )
    return Finding("last monitor", "ok", "it was killed; what it told last is kept in the kernel for the next one")
