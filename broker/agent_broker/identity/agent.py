"""Which recorded image is which agent, and in which role: the table of enrolled files and the rules on them.

The agent's hash is not the agent's role: Claude runs its own binary again as ``rg``. The role is decided from the
exec record alone: the enrolled file, by the kernel's own numbers, executed by the process itself, under a name
that the recipe accepts.
"""

import posixpath

from msgspec import Struct

from agent_broker.identity.registry import EnrolledBinary, Enrollment
from agent_broker.ids import AgentName, Uid
from agent_broker.kernel.events import FileFacts
from agent_broker.lineage.record import Image


class KnownFile(Struct, frozen=True):
    """An enrolled file as the monitor found it when it read the registry."""

    enrollment: Enrollment
    binary: EnrolledBinary
    facts: FileFacts
    shim: FileFacts | None = None
    """Of a tool: the shim through which it asks."""


_ByInode = dict[tuple[int, int], list[KnownFile]]


class AgentTable:
    """The enrolled agents and tools of the machine. Replaced as a whole when the registry changes.

    Attributes:
        known: the files of the agents.
        tools: the files of the tools.
    """

    def __init__(self, known: tuple[KnownFile, ...] = (), tools: tuple[KnownFile, ...] = ()) -> None:
        self.known = known
        self.tools = tools
        self._by_inode, self._tools = _by_inode(known), _by_inode(tools)
        self._with_folders = {
            (each.enrollment.agent, each.enrollment.owner_uid)
            for each in known
            if any(account.folders for account in each.enrollment.accounts)
        }

    def needs_folder(self, agent: AgentName, owner_uid: Uid) -> bool:
        """Tell whether it matters in which folder this agent works: it has accounts with folders."""
        return (agent, owner_uid) in self._with_folders

    def is_enrolled_file(self, image: Image) -> bool:
        """Tell whether an image's file has the place of an enrolled one, whatever it holds and whoever runs it."""
        return (image.file.dev, image.file.ino) in self._by_inode

    def candidates(self, image: Image, uid: Uid) -> tuple[KnownFile, ...]:
        """Return the enrolled files that the image may be, for this owner, before any hash or script is looked at.

        More than one: agents that share an interpreter. None: another file, another owner, another role, or executed
        by another user than the one who asks: then it is not that user's agent, whoever its descendant became.
        """
        return _of_owner(self._by_inode, image, uid)

    def tool_candidates(self, image: Image, uid: Uid) -> tuple[KnownFile, ...]:
        """Return the enrolled files of tools that the image may be; otherwise as ``candidates``."""
        return _of_owner(self._tools, image, uid)


def _by_inode(known: tuple[KnownFile, ...]) -> _ByInode:
    found: _ByInode = {}
    for each in known:
        found.setdefault((each.facts.dev, each.facts.ino), []).append(each)
    return found


def _of_owner(files: _ByInode, image: Image, uid: Uid) -> tuple[KnownFile, ...]:
    return tuple(
        each
        for each in files.get((image.file.dev, image.file.ino), ())
        if each.enrollment.owner_uid == uid == image.uid and has_main_role(image, each.enrollment)
    )


def has_main_role(image: Image, enrollment: Enrollment) -> bool:
    """Tell whether an image of the enrolled binary runs as the agent's main process."""
    names = enrollment.role.argv0_names
    return image.argv0 in names or posixpath.basename(image.argv0) in names
