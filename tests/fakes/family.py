"""The truth about a world of processes, kept beside a fake kernel: who forked whom, which images each one ran."""

from dataclasses import dataclass, field

from agent_broker.kernel.events import FileFacts
from tests.fakes.kernel import FakeKernel, FakeProcess


@dataclass(frozen=True)
class TrueImage:
    proc_id: int
    name: str
    argv0: str
    file: FileFacts | None
    injected: bool
    observed: bool = True


@dataclass
class Member:
    process: FakeProcess
    parent: "Member | None"
    parent_exec_id: int
    """What the parent ran when it forked; 0: it has no known parent."""
    images: list[int] = field(default_factory=list)

    @property
    def exec_id(self) -> int:
        return self.images[-1] if self.images else self.parent_exec_id

    @property
    def running(self) -> tuple[int, int]:
        return self.process.proc_id, self.exec_id


class Family:
    """Does things in the fake kernel and remembers what was done, in the kernel's own numbers."""

    def __init__(self, kernel: FakeKernel):
        self.kernel = kernel
        self.members: list[Member] = []
        self.images: dict[int, TrueImage] = {}
        self.ended: list[Member] = []
        self.tampered: set[tuple[int, int]] = set()
        """(process, image): somebody took hold of it, or of what it was forked from, while it ran the image."""

    @property
    def alive(self) -> list[Member]:
        return [member for member in self.members if member.process.alive]

    def boot(self, parent: Member | None = None, uid: int = 0) -> Member:
        """A process that is older than the monitor; what its parent ran when it forked is not known any more."""
        process = self.kernel.boot(uid, parent_pid=parent.process.pid if parent else 0)
        member = Member(process, parent, parent.images[0] if parent else 0, [process.exec_id])
        name = str(process.pid)
        self.images[process.exec_id] = TrueImage(process.proc_id, name, name, None, injected=False, observed=False)
        return self._add(member)

    def fork(self, parent: Member) -> Member:
        child = Member(self.kernel.fork(parent.process), parent, parent.exec_id)
        if parent.running in self.tampered:
            self.tampered.add(child.running)
        return self._add(child)

    def tamper(self, victim: Member, actor: Member, taint: int) -> None:
        before = victim.process.taints
        self.kernel.taint(victim.process, actor.process, taint)
        if victim.process.taints != before:
            self.tampered.add(victim.running)

    def exec(self, member: Member, name: str, argv0: str, file: FileFacts, env: dict[str, str]) -> None:
        self.kernel.exec(member.process, name, argv0, file=file, env=env)
        member.images.append(member.process.exec_id)
        injected = any(each.startswith("LD_") for each in env)
        self.images[member.exec_id] = TrueImage(member.process.proc_id, name, argv0, file, injected)

    def exit(self, member: Member) -> None:
        self.kernel.exit(member.process)
        self.ended.append(member)

    def steps(self, member: Member, exec_id: int) -> list[tuple[int, int, str]]:
        """The right lineage of a member that runs an image: (process, image, relation), towards the origin."""
        found: list[tuple[int, int, str]] = []
        relation, at = "self", member
        while at is not None:
            own = at.images[: at.images.index(exec_id) + 1] if exec_id in at.images else [at.parent_exec_id]
            for each in reversed(own):
                found.append((at.process.proc_id, each, relation))
                relation = "exec"
            relation, exec_id, at = "fork", at.parent_exec_id, at.parent
        return found

    def needed(self, kept_after_exit: int) -> list[Member]:
        """The members that a store must still know: the living, the last that ended, and all their ancestors."""
        found: dict[int, Member] = {}
        for each in [*self.alive, *self.ended[-kept_after_exit:]]:
            at: Member | None = each
            while at is not None and at.process.proc_id not in found:
                found[at.process.proc_id] = at
                at = at.parent
        return list(found.values())

    def _add(self, member: Member) -> Member:
        self.members.append(member)
        return member
