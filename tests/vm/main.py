"""Boots a kernel with BPF LSM in a virtual machine, runs tests/vm in it, and says how it went: ``make test-vm``.

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

from tests.fakes.denying import compiled

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / ".build/vm"
REPORT = RESULTS / "tests.xml"
GUEST_S = 1200
LSM = "lsm=landlock,lockdown,yama,integrity,apparmor,bpf"
PROGRAMS = ("opener", "reader", "open_loop")
"""Compiled before: the guest is slow."""
PYTEST = ("-p", "no:cacheprovider", "-o", "junit_family=xunit2", f"--junitxml={REPORT}", "tests/vm")


def main() -> int:
    """Return 0 if all tests ran and passed."""
    kernel = newest_kernel()
    if kernel is None:
        print("no kernel with BPF LSM in /boot: packaging/install-build-tools.sh --for-vm")
        return 1
    expected = tests_there()
    RESULTS.mkdir(parents=True, exist_ok=True)
    REPORT.unlink(missing_ok=True)
    for program in PROGRAMS:
        compiled(program)
    print(f"booting {kernel.name} under emulation, {expected} tests", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the guest is ended too
    started = time.monotonic()
    boot(kernel, guest_command(sys.argv[1:]))
    return judge(expected if len(sys.argv) == 1 else 1, time.monotonic() - started)


def newest_kernel() -> Path | None:
    """Return the newest kernel in /boot that has BPF LSM and its modules."""

    def usable(image: Path) -> bool:
        version = image.name.partition("-")[2]
        config = Path(f"/boot/config-{version}")
        modules = Path(f"/lib/modules/{version}")
        return modules.is_dir() and config.is_file() and "CONFIG_BPF_LSM=y" in config.read_text().splitlines()

    found = [each for each in Path("/boot").glob("vmlinuz-*") if usable(each)]
    return max(found, key=lambda each: each.stat().st_mtime, default=None)


def tests_there() -> int:
    """Return how many tests tests/vm has."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "tests/vm"]
    environment = {**os.environ, "IN_TEST_VM": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return sum("::" in line for line in done.stdout.splitlines())


def guest_command(arguments: list[str]) -> str:
    """Return what the guest's shell runs."""
    return "\n".join(
        [
            "mountpoint -q /sys/fs/bpf || mount -t bpf bpf /sys/fs/bpf",
            f"cd {shlex.quote(str(ROOT))}",
            "export IN_TEST_VM=1 PYTHONDONTWRITEBYTECODE=1",
            shlex.join([sys.executable, "-m", "pytest", *PYTEST, *arguments]),
            *([] if arguments else [shlex.join([sys.executable, "-m", "tests.vm.open_cost"])]),
        ]
    )


def boot(kernel: Path, command: str) -> None:
    """Run the command in a guest, as root; show what it writes."""
    script = RESULTS / "guest.sh"
    script.write_text(command)
    vng = [
        "vng", "--disable-kvm", "--run", str(kernel), "--append", LSM, "--memory", "2G", "--cpus", "2",
        "--user", "root", "--rwdir", str(RESULTS), "--", f"sh {shlex.quote(str(script))}",
    ]  # fmt: skip
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    # vng wants a terminal
    guest = subprocess.Popen(
        ["script", "-qec", shlex.join(vng), "/dev/null"], stdin=subprocess.DEVNULL,
        env={**os.environ, "PATH": path}, start_new_session=True,
    )  # fmt: skip
    try:
        guest.wait(GUEST_S)
    except subprocess.TimeoutExpired:
        print(f"the guest did not end within {GUEST_S} s")
    finally:
        if guest.poll() is None:
            os.killpg(guest.pid, signal.SIGKILL)
            guest.wait()


def judge(expected: int, took_s: float) -> int:
    """Say how it went; return the exit code."""
    if not REPORT.is_file():
        print("the guest left no report")
        return 1
    cases = list(ET.parse(REPORT).iter("testcase"))  # noqa: S314 - our own
    bad = [case.get("name") for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = [case.get("name") for case in cases if case.find("skipped") is not None]
    print(f"{len(cases)} of {expected} tests in the VM, {len(bad)} failed, {len(skipped)} skipped, {took_s:.0f} s")
    return 1 if bad or skipped or len(cases) < expected else 0


if __name__ == "__main__":
    sys.exit(main())
