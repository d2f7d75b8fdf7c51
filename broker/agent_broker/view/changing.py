"""What readers do to names and attributes: temporary files, locks, the rename that replaces a file. See view.server."""

import errno

from agent_broker.identity.evidence import Evidence
from agent_broker.view import wire
from agent_broker.view.content import Blob, Content, LockFolder
from agent_broker.view.handles import Handle
from agent_broker.view.process import Process
from agent_broker.view.state import State, base_of, refusal
from agent_broker.view.tree import Beside, FileFolder, Real, Root, UserFolder, image_of
from agent_broker.view.wire import Op, Request


class Changing:
    """See the module."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def make_folder(self, request: Request) -> bytes:
        """Make a lock: an empty folder beside the file."""
        folder, content = self._state.folder(request)
        _, process = await self._state.writer(request, content)
        process.close()
        mode, name = wire.made(request.body)
        if name == base_of(content):
            raise refusal(errno.EEXIST)
        content.add(name, LockFolder(mode))
        return self._state.known(Beside(folder, content.beside[name]))

    async def create(self, request: Request) -> bytes:
        """Make a temporary file, or the file itself if it is absent, and open it."""
        folder, content = self._state.folder(request)
        found, process = await self._state.writer(request, content)
        try:
            return await self._create(folder, content, found, process, request)
        except BaseException:
            process.close()
            raise

    async def _create(
        self, folder: FileFolder, content: Content, found: Evidence, process: Process, request: Request
    ) -> bytes:
        flags, mode, name = wire.created(request.body)
        node: Real | Beside
        if name == base_of(content):
            await self._state.gate.admit(process, content.viewed)
            node, blob = Real(folder, image_of(found), process.tgid), content.begin(mode)
        else:
            blob = Blob(b"", mode)
            content.add(name, blob)
            blob.handles = 1
            node = Beside(folder, blob)
        fh = self._state.handles.add(Handle(content, blob, process, found.freshness, flags))
        return self._state.known(node) + wire.opened(fh)

    async def rename(self, request: Request) -> bytes:
        """Give a temporary file another name; if that is the file's own, it is durable first."""
        _, content = self._state.folder(request)
        target, flags, old, new = wire.renamed(request.op, request.body)
        if target != request.node:
            raise refusal(errno.EXDEV)
        if flags & ~wire.RENAME_NOREPLACE:
            raise refusal(errno.EINVAL)
        _, process = await self._state.writer(request, content)
        with process:
            _require_movable(content, old, new, replace=not flags)
            if new == base_of(content):
                await self._state.gate.admit(process, content.viewed)
                _require_movable(content, old, new, replace=not flags)  # meanwhile others had their turn
                content.take(old)
                await self._state.written(content)
            else:
                content.beside[new] = content.beside.pop(old)
        return b""

    async def remove(self, request: Request) -> bytes:
        """Remove a temporary file, a lock, or the file itself."""
        _, content = self._state.folder(request)
        name, is_folder = wire.name_in(request.body), request.op == Op.RMDIR
        _, process = await self._state.writer(request, content)
        with process:
            if name == base_of(content) and not is_folder and not content.is_absent:
                await self._state.gate.admit(process, content.viewed)
                content.remove()
                await self._state.written(content)
                return b""
        made = content.beside.get(name)
        if made is None:
            raise refusal(errno.ENOENT)
        if isinstance(made, LockFolder) != is_folder:
            raise refusal(errno.ENOTDIR if is_folder else errno.EISDIR)
        del content.beside[name]
        if isinstance(made, Blob) and not made.handles:
            made.wipe()
        return b""

    async def set_attributes(self, request: Request) -> bytes:
        """Change size, mode or times."""
        node, wanted = self._state.node(request), wire.changes(request.body)
        if isinstance(node, Root | UserFolder | FileFolder):
            raise refusal(errno.EPERM)
        content = self._state.content(request, node.folder)
        await self._state.require_writer(request, content, node)
        if isinstance(node, Beside):
            _change(node.made, wanted)
        elif wanted.size_bytes is not None:
            await self._truncate(content, wanted.fh, wanted.size_bytes)
        if isinstance(node, Real) and wanted.mode is not None:
            content.set_mode(wanted.mode)
        return wire.attributes(self._state.attr_of(node, request.node))

    async def _truncate(self, content: Content, fh: int | None, size_bytes: int) -> None:
        handle = self._state.handles.find(fh) if fh else None
        if handle is not None:
            handle.blob.truncate(size_bytes)  # kept when it is closed
            return
        blob = content.load(content.unseal)
        try:
            blob.truncate(size_bytes)
        finally:
            content.release(blob)
        await self._state.written(content)


def _change(made: Blob | LockFolder, wanted: wire.Changes) -> None:
    if wanted.size_bytes is not None and isinstance(made, Blob):
        made.truncate(wanted.size_bytes)
    if wanted.mode is not None:
        made.mode = wanted.mode
    if wanted.mtime_ns:
        made.mtime_ns = wanted.mtime_ns


def _require_movable(content: Content, old: bytes, new: bytes, *, replace: bool) -> None:
    base = base_of(content)
    if old == base:
        raise refusal(errno.EACCES)
    if old not in content.beside:
        raise refusal(errno.ENOENT)
    exists = new in content.beside or (new == base and not content.is_absent)
    if exists and not replace:
        raise refusal(errno.EEXIST)
    if exists and isinstance(content.beside.get(new), LockFolder):
        raise refusal(errno.EISDIR)
