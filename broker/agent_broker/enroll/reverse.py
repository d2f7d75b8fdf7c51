"""Take our members out of a file that its owner has changed since, and put the earlier values back at their places.

Whatever the owner set in the meantime stays: a member that holds neither what we put there nor what was there before
is a conflict, is left alone, and is named.
"""

import hashlib
import json
from dataclasses import dataclass

from agent_broker.enroll.journal import EditRecord
from agent_broker.enroll.json_document import MISSING, JsonDocument, JsonPath, JsonValue, Missing, value_at
from agent_broker.enroll.json_edit import FIRST, remove_member, set_raw
from agent_broker.ids import Sha256

EMPTY = b"{\n}\n"
"""What a file that did not exist is edited from."""


@dataclass(frozen=True)
class Reversal:
    """A file with our edits taken back."""

    data: bytes
    conflicts: tuple[JsonPath, ...]
    """Members that hold a newer value of the owner's in place of an earlier one, which is not in the file then."""


def digest_of(value: JsonValue) -> Sha256:
    """Return the digest by which a value that we put somewhere is recognised."""
    return Sha256(hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest())


def reverse_edits(
    current: bytes, original: bytes, edits: tuple[EditRecord, ...], made_objects: tuple[JsonPath, ...]
) -> Reversal:
    """Return the current file without our edits.

    Args:
        current: the file as it is.
        original: the file as it was, or EMPTY.
        edits: what was done to it.
        made_objects: objects that the edits made; empty ones go as well.

    Raises:
        NotEditableJsonError: the current file is not JSON any more, or has no object where a value belongs.
    """
    was, then = JsonDocument(original), JsonDocument(current).value
    recognised = {edit.path: _is_ours(edit, then) for edit in edits}
    conflicts = []
    for edit in sorted(edits, key=lambda edit: _place(was, edit.path)):
        now, before = value_at(JsonDocument(current).value, edit.path), value_at(was.value, edit.path)
        if now is not MISSING and now == before:
            continue
        if not (recognised[edit.path] and (edit.follows is None or recognised[edit.follows])):
            conflicts += [edit.path] if before is not MISSING else []
        elif before is MISSING:
            current = remove_member(current, edit.path)
        else:
            current = _put_back(was, current, edit.path)
    for path in reversed(made_objects):
        if value_at(JsonDocument(current).value, path) == {}:
            current = remove_member(current, path)
    return Reversal(current, tuple(conflicts))


def _is_ours(edit: EditRecord, value: JsonValue) -> bool:
    """Say whether a member holds what we put there, or is as gone as we left it."""
    now = value_at(value, edit.path)
    return isinstance(now, Missing) or (edit.sha256 is not None and digest_of(now) == edit.sha256)


def _put_back(was: JsonDocument, current: bytes, path: JsonPath) -> bytes:
    """Write an earlier value at its place; if its whole object is gone by now, the object as it was."""
    now = JsonDocument(current)
    while len(path) > 1 and now.object_at(path[:-1]) is None:
        path = path[:-1]
    raw = was.raw(path)
    return current if raw is None else set_raw(current, path, raw, after=_neighbour(was, now, path))


def _place(document: JsonDocument, path: JsonPath) -> int:
    """Return where a member is, so that neighbours that both go back go back in their order."""
    member = document.find(path)
    return -1 if member is None else member.start


def _neighbour(was: JsonDocument, now: JsonDocument, path: JsonPath) -> str:
    """Return the nearest earlier neighbour of a member that is still there, or FIRST."""
    parent, parent_now = was.object_at(path[:-1]), now.object_at(path[:-1])
    if parent is None or parent_now is None:
        return FIRST
    keys = [member.key for member in was.members(parent)]
    still_there = {member.key for member in now.members(parent_now)}
    earlier = keys[: keys.index(path[-1])]
    return next((key for key in reversed(earlier) if key in still_there), FIRST)
