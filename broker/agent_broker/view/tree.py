"""The view's nodes: which number is which file or folder, for whom.

Root, a folder for each user, a folder for each of his files. The file itself has *one node for each view of it*: one
for strangers (the decoy), and one for each process image that is a reader, so that no page of the real content that the
kernel keeps for a reader's mapping is ever looked up for anybody else. What lies beside it has one node for all.

A number is never used twice. Nodes of readers and of temporary files go when the kernel forgets them.
"""

import itertools

from msgspec import Struct

from agent_broker.identity.evidence import Evidence
from agent_broker.ids import AgentName, Epoch, ExecId, ProcId, Uid
from agent_broker.view.content import Blob, Content, LockFolder
from agent_broker.view.wire import ROOT_ID

ImageKey = tuple[Epoch, ProcId, ExecId]


class Root(Struct, frozen=True):
    """The mount's own folder."""


class UserFolder(Struct, frozen=True):
    """One user's."""

    uid: Uid


class FileFolder(Struct, frozen=True):
    """One file's, by whose and which."""

    uid: Uid
    name: AgentName


class Decoy(Struct, frozen=True):
    """A file as strangers see it."""

    folder: FileFolder


class Real(Struct, frozen=True):
    """A file as one reader sees it."""

    folder: FileFolder
    image: ImageKey
    tgid: int


class Beside(Struct, frozen=True, eq=False):
    """A temporary file, or a lock."""

    folder: FileFolder
    made: Blob | LockFolder

    def __hash__(self) -> int:
        return id(self.made)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Beside) and other.made is self.made


Node = Root | UserFolder | FileFolder | Decoy | Real | Beside


class Tree:
    """See the module."""

    def __init__(self) -> None:
        self._numbers = itertools.count(ROOT_ID + 1)
        self._nodes: dict[int, Node] = {ROOT_ID: Root()}
        self._ids: dict[Node, int] = {Root(): ROOT_ID}
        self._lookups: dict[int, int] = {}

    def find(self, number: int) -> Node | None:
        """Return a node; None: there is none of this number any more."""
        return self._nodes.get(number)

    def number_of(self, node: Node) -> int:
        """Return a node's number, a new one if it had none."""
        known = self._ids.get(node)
        if known is not None:
            return known
        number = next(self._numbers)
        self._nodes[number] = node
        self._ids[node] = number
        return number

    def looked_up(self, number: int) -> None:
        """Count a number that was told to the kernel as an entry."""
        self._lookups[number] = self._lookups.get(number, 0) + 1

    def forget(self, number: int, count: int) -> None:
        """Count what the kernel forgets; a node that it knows no more goes."""
        left = self._lookups.get(number, 0) - count
        if left > 0:
            self._lookups[number] = left
            return
        self._lookups.pop(number, None)
        node = self._nodes.get(number)
        if isinstance(node, Decoy | Real | Beside):
            del self._nodes[number]
            self._ids.pop(node, None)

    def __len__(self) -> int:
        return len(self._nodes)


def image_of(evidence: Evidence) -> ImageKey:
    """Return which program image some evidence is about."""
    freshness = evidence.freshness
    return freshness.epoch, freshness.proc_id, freshness.exec_id


__all__ = [
    "Beside",
    "Content",
    "Decoy",
    "FileFolder",
    "ImageKey",
    "Node",
    "Real",
    "Root",
    "Tree",
    "UserFolder",
    "image_of",
]
