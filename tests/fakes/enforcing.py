"""A real monitor below a root of its own, with one enrolled agent and one decoy that is to be denied."""

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

from agent_broker.config.layout import Layout
from agent_broker.identity.registry import DecoyFile, EnrolledBinary, Enrollment, RoleRule, save_enrollment
from agent_broker.kernel.pins import pins_folder, release
from tests.demo.check import eventually
from tests.demo.processes import BROKER, Background
from tests.fakes.denying import USER, build_opener

_ACCOUNT = 64_123


class Enforcing:
    """The monitor is not started by itself."""

    def __init__(self):
        self.root = Path(tempfile.mkdtemp(prefix="ab-", dir="/tmp"))
        self.root.chmod(0o755)
        self.layout = Layout(self.root)
        self.home = self.root / "home"
        self.home.mkdir()
        self.decoy = self.home / "credentials"
        self.decoy.write_text("decoy")
        for each in (self.home, self.decoy):
            os.chown(each, USER, USER)
        self.opener = build_opener(self.root)
        self.agent = build_opener(self.root, "agent")
        config = self.layout.config_file
        config.parent.mkdir(parents=True)
        config.write_text(f"[daemon]\nuser = {_ACCOUNT}\ngroup = {_ACCOUNT}\n\n[inject]\nport = 1019\n")
        self.enroll(deny=True)
        self.monitor = None

    def enroll(self, *, deny):
        """Write the enrolment; a monitor that starts reads it."""
        data = self.agent.read_bytes()
        binary = EnrolledBinary(str(self.agent), hashlib.sha256(data).hexdigest(), len(data))
        decoys = (DecoyFile(str(self.decoy), "claude-oauth", deny),)
        self.layout.registry_folder.mkdir(parents=True, exist_ok=True)
        enrollment = Enrollment("agent", USER, "user", (binary,), RoleRule(("agent",)), decoys, (), 0)
        save_enrollment(self.layout.registry_folder, enrollment)

    def use_shell_as_agent(self):
        """Enrol busybox, by which others are started, instead."""
        self.agent = self.root / "busybox"
        shutil.copy(shutil.which("busybox"), self.agent)
        self.enroll(deny=True)

    def start(self):
        """Start the monitor, and wait until it is ready."""
        command = [str(BROKER), "--root", str(self.root), "monitor"]
        self.monitor = Background("monitor", command, self.root / "monitor.log", os.environ)
        eventually(self._is_ready, "the monitor to be ready", within_s=300, seen=self.monitor.said)

    def stop(self, number=signal.SIGTERM):
        """End the monitor."""
        monitor, self.monitor = self.monitor, None
        if monitor is not None:
            monitor.stop(number)

    def close(self):
        """End everything."""
        self.stop(signal.SIGKILL)
        release(pins_folder(self.layout.root))
        shutil.rmtree(self.root)

    def open(self, program=None, how="open", uid=USER):
        """Let a program open the decoy; return the errno, 0 if it could."""
        done = subprocess.run(
            [program or self.opener, how, self.decoy], user=uid, group=uid, extra_groups=(), cwd="/", env={},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return int(done.stdout)

    def wait_for_agent(self):
        """Wait until the agent opens its decoy: a monitor that is slow to say who it is refuses it (DECISION_S)."""
        eventually(
            lambda: self.open(self.agent) == 0, "the agent to open its decoy", within_s=60, seen=self.monitor.said
        )

    def incidents(self):
        """Return what the monitor published and no broker took, as JSON."""
        lines = (self.layout.spool / "incidents").read_text().splitlines()
        return [json.loads(line)["incident"] for line in lines]

    def wait_for_incident(self, **wanted):
        """Return the first incident with these fields."""

        def found():
            return [each for each in self.incidents() if wanted.items() <= each.items()]

        eventually(lambda: bool(found()), f"an incident with {wanted}", within_s=60, seen=self.monitor.said)
        return found()[0]

    def generations(self):
        """Return the folders of pinned programs."""
        folder = pins_folder(self.layout.root)
        return sorted(each.name for each in folder.iterdir()) if folder.is_dir() else []

    def command(self, *arguments):
        """Run ``agent-broker ARGUMENTS``; return what it prints."""
        done = subprocess.run([BROKER, "--root", self.root, *arguments], capture_output=True, text=True, check=True)
        return done.stdout

    def _is_ready(self):
        self.monitor.require_alive()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
            probe.connect(str(self.layout.monitor_socket))
        return "ready" in self.monitor.said()
