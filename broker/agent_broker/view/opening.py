"""Open files: who gets which content, and who may go on reading and writing it. See view.server."""

import errno
import os
from collections.abc import Awaitable

from agent_broker.errors import RefusedError
from agent_broker.identity.evidence import Evidence
from agent_broker.identity.viewed import ViewedFile
from agent_broker.view import wire
from agent_broker.view.content import Content, LockFolder
from agent_broker.view.gate import UNSEEN, Look
from agent_broker.view.handles import Handle
from agent_broker.view.process import Process
from agent_broker.view.state import State, refusal
from agent_broker.view.tree import Beside, Decoy, Real, image_of
from agent_broker.view.wire import Request

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_TRUNC
_DECOY_FH = 0
_READERS_RULES = frozenset({"policy", "frozen"})
"""Refusals of who is a reader: it is told no, and gets no decoy. Anybody else, also who changed meanwhile, is ESTALE
here: the kernel looks up anew, once, and then it is shown its view."""


class Opening:
    """See the module."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def open(self, request: Request) -> bytes:
        """Open a file: what is behind its node, if that is the asker's view."""
        node, flags = self._state.node(request), wire.open_flags(request.body)
        if not isinstance(node, Decoy | Real | Beside):
            raise refusal(errno.EISDIR)
        content = self._state.content(request, node.folder)
        try:
            process = Process.of_thread(request.pid)
        except ProcessLookupError:
            return self._open_as_stranger(UNSEEN, content, node, flags)
        try:
            if isinstance(node, Real):
                return await self._open_real(process, content, node, flags)
            look = await self._state.gate.look(process, content.viewed)
            if look.refusal is not None:
                process.close()
                return self._open_as_stranger(look, content, node, flags)
            return self._open_beside(process, look, content, node, flags)
        except BaseException:
            process.close()
            raise

    async def _open_real(self, process: Process, content: Content, node: Real, flags: int) -> bytes:
        try:
            issued, evidence = await self._state.gate.admit(process, content.viewed)
        except RefusedError as no:
            if no.rule in _READERS_RULES:
                raise
            raise refusal(errno.ESTALE) from no
        try:
            if node.image != image_of(evidence):
                raise refusal(errno.ESTALE)
            blob = content.load(lambda: issued.secret)
        finally:
            issued.secret.wipe()
        if flags & os.O_TRUNC:
            blob.truncate(0)
        return self._handed(Handle(content, blob, process, evidence.freshness, flags))

    def _open_as_stranger(self, look: Look, content: Content, node: Decoy | Real | Beside, flags: int) -> bytes:
        writes = flags & _WRITING
        is_served = isinstance(node, Decoy) and not writes
        self._state.gate.tell(look, content.viewed, "tried to write" if writes else "opened", served=is_served)
        if is_served:
            return wire.opened(_DECOY_FH, flush=False)
        raise refusal(errno.EACCES if writes else errno.ESTALE)

    def _open_beside(self, process: Process, look: Look, content: Content, node: Decoy | Beside, flags: int) -> bytes:
        if isinstance(node, Decoy):  # a reader's view is another one
            raise refusal(errno.ESTALE)
        if isinstance(node.made, LockFolder) or not isinstance(look.verdict, Evidence):
            raise refusal(errno.EISDIR)
        node.made.handles += 1
        if flags & os.O_TRUNC:
            node.made.truncate(0)
        return self._handed(Handle(content, node.made, process, look.verdict.freshness, flags))

    def _handed(self, handle: Handle) -> bytes:
        try:
            number = self._state.handles.add(handle)
        except OSError:
            handle.content.release(handle.blob)
            raise
        return wire.opened(number, flush=bool(handle.flags & _WRITING))

    def read(self, request: Request) -> bytes | Awaitable[bytes]:
        """Return bytes."""
        span = wire.span(request.body)
        node = self._state.tree.find(request.node)
        if span.fh == _DECOY_FH and isinstance(node, Decoy):
            return self._state.shown(node.folder).decoy[span.offset : span.offset + span.size_bytes]
        return self._read_real(request, span)

    async def _read_real(self, request: Request, span: wire.Span) -> bytes:
        handle = await self._handle_of(request, span.fh)
        return handle.blob.read(span.offset, span.size_bytes)

    async def write(self, request: Request) -> bytes:
        """Take bytes; they are kept when the file is closed or synced."""
        span, data = wire.span(request.body), wire.data_of(request.body)
        handle = await self._handle_of(request, span.fh)
        if not handle.flags & (os.O_WRONLY | os.O_RDWR):
            raise refusal(errno.EBADF)
        offset = len(handle.blob.data) if handle.flags & os.O_APPEND else span.offset
        handle.blob.write(offset, data)
        return wire.written(len(data))

    async def _handle_of(self, request: Request, fh: int) -> Handle:
        """Return a handle for the process that opened it.

        Raises:
            OSError: EACCES: it is another process, or not what it was.
        """
        handle = self._state.handles.find(fh)
        if handle is None:
            raise refusal(errno.EBADF)
        if handle.process.has(request.pid):
            if await self._state.gate.still(handle.process, handle.freshness):
                return handle
            raise refusal(errno.EACCES)
        self._tell_of_borrower(request, handle.content.viewed)
        raise refusal(errno.EACCES)

    def _tell_of_borrower(self, request: Request, viewed: ViewedFile) -> None:
        did = "used another process's descriptor of"
        try:
            with Process.of_thread(request.pid) as other:
                self._state.gate.tell_of(other, viewed, did)
        except ProcessLookupError:
            self._state.gate.tell(UNSEEN, viewed, did)

    def flush(self, request: Request) -> bytes | Awaitable[bytes]:
        """Keep what was written, durably: close(2), fsync(2)."""
        handle = self._state.handles.find(wire.handle_in(request.body))
        if handle is None or not handle.content.persist(handle.blob):
            return b""
        return self._note(handle.content)

    def release(self, request: Request) -> bytes | Awaitable[bytes]:
        """Forget an open file; what was written is kept, durably."""
        handle = self._state.handles.take(wire.handle_in(request.body))
        if handle is None:
            return b""
        handle.process.close()
        was_dirty = handle.blob.is_dirty and handle.content.is_main(handle.blob)
        handle.content.release(handle.blob)
        return self._note(handle.content) if was_dirty else b""

    async def _note(self, content: Content) -> bytes:
        await self._state.written(content)
        return b""
