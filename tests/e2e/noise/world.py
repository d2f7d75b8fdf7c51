"""A developer's home with everything that programs stumble over, an enrolled agent, and the real monitor.

What is guaranteed: a row's incidents are exactly those of the time between the start and the end of its monitor, each
with its last revision; the monitor was told to end and has written all of them. In the end, users, processes and files
are gone.
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from agent_broker.config.layout import Layout
from agent_broker.identity.registry import DecoyFile, EnrolledBinary, Enrollment, RoleRule, save_enrollment
from agent_broker.monitor.incident import Incident
from agent_broker.monitor.spool import Spool
from tests.bench.daemons import make_monitor, monitor_status
from tests.demo.machine import throw_away_user
from tests.e2e.noise.credential_files import write_credential_files

PYTHON = Path("/usr/bin/python3").resolve()
PROGRAMS = Path(__file__).with_name("programs")
BROKER = 60_703  # a number that no distribution gives away
DECOY = '{"claudeAiOauth":{"accessToken":"a decoy and nothing else"}}'
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_TOOL_S = 120


class World:
    """See the module; made by ``world``."""

    def __init__(self, folder: Path, name: str, uid: int) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.name, self.uid = name, uid
        self.layout = Layout(folder / "root")
        self.project = self.home / "project"
        self.remote = folder / "remote.git"
        self.backup = folder / "backup"
        self.decoy = self.home / ".claude/.credentials.json"
        self.agent = self.home / ".local/share/claude/versions/1.0.0"
        self.launcher = self.home / ".local/bin/claude"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.home), "USER": self.name, "LOGNAME": self.name, "PATH": _PATH, "LANG": "C.UTF-8",
            "GIT_TERMINAL_PROMPT": "0", "npm_config_update_notifier": "false",
        }  # fmt: skip

    def as_user(self, *command: str | Path, cwd: Path | None = None, stdin: str = "", status: int = 0) -> str:
        """Run a program of the user to its end; return what it printed; raises AssertionError if it fails."""
        return self._run(command, cwd or self.home, stdin, status, user=self.uid, group=self.uid, extra_groups=())

    def as_root(self, *command: str | Path, cwd: Path | None = None) -> str:
        """The same as root."""
        return self._run(command, cwd or self.home, "", 0)

    def incidents_of(self, act: object) -> list[Incident]:
        """Have the monitor watch while ``act(world)`` runs; return what it told, each incident as it was told last."""
        shutil.rmtree(self.layout.spool, ignore_errors=True)
        monitor = make_monitor(self.layout)
        monitor.start()
        try:
            status = monitor_status(self.layout)
            assert status is not None
            assert (status.decoys_watched, status.problems) == (1, ()), status.problems
            act(self)  # type: ignore[operator]
        finally:
            monitor.stop()
        told: dict[str, Incident] = {}
        for entry in Spool(self.layout.spool).unacknowledged():
            told[entry.incident.id] = entry.incident
        return list(told.values())

    def give(self, *paths: Path) -> None:
        """Make files, and everything below folders, the user's."""
        for path in paths:
            for each in (path, *path.rglob("*")):
                os.chown(each, self.uid, self.uid, follow_symlinks=False)

    def _run(self, command: tuple[str | Path, ...], cwd: Path, stdin: str, status: int, **who: object) -> str:
        done = subprocess.run(  # type: ignore[call-overload]
            [str(word) for word in command], env=self.environment, cwd=cwd, input=stdin, capture_output=True,
            text=True, errors="replace", timeout=_TOOL_S, check=False, **who,
        )  # fmt: skip
        assert done.returncode == status, f"{command}: {done.returncode}: {done.stdout[-500:]}{done.stderr[-500:]}"
        return done.stdout


@contextlib.contextmanager
def world() -> Iterator[World]:
    """Make one."""
    folder = Path(tempfile.mkdtemp(prefix="noise-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        with throw_away_user("noise", folder / "home", system=False) as account:
            made = World(folder, account.pw_name, account.pw_uid)
            _furnish(made)
            yield made
    finally:
        shutil.rmtree(folder)


def _furnish(made: World) -> None:
    for path in (
        made.home,
        made.project / "src",
        made.backup,
        made.decoy.parent,
        made.agent.parent,
        made.launcher.parent,
    ):
        path.mkdir(parents=True)
    made.decoy.write_text(DECOY)
    made.decoy.chmod(0o600)
    for number in range(60):
        (made.project / f"src/module{number}.py").write_text(f"def answer():\n    return {number}\n")
    (made.project / ".env.example").write_text("API_TOKEN=put-yours-here\n")
    (made.project / "README.md").write_text("# A project\n")
    (made.project / "package.json").write_text('{"name": "project", "version": "1.0.0", "private": true}\n')
    shutil.copyfile(PYTHON, made.agent)
    made.agent.chmod(0o755)
    made.launcher.symlink_to(made.agent)
    write_credential_files(made.home)
    made.give(made.home, made.backup)
    _make_repository(made)
    _enroll(made)


def _make_repository(made: World) -> None:
    made.remote.mkdir()
    made.give(made.remote)
    made.as_user("git", "init", "--quiet", "--bare", made.remote)
    made.as_user("git", "config", "--global", "user.email", "ann@example.org")
    made.as_user("git", "config", "--global", "user.name", "Ann")
    made.as_user("git", "config", "--global", "credential.helper", "store")
    for words in (("init", "--quiet"), ("add", "."), ("commit", "--quiet", "-m", "first")):
        made.as_user("git", *words, cwd=made.project)
    made.as_user("git", "remote", "add", "origin", made.remote, cwd=made.project)


def _enroll(made: World) -> None:
    layout = made.layout
    layout.registry_folder.mkdir(parents=True)
    layout.config_folder.mkdir(parents=True)
    layout.config_file.write_text(f"[daemon]\nuser = {BROKER}\ngroup = {BROKER}\n")
    content = made.agent.read_bytes()
    binary = EnrolledBinary(
        str(made.agent), hashlib.sha256(content).hexdigest(), len(content), launchers=(str(made.launcher),)
    )  # fmt: skip
    decoys = (DecoyFile(str(made.decoy), "claude-oauth"),)
    enrollment = Enrollment("claude", made.uid, made.name, (binary,), RoleRule(("claude",)), decoys, (), 1)
    save_enrollment(layout.registry_folder, enrollment)
