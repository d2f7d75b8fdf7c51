"""A process that counts among our daemons, and others that signal it: by root itself, and by root below an agent."""

import os
import shutil
import subprocess
import time
from pathlib import Path

from tests.fakes.denying import USER, Denying, opened


class Besieged(Denying):
    """The daemon is a sleeping process of the user; the agent is a shell."""

    def __init__(self):
        super().__init__()
        self.shell = self.folder / "busybox"
        shutil.copy(shutil.which("busybox"), self.shell)
        with opened(self.shell) as fd:
            facts = self.sensor.own_file(fd).file
        self.sensor.register(facts.dev, facts.ino, guard=True)
        self.daemon = subprocess.Popen(["/bin/sleep", "1000"], user=USER, group=USER, extra_groups=(), cwd="/")
        self.protect(self.daemon.pid)

    def protect(self, pid):
        """Count a process among the daemons."""
        pidfd = os.pidfd_open(pid)
        self.sensor.protect(pidfd)
        os.close(pidfd)

    def close(self):
        """End it all."""
        self.daemon.kill()
        self.daemon.wait()
        super().close()

    def below_agent(self, script, uid=0):
        """Run a script, without quotes, in a shell of a shell that the agent starts; return its exit code."""
        inner = f"/bin/sh -c '{script}'; exit \\$?"
        command = [self.shell, "sh", "-c", f'/bin/sh -c "{inner}"; exit $?']
        return self._run(command, uid)

    def below_interpreted_agent(self, script):
        """Run a script in a shell of a process that is an agent by its number alone; return its exit code."""
        waiting = "import subprocess, sys; sys.stdin.readline(); sys.exit(subprocess.call(sys.argv[1], shell=True))"
        agent = subprocess.Popen(["/usr/bin/python3", "-c", waiting, script], stdin=subprocess.PIPE, cwd="/", env={})
        pidfd = os.pidfd_open(agent.pid)
        while not Path(f"/proc/{agent.pid}/exe").readlink().name.startswith("python"):
            time.sleep(0.01)
        self.sensor.guard(pidfd)
        os.close(pidfd)
        agent.communicate(b"\n")
        return agent.returncode

    def directly(self, script, uid=0):
        """Run a script with no agent about."""
        return self._run(["/bin/sh", "-c", script], uid)

    def _run(self, command, uid):
        done = subprocess.run(
            command, user=uid, group=uid, extra_groups=(), cwd="/", env={"PATH": os.defpath},
            capture_output=True, check=False,
        )  # fmt: skip
        return done.returncode
