"""Assignments, a line each: dotenv files, and environment.d(5) of systemd.

A value is a literal that every reader of such files takes for the same text: plain characters, or quotes without
anything inside that some reader replaces. Others (``$``, backticks, backslashes, quotes over several lines, a name
set twice) are found, and are never edited; the refusal names the line.
"""

import re
from collections.abc import Iterator
from typing import ClassVar

from agent_broker.enroll.line_document import LineDocument
from agent_broker.enroll.line_layout import Entry, Layout, Section, line_number
from agent_broker.enroll.line_place import lines_of
from agent_broker.enroll.pointer import NotEditableError, Pointer, Value

BARE = r"[A-Za-z0-9_./:@%+,-][A-Za-z0-9_./:@%+,=-]*"
"""Characters that mean themselves in every format of this family, unquoted."""
NAME = r"[A-Za-z_][A-Za-z0-9_]*"
LITERAL = rf"(?P<bare>{BARE}|(?=[ \t]*\r?\n?\Z))|'(?P<single>[^'\\$`\r\n]*)'|\"(?P<double>[^\"\\$`\r\n]*)\""
_SINGLE = re.compile(r"[^'\\$`\x00-\x1f\x7f]*")


class AssignmentDocument(LineDocument):
    """What the formats of this family share. A pointer is (name,)."""

    def header_text(self, path: Pointer) -> bytes:
        """See LineDocument."""
        del path
        raise NotEditableError("assignments have names and no sections")

    def insertion(self, path: Pointer, text: bytes) -> tuple[int, int, bytes]:
        """See LineDocument."""
        if len(path) == 1 and not re.fullmatch(NAME, path[0]):
            raise NotEditableError("not the name of a variable")
        return super().insertion(path, text)

    def value_text(self, value: Value) -> bytes:
        """See LineDocument."""
        if not isinstance(value, str) or not _SINGLE.fullmatch(value):
            raise NotEditableError("a variable holds text, without quotes or anything that is replaced in it")
        return value.encode() if re.fullmatch(BARE, value) else f"'{value}'".encode()

    def entry_text(self, key: Pointer, text: bytes) -> bytes:
        """See LineDocument."""
        return key[0].encode() + b"=" + text


class Assignments:
    """Collects what a file assigns; a name that is set more than once, or in a way that is refused, is no entry."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._entries: dict[Pointer, Entry] = {}
        self._refused: dict[Pointer, str] = {}

    def add(self, found: re.Match[bytes], start: int, end: int) -> None:
        """Note a literal; the match has the groups of LITERAL, ``name`` and ``value``, and begins at ``start``."""
        kind = next(kind for kind in ("bare", "single", "double") if found[kind] is not None)
        value = found[kind].decode()
        path = (found["name"].decode(),)
        if self._is_second(path, start):
            return
        spot = (start + found.start("value"), start + found.end("value"))
        self._entries[path] = Entry(path, start, end, *spot, value)

    def refuse(self, name: str, at: int, why: str) -> None:
        """Note an assignment that can't be edited; ``why`` goes behind its line's number."""
        path = (name,)
        if not self._is_second(path, at):
            self._refused[path] = f"line {line_number(self._body, at)}: {why}"

    def layout(self) -> Layout:
        """Return what was collected."""
        end = len(self._body)
        return Layout(tuple(self._entries.values()), (Section((), 0, 0, end, end),), self._refused)

    def _is_second(self, path: Pointer, at: int) -> bool:
        earlier = self._entries.pop(path, None)
        if earlier is not None:
            first, second = line_number(self._body, earlier.start), line_number(self._body, at)
            self._refused[path] = f"line {second}: it is set in line {first} as well"
        return path in self._refused


class EnvDocument(AssignmentDocument):
    """Dotenv, as the readers of python-dotenv, node's dotenv and docker compose agree on it."""

    _ASSIGNS: ClassVar = re.compile(
        rf"[ \t]*(?:export[ \t]+)?(?P<name>{NAME})=(?P<value>{LITERAL})(?:[ \t]+#[^\r\n]*)?[ \t]*\r?\n?\Z".encode()
    )
    _MENTIONS: ClassVar = re.compile(
        rf"[ \t]*(?:export[ \t]+)?['\"]?(?P<name>{NAME})['\"]?[ \t]*(?:=|:[ \t])[ \t]*(?P<rest>[^\r\n]*)".encode()
    )

    @staticmethod
    def read(body: bytes) -> Layout:
        """See LineDocument."""
        return EnvDocument._read(body)

    @classmethod
    def _read(cls, body: bytes) -> Layout:
        found = Assignments(body)
        for start, text in cls._statements(body):
            line = text.split(b"\n")[0]
            if literal := cls._ASSIGNS.match(text):
                found.add(literal, start, start + len(text))
            elif not line.lstrip().startswith(b"#") and (mention := cls._MENTIONS.match(text)):
                found.refuse(mention["name"].decode(), start, "not a plain literal")
        return found.layout()

    @classmethod
    def _statements(cls, body: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield lines with their offsets; those that a quote joins, as one."""
        lines = iter(lines_of(body))
        at = 0
        for line in lines:
            text = [line]
            mention = None if cls._ASSIGNS.match(line) else cls._MENTIONS.match(line)
            quote = mention["rest"][:1] if mention else b""
            if mention and quote in {b"'", b'"', b"`"} and not _closed(mention["rest"][1:], quote):
                for more in lines:
                    text.append(more)
                    if _closed(more, quote):
                        break
                else:
                    raise NotEditableError(f"line {line_number(body, at)}: a quote that is never closed")
            yield at, b"".join(text)
            at += sum(map(len, text))


class SystemdDocument(EnvDocument):
    """environment.d(5): no ``export``, no comment behind a value; a ``$`` is replaced even inside quotes."""

    _ASSIGNS: ClassVar = re.compile(rf"[ \t]*(?P<name>{NAME})=(?P<value>{LITERAL})[ \t]*\r?\n?\Z".encode())

    @staticmethod
    def read(body: bytes) -> Layout:
        """See LineDocument."""
        refuse_mark(body, b"\r", "a CR, which is part of the value")
        refuse_mark(body, b"\\\n", "a line that goes on in the next")
        for number, line in enumerate(body.split(b"\n"), 1):
            plain = SystemdDocument._ASSIGNS.match(line) or line.lstrip().startswith((b"#", b";"))
            if not plain and any(line.count(quote) % 2 for quote in (b"'", b'"')):
                raise NotEditableError(f"line {number}: a quote that may go on in the next line")
        return SystemdDocument._read(body)


def refuse_mark(body: bytes, mark: bytes, why: str) -> None:
    """Refuse a file that has some mark in it.

    Raises:
        NotEditableError: it has; the line is named.
    """
    at = body.find(mark)
    if at >= 0:
        raise NotEditableError(f"line {line_number(body, at)}: {why}")


def _closed(text: bytes, quote: bytes) -> bool:
    return quote in re.sub(rb"\\.", b"", text, flags=re.DOTALL)
