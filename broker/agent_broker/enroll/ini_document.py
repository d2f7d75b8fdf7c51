"""INI: sections of ``key = value`` lines, or such lines alone.

Sections are read as Python's configparser does (``~/.aws/credentials``), what is above them as npm does (``.npmrc``:
there ``:`` is part of a key).

A value is what both would take for the same text. What one of them would read otherwise (quotes, ``;``, ``#``,
``${...}``, ``%(...)``, a value that goes on in the next line, a name written twice) is found and never edited.
"""

import re
from collections.abc import Iterator

from agent_broker.enroll.line_document import LineDocument
from agent_broker.enroll.line_layout import Entry, Layout, Section, line_number
from agent_broker.enroll.line_place import lines_of
from agent_broker.enroll.pointer import NotEditableError, Pointer, Value

_HEADER = re.compile(rb"\[(?P<name>[^\[\]\r\n]+)\][ \t]*\r?\n?\Z")
_IN_SECTION = re.compile(rb"(?P<key>[^\s:=\[][^:=\r\n]*?)[ \t]*[:=][ \t]*(?P<value>[^\r\n]*?)[ \t]*\r?\n?\Z")
_IN_ROOT = re.compile(rb"(?P<key>[^\s=\[][^=\r\n]*?)[ \t]*=[ \t]*(?P<value>[^\r\n]*?)[ \t]*\r?\n?\Z")
_PLAIN = re.compile(r"(?![\"'\s])(?:(?!%\(|\$\{)[^;#\\\x00-\x1f\x7f\x85\u2028\u2029])*(?<!\s)")
_KEY = re.compile(r"[A-Za-z0-9_.@/-][A-Za-z0-9_.@/ -]*(?<! )")
_ROOT_KEY = re.compile(r"[A-Za-z0-9_.@/:-]+")


class IniDocument(LineDocument):
    """See enroll.document.Document. Pointers are (section, key), or (key,) above all sections."""

    @staticmethod
    def read(body: bytes) -> Layout:
        """See LineDocument."""
        return _Reader(body).layout()

    def value_text(self, value: Value) -> bytes:
        """See LineDocument."""
        if not isinstance(value, str) or not _PLAIN.fullmatch(value):
            raise NotEditableError("an INI file holds plain text only")
        return value.encode()

    def entry_text(self, key: Pointer, text: bytes) -> bytes:
        """See LineDocument."""
        return key[0].encode() + self._equals() + text

    def header_text(self, path: Pointer) -> bytes:
        """See LineDocument."""
        if len(path) != 1 or not re.fullmatch(r"[^\[\]\x00-\x1f\x7f]+", path[0]):
            raise NotEditableError("an INI file has sections with plain names, and nothing below their entries")
        return b"[" + path[0].encode() + b"]"

    def insertion(self, path: Pointer, text: bytes) -> tuple[int, int, bytes]:
        """See LineDocument."""
        if not (_KEY if len(path) > 1 else _ROOT_KEY).fullmatch(path[-1]):
            raise NotEditableError(f"{path[-1]} is not the name of an INI entry")
        return super().insertion(path, text)

    def _equals(self) -> bytes:
        """Return what stands between key and value, as in the file's last entry."""
        for entry in reversed(self.layout.entries):
            found = re.search(rb"[ \t]*=[ \t]*\Z", self.body[entry.start : entry.value_start])
            if found and entry.value:
                return found[0]
        return b" = " if self.layout.sections[1:] else b"="


class _Reader:
    def __init__(self, body: bytes) -> None:
        self._body = body
        self._entries: dict[Pointer, Entry] = {}
        self._refused: dict[Pointer, str] = {}
        self._sections: list[tuple[Pointer, int, int]] = [((), 0, 0)]
        self._seen: dict[Pointer, Pointer] = {}
        """Names as configparser compares them: in lower case."""
        self._last: Pointer | None = None

    def layout(self) -> Layout:
        at = 0
        for line in lines_of(self._body):
            self._line(line, at)
            at += len(line)
        return Layout(tuple(self._entries.values()), tuple(self._laid_out()), self._refused)

    def _line(self, line: bytes, at: int) -> None:
        text = line.strip()
        if not text or text.startswith((b"#", b";")):
            return
        if line[:1] in (b" ", b"\t"):
            self._continued(at)
        elif header := _HEADER.match(line):
            self._header(header["name"].decode(), at, at + len(line))
        elif line.startswith(b"["):
            raise NotEditableError(f"line {line_number(self._body, at)}: not the name of a section alone")
        else:
            section = self._sections[-1][0]
            self._entry((_IN_SECTION if section else _IN_ROOT).match(line), line, at)

    def _header(self, name: str, at: int, end: int) -> None:
        path = (name,)
        if path in self._entries or path in self._refused or any(path == section[0] for section in self._sections):
            raise NotEditableError(f"line {line_number(self._body, at)}: the section's name is there already")
        self._sections.append((path, at, end))
        self._last = None

    def _entry(self, found: re.Match[bytes] | None, line: bytes, at: int) -> None:
        section = self._sections[-1][0]
        if found is None:
            key = (*section, line.split(b"=")[0].strip().decode())
            self._refuse(key, at, "not a line of the form: key = value")
            return
        path = (*section, found["key"].decode())
        self._last = path
        same = self._seen.setdefault((*section, path[-1].lower()), path)
        value = found["value"].decode()
        if same in self._entries or same in self._refused:
            earlier = self._entries.pop(same, None)
            place = line_number(self._body, earlier.start) if earlier else 0
            self._refuse(same, at, f"set in line {place} as well" if place else "set more than once")
            self._refuse(path, at, "set more than once")
        elif not _PLAIN.fullmatch(value):
            self._refuse(path, at, "not plain text: quotes, a comment, a variable or a backslash")
        else:
            start, end = at + found.start("value"), at + found.end("value")
            self._entries[path] = Entry(path, at, at + len(line), start, end, value, section)

    def _continued(self, at: int) -> None:
        """Note an indented line: it goes on with the value above; above all entries it is nobody's."""
        if self._last is None:
            raise NotEditableError(f"line {line_number(self._body, at)}: indented, with no entry above it")
        self._entries.pop(self._last, None)
        self._refuse(self._last, at, "its value goes on in the next line")

    def _refuse(self, path: Pointer, at: int, why: str) -> None:
        self._refused.setdefault(path, f"line {line_number(self._body, at)}: {why}")

    def _laid_out(self) -> Iterator[Section]:
        stops = [start for _, start, _ in self._sections[1:]] + [len(self._body)]
        for (path, start, header_end), stop in zip(self._sections, stops, strict=True):
            ends = [_line_behind(self._body, at, stop) for at in self._content_of(path)]
            only_root = not path and stop == len(self._body)
            yield Section(path, start, header_end, max(ends, default=stop if only_root else header_end), stop)

    def _content_of(self, path: Pointer) -> list[int]:
        """Return where the entries of a section begin."""
        return [entry.start for entry in self._entries.values() if entry.section == path]


def _line_behind(body: bytes, at: int, stop: int) -> int:
    end = body.find(b"\n", at, stop)
    return stop if end < 0 else end + 1
