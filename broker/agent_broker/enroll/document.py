"""One port for the files that agents keep their settings and secrets in, whatever their format.

Every implementation keeps each byte that an edit does not concern: order, comments, line ends, unknown members. Every
edit is parsed again and must mean exactly the old value with that one change; otherwise IntegrityError, and nothing
is returned. What is no such file, or can't be edited safely, is refused with NotEditableError before that.
"""

from collections.abc import Callable, Mapping
from typing import Protocol, Self

from agent_broker.enroll.block_document import BlockDocument
from agent_broker.enroll.env_document import EnvDocument, SystemdDocument
from agent_broker.enroll.fish_document import FishDocument
from agent_broker.enroll.ini_document import IniDocument
from agent_broker.enroll.json_port import JsonPort
from agent_broker.enroll.pointer import Format, Pointer, Value
from agent_broker.enroll.shell_document import ShellDocument
from agent_broker.enroll.ssh_document import SshDocument
from agent_broker.enroll.toml_edit import TomlDocument
from agent_broker.enroll.yaml_edit import YamlDocument


class Document(Protocol):
    """A parsed file. Immutable: an edit is a new document."""

    @classmethod
    def open(cls, data: bytes) -> Self:
        """Parse a whole file.

        Raises:
            NotEditableError: it is not of this format as we accept it.
        """
        ...

    @property
    def data(self) -> bytes:
        """The whole file."""
        ...

    @property
    def value(self) -> dict[str, Value]:
        """What the text means."""
        ...

    @property
    def refused(self) -> Mapping[Pointer, str]:
        """What is there and is no plain value, with its line and the reason: never a value, and never edited."""
        ...

    @property
    def is_blank(self) -> bool:
        """Whether nothing is in it that somebody could miss."""
        ...

    def place(self, path: Pointer) -> int:
        """Return where a member is, to put several in their order; -1: it is missing."""
        ...

    def with_value(self, path: Pointer, value: Value) -> Self:
        """Return the file with a member set; one that is missing is added, and so are the objects on the way.

        Raises:
            NotEditableError: something on the way is no object, or the format has no such value.
            IntegrityError: see the module.
        """
        ...

    def without(self, path: Pointer) -> Self:
        """Return the file without a member; a missing one is fine.

        Raises:
            NotEditableError, IntegrityError: see with_value.
        """
        ...

    def with_put_back(self, was: Self, path: Pointer) -> Self:
        """Return the file with a member as it is in an earlier version: its text, and its place among the others.

        If the whole object of the member is gone by now, that goes back as it was.

        Raises:
            NotEditableError, IntegrityError: see with_value.
        """
        ...


_PORTS: Mapping[Format, type[Document]] = {
    "json": JsonPort,
    "toml": TomlDocument,
    "env": EnvDocument,
    "shell": ShellDocument,
    "fish": FishDocument,
    "systemd": SystemdDocument,
    "ini": IniDocument,
    "block": BlockDocument,
    "ssh": SshDocument,
    "yaml": YamlDocument,
}
_NEW: Mapping[Format, bytes] = {"json": b"{\n}\n"}


def open_document(file_format: Format, data: bytes) -> Document:
    """Parse a whole file.

    Raises:
        NotEditableError: it is not of this format as we accept it.
    """
    opener: Callable[[bytes], Document] = _PORTS[file_format].open
    return opener(data)


def new_text(file_format: Format) -> bytes:
    """Return what a file that does not exist is edited from."""
    return _NEW.get(file_format, b"")
