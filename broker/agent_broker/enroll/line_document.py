"""The editor of all formats that are lines: TOML, INI and assignments. A format says what is where, and how it writes.

The law: an edit is one splice of the bytes. What comes out is read again, and must mean the old value with this one
change, with the same entries refused as before; otherwise nothing is returned. An entry is removed with its line, and
goes back as the line that it was. A file whose last line has no end keeps it so: the end moves with the last line.
"""

import codecs
import copy
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import Self

from agent_broker.enroll.line_layout import Entry, Layout, Section
from agent_broker.enroll.line_place import lines_of, offset_of, put_back_at
from agent_broker.enroll.pointer import MISSING, Missing, NotEditableError, Pointer, Value, value_at
from agent_broker.errors import IntegrityError

Splice = tuple[int, int, bytes]
"""Replace body[start:end] by these bytes."""


class LineDocument(ABC):
    """See enroll.document.Document.

    Attributes:
        bom: the byte order mark, or nothing.
        body: everything behind it.
        layout: what is where in it.
    """

    allows_bom = False

    def __init__(self, data: bytes) -> None:
        """Parse a whole file.

        Raises:
            NotEditableError: it is not of this format as we accept it.
        """
        self.bom = codecs.BOM_UTF8 if data.startswith(codecs.BOM_UTF8) else b""
        if self.bom and not self.allows_bom:
            raise NotEditableError("line 1: a byte order mark, which programs take for part of the first word")
        self.body = data[len(self.bom) :]
        _require_text(self.body)
        self.layout = self.read(self.body)

    @classmethod
    def open(cls, data: bytes) -> Self:
        """See Document."""
        return cls(data)

    @staticmethod
    @abstractmethod
    def read(body: bytes) -> Layout:
        """Say what is where.

        Raises:
            NotEditableError: the text is not of this format.
        """

    @abstractmethod
    def value_text(self, value: Value) -> bytes:
        """Return a value as it is written here.

        Raises:
            NotEditableError: it can't be.
        """

    @abstractmethod
    def entry_text(self, key: Pointer, text: bytes) -> bytes:
        """Return the line of a new entry, without its end; ``key`` is what is below the section."""

    @abstractmethod
    def header_text(self, path: Pointer) -> bytes:
        """Return the line of a new section, without its end.

        Raises:
            NotEditableError: there can't be such a section.
        """

    @property
    def data(self) -> bytes:
        """See Document."""
        return self.bom + self.body

    @cached_property
    def value(self) -> dict[str, Value]:
        """See Document."""
        root: dict[str, Value] = {}
        for section in self.layout.sections:
            _table(root, section.path)
        for entry in self.layout.entries:
            _table(root, entry.path[:-1])[entry.path[-1]] = entry.value
        return root

    @property
    def refused(self) -> Mapping[Pointer, str]:
        """See Document."""
        return self.layout.refused

    @property
    def is_blank(self) -> bool:
        """See Document: comments, and what is no entry, could be missed as well."""
        return not self.body.strip()

    def place(self, path: Pointer) -> int:
        """See Document."""
        entry, section = self.layout.entry(path), self.layout.section(path) if path else None
        return entry.value_start if entry else section.start if section else -1

    def with_value(self, path: Pointer, value: Value) -> Self:
        """See Document."""
        if isinstance(value, dict) and value:
            document = self
            for key, inner in value.items():
                document = document.with_value((*path, key), inner)
            return document
        self._require_editable(path)
        held = value_at(self.value, path)
        if not isinstance(held, Missing) and _same(held, value):
            return self
        expected = copy.deepcopy(self.value)
        _set(expected, path, value)
        entry = self.layout.entry(path)
        if entry is None and held is not MISSING:
            raise NotEditableError(f"{'.'.join(path)} is a table, and is not replaced by a value")
        text = self.value_text(value)
        if entry is not None:
            return self.spliced((entry.value_start, entry.value_end, text), expected)
        try:
            return self.spliced(self.insertion(path, text), expected)
        except IntegrityError as error:  # something open at the end of the file, say
            raise NotEditableError(f"{'.'.join(path)} can't be added to it safely") from error

    def without(self, path: Pointer) -> Self:
        """See Document."""
        held = value_at(self.value, path)
        if held is MISSING and not any(path[:depth] in self.layout.refused for depth in range(1, len(path) + 1)):
            return self
        self._require_editable(path)
        expected = copy.deepcopy(self.value)
        entry, section = self.layout.entry(path), self.layout.section(path)
        self._forget(expected, path)
        if entry is not None:
            return self.spliced(self.removal(entry), expected)
        if section is None or held != {}:
            raise NotEditableError(f"{'.'.join(path)} is not one entry: its members are removed singly")
        return self.spliced(self._section_removal(section), expected)

    def with_put_back(self, was: Self, path: Pointer) -> Self:
        """See Document."""
        entry, header = was.layout.entry(path), was.layout.section(path)
        self._require_editable(path)
        expected = copy.deepcopy(self.value)
        held = self.layout.entry(path)
        if entry is not None and held is not None:
            _set(expected, path, entry.value)
            raw = was.body[entry.value_start : entry.value_end]
            return self.spliced((held.value_start, held.value_end, raw), expected)
        if entry is None and (header is None or value_at(self.value, path) is not MISSING):
            return self
        _set(expected, path, entry.value if entry else {})
        for splice in self.returns(was, entry) if entry else self._header_returns(was, header):
            try:
                return self.spliced(splice, expected)
            except IntegrityError:  # not its place any more: the next possibility
                continue
        raise NotEditableError(f"{'.'.join(path)} can't be put back at its place")

    def insertion(self, path: Pointer, text: bytes) -> Splice:
        """Return the splice that adds a new entry."""
        section = self.layout.section(path[:-1])
        if section is not None:
            return self._line_splice(section.place, self.entry_text(path[-1:], text))
        gap = self.newline if self.body else b""
        lines = self.header_text(path[:-1]) + self.newline + self.entry_text(path[-1:], text)
        at = len(self.body)
        return self._line_splice(at, gap + lines)

    def removal(self, entry: Entry) -> Splice:
        """Return the splice that removes an entry with its line."""
        return self._cut(entry.start, entry.end)

    def returns(self, was: Self, entry: Entry) -> list[Splice]:
        """Return the splices that could put an earlier entry's line back, the best first."""
        line = was.body[entry.start : entry.end]
        newline = self._newline_like(was)
        section = self.layout.section(entry.section or ())
        if section is None:
            gap = newline if self.body else b""
            header = self.header_text(entry.section or ())
            return [self._line_splice(len(self.body), gap + header + newline + line.rstrip(b"\r\n"), newline)]
        at = self._place_of(was, entry.start, line)
        if at is None:
            at = section.place
        elif not section.header_end <= at <= section.stop:
            at = section.header_end
        return [self._own_line_splice(place, line, newline) for place in (at, section.place)]

    def _header_returns(self, was: Self, header: Section | None) -> list[Splice]:
        if header is None:
            return []
        line = was.body[header.start : header.header_end]
        at = self._place_of(was, header.start, line)
        places = (len(self.body) if at is None else at, len(self.body))
        return [self._own_line_splice(place, line, self._newline_like(was)) for place in places]

    def _place_of(self, was: Self, start: int, line: bytes) -> int | None:
        """Return where an earlier line belongs now; None: nothing tells."""
        now, first = lines_of(self.body), was.body.count(b"\n", 0, start)
        index = put_back_at(lines_of(was.body), first, first + len(lines_of(line)), now)
        return None if index is None else offset_of(now, index)

    def _newline_like(self, was: Self) -> bytes:
        return self.newline if b"\n" in self.body else was.newline

    @property
    def newline(self) -> bytes:
        """Return how this file ends its lines."""
        end = self.body.find(b"\n")
        return b"\r\n" if end > 0 and self.body[end - 1 : end] == b"\r" else b"\n"

    def spliced(self, splice: Splice, expected: dict[str, Value]) -> Self:
        """Return the file with one stretch replaced.

        Raises:
            IntegrityError: it would not mean what is expected.
        """
        start, end, text = splice
        try:
            new = type(self)(self.bom + self.body[:start] + text + self.body[end:])
        except NotEditableError as error:
            raise IntegrityError("an edit would have broken the file") from error
        if not _same(new.value, expected) or new.layout.refused.keys() != self.layout.refused.keys():
            raise IntegrityError("an edit would have changed more than its member")
        return new

    def _require_editable(self, path: Pointer) -> None:
        if not path or not all(path):
            raise NotEditableError("an entry needs a name")
        for depth in range(1, len(path) + 1):
            if path[:depth] in self.layout.refused:
                raise NotEditableError(f"{'.'.join(path[:depth])}: {self.layout.refused[path[:depth]]}")
            if depth < len(path) and not isinstance(value_at(self.value, path[:depth]), dict | Missing):
                raise NotEditableError(f"{'.'.join(path[:depth])} is not a table")

    def _forget(self, expected: dict[str, Value], path: Pointer) -> None:
        """Take a member out of a value, and the tables that are there only because of it."""
        del _table(expected, path[:-1])[path[-1]]
        for depth in range(len(path) - 1, 0, -1):
            above = path[:depth]
            written = self.layout.section(above) is not None or self.layout.entry(above) is not None
            if written or _table(expected, above):
                return
            del _table(expected, above[:-1])[above[-1]]

    def _line_splice(self, at: int, line: bytes, newline: bytes | None = None) -> Splice:
        newline = newline or self.newline
        if at == len(self.body) and self.body and not self.body.endswith(b"\n"):
            return at, at, newline + line
        return at, at, line + newline

    def _own_line_splice(self, at: int, line: bytes, newline: bytes) -> Splice:
        """Like _line_splice, for a line that has its own end, or none because it was the last."""
        if at == len(self.body) and (not self.body or self.body.endswith(b"\n")):
            return at, at, line
        return self._line_splice(at, line.rstrip(b"\r\n"), newline)

    def _section_removal(self, section: Section) -> Splice:
        before = self.body[: section.start]
        blank = next((end for end in (b"\n\r\n", b"\n\n") if before.endswith(end)), b"")
        gap = len(before) if before in {b"\n", b"\r\n"} else max(len(blank) - 1, 0)
        return self._cut(section.start - gap, section.header_end)

    def _cut(self, start: int, end: int) -> Splice:
        """Return the splice that takes lines out; of a last line without an end, that of the line before goes as well.

        Unless that one is empty: then it would be gone, too.
        """
        before = self.body[:start]
        if end == len(self.body) and not self.body.endswith(b"\n") and before:
            shorter = before.removesuffix(b"\n").removesuffix(b"\r")
            start = len(shorter) if shorter and not shorter.endswith(b"\n") else start
        return start, end, b""


def _require_text(body: bytes) -> None:
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        raise NotEditableError(f"line {line}: not UTF-8 text") from None
    for char, what in (("\0", "a NUL byte"), ("\r", "a CR that ends no line")):
        at = text.replace("\r\n", "\n ").find(char)
        if at >= 0:
            raise NotEditableError(f"line {text.count(chr(10), 0, at) + 1}: {what}")


def _table(root: dict[str, Value], path: Pointer) -> dict[str, Value]:
    for key in path:
        inner = root.setdefault(key, {})
        if not isinstance(inner, dict):
            raise NotEditableError(f"{key} is a value and a table")
        root = inner
    return root


def _set(root: dict[str, Value], path: Pointer, value: Value) -> None:
    _table(root, path[:-1])[path[-1]] = value


def _same(one: Value, other: Value) -> bool:
    """Compare what two values mean: 1, 1.0 and true are not the same."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
