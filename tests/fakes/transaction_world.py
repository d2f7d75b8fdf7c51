"""An enrolment that can be killed at each of its steps, with a real vault beside a real home (needs root)."""

import fcntl
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from agent_broker.enroll.journal import TransactionFolder
from agent_broker.enroll.report import Report
from agent_broker.enroll.undo import unenroll
from agent_broker.errors import AgentBrokerError
from agent_broker.ids import Uid
from tests.fakes.enroll_cases import Case
from tests.fakes.enroll_world import GID, UID, EnrollWorld
from tests.fakes.small_disk import fill, small_disk
from tests.fakes.vault_store import VaultStore

Work = Callable[[Callable[[str], None]], object]


class TransactionWorld(EnrollWorld):
    """See the module. ``before`` is the home as it was."""

    def __init__(self, case: Case, disks: tuple[str, ...] = (), at: Path | None = None) -> None:
        super().__init__(None if at is None else str(at))
        self._unmount: list[Callable[[], None]] = []
        for name in disks:  # "home", "state"
            self._mount(self.root / name)
        self.store = VaultStore(self.state / "vault")
        self.case = case
        self.recipe = case.recipe(self.root)
        self.secrets = tuple(secret.encode() for secret in case.secrets)
        for path, text in case.files.items():
            for folder in reversed(Path(path).parents):
                if not (self.home / folder).exists():
                    self.make_folder(self.home / folder)
            self.make(self.home / path, text)
        self.before = self.snapshot()

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

    def unenroll(self, on_step=lambda _: None) -> Report:
        return unenroll(self.recipe.agent, Uid(UID), self.site(on_step))

    def steps(self, work: Work) -> list[str]:
        """Do it, and return its steps."""
        names: list[str] = []
        work(names.append)
        return names

    def killed_at(self, work: Work, number: int) -> None:
        """Do it in a process of its own, which is killed at the step of this number; return when all of it is dead."""
        self.store.close()
        child = os.fork()
        if child == 0:
            left = number

            def die(_: str) -> None:
                nonlocal left
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

            try:
                work(die)
            finally:
                os._exit(1)  # the step never came
        status = os.waitpid(child, 0)[1]
        if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
            raise RuntimeError(f"step {number} never came: {status}")
        self._settle()

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
        files = {f"home: {name}": facts.data for name, facts in self.snapshot().items()}
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
            transaction = folder.find(self.recipe.agent, Uid(UID))
        return None if transaction is None else transaction.state

    def attempt(self, work: Work, on_step: Callable[[str], None] = lambda _: None) -> AgentBrokerError | None:
        """Do it; return our own error, and raise any other."""
        try:
            work(on_step)
        except AgentBrokerError as error:
            return error
        return None
