"""Change single members of a YAML file, and leave every other byte as it is.

Kept: order, indent, quotes, line ends, comments (but one on the line of a member that goes), byte order mark, the end
of the file. A new member goes to the end of its mapping, in that one's style. Every edit is parsed again and must mean
exactly the old value with that one change; a file that is written so that it would not is refused (NotEditableError).
"""

import copy
from collections.abc import Mapping
from typing import Self

from agent_broker.enroll.pointer import Missing, NotEditableError, Pointer, Value, value_at
from agent_broker.enroll.yaml_document import YamlFile
from agent_broker.enroll.yaml_restore import put_back
from agent_broker.enroll.yaml_splice import Splice, first, insertion, removal, replacement
from agent_broker.enroll.yaml_text import block


class YamlDocument:
    """See enroll.document.Document."""

    def __init__(self, file: YamlFile) -> None:
        self._file = file

    @classmethod
    def open(cls, data: bytes) -> Self:
        """See Document."""
        return cls(YamlFile(data))

    @property
    def data(self) -> bytes:
        """See Document."""
        return self._file.data

    @property
    def value(self) -> dict[str, Value]:
        """See Document."""
        return self._file.value

    @property
    def refused(self) -> Mapping[Pointer, str]:
        """See Document: what can't be edited is refused as a whole."""
        return {}

    @property
    def is_blank(self) -> bool:
        """See Document."""
        return not self._file.text.strip()

    def place(self, path: Pointer) -> int:
        """See Document."""
        spot = self._file.find(path)
        return -1 if spot is None else spot.start

    def with_value(self, path: Pointer, value: Value) -> Self:
        """See Document."""
        file = self._file
        parent = file.container(path[:-1])
        if parent is None:
            if len(path) == 1:
                return self._spliced(first(file, block({path[-1]: value}, 0, file.newline)), path, value)
            return self.with_value(path[:-1], {path[-1]: value})
        spot = file.find(path)
        if spot is not None and value_at(self.value, path) == value:
            return self
        splice = insertion(file, parent, path[-1], value) if spot is None else replacement(file, spot, value)
        return self._spliced(splice, path, value)

    def without(self, path: Pointer) -> Self:
        """See Document."""
        spot = self._file.find(path)
        if spot is None:
            return self
        holder = self._file.find(path[:-1]) if len(path) > 1 else None
        return self._spliced(removal(self._file, spot, holder), path, None, removed=True)

    def with_put_back(self, was: Self, path: Pointer) -> Self:
        """See Document."""
        earlier = was._file
        while len(path) > 1 and self._file.container(path[:-1]) is None:
            path = path[:-1]
        spot = earlier.find(path)
        if spot is None:
            return self
        value = value_at(was.value, path)
        if isinstance(value, Missing):
            return self
        try:
            return self._spliced(put_back(self._file, earlier, spot, path), path, value)
        except NotEditableError:
            return self.with_value(path, value)

    def _spliced(self, splice: Splice, path: Pointer, value: Value, *, removed: bool = False) -> Self:
        start, end, new = splice
        text = self._file.text[:start] + new + self._file.text[end:]
        try:
            made = self.open(self._file.bom + text.encode())
        except (NotEditableError, UnicodeEncodeError) as error:
            raise NotEditableError("it is written in a way that can't be edited here") from error
        if made.value != _expected(self.value, path, value, removed=removed):
            raise NotEditableError("it is written so that an edit would change more than its member")
        return made


def _expected(before: dict[str, Value], path: Pointer, value: Value, *, removed: bool) -> dict[str, Value]:
    expected = copy.deepcopy(before)
    inner = expected
    for key in path[:-1]:
        below = inner[key]
        if not isinstance(below, dict):
            raise NotEditableError(f"{key} is not an object")
        inner = below
    if removed:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return expected
