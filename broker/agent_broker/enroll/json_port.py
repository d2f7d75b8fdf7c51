"""JSON behind the port of enroll.document; the work is done by json_document and json_edit."""

from collections.abc import Mapping
from typing import Self

from agent_broker.enroll.json_document import JsonDocument
from agent_broker.enroll.json_edit import FIRST, remove_member, set_raw, set_value
from agent_broker.enroll.pointer import Pointer, Value


class JsonPort:
    """See enroll.document.Document."""

    def __init__(self, document: JsonDocument) -> None:
        self._document = document

    @classmethod
    def open(cls, data: bytes) -> Self:
        """See Document."""
        return cls(JsonDocument(data))

    @property
    def data(self) -> bytes:
        """See Document."""
        return self._document.data

    @property
    def value(self) -> dict[str, Value]:
        """See Document."""
        return self._document.value

    @property
    def refused(self) -> Mapping[Pointer, str]:
        """See Document: JSON has no such thing."""
        return {}

    @property
    def is_blank(self) -> bool:
        """See Document."""
        return not self._document.value

    def place(self, path: Pointer) -> int:
        """See Document."""
        member = self._document.find(path)
        return -1 if member is None else member.start

    def with_value(self, path: Pointer, value: Value) -> Self:
        """See Document."""
        return self.open(set_value(self.data, path, value))

    def without(self, path: Pointer) -> Self:
        """See Document."""
        return self.open(remove_member(self.data, path))

    def with_put_back(self, was: Self, path: Pointer) -> Self:
        """See Document."""
        earlier, now = was._document, self._document
        while len(path) > 1 and now.object_at(path[:-1]) is None:
            path = path[:-1]
        raw = earlier.raw(path)
        if raw is None:
            return self
        return self.open(set_raw(self.data, path, raw, after=_neighbour(earlier, now, path)))


def _neighbour(was: JsonDocument, now: JsonDocument, path: Pointer) -> str:
    """Return the nearest earlier neighbour of a member that is still there, or FIRST."""
    parent, parent_now = was.object_at(path[:-1]), now.object_at(path[:-1])
    if parent is None or parent_now is None:
        return FIRST
    keys = [member.key for member in was.members(parent)]
    still_there = {member.key for member in now.members(parent_now)}
    earlier = keys[: keys.index(path[-1])]
    return next((key for key in reversed(earlier) if key in still_there), FIRST)
