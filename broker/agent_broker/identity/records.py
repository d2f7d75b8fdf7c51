"""One JSON file a record, in a folder of root's: how enrolments, views, decoys and allowed programs are kept."""

from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from agent_broker.disk import replace_file, require_root_owned, sync_folder
from agent_broker.errors import MisuseError

_Record = TypeVar("_Record", bound=Struct)


def save_record(path: Path, record: Struct) -> None:
    """Write a record durably: a reader sees the old file or the new one.

    Raises:
        UnavailableError: the disk refuses.
    """
    replace_file(path, msgspec.json.format(msgspec.json.encode(record), indent=2), mode=0o644)


def remove_record(path: Path) -> None:
    """Delete a record durably; a missing file is fine."""
    path.unlink(missing_ok=True)
    sync_folder(path.parent)


def load_record(path: Path, shape: type[_Record], what: str, next_step: str) -> _Record:
    """Return a record; ``what`` says with its article what the file should be.

    Raises:
        IntegrityError: a file that others than root could have written.
        MisuseError: it is not such a record, with the failing field's path.
    """
    require_root_owned(path, path.lstat())
    try:
        return msgspec.json.decode(path.read_bytes(), type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MisuseError(f"{path} is not {what}: {error}", next_step=next_step) from error
