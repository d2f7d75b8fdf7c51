"""What a honeytoken is before it is in a file: the entry, how it goes there, and which values a thief would present.

The law: an entry only ever adds. No form of it can replace or change what a file holds already.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

JsonValue = str | int | bool | None | Sequence["JsonValue"] | Mapping[str, "JsonValue"]


@dataclass(frozen=True)
class WholeFile:
    """A file of its own; nothing may be there."""

    data: bytes = field(repr=False)


@dataclass(frozen=True)
class Lines:
    """Whole lines of a file that is read line by line."""

    text: str = field(repr=False)
    """Ends with a newline."""
    at: Literal["start", "end"]
    """Where they can't become part of what the file holds, whatever that is."""
    absent: tuple[str, ...]
    """Texts that must not be in the file yet: the names under which the entry is found."""
    check: Literal["", "ini"] = ""
    """``ini``: the file must be read by Python's configparser, which is what botocore does."""


@dataclass(frozen=True)
class JsonMember:
    """One member of a JSON object; it must be missing."""

    path: tuple[str, ...]
    value: JsonValue = field(repr=False)


@dataclass(frozen=True)
class YamlEntries:
    """Entries of a YAML file's root: a named item for each of these lists, or a key of its own."""

    items: Mapping[str, Mapping[str, JsonValue]] = field(repr=False)
    """By the list's key: the item. Each has the member ``name``."""
    members: Mapping[str, Mapping[str, JsonValue]] = field(repr=False, default_factory=dict)
    """Keys of the root that must be missing."""
    head: Mapping[str, JsonValue] = field(default_factory=dict)
    """Further keys of a file that has to be made."""


Entry = WholeFile | Lines | JsonMember | YamlEntries


@dataclass(frozen=True)
class Honeytoken:
    """One decoy, made for one place."""

    kind: str
    name: str
    """What it is called in its file: a profile, a host, a variable. No secret."""
    entry: Entry
    values: tuple[str, ...] = field(repr=False)
    """What a thief would present somewhere."""
