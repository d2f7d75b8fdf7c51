"""A process that counts among our daemons, and others that signal it: by root itself, and by root below an agent."""

import os
import shutil
import subprocess

from tests.fakes.denying import USER, Denying, opened


def started_daemon():
    """Start a process of the user that only waits; it runs when this returns: its exec was recorded."""
    pipe = subprocess.PIPE
    daemon = subprocess.Popen(
        ["/bin/cat"], user=USER, group=USER, extra_groups=(), cwd="/", stdin=pipe, stdout=pipe, bufsize=0
    )
    daemon.stdin.write(b"\n")
    daemon.stdout.read(1)
    return daemon


class Besieged(Denying):
    """The daemon is a waiting process of the user; the agent is a shell."""

    def __init__(self):
        super().__init__()
        self.shell = self.folder / "busybox"
        shutil.copy(shutil.which("busybox"), self.shell)
        with opened(self.shell) as fd:
            facts = self.sensor.own_file(fd).file
        self.sensor.register(facts.dev, facts.ino, guard=True)
        self.daemon = started_daemon()
        self.protect(self.daemon.pid)

    def replace_daemon(self):
        """End the daemon, and have another."""
        self.end_daemon()
        self.daemon = started_daemon()
        self.protect(self.daemon.pid)

    def end_daemon(self):
        """Kill it."""
        self.daemon.kill()
        with self.daemon:
            pass

    def protect(self, pid):
        """Count a process among the daemons."""
        pidfd = os.pidfd_open(pid)
        self.sensor.protect(pidfd)
        os.close(pidfd)

    def close(self):
        """End it all."""
        self.end_daemon()
        super().close()

    def below_agent(self, script, uid=0):
        """Run a script, without quotes, in a shell of a shell that the agent starts; return its exit code."""
        inner = f"/bin/sh -c '{script}'; exit \\$?"
        command = [self.shell, "sh", "-c", f'/bin/sh -c "{inner}"; exit $?']
        return self._run(command, uid)

    def below_interpreted_agent(self, script):
        """Run a script in a shell of a process that is an agent by its number alone; return its exit code."""
        waiting = (
            "import subprocess, sys; print(flush=True); sys.stdin.readline();"
            "sys.exit(subprocess.call(sys.argv[1], shell=True))"
        )
        pipe = subprocess.PIPE
        agent = subprocess.Popen(["/usr/bin/python3", "-c", waiting, script], stdin=pipe, stdout=pipe, cwd="/", env={})
        agent.stdout.readline()
        pidfd = os.pidfd_open(agent.pid)
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
