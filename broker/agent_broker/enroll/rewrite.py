"""From a survey's edits to a file's new bytes, and the record that lets them be taken back. Pure."""

from collections.abc import Mapping

from agent_broker.enroll.journal import EditRecord
from agent_broker.enroll.json_document import MISSING, JsonDocument, JsonPath, JsonValue, value_at
from agent_broker.enroll.json_edit import remove_member, set_value
from agent_broker.enroll.recipe import Edit, SetMember, Wire
from agent_broker.enroll.reverse import EMPTY, digest_of

Wiring = Mapping[Wire, str]


def rewritten(
    data: bytes | None, edits: tuple[Edit, ...], wiring: Wiring
) -> tuple[bytes, tuple[EditRecord, ...], tuple[JsonPath, ...]]:
    """Return a file's new bytes, what was changed, and the objects that had to be made.

    Args:
        data: the file; None: it does not exist.
        edits: what to change.
        wiring: the values that a survey can't know.

    Raises:
        NotEditableJsonError: see json_edit.
    """
    text = EMPTY if data is None else data
    records = []
    made: list[JsonPath] = []
    for edit in edits:
        if isinstance(edit, SetMember):
            value = wiring[edit.value] if isinstance(edit.value, Wire) else edit.value
            made += _missing_objects(text, edit.path)
            text = set_value(text, edit.path, value)
            records.append(EditRecord(edit.path, digest_of(value), edit.follows))
        else:
            text = remove_member(text, edit.path)
            records.append(EditRecord(edit.path, None))
    return text, tuple(records), tuple(made)


def _missing_objects(text: bytes, path: JsonPath) -> list[JsonPath]:
    value: JsonValue = JsonDocument(text).value
    return [path[:depth] for depth in range(1, len(path)) if value_at(value, path[:depth]) is MISSING]
