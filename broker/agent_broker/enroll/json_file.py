"""A JSON file of an agent's, read once, with complaints that name the file and the member."""

from agent_broker.enroll.json_document import (
    MISSING,
    JsonDocument,
    JsonPath,
    JsonValue,
    Missing,
    NotEditableJsonError,
    value_at,
)
from agent_broker.enroll.user_files import Content, UserFiles
from agent_broker.errors import MisuseError


class NotJsonFileError(MisuseError):
    """A file of an agent's is not JSON that can be edited."""


class JsonFile:
    """One file below the home; a missing one reads as an empty object.

    Attributes:
        path: relative to the home.
        name: absolute, for people.
        content: as read; None: missing.
    """

    def __init__(self, path: str, name: str, content: Content | None) -> None:
        """Parse what was read.

        Raises:
            NotJsonFileError: it is not JSON.
        """
        self.path = path
        self.name = name
        self.content = content
        try:
            self._value = JsonDocument(content.data).value if content is not None else {}
        except NotEditableJsonError as error:
            raise NotJsonFileError(
                f"{name}: {error.message}", next_step="repair the file (or move it away), then try again"
            ) from error

    @classmethod
    def load(cls, files: UserFiles, path: str) -> "JsonFile":
        """Read one.

        Raises:
            NotJsonFileError: it is not JSON.
            UnsafeFileError: it may not be touched.
        """
        return cls(path, files.absolute(path), files.read(path))

    def members(self) -> tuple[str, ...]:
        """Return the keys of the root."""
        return tuple(self._value)

    def value(self, path: JsonPath) -> JsonValue | Missing:
        """Return a member, or MISSING."""
        return value_at(self._value, path)

    def has(self, path: JsonPath) -> bool:
        """Say whether a member is there, null included."""
        return self.value(path) is not MISSING

    def text(self, path: JsonPath) -> str | None:
        """Return a member that must be a string; None: missing, or null.

        Raises:
            MisuseError: it is something else.
        """
        value = self.value(path)
        if value is MISSING or value is None:
            return None
        if not isinstance(value, str):
            raise MisuseError(f"{self.name}: {'.'.join(path)} is not a string", next_step="repair it, then try again")
        return value

    def require_object(self, path: JsonPath) -> None:
        """Make sure that a member, if it is there, is an object.

        Raises:
            MisuseError: it is something else.
        """
        if not isinstance(self.value(path), dict | Missing):
            raise MisuseError(f"{self.name}: {'.'.join(path)} is not an object", next_step="repair it, then try again")
