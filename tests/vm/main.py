"""Boots a kernel with BPF LSM in a virtual machine, runs tests/vm in it, and says how it went: ``make test-vm``.

Twice: with ``bpf`` in the kernel's list of security modules, and without (tests/vm/unlisted).

QEMU emulates the processor, so this needs no /dev/kvm and works inside another virtual machine. The guest sees the
machine's own files, with a layer over them that is thrown away (virtme-ng); only .build/vm is written for good.
It fails unless every test of tests/vm ran and passed.
"""

import os
import shlex
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import NamedTuple

from tests.fakes.denying import compiled

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / ".build/vm"
GUEST_S = 2400  # some 10 min on two quiet cores; only one that hangs is ended
PROGRAMS = ("opener", "taker", "batch", "reader", "open_loop")
"""Compiled before: the guest is slow."""
FIGURES = ("tests.vm.open_cost", "tests.vm.marks_start")
"""What is measured beside the tests; each prints its lines."""
PYTEST = ("-p", "no:cacheprovider", "-o", "junit_family=xunit2")
NONE_CHOSEN = 5
"""Exit code of pytest."""


class Guest(NamedTuple):
    """A way to boot, and what is tested then."""

    name: str
    modules: str
    """The kernel's list of security modules."""
    tests: str

    @property
    def report(self) -> Path:
        """Where pytest writes what happened."""
        return RESULTS / f"{self.name}.xml"


GUESTS = (
    Guest("tests", "lsm=landlock,lockdown,yama,integrity,apparmor,bpf", "tests/vm"),
    Guest("unlisted", "lsm=landlock,lockdown,yama,integrity,apparmor", "tests/vm/unlisted"),
)


def main() -> int:
    """Return 0 if all tests ran and passed."""
    kernel = newest_kernel()
    if kernel is None:
        print("no kernel with BPF LSM in /boot: packaging/install-build-tools.sh --for-vm")
        return 1
    RESULTS.mkdir(parents=True, exist_ok=True)
    for program in PROGRAMS:
        compiled(program)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the guest is ended too
    chosen = [(guest, tests_there(guest, sys.argv[1:])) for guest in GUESTS]
    if not any(expected for _, expected in chosen):
        print("no test of a guest was chosen")
        return 1
    return max([run(guest, expected, kernel, sys.argv[1:]) for guest, expected in chosen])


def run(guest: Guest, expected: int, kernel: Path, arguments: list[str]) -> int:
    """Run a guest's tests, or those that pytest's arguments choose; return the exit code."""
    guest.report.unlink(missing_ok=True)
    if not expected and arguments:
        return 0
    print(f"booting {kernel.name} with {guest.modules} under emulation, {expected} tests", flush=True)
    started = time.monotonic()
    boot(kernel, guest, guest_command(guest, arguments))
    return judge(guest, expected, time.monotonic() - started)


def newest_kernel() -> Path | None:
    """Return the newest kernel in /boot that has BPF LSM and its modules."""

    def usable(image: Path) -> bool:
        version = image.name.partition("-")[2]
        config = Path(f"/boot/config-{version}")
        modules = Path(f"/lib/modules/{version}")
        return modules.is_dir() and config.is_file() and "CONFIG_BPF_LSM=y" in config.read_text().splitlines()

    found = [each for each in Path("/boot").glob("vmlinuz-*") if usable(each)]
    return max(found, key=lambda each: each.stat().st_mtime, default=None)


def tests_there(guest: Guest, arguments: list[str]) -> int:
    """Return how many tests pytest's arguments choose among a guest's."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", guest.tests, *arguments]
    environment = {**os.environ, "IN_TEST_VM": guest.name}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in {0, NONE_CHOSEN}:
        sys.exit(done.stdout + done.stderr)
    return sum("::" in line for line in done.stdout.splitlines())


def guest_command(guest: Guest, arguments: list[str]) -> str:
    """Return what the guest's shell runs."""
    chosen = [*PYTEST, f"--junitxml={guest.report}", guest.tests, *arguments]
    figures = () if arguments or guest != GUESTS[0] else FIGURES
    return "\n".join(
        [
            "mountpoint -q /sys/fs/bpf || mount -t bpf bpf /sys/fs/bpf",
            f"cd {shlex.quote(str(ROOT))}",
            f"export IN_TEST_VM={guest.name} PYTHONDONTWRITEBYTECODE=1",
            shlex.join([sys.executable, "-m", "pytest", *chosen]),
            *(shlex.join([sys.executable, "-m", each]) for each in figures),
        ]
    )


def boot(kernel: Path, guest: Guest, command: str) -> None:
    """Run the command in a guest, as root; show what it writes."""
    script = RESULTS / "guest.sh"
    script.write_text(command)
    vng = [
        "vng", "--disable-kvm", "--run", str(kernel), "--append", guest.modules, "--memory", "2G", "--cpus", "2",
        "--user", "root", "--rwdir", str(RESULTS), "--", f"sh {shlex.quote(str(script))}",
    ]  # fmt: skip
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    # vng wants a terminal
    machine = subprocess.Popen(
        ["script", "-qec", shlex.join(vng), "/dev/null"], stdin=subprocess.DEVNULL,
        env={**os.environ, "PATH": path}, start_new_session=True,
    )  # fmt: skip
    try:
        machine.wait(GUEST_S)
    except subprocess.TimeoutExpired:
        print(f"the guest did not end within {GUEST_S} s")
    finally:
        if machine.poll() is None:
            os.killpg(machine.pid, signal.SIGKILL)
            machine.wait()


def judge(guest: Guest, expected: int, took_s: float) -> int:
    """Say how it went; return the exit code."""
    if not guest.report.is_file():
        print("the guest left no report")
        return 1
    cases = list(ET.parse(guest.report).iter("testcase"))  # noqa: S314 - our own
    bad = [case.get("name") for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = [case.get("name") for case in cases if case.find("skipped") is not None]
    print(f"{len(cases)} of {expected} tests in the VM, {len(bad)} failed, {len(skipped)} skipped, {took_s:.0f} s")
    return 1 if bad or skipped or len(cases) < expected else 0


if __name__ == "__main__":
    sys.exit(main())
