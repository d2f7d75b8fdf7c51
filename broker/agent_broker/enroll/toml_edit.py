"""Change single members of a TOML file, and leave every other byte as it is. See line_document for the law.

A new member goes where its table is written: below its header, beside its dotted neighbours, into its inline table;
a table that is nowhere gets a header at the end of the file. tomlkit writes values and keys.
"""

from functools import cached_property
from typing import Self

import tomlkit
from tomlkit.exceptions import TOMLKitError

from agent_broker.enroll.line_document import LineDocument, Splice
from agent_broker.enroll.line_layout import Entry, Layout
from agent_broker.enroll.pointer import MISSING, NotEditableError, Pointer, Value, value_at
from agent_broker.enroll.toml_layout import layout_of, meaning_of


class TomlDocument(LineDocument):
    """See enroll.document.Document."""

    allows_bom = True

    @staticmethod
    def read(body: bytes) -> Layout:
        """See LineDocument."""
        return layout_of(body)

    @cached_property
    def value(self) -> dict[str, Value]:
        """See Document; a date, or a number that JSON has not, is an object that names its type."""
        return meaning_of(self.body)

    def value_text(self, value: Value) -> bytes:
        """See LineDocument."""
        if value is None or isinstance(value, dict):
            raise NotEditableError("TOML has no null, and a table is set member by member")
        try:
            text: str = tomlkit.item(value).as_string()
        except (TOMLKitError, ValueError, TypeError) as error:
            raise NotEditableError("TOML can't hold such a value") from error
        return text.encode()

    def entry_text(self, key: Pointer, text: bytes) -> bytes:
        """See LineDocument."""
        return _key(key) + b" = " + text

    def header_text(self, path: Pointer) -> bytes:
        """See LineDocument."""
        return b"[" + _key(path) + b"]"

    def insertion(self, path: Pointer, text: bytes) -> Splice:
        """See LineDocument."""
        parent = path[:-1]
        while self.layout.section(parent) is None and value_at(self.value, parent) is MISSING:
            parent = parent[:-1]
        table = self.layout.entry(parent) if parent else None
        if table is not None:
            return self._into_inline(table, _key(path[len(parent) :]) + b" = " + text)
        beside = self._dotted_below(parent)
        if beside is not None:
            section = beside.section or ()
            return self._line_splice(beside.end, self.entry_text(path[len(section) :], text))
        return super().insertion(path, text)

    def removal(self, entry: Entry) -> Splice:
        """See LineDocument."""
        return self._out_of_inline(entry) if entry.inline else super().removal(entry)

    def returns(self, was: Self, entry: Entry) -> list[Splice]:
        """See LineDocument."""
        raw = was.body[entry.value_start : entry.value_end]
        if not entry.inline:
            return [*super().returns(was, entry), self.insertion(entry.path, raw)]
        outer = next(each for each in was.layout.entries if not each.inline and each.start <= entry.start < each.end)
        held = self.layout.entry(outer.path)
        whole = [(held.value_start, held.value_end, was.body[outer.value_start : outer.value_end])] if held else []
        return [*whole, self.insertion(entry.path, raw)]

    def _dotted_below(self, parent: Pointer) -> Entry | None:
        """Return the last entry that makes a table by its dotted key; None: it has a header, or is not there."""
        if not parent or self.layout.section(parent) is not None:
            return None
        below = [
            entry
            for entry in self.layout.entries
            if entry.path[: len(parent)] == parent and entry.section is not None and len(entry.section) < len(parent)
        ]
        if below and below[0].inline:
            raise NotEditableError(f"{'.'.join(parent)} is written with dotted keys inside of an inline table")
        outer = [entry for entry in below if not entry.inline]
        return outer[-1] if outer else None

    def _into_inline(self, table: Entry, text: bytes) -> Splice:
        if not self.body.startswith(b"{", table.value_start):
            raise NotEditableError(f"{'.'.join(table.path)} is not a table")
        inside = self._inside(table)
        if inside:
            return inside[-1].end, inside[-1].end, b", " + text
        start, end = table.value_start + 1, table.value_end - 1
        blank = self.body[start:end]
        return start, end, blank + text + blank

    def _out_of_inline(self, entry: Entry) -> Splice:
        around = [each for each in self.layout.entries if each.value_start < entry.start < each.value_end]
        table = max(around, key=lambda each: each.value_start)
        beside = self._inside(table)
        place = beside.index(entry)
        if place + 1 < len(beside):
            return entry.start, beside[place + 1].start, b""
        if place:
            return beside[place - 1].end, entry.end, b""
        return entry.start, table.value_end - 1, b""

    def _inside(self, table: Entry) -> list[Entry]:
        """Return the pairs that are directly inside of an inline table, in their order."""
        inside = [each for each in self.layout.entries if table.value_start < each.start < table.value_end]
        deeper = [each for each in inside if self.body.startswith(b"{", each.value_start)]
        return [
            each for each in inside if not any(outer.value_start < each.start < outer.value_end for outer in deeper)
        ]


def _key(path: Pointer) -> bytes:
    return b".".join(tomlkit.key(part).as_string().encode() for part in path)
