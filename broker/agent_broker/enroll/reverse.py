"""Take our members out of a file that its owner has changed since, and put the earlier values back at their places.

Whatever the owner set in the meantime stays: a member that holds neither what we put there nor what was there before
is a conflict, is left alone, and is named.
"""

import hashlib
import json
from dataclasses import dataclass

from agent_broker.enroll.document import Document, open_document
from agent_broker.enroll.journal import EditRecord
from agent_broker.enroll.pointer import MISSING, Format, Missing, Pointer, Value, value_at
from agent_broker.ids import Sha256


@dataclass(frozen=True)
class Reversal:
    """A file with our edits taken back."""

    data: bytes
    conflicts: tuple[Pointer, ...]
    """Members that hold a newer value of the owner's in place of an earlier one, which is not in the file then."""


def digest_of(value: Value) -> Sha256:
    """Return the digest by which a value that we put somewhere is recognised."""
    return Sha256(hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest())


def reverse_edits(
    current: bytes,
    original: bytes,
    edits: tuple[EditRecord, ...],
    made_objects: tuple[Pointer, ...],
    file_format: Format = "json",
) -> Reversal:
    """Return the current file without our edits.

    Args:
        current: the file as it is.
        original: the file as it was, or what a new one is edited from.
        edits: what was done to it.
        made_objects: objects that the edits made; empty ones go as well.
        file_format: how it is written.

    Raises:
        NotEditableError: the current file is not of its format any more, or has no object where a value belongs.
    """
    was, now = open_document(file_format, original), open_document(file_format, current)
    recognised = {edit.path: _is_ours(edit, now.value) for edit in edits}
    conflicts = []
    returning = []
    for edit in sorted(edits, key=lambda edit: was.place(edit.path)):
        held, before = value_at(now.value, edit.path), value_at(was.value, edit.path)
        if held is not MISSING and held == before:
            continue
        if not (recognised[edit.path] and (edit.follows is None or recognised[edit.follows])):
            conflicts += [edit.path] if before is not MISSING else []
        elif before is MISSING:
            now = now.without(edit.path)
        else:
            returning.append(edit.path)
    now = _without_empty(now, made_objects)
    for path in returning:
        now = now.with_put_back(was, path)
    return Reversal(_without_empty(now, made_objects).data, tuple(conflicts))


def _without_empty(document: Document, made_objects: tuple[Pointer, ...]) -> Document:
    for path in reversed(made_objects):
        if value_at(document.value, path) == {}:
            document = document.without(path)
    return document


def _is_ours(edit: EditRecord, value: Value) -> bool:
    """Say whether a member holds what we put there, or is as gone as we left it."""
    now = value_at(value, edit.path)
    return isinstance(now, Missing) or (edit.sha256 is not None and digest_of(now) == edit.sha256)
