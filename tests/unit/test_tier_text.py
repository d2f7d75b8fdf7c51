"""What doctor says of the next tier: never that something is denied, and what to change."""

import pytest

from agent_broker.cli.tier_text import KernelFacts, next_tier, read_kernel_facts
from tests.fakes.control import monitor_status

LISTED = KernelFacts(has_bpf_lsm=True, modules=("lockdown", "capability", "yama", "bpf"), has_btf=True)
UNLISTED = KernelFacts(has_bpf_lsm=True, modules=("lockdown", "capability", "yama"), has_btf=True)
NOT_BUILT = KernelFacts(has_bpf_lsm=False, modules=("capability",), has_btf=True)
SILENT = KernelFacts(has_bpf_lsm=None, modules=None, has_btf=True)
NO_BTF = KernelFacts(has_bpf_lsm=True, modules=None, has_btf=False)


@pytest.mark.parametrize(
    ("tier", "kernel", "step"),
    [
        ("observe+", UNLISTED, "boot with lsm=lockdown,yama,bpf: add it to GRUB_CMDLINE_LINUX"),
        ("observe+", NOT_BUILT, "CONFIG_BPF_LSM=y: the distribution's own kernel has it (apt-get install"),
        ("observe+", SILENT, "mount -t securityfs"),
        ("observe+", LISTED, "refuses its programs"),
        ("observe", LISTED, "CONFIG_FANOTIFY_ACCESS_PERMISSIONS=y"),
        ("none", NO_BTF, "CONFIG_DEBUG_INFO_BTF=y"),
        ("none", LISTED, "the monitor's problem above"),
    ],
)
def test_how_to_reach_the_next_tier(tier, kernel, step):
    found = next_tier(monitor_status(tier=tier, why_not_denied="libbpf: refused (words)"), kernel)

    assert step in found.next_step
    assert found.state == "warning"
    assert "is not reached" in found.text
    assert ("libbpf: refused" in found.text) is (tier == "observe+")
    assert "(words)" not in found.text


def test_the_highest_tier_has_no_next_and_a_blind_monitor_has_other_worries():
    assert next_tier(monitor_status(tier="enforce"), LISTED) is None
    assert next_tier(monitor_status(tier="none", blind="an event is missing"), LISTED) is None


def test_this_kernel_can_be_asked():
    assert read_kernel_facts().has_btf
