"""A viewed file between the vault and its handles: unsealed while somebody verified has it open, and no longer.

The law of this module:
1. What the file's name holds is in the vault, durably, before the call that ends its writing is answered (close, fsync,
   rename, truncate by name, unlink). A writer that dies before leaves the vault as it was.
2. Temporary files beside it live in this process's memory only, bounded in number and size, and end with it.
3. Bytes are zeroed when the last handle is closed.
"""

import errno
import os
import stat
import time
from collections.abc import Callable
from typing import Final, Protocol

from agent_broker.errors import IntegrityError
from agent_broker.identity.viewed import ViewedFile
from agent_broker.vault.record import Credential
from agent_broker.vault.secret import Secret

KIND: Final = "viewed-file"
DECOY_KIND: Final = "viewed-decoy"
SIZE_ATTRIBUTE, MODE_ATTRIBUTE, ABSENT_ATTRIBUTE = "size", "mode", "absent"
MAX_FILE_BYTES: Final = 1024 * 1024
MAX_BESIDE: Final = 32
"""Temporary files and lock folders beside one file."""
_DEFAULT_MODE = 0o600


class Store(Protocol):
    """The vault, as far as it is used here."""

    def describe(self, credential: str) -> Credential:
        """See Vault."""
        ...

    def unseal(self, credential: str) -> Secret:
        """See Vault."""
        ...

    def put(self, viewed: ViewedFile, attributes: dict[str, str], content: Secret) -> None:
        """Replace the content of a view; durable on return."""
        ...


def attributes_of(size_bytes: int, mode: int, *, absent: bool = False) -> dict[str, str]:
    """Return what the vault keeps of a file beside its bytes, in clear."""
    kept = {SIZE_ATTRIBUTE: str(size_bytes), MODE_ATTRIBUTE: oct(stat.S_IMODE(mode))}
    return {**kept, ABSENT_ATTRIBUTE: "yes"} if absent else kept


class Blob:
    """The bytes of one file while it is open, or of a temporary one; ``handles`` counts who has it open."""

    def __init__(self, data: bytes | bytearray, mode: int = _DEFAULT_MODE, mtime_ns: int = 0) -> None:
        self.data = bytearray(data)
        self.mode = mode
        self.mtime_ns = mtime_ns or time.time_ns()
        self.is_dirty = False
        self.handles = 0

    def read(self, offset: int, size_bytes: int) -> bytes:
        """Return a part; short or empty at the end."""
        return bytes(self.data[offset : offset + size_bytes])

    def write(self, offset: int, data: bytes) -> None:
        """Put bytes at a place; a hole before it is zeros.

        Raises:
            OSError: EFBIG: it would be longer than MAX_FILE_BYTES.
        """
        _require_size(offset + len(data))
        if offset > len(self.data):
            self.data.extend(bytes(offset - len(self.data)))
        self.data[offset : offset + len(data)] = data
        self.touch()

    def truncate(self, size_bytes: int) -> None:
        """Make it exactly so long. Raises as ``write``."""
        _require_size(size_bytes)
        if size_bytes < len(self.data):
            self.data[size_bytes:] = b""
        else:
            self.data.extend(bytes(size_bytes - len(self.data)))
        self.touch()

    def touch(self) -> None:
        """Note that it was written."""
        self.is_dirty = True
        self.mtime_ns = time.time_ns()

    def wipe(self) -> None:
        """Zero it."""
        self.data[:] = bytes(len(self.data))


class LockFolder:
    """An empty folder beside a file: how some programs lock."""

    def __init__(self, mode: int) -> None:
        self.mode = mode
        self.mtime_ns = time.time_ns()


class Content:
    """One viewed file: what its name holds, and what lies beside it."""

    def __init__(self, viewed: ViewedFile, store: Store, decoy: bytes) -> None:
        """Nothing is unsealed yet.

        Raises:
            UnknownCredentialError, IntegrityError: the vault lacks it.
        """
        self.viewed = viewed
        self.decoy = decoy
        self.beside: dict[bytes, Blob | LockFolder] = {}
        self._store = store
        self._blob: Blob | None = None
        self._read_facts()

    def _read_facts(self) -> None:
        credential = self._store.describe(self.viewed.content_id)
        facts = credential.attributes
        try:
            self._size = int(facts.get(SIZE_ATTRIBUTE, "0"))
            self._mode = int(facts.get(MODE_ATTRIBUTE, oct(_DEFAULT_MODE)), 8)
        except ValueError as error:
            raise IntegrityError(f"the record {self.viewed.content_id} of the vault is not a view's") from error
        self.is_absent = ABSENT_ATTRIBUTE in facts
        self._mtime_ns = credential.updated_ns

    @property
    def facts(self) -> tuple[int, int, int]:
        """Size in bytes, mode and time of the last write of what the name holds."""
        if self._blob is not None:
            return len(self._blob.data), self._blob.mode, self._blob.mtime_ns
        return self._size, self._mode, self._mtime_ns

    @property
    def decoy_facts(self) -> tuple[int, int, int]:
        """The same, of the decoy."""
        return len(self.decoy), self._mode, self._mtime_ns

    def unseal(self) -> Secret:
        """Return what the vault has for the name. Raises as Vault.unseal."""
        return self._store.unseal(self.viewed.content_id)

    def is_main(self, blob: Blob) -> bool:
        """Whether the name holds these bytes now."""
        return blob is self._blob

    def load(self, make: Callable[[], Secret]) -> Blob:
        """Return the bytes of the name, for one more handle; ``make`` is asked for them if nobody has it open."""
        if self._blob is None:
            secret = make()
            try:
                with secret.borrow() as view:
                    self._blob = Blob(bytearray(view), self._mode, self._mtime_ns)
            finally:
                secret.wipe()
        self._blob.handles += 1
        return self._blob

    def begin(self, mode: int) -> Blob:
        """Return the empty bytes of a name that was absent, for one handle.

        Raises:
            OSError: EEXIST: it is not absent.
        """
        if not self.is_absent:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        self._blob = Blob(b"", mode)
        self._blob.handles = 1
        self._blob.is_dirty = True
        self.is_absent = False
        return self._blob

    def release(self, blob: Blob) -> None:
        """End one handle's use; the last one's end forgets the bytes.

        Raises:
            AgentBrokerError: what was written last could not be kept.
        """
        blob.handles -= 1
        if blob.handles > 0:
            return
        try:
            self.persist(blob)
        finally:
            if self.is_main(blob):
                self._size, self._mode, self._mtime_ns = self.facts
                self._blob = None
                if blob.is_dirty:  # it was not kept: what the vault has is the truth
                    self._read_facts()
            if blob not in self.beside.values():
                blob.wipe()

    def persist(self, blob: Blob) -> bool:
        """Keep what was written if the name holds it; durable on return. Return whether anything was.

        Raises:
            AgentBrokerError: the vault did not take it; it stays to be kept later.
        """
        if not self.is_main(blob) or not blob.is_dirty:
            return False
        self._store.put(self.viewed, attributes_of(len(blob.data), blob.mode), Secret(blob.data))
        blob.is_dirty = False
        return True

    def add(self, name: bytes, made: Blob | LockFolder) -> None:
        """Put a temporary file or a lock beside it.

        Raises:
            OSError: EEXIST; ENOSPC: there are too many.
        """
        if name in self.beside:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        if len(self.beside) >= MAX_BESIDE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.beside[name] = made

    def take(self, name: bytes) -> None:
        """Let the name hold what lies beside it under ``name``; durable on return.

        Raises:
            OSError: EISDIR: that is a folder; KeyError: there is nothing.
            AgentBrokerError: the vault did not take it; all is as it was.
        """
        blob = self.beside[name]
        if isinstance(blob, LockFolder):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        self._store.put(self.viewed, attributes_of(len(blob.data), blob.mode), Secret(blob.data))
        del self.beside[name]
        blob.is_dirty = False
        old, self._blob = self._blob, blob
        self.is_absent = False
        self._size, self._mode, self._mtime_ns = len(blob.data), blob.mode, blob.mtime_ns
        if old is not None and not old.handles:
            old.wipe()
        if not blob.handles:
            self._blob = None
            blob.wipe()

    def remove(self) -> None:
        """Let the name hold nothing; durable on return.

        Raises:
            AgentBrokerError: the vault did not take it; all is as it was.
        """
        self._store.put(self.viewed, attributes_of(0, self._mode, absent=True), Secret(b""))
        self._blob = None
        self._size, self.is_absent = 0, True

    def set_mode(self, mode: int) -> None:
        """Give the name's file another mode; durable on return.

        Raises:
            AgentBrokerError: the vault did not take it.
        """
        if self._blob is not None:
            self._blob.mode = mode
            self._blob.is_dirty = True
            self.persist(self._blob)
        elif mode != self._mode:
            self._store.put(self.viewed, attributes_of(self._size, mode), self.unseal())
            self._mode = mode

    def wipe(self) -> None:
        """Forget everything that is not in the vault."""
        for each in (self._blob, *self.beside.values()):
            if isinstance(each, Blob):
                each.wipe()
        self._blob = None
        self.beside.clear()


def _require_size(size_bytes: int) -> None:
    if size_bytes > MAX_FILE_BYTES:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
