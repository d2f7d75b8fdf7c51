"""An enrolment that can be killed at each of its steps, with a real vault beside a real home (needs root)."""

import dataclasses
import fcntl
import gc
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from agent_broker.enroll.claude import ClaudeRecipe
from agent_broker.enroll.journal import TransactionFolder
from agent_broker.enroll.managed import FILE_NAME, MANAGED, ROOT, apply_managed, plan_managed
from agent_broker.enroll.plan import Plan
from agent_broker.enroll.ports import Site
from agent_broker.enroll.report import Report
from agent_broker.enroll.tool_plan import make_tool_plan
from agent_broker.enroll.undo import unenroll
from agent_broker.errors import AgentBrokerError
from agent_broker.ids import Uid
from tests.fakes.enroll_cases import Case
from tests.fakes.enroll_world import GID, UID, EnrollWorld
from tests.fakes.small_disk import fill, small_disk
from tests.fakes.vault_store import VaultStore

Work = Callable[[Callable[[str], None]], object]
_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate", "os.chmod", "sqlite3.connect"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_URL = "http://127.0.0.1:917"
_HELPER = "/opt/agent-broker-shim claude-api-key-helper"


class TransactionWorld(EnrollWorld):
    """See the module. ``before`` is the home as it was."""

    KEPT_IN = ("enroll", "registry", "policy.d")
    """Folders that hold a file each of what is enrolled, beside the vault."""

    def __init__(self, case: Case, disks: tuple[str, ...] = (), at: Path | None = None) -> None:
        super().__init__(None if at is None else str(at))
        self._unmount: list[Callable[[], None]] = []
        for name in disks:  # "home", "state"
            self._mount(self.root / name)
        self.store = VaultStore(self.state / "vault")
        self.case = case
        self.recipe = case.recipe(self.root)
        if case.script:
            self.binary = self.make_script(case.script)
        self.secrets = tuple(secret.encode() for secret in case.secrets)
        for path, text in case.files.items():
            for folder in reversed(Path(path).parents):
                if not (self.home / folder).exists():
                    self.make_folder(self.home / folder)
            self.make(self.home / path, text.replace("@HOME@", str(self.home)))
        self.key = (self.recipe.agent, Uid(UID))
        self.before = self.snapshot()

    def make_script(self, package: str) -> Path:
        """Return the program of an npm package, run by a node that is small."""
        node = self.root / "bin/node"
        shutil.copy("/bin/true", node)
        folder = self.root / "node_modules" / package
        folder.mkdir(parents=True)
        (folder / "package.json").write_text(json.dumps({"name": package, "version": "1.0.0"}))
        script = folder / "agent.js"
        script.write_text(f"#!{node}\n")
        script.chmod(0o755)
        return script

    def close(self) -> None:
        self.store.close()
        while self._unmount:
            self._unmount.pop()()
        super().close()

    def _mount(self, folder: Path) -> None:
        disk = small_disk(folder)
        disk.__enter__()
        self._unmount.append(lambda: disk.__exit__(None, None, None))
        if folder == self.home:
            os.chown(folder, UID, GID)
            folder.chmod(0o755)
            self.make_folder(self.claude)

    def steps(self, work: Work) -> list[str]:
        """Do it, and return its steps."""
        names: list[str] = []
        work(names.append)
        return names

    def killed_at(self, work: Work, number: int) -> None:
        """Do it in a process of its own, which is killed at the step of this number; return when all of it is dead."""
        die = _Death(number)
        if not self._died(lambda: work(lambda _: die())):
            raise RuntimeError(f"step {number} never came")

    def killed_between(self, work: Work, number: int) -> bool:
        """The same between the steps: as root's side is about to change names in a folder for so many times.

        Returns:
            Whether it came so far.
        """
        die = _Death(number)

        def audit(event: str, about: tuple[object, ...]) -> None:
            if event in _CHANGES or (event == "open" and isinstance(about[2], int) and about[2] & _WRITING):
                die()

        def watched() -> None:
            sys.addaudithook(audit)
            work(lambda _: None)

        return self._died(watched)

    def _died(self, work: Callable[[], object]) -> bool:
        self.store.close()
        child = os.fork()
        if child == 0:
            gc.disable()  # it would copy all that it looks at
            try:
                work()
            finally:
                os._exit(1)  # it was not killed
        status = os.waitpid(child, 0)[1]
        self._settle()
        return os.waitstatus_to_exitcode(status) == -signal.SIGKILL

    def _settle(self) -> None:
        """The process that acts as the user completes what it was asked, and holds the lock until then."""
        with suppress(FileNotFoundError):
            fd = os.open(self.site().journal_dir, os.O_RDONLY)
            fcntl.flock(fd, fcntl.LOCK_EX)
            os.close(fd)

    @contextmanager
    def full(self, disks: tuple[str, ...], free_bytes: int = 0) -> Iterator[Callable[[], None]]:
        """Leave so much room on the disks, and give it back at the end."""
        fillers = [fill(self.root / name) for name in disks]
        for filler in fillers:
            with filler.open("r+b") as file:
                file.truncate(filler.stat().st_size - free_bytes)

        def again() -> None:
            while fillers:
                fillers.pop().unlink(missing_ok=True)

        try:
            yield again
        finally:
            again()

    def places(self) -> dict[bytes, set[str]]:
        """Where each secret is: files of the home, ``vault``, or, what must never be, in clear in a file of root's."""
        files = {f"home: {name}": self.case.opened(name, facts.data) for name, facts in self.snapshot().items()}
        for path in self.state.rglob("*"):
            if path.is_file():
                files[f"state: {path.relative_to(self.state)}"] = path.read_bytes()
        unsealed = self.store.unsealed().values()
        return {
            secret: {name for name, data in files.items() if secret in data}
            | ({"vault"} if any(secret in data for data in unsealed) else set())
            for secret in self.secrets
        }

    def left_over(self) -> set[str]:
        """Names of root's files."""
        return {str(path.relative_to(self.state)) for path in self.state.rglob("*") if path.is_file()}

    def journal_state(self) -> str | None:
        with TransactionFolder(self.site().journal_dir) as folder:
            transaction = folder.find(*self.key)
        return None if transaction is None else transaction.state

    def wired(self) -> bool:
        """Whether the agent's files hold the phantom that the vault knows."""
        agent, uid = self.key
        phantom = self.store.unsealed()[f"{agent}/{uid}/phantom"]
        return any(phantom in facts.data for facts in self.snapshot().values())

    def attempt(self, work: Work, on_step: Callable[[str], None] = lambda _: None) -> AgentBrokerError | None:
        """Do it; return our own error, and raise any other."""
        try:
            work(on_step)
        except AgentBrokerError as error:
            return error
        return None


class _Death:
    """Kills this process when it was called so many times before."""

    def __init__(self, number: int) -> None:
        self._left = number

    def __call__(self) -> None:
        self._left -= 1
        if self._left < 0:
            os.kill(os.getpid(), signal.SIGKILL)


class ToolWorld(TransactionWorld):
    """The same of a tool: in a registry of its own, and wired to the shim, or to a socket, instead of a phantom."""

    def __init__(self, case: Case, disks: tuple[str, ...] = (), at: Path | None = None) -> None:
        super().__init__(case, disks, at)
        self.shim = self.root / "bin/shim"
        shutil.copy("/bin/true", self.shim)
        if case.program:
            self.binary = self.binary.rename(self.binary.with_name(case.program))

    def site(self, on_step=lambda _: None) -> Site:
        """See EnrollWorld."""
        return dataclasses.replace(super().site(on_step), tools_dir=self.state / "registry/tools")

    def plan(self) -> Plan:
        """See EnrollWorld."""
        tools = self.state / "registry/tools"
        return make_tool_plan(self.recipe, self.owner, shim=self.shim, tools_dir=tools, binaries=(self.binary,))

    def wired(self) -> bool:
        """Whether the tool's files name what it is to ask, and root's links to it are there."""
        with TransactionFolder(self.site().journal_dir) as folder:
            transaction = folder.find(*self.key)
        is_linked = transaction is not None and set(transaction.links) == {str(each) for each in self._links()}
        return is_linked and any(self.case.wiring.encode() in facts.data for facts in self.snapshot().values())

    def left_over(self) -> set[str]:
        """See TransactionWorld; with root's links, where nothing is enrolled that needs them."""
        return super().left_over() | ({each.name for each in self._links()} if self.journal_state() is None else set())

    def _links(self) -> list[Path]:
        return [each for each in self.shim.parent.iterdir() if each.is_symlink()]

    def registered(self) -> list[str]:
        """See EnrollWorld: of agents there is none."""
        return super().registered() + [path.name for path in (self.state / "registry/tools").glob("*.json")]


class ManagedWorld(TransactionWorld):
    """The same of a file of root's, that no secret moves out of: the settings that every user's Claude obeys."""

    KEPT_IN = ("enroll",)
    CASE = Case(lambda _: ClaudeRecipe(), {FILE_NAME: '{\n\t"permissions": {"deny": ["Read(./.env)"]}\n}\n'}, ())

    def __init__(self, disks: tuple[str, ...] = (), at: Path | None = None) -> None:
        super().__init__(self.CASE, disks, at)
        for path in (self.home, *self.home.rglob("*")):
            os.chown(path, 0, 0)
        self.key = (MANAGED, ROOT)
        self.before = self.snapshot()

    def enroll(self, on_step=lambda _: None) -> Report:
        return apply_managed(plan_managed(self.home, _URL, _HELPER, ()), self.site(on_step))

    def unenroll(self, on_step=lambda _: None) -> Report:
        return unenroll(MANAGED, ROOT, self.site(on_step))

    def wired(self) -> bool:
        return _HELPER.encode() in self.snapshot()[FILE_NAME].data

    def registered(self) -> list[str]:
        return self.journals() if self.journal_state() == "enrolled" else []
