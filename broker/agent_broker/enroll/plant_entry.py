"""From a honeytoken and a file to the file with the honeytoken in it, and the record that lets it be taken out. Pure.

The law: nothing of the file goes but white space between JSON members; whatever else would have to change is refused.
The record holds places, lengths and digests, never a value.
"""

import codecs
import configparser
import json
import re

from msgspec import Struct

from agent_broker.enroll.document import new_text
from agent_broker.enroll.file_state import sha256_of
from agent_broker.enroll.journal import EditRecord
from agent_broker.enroll.json_document import (
    MISSING,
    JsonDocument,
    JsonPath,
    JsonValue,
    NotEditableJsonError,
    value_at,
)
from agent_broker.enroll.recipe import SetMember
from agent_broker.enroll.reverse import reverse_edits
from agent_broker.enroll.rewrite import rewritten
from agent_broker.enroll.yaml_insert import added
from agent_broker.errors import MisuseError
from agent_broker.honeytoken.entry import Honeytoken, JsonMember, Lines, WholeFile, YamlEntries
from agent_broker.honeytoken.entry import JsonValue as JsonInput
from agent_broker.ids import Sha256

_ELSEWHERE = "name another file with PATH"
_MAX_TRIES = 1000


class AddedText(Struct, frozen=True, forbid_unknown_fields=True):
    """One piece that was put into a file."""

    at: int
    """Offset in the new file, in bytes, as the next."""
    length: int
    sha256: Sha256
    """Of the piece."""
    anchor: str
    """A text within the piece by which it is found again; no value."""
    anchor_at: int
    removed: str = ""
    """White space that stood there before."""


class Added(Struct, frozen=True, forbid_unknown_fields=True):
    """What was put into one file."""

    texts: tuple[AddedText, ...] = ()
    edits: tuple[EditRecord, ...] = ()
    """Of a JSON file, which tools write anew: its members."""
    made_objects: tuple[JsonPath, ...] = ()


def with_honeytoken(data: bytes | None, token: Honeytoken) -> tuple[bytes, Added]:
    """Return the new bytes, and what was added.

    Args:
        data: the file; None: it does not exist.
        token: what to put into it.

    Raises:
        MisuseError: it can't be done safely; says why, and quotes nothing of the file.
    """
    entry = token.entry
    match entry:
        case WholeFile():
            if data is not None:
                raise MisuseError("there is a file already: this kind of decoy needs its own", next_step=_ELSEWHERE)
            return entry.data, Added()
        case JsonMember():
            return _with_member(data, entry, token.name)
        case Lines():
            _require_text(data, entry)
            return _with_lines(data or b"", entry, token.name)
        case YamlEntries():
            return _with_yaml(data, entry, token.name)


def without_texts(data: bytes, texts: tuple[AddedText, ...]) -> bytes:
    """Return a file that nobody has changed since, as it was."""
    for text in sorted(texts, key=lambda each: each.at, reverse=True):
        data = data[: text.at] + text.removed.encode() + data[text.at + text.length :]
    return data


def without_entry(data: bytes, added_: Added) -> bytes | None:
    """Return a file that somebody has changed since, without our entry; None: the entry is not in it as it was.

    Raises:
        NotEditableJsonError: it was JSON, and is none any more.
    """
    if added_.edits:
        return reverse_edits(data, new_text("json"), added_.edits, added_.made_objects).data
    for text in added_.texts:
        at = _find(data, text)
        if at is None:
            return None
        data = data[:at] + data[at + text.length :]
    return data if added_.texts else None


def _find(data: bytes, text: AddedText) -> int | None:
    anchor = re.compile(re.escape(text.anchor.encode()))
    for tries, found in enumerate(anchor.finditer(data)):
        start = found.start() - text.anchor_at
        if start >= 0 and sha256_of(data[start : start + text.length]) == text.sha256:
            return start
        if tries >= _MAX_TRIES:
            break
    return None


def _with_member(data: bytes | None, entry: JsonMember, name: str) -> tuple[bytes, Added]:
    try:
        held = JsonDocument(new_text("json") if data is None else data)
        if value_at(held.value, entry.path) is not MISSING:
            raise MisuseError("the file holds an entry of that name, which stays", next_step=_ELSEWHERE)
        edit = SetMember(entry.path, _plain(entry.value))
        new, edits, made = rewritten(data, (edit,), {})
    except NotEditableJsonError as error:
        raise MisuseError(f"the file can't be merged into: {error.message}", next_step=_ELSEWHERE) from error
    return new, Added(() if data is None else (_difference(data, new, name),), edits, made)


def _require_text(data: bytes | None, entry: Lines) -> None:
    if data is None:
        return
    if b"\0" in data or data.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise MisuseError("the file is not plain text, or has a byte order mark", next_step=_ELSEWHERE)
    if any(name.encode() in data for name in entry.absent):
        raise MisuseError("the file holds an entry of that name, which stays", next_step=_ELSEWHERE)
    if entry.check == "ini":
        _require_ini(data)


def _require_ini(data: bytes) -> None:
    """What its own tool can't read is not added to; a duplicate section is such a thing."""
    try:
        configparser.RawConfigParser(default_section="").read_string(data.decode())
    except (configparser.Error, UnicodeDecodeError) as error:
        raise MisuseError("the file is not one that its tool can read", next_step="repair it first") from error


def _with_lines(data: bytes, entry: Lines, name: str) -> tuple[bytes, Added]:
    text = entry.text.encode()
    if entry.at == "start":
        return text + data, Added((_record(0, text, name),))
    gap = b"" if not data else b"\n" if data.endswith(b"\n") else b"\n\n"
    return data + gap + text, Added((_record(len(data), gap + text, name),))


def _with_yaml(data: bytes | None, entry: YamlEntries, name: str) -> tuple[bytes, Added]:
    new, pieces = added(data, entry)
    return new, Added(tuple(_record(at, piece, name) for at, piece in pieces))


def _difference(old: bytes, new: bytes, name: str) -> AddedText:
    """Return the one stretch in which two versions of a JSON file differ; what went there is white space."""
    start = _common(old, new)
    behind = _common(old[start:][::-1], new[start:][::-1])
    removed = old[start : len(old) - behind]
    if removed.strip():
        raise MisuseError("the file can't be merged into without changing what it holds", next_step=_ELSEWHERE)
    return _record(start, new[start : len(new) - behind], name, removed.decode("ascii"))


def _common(one: bytes, other: bytes) -> int:
    """Return how many bytes two texts begin with in common."""
    most = min(len(one), len(other))
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[:middle] == other[:middle] else (low, middle - 1)
    return low


def _record(at: int, piece: bytes, name: str, removed: str = "") -> AddedText:
    return AddedText(at, len(piece), sha256_of(piece), name, max(piece.find(name.encode()), 0), removed)


def _plain(value: JsonInput) -> JsonValue:
    """Return the value as the JSON parser would have it."""
    plain: JsonValue = json.loads(json.dumps(value))
    return plain
