"""A home with a file that becomes a view, and where views are registered (needs root)."""

import dataclasses
from pathlib import Path

from agent_broker.enroll.view_apply import ViewSite, apply_view, recover_views, unenroll_view
from agent_broker.enroll.view_plan import Known, make_view_plan
from agent_broker.identity.registry import load_registry
from agent_broker.identity.viewed import load_viewed
from agent_broker.ids import Uid
from agent_broker.view.content import attributes_of
from tests.fakes.enroll_world import UID, EnrollWorld

TOKEN = "npm_" + "Qz7" * 12
TEXT = f"; mine\n//registry.npmjs.org/:_authToken={TOKEN}\nfund=false"
READER = "/usr/bin/head"


class Killed(BaseException):
    """As SIGKILL: nothing is undone."""


class ViewWorld:
    """A home with ~/.npmrc in it, and where views are registered."""

    def __init__(self, world: EnrollWorld) -> None:
        self.world = world
        self.path = world.make(world.home / ".npmrc", TEXT, mode=0o640)
        self.steps: list[str] = []
        self.kill_at = -1
        self.is_shown = True
        self.before = self.facts()

    def facts(self) -> tuple[bytes, int, int, int, int]:
        facts = self.path.lstat()
        return self.path.read_bytes(), facts.st_mode, facts.st_uid, facts.st_gid, facts.st_mtime_ns

    def step(self, name: str) -> None:
        """A transaction has come to a step."""
        self.steps.append(name)
        if len(self.steps) - 1 == self.kill_at:
            raise Killed(name)

    @property
    def place(self) -> ViewSite:
        site = dataclasses.replace(self.world.site(self.step), tools_dir=self.world.state / "tools")
        return ViewSite(site, self.world.state / "files", lambda: self.is_shown, attributes_of)

    def plan(self, path: Path | None = None, *readers: str):
        state = self.world.state
        known = Known((), load_registry(state / "tools"), load_viewed(state / "files"), ())
        return make_view_plan(
            path or self.path,
            self.world.owner,
            readers=readers or (READER,),
            known=known,
            view_folder=Path("/run/views"),
            now_ns=1,
        )

    def enroll(self):
        return apply_view(self.plan(), self.place)

    def unenroll(self):
        return unenroll_view("file.npmrc", Uid(UID), self.place)

    def die_at(self, step, work):
        """Do it, and die at a step by name, which is counted in a run that is undone."""
        self.enroll()
        number = self.steps.index(step)
        self.unenroll()
        self.steps, self.kill_at = [], number
        work()

    def recover(self):
        self.kill_at = -1
        return recover_views(self.place)

    @property
    def is_link(self) -> bool:
        return self.path.is_symlink()

    @property
    def in_vault(self) -> bool:
        return self.world.store.holds(TOKEN.encode())

    def assert_as_it_was(self) -> None:
        assert self.facts() == self.before
        assert not self.in_vault
        assert load_viewed(self.world.state / "files") == ()
        assert load_registry(self.world.state / "tools") == ()
        assert [path.name for path in self.world.home.iterdir() if "agent-broker" in path.name] == []
