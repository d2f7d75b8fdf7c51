"""From a survey's edits to a file's new bytes, and the record that lets them be taken back. Pure."""

from collections.abc import Mapping

from agent_broker.enroll.document import Document, new_text, open_document
from agent_broker.enroll.journal import EditRecord
from agent_broker.enroll.pointer import MISSING, Format, NotEditableError, Pointer, Value, value_at
from agent_broker.enroll.recipe import Edit, InjectionPath, RemoveMember, ReplaceFile, SetMember, Wire
from agent_broker.enroll.reverse import digest_of

Wiring = Mapping[Wire, str]


def rewritten(
    data: bytes | None, edits: tuple[Edit, ...], wiring: Wiring, file_format: Format = "json"
) -> tuple[bytes, tuple[EditRecord, ...], tuple[Pointer, ...]]:
    """Return a file's new bytes, what was changed, and the objects that had to be made.

    Args:
        data: the file; None: it does not exist.
        edits: what to change.
        wiring: the values that a survey can't know.
        file_format: how the file is written.

    Raises:
        NotEditableError: see enroll.document; or one edit is of a member of what another one sets or removes, which
            could not be taken back.
    """
    match edits:
        case (ReplaceFile(whole),):
            return whole, (), ()
    _require_apart([edit.path for edit in edits if isinstance(edit, SetMember | RemoveMember)])
    document = open_document(file_format, new_text(file_format) if data is None else data)
    records = []
    made: list[Pointer] = []
    for edit in edits:
        if isinstance(edit, SetMember):
            value = _value_of(edit, wiring)
            made += _missing_objects(document, edit.path)
            document = document.with_value(edit.path, value)
            records.append(EditRecord(edit.path, digest_of(value), edit.follows))
        elif isinstance(edit, RemoveMember):
            document = document.without(edit.path)
            records.append(EditRecord(edit.path, None))
    return document.data, tuple(records), tuple(made)


def _require_apart(paths: list[Pointer]) -> None:
    for path in paths:
        inside = next((other for other in paths if len(other) > len(path) and other[: len(path)] == path), None)
        if inside is not None:
            raise NotEditableError(f"{'.'.join(path)} and {'.'.join(inside)}, which is inside, can't both be edited")


def _value_of(edit: SetMember, wiring: Wiring) -> Value:
    match edit.value:
        case Wire():
            return wiring[edit.value]
        case InjectionPath(path):
            return wiring[Wire.INJECTION_URL] + path
    return edit.value


def _missing_objects(document: Document, path: Pointer) -> list[Pointer]:
    value = document.value
    return [path[:depth] for depth in range(1, len(path)) if value_at(value, path[:depth]) is MISSING]
