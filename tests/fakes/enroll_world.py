"""A user's home with Claude in it, and everything an enrolment works with, on the real file system.

Needs root: the home belongs to another user, who need not be in the user database.
"""

import json
import os
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from agent_broker.clock import SystemClock
from agent_broker.enroll.apply import apply_plan
from agent_broker.enroll.claude import ClaudeRecipe
from agent_broker.enroll.owner import Owner, owner_of
from agent_broker.enroll.plan import Plan, make_plan
from agent_broker.enroll.ports import Site
from agent_broker.enroll.recipe import Recipe
from agent_broker.enroll.recover import recover
from agent_broker.enroll.report import Report
from agent_broker.enroll.undo import unenroll
from agent_broker.errors import UnavailableError
from agent_broker.ids import Uid
from agent_broker.monitor.messages import ReloadAnswer
from tests.fakes.credential_store import FakeCredentialStore

UID = 61234
GID = 61235
URL = "http://127.0.0.1:917"
API_KEY = "sk-ant-api03-" + "Kq7" * 30 + "-_AA"
PRIMARY_KEY = "sk-ant-api03-" + "Pz4" * 30 + "-_AA"
ACCESS = "sk-ant-oat01-" + "Ac9" * 31 + "AA"
REFRESH = "sk-ant-ort01-" + "Rf2" * 31 + "AA"
SECRETS = tuple(value.encode() for value in (API_KEY, PRIMARY_KEY, ACCESS, REFRESH))

SETTINGS = f"""\
{{
  "model": "opus",   // mine
  "env": {{
    "EDITOR": "vi",
    "ANTHROPIC_API_KEY": "{API_KEY}",
    "PAGER": "less"
  }},
  "permissions": {{"allow": ["Bash(ls:*)"]}}
}}
"""
CONFIG = {"numStartups": 7, "primaryApiKey": PRIMARY_KEY, "hasCompletedOnboarding": True, "projects": {"/w": {"é": 1}}}
OAUTH = {
    "claudeAiOauth": {
        "accessToken": ACCESS,
        "refreshToken": REFRESH,
        "expiresAt": 1795000000000,
        "scopes": ["user:inference", "user:profile"],
        "subscriptionType": "max",
    }
}


class FakeWatch:
    """Counts reloads; ``alive`` False: no answer."""

    def __init__(self) -> None:
        self.alive = True
        self.reloads = 0
        self.problems: tuple[str, ...] = ()

    def reload(self) -> ReloadAnswer:
        if not self.alive:
            raise UnavailableError("the monitor does not answer", next_step="start it")
        self.reloads += 1
        return ReloadAnswer(id=1, agents=1, decoys=1, problems=self.problems)


@dataclass(frozen=True)
class FileFacts:
    """What must be the same after unenroll."""

    data: bytes
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    atime_ns: int


class EnrollWorld:
    """One world a test; ``close()`` deletes it."""

    def __init__(self, parent: str | None = None) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="enroll-", dir=parent))
        self.root.chmod(0o755)
        self.home = self.root / "home"
        self.home.mkdir()
        os.chown(self.home, UID, GID)
        self.store = FakeCredentialStore()
        self.watch = FakeWatch()
        self.state = self.root / "state"
        self.recipe: Recipe = ClaudeRecipe(managed_settings=self.root / "managed-settings.json")
        self.binary = self.root / "bin/claude"
        self.binary.parent.mkdir()
        shutil.copy("/bin/true", self.binary)
        self.claude = self.home / ".claude"
        self.settings = self.claude / "settings.json"
        self.credentials = self.claude / ".credentials.json"
        self.config = self.home / ".claude.json"
        self.make_folder(self.claude)

    def close(self) -> None:
        shutil.rmtree(self.root)

    def full(self) -> "EnrollWorld":
        """Everything a user may have: a key in the settings and in the configuration, backups, an OAuth login."""
        self.make(self.settings, SETTINGS, mode=0o644)
        self.make(self.config, json.dumps(CONFIG, indent=2, ensure_ascii=False))
        self.make_folder(self.claude / "backups")
        self.make(self.claude / "backups/.claude.json.backup.1", json.dumps(CONFIG))
        self.make(self.credentials, json.dumps(OAUTH))
        return self

    def make_folder(self, path: Path) -> Path:
        path.mkdir(mode=0o755)
        os.chown(path, UID, GID)
        return path

    def make(self, path: Path, data: str | bytes, mode: int = 0o600) -> Path:
        """Write a file of the user's, with times of its own (and a new inode)."""
        path.unlink(missing_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        os.chown(path, UID, GID)
        path.chmod(mode)
        os.utime(path, ns=(1_700_000_000_123_456_789, 1_600_000_000_987_654_321))
        return path

    @property
    def owner(self) -> Owner:
        return owner_of(str(UID), self.home)

    def site(self, on_step=lambda _: None) -> Site:
        return Site(
            store=self.store,
            watch=self.watch,
            journal_dir=self.state / "enroll",
            registry_dir=self.state / "registry/agents",
            policy_dir=self.state / "policy.d",
            clock=SystemClock(),
            on_step=on_step,
        )

    def plan(self) -> Plan:
        return make_plan(self.recipe, self.owner, registry_dir=self.site().registry_dir, binaries=(self.binary,))

    def apply(self, plan: Plan, on_step=lambda _: None) -> Report:
        return apply_plan(plan, self.site(on_step), injection_url=URL)

    def enroll(self, on_step=lambda _: None) -> Report:
        return self.apply(self.plan(), on_step)

    def unenroll(self, on_step=lambda _: None) -> Report:
        return unenroll(self.recipe.agent, Uid(UID), self.site(on_step))

    def recover(self, on_step=lambda _: None) -> tuple[Report, ...]:
        return recover(self.site(on_step))

    def snapshot(self) -> dict[str, FileFacts]:
        """Everything in the home that is a file, by relative path; reads without moving the time of access."""
        facts = {}
        for path in sorted(self.home.rglob("*")):
            if path.is_file() and not path.is_symlink():
                fd = os.open(path, os.O_RDONLY | os.O_NOATIME)
                with os.fdopen(fd, "rb") as file:
                    seen = os.fstat(fd)
                    facts[str(path.relative_to(self.home))] = FileFacts(
                        file.read(),
                        stat.S_IMODE(seen.st_mode),
                        seen.st_uid,
                        seen.st_gid,
                        seen.st_mtime_ns,
                        seen.st_atime_ns,
                    )
        return facts

    def secrets_in_home(self) -> set[bytes]:
        return {secret for secret in SECRETS for facts in self.snapshot().values() if secret in facts.data}

    def journals(self) -> list[str]:
        return [path.name for path in (self.state / "enroll").glob("*.json")]

    def registered(self) -> list[str]:
        return [path.name for path in self.site().registry_dir.glob("*.json")]
