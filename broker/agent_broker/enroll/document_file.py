"""A file of an agent's, in any of the formats, read once, with complaints that name the file and the member."""

from agent_broker.enroll.document import new_text, open_document
from agent_broker.enroll.pointer import MISSING, Format, Missing, NotEditableError, Pointer, Value, value_at
from agent_broker.enroll.user_files import Content, UserFiles
from agent_broker.errors import MisuseError


class UnreadableFileError(MisuseError):
    """A file of an agent's is not of its format, or can't be edited."""


class DocumentFile:
    """One file below the home; a missing one reads as an empty object.

    Attributes:
        path: relative to the home.
        name: absolute, for people.
        content: as read; None: missing.
        format: how it is written.
    """

    def __init__(self, path: str, name: str, content: Content | None, file_format: Format = "json") -> None:
        """Parse what was read.

        Raises:
            UnreadableFileError: it is not of its format.
        """
        self.path = path
        self.name = name
        self.content = content
        self.format = file_format
        try:
            document = open_document(file_format, new_text(file_format) if content is None else content.data)
            self._value = document.value
            self._refused = document.refused
        except NotEditableError as error:
            raise UnreadableFileError(
                f"{name}: {error.message}", next_step="repair the file (or move it away), then try again"
            ) from error

    @classmethod
    def load(cls, files: UserFiles, path: str, file_format: Format = "json") -> "DocumentFile":
        """Read one.

        Raises:
            UnreadableFileError: it is not of its format.
            UnsafeFileError: it may not be touched.
        """
        return cls(path, files.absolute(path), files.read(path), file_format)

    def members(self) -> tuple[str, ...]:
        """Return the keys of the root."""
        return tuple(self._value)

    def refused_members(self) -> tuple[Pointer, ...]:
        """Return where something is that is no plain value."""
        return tuple(self._refused)

    def value(self, path: Pointer) -> Value | Missing:
        """Return a member, or MISSING."""
        return value_at(self._value, path)

    def has(self, path: Pointer) -> bool:
        """Say whether a member is there, null included."""
        return self.value(path) is not MISSING

    def is_refused(self, path: Pointer) -> bool:
        """Say whether something is there that is no plain value, so that ``text`` raises."""
        return path in self._refused

    def text(self, path: Pointer) -> str | None:
        """Return a member that must be a string; None: missing, or null.

        Raises:
            MisuseError: it is something else, or is written in a way that can't be edited.
        """
        if path in self._refused:
            raise MisuseError(
                f"{self.name}: {'.'.join(path)}: {self._refused[path]}",
                next_step="write it as a plain value on a line of its own, then try again",
            )
        value = self.value(path)
        if value is MISSING or value is None:
            return None
        if not isinstance(value, str):
            raise MisuseError(f"{self.name}: {'.'.join(path)} is not a string", next_step="repair it, then try again")
        return value

    def require_object(self, path: Pointer) -> None:
        """Make sure that a member, if it is there, is an object.

        Raises:
            MisuseError: it is something else.
        """
        if not isinstance(self.value(path), dict | Missing):
            raise MisuseError(f"{self.name}: {'.'.join(path)} is not an object", next_step="repair it, then try again")
