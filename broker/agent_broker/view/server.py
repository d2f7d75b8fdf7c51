"""What the kernel asks of the view, answered: look-ups, opens, reads, writes, each by who asks.

The law of this module, for one viewed file:
1. Nobody but its owner gets anything (EACCES), root included: so the monitor, which runs as root, can never wait here
   for the broker that waits for the monitor, and a backup takes no secret along.
2. A look-up answers with the node of the asker's view (a reader's, as it was looked at last: gate.expect), and the
   kernel may keep that for no time at all.
3. An open looks again: on the node of another view it is ESTALE, upon which the kernel looks up anew.
4. What a handle on real content reads or writes is given to the process that opened it and to no other, however that
   one came by the descriptor: EACCES, and an alert. What a reader *maps* is the kernel's while it is mapped: who mapped
   a descriptor that the reader gave away before may find those pages (docs/protocols/file-view.md).
5. Strangers read the decoy, write nothing and see nothing beside it.
"""

import errno
import stat
from collections.abc import Awaitable, Callable
from typing import Final

from agent_broker.view import wire
from agent_broker.view.changing import Changing
from agent_broker.view.content import Content
from agent_broker.view.gate import UNSEEN, Gate, Look
from agent_broker.view.opening import Opening
from agent_broker.view.process import Process
from agent_broker.view.state import State, Written, base_of, owner_of, refusal, require_owner
from agent_broker.view.tree import Beside, Decoy, FileFolder, Node, Real, Root, UserFolder
from agent_broker.view.wire import Attr, Op, Request

_Answer = bytes | Awaitable[bytes]


class ViewServer:
    """Implements view.channel.Server."""

    def __init__(self, gate: Gate, written: Written) -> None:
        """Nothing is shown before ``show``."""
        self._state = State(gate, written)
        opening, changing = Opening(self._state), Changing(self._state)
        self._answers: Final[dict[int, Callable[[Request], _Answer]]] = {
            Op.INIT: self._begin,
            Op.LOOKUP: self._look_up,
            Op.GETATTR: self._get_attributes,
            Op.READDIR: self._list,
            Op.FORGET: self._forget,
            Op.BATCH_FORGET: self._forget,
            Op.STATFS: lambda _: wire.statfs(),
            Op.OPEN: opening.open,
            Op.READ: opening.read,
            Op.WRITE: opening.write,
            Op.FLUSH: opening.flush,
            Op.FSYNC: opening.flush,
            Op.RELEASE: opening.release,
            Op.SETATTR: changing.set_attributes,
            Op.CREATE: changing.create,
            Op.MKDIR: changing.make_folder,
            Op.RENAME: changing.rename,
            Op.RENAME2: changing.rename,
            Op.UNLINK: changing.remove,
            Op.RMDIR: changing.remove,
            **dict.fromkeys((Op.FSYNCDIR, Op.INTERRUPT, Op.DESTROY), lambda _: b""),
        }

    @property
    def contents(self) -> dict[FileFolder, Content]:
        """What is shown now."""
        return self._state.contents

    def show(self, contents: dict[FileFolder, Content]) -> None:
        """Show exactly these from now on."""
        for folder, content in self._state.contents.items():
            if contents.get(folder) is not content:
                content.wipe()
        self._state.contents = contents

    def close(self) -> None:
        """Forget everything that is not in the vault."""
        self._state.handles.close()
        for content in self._state.contents.values():
            content.wipe()

    def answer(self, request: Request) -> _Answer:
        """See view.channel.Server."""
        known = self._answers.get(request.op)
        if known is None:
            raise refusal(errno.ENOSYS)
        return known(request)

    def _begin(self, request: Request) -> bytes:
        self._state.begin()
        return wire.init_answer(request.body)

    def _forget(self, request: Request) -> bytes:
        for number, count in wire.forgotten(request):
            self._state.tree.forget(number, count)
        return b""

    def _get_attributes(self, request: Request) -> bytes:
        return wire.attributes(self._attr(request), self._state.valid_s(request.node))

    def _look_up(self, request: Request) -> bytes | Awaitable[bytes]:
        name = wire.name_in(request.body)
        match self._state.node(request):
            case Root():
                return self._state.known(self._user_folder(name))
            case UserFolder(uid=uid) as folder:
                require_owner(request, uid)
                return self._state.known(self._file_folder(folder, name))
            case FileFolder() as folder:
                content = self._state.content(request, folder)
                return self._look_up_file(request, content, folder, name)
            case _:
                raise refusal(errno.ENOTDIR)

    def _user_folder(self, name: bytes) -> UserFolder:
        for folder in self._state.contents:
            if str(folder.uid).encode() == name:
                return UserFolder(folder.uid)
        raise refusal(errno.ENOENT)

    def _file_folder(self, parent: UserFolder, name: bytes) -> FileFolder:
        for folder, content in self._state.contents.items():
            if folder.uid == parent.uid and content.viewed.folder.encode() == name:
                return folder
        raise refusal(errno.ENOENT)

    def _look_up_file(self, request: Request, content: Content, folder: FileFolder, name: bytes) -> _Answer:
        try:
            process = Process.of_thread(request.pid)
        except ProcessLookupError:
            return self._found(UNSEEN, 0, content, folder, name)
        if name == base_of(content) and not content.is_absent:
            image = self._state.gate.expect(process, content.viewed)
            if image is not None:
                process.close()
                return self._state.known(Real(folder, image, process.tgid))
        return self._look_at(process, content, folder, name)

    async def _look_at(self, process: Process, content: Content, folder: FileFolder, name: bytes) -> bytes:
        with process:
            look = await self._state.gate.look(process, content.viewed)
        return self._found(look, process.tgid, content, folder, name)

    def _found(self, look: Look, tgid: int, content: Content, folder: FileFolder, name: bytes) -> bytes:
        is_reader = look.refusal is None
        if name == base_of(content):
            if not is_reader or look.image is None:
                return self._state.known(Decoy(folder))
            if content.is_absent:
                raise refusal(errno.ENOENT)
            return self._state.known(Real(folder, look.image, tgid))
        if not is_reader or name not in content.beside:
            raise refusal(errno.ENOENT)
        return self._state.known(Beside(folder, content.beside[name]))

    def _list(self, request: Request) -> bytes:
        node, span = self._state.node(request), wire.span(request.body)
        names = [(request.node, b".", stat.S_IFDIR >> 12), (wire.ROOT_ID, b"..", stat.S_IFDIR >> 12)]
        match node:
            case Root():
                uids = sorted({folder.uid for folder in self._state.contents})
                names += [self._listed(UserFolder(uid), str(uid).encode()) for uid in uids]
            case UserFolder(uid=uid):
                require_owner(request, uid)
                mine = [(each, content) for each, content in self._state.contents.items() if each.uid == uid]
                names += [self._listed(folder, content.viewed.folder.encode()) for folder, content in mine]
            case FileFolder() as folder:
                content = self._state.content(request, folder)
                names.append((self._state.tree.number_of(Decoy(folder)), base_of(content), stat.S_IFREG >> 12))
            case _:
                raise refusal(errno.ENOTDIR)
        return wire.listing(names, span.offset, span.size_bytes)

    def _listed(self, folder: Node, name: bytes) -> tuple[int, bytes, int]:
        return self._state.tree.number_of(folder), name, stat.S_IFDIR >> 12

    def _attr(self, request: Request) -> Attr:
        node = self._state.node(request)
        if isinstance(node, Real) and not _is_process(request.pid, node.tgid):
            raise refusal(errno.ESTALE)
        if not isinstance(node, Root):
            require_owner(request, owner_of(node))
        return self._state.attr_of(node, request.node)


def _is_process(tid: int, tgid: int) -> bool:
    return Process(tgid, -1).has(tid)
