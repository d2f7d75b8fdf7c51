"""What the parts of the view share: nodes, open files, contents, who may write, and what stat says."""

import errno
import os
import stat
from collections.abc import Awaitable, Callable

from agent_broker.identity.evidence import Evidence
from agent_broker.ids import Uid
from agent_broker.view import wire
from agent_broker.view.content import Content, LockFolder
from agent_broker.view.gate import UNSEEN, Gate
from agent_broker.view.handles import Handles
from agent_broker.view.process import Process
from agent_broker.view.tree import Beside, Decoy, FileFolder, Node, Real, Root, Tree, UserFolder, image_of
from agent_broker.view.wire import Attr, Request

_FOLDER_S = 3600  # how long the kernel may believe in folders: they hold nothing but names
_FOLDER_MODE = stat.S_IFDIR | 0o700

Written = Callable[[Content], Awaitable[None]]
"""Told when a file's content was replaced: the journal. Durable on return."""


class State:
    """See the module."""

    def __init__(self, gate: Gate, written: Written) -> None:
        self.gate = gate
        self.written = written
        self.tree = Tree()
        self.handles = Handles()
        self.contents: dict[FileFolder, Content] = {}

    def begin(self) -> None:
        """Start anew, for a mount that knows nothing of an earlier one."""
        self.tree = Tree()
        self.handles.close()

    def attr_of(self, node: Node, number: int) -> Attr:
        """Return what stat says of a node.

        Raises:
            OSError: ESTALE: it is not shown any more.
        """
        if isinstance(node, Root):
            return Attr(number, stat.S_IFDIR | 0o755, 0, 0, 0, 0, links=2)
        if isinstance(node, UserFolder):
            return Attr(number, _FOLDER_MODE, node.uid, self.gid_of(node.uid), 0, 0, links=2)
        if isinstance(node, FileFolder):
            return Attr(number, _FOLDER_MODE, node.uid, self.gid_of(node.uid), 0, 0, links=2)
        uid, gid = node.folder.uid, self.gid_of(node.folder.uid)
        if isinstance(node, Beside):
            made = node.made
            if isinstance(made, LockFolder):
                return Attr(number, stat.S_IFDIR | made.mode, uid, gid, 0, made.mtime_ns, links=2)
            return Attr(number, stat.S_IFREG | made.mode, uid, gid, len(made.data), made.mtime_ns)
        content = self.shown(node.folder)
        size_bytes, mode, mtime_ns = content.facts if isinstance(node, Real) else content.decoy_facts
        return Attr(number, stat.S_IFREG | mode, uid, gid, size_bytes, mtime_ns)

    def gid_of(self, uid: Uid) -> int:
        """Return the group of a user who has a file here."""
        return next((each.viewed.owner_gid for folder, each in self.contents.items() if folder.uid == uid), 0)

    def known(self, node: Node) -> bytes:
        """Return the entry of a node, which the kernel holds from now on until it forgets it."""
        number = self.tree.number_of(node)
        self.tree.looked_up(number)
        return wire.entry(self.attr_of(node, number), self.valid_s(number))

    def valid_s(self, number: int) -> int:
        """Return how long the kernel may believe what it was told of a node, in seconds."""
        return _FOLDER_S if isinstance(self.tree.find(number), Root | UserFolder | FileFolder) else 0

    async def writer(self, request: Request, content: Content) -> tuple[Evidence, Process]:
        """Return a reader, which may write too; its process is the caller's to close.

        Raises:
            OSError: EACCES: a stranger, who is told of.
        """
        try:
            process = Process.of_thread(request.pid)
        except ProcessLookupError:
            self.gate.tell(UNSEEN, content.viewed, "tried to write")
            raise refusal(errno.EACCES) from None
        look = await self.gate.look(process, content.viewed)
        if look.refusal is None and isinstance(look.verdict, Evidence):
            return look.verdict, process
        process.close()
        self.gate.tell(look, content.viewed, "tried to write")
        raise refusal(errno.EACCES)

    async def require_writer(self, request: Request, content: Content, node: Decoy | Real | Beside) -> None:
        """Make sure that a reader asks, by a node of its own view.

        Raises:
            OSError: EACCES: a stranger, who is told of; ESTALE: another view's node.
        """
        found, process = await self.writer(request, content)
        process.close()
        if isinstance(node, Decoy) or (isinstance(node, Real) and node.image != image_of(found)):
            raise refusal(errno.ESTALE)

    def folder(self, request: Request) -> tuple[FileFolder, Content]:
        """Return the folder of a file that a request is about, and what is in it.

        Raises:
            OSError: EPERM: it is another one; EACCES, ESTALE.
        """
        node = self.node(request)
        if not isinstance(node, FileFolder):
            raise refusal(errno.EPERM)
        return node, self.content(request, node)

    def node(self, request: Request) -> Node:
        """Return the node that a request is about.

        Raises:
            OSError: ESTALE: there is none.
        """
        node = self.tree.find(request.node)
        if node is None:
            raise refusal(errno.ESTALE)
        return node

    def content(self, request: Request, folder: FileFolder) -> Content:
        """Return a file, for its owner only.

        Raises:
            OSError: EACCES: another user asks; ESTALE: it is not shown any more.
        """
        require_owner(request, folder.uid)
        return self.shown(folder)

    def shown(self, folder: FileFolder) -> Content:
        """Return a file.

        Raises:
            OSError: ESTALE: it is not shown any more.
        """
        content = self.contents.get(folder)
        if content is None:
            raise refusal(errno.ESTALE)
        return content


def require_owner(request: Request, uid: Uid) -> None:
    """Let the owner pass.

    Raises:
        OSError: EACCES: it is another user.
    """
    if request.uid != uid:
        raise refusal(errno.EACCES)


def owner_of(node: Node) -> Uid:
    """Return whose a node is."""
    if isinstance(node, UserFolder | FileFolder):
        return node.uid
    return Uid(0) if isinstance(node, Root) else node.folder.uid


def base_of(content: Content) -> bytes:
    """Return a file's own name."""
    return os.fsencode(content.viewed.base)


def refusal(code: int) -> OSError:
    """Return an error for the kernel."""
    return OSError(code, os.strerror(code))
