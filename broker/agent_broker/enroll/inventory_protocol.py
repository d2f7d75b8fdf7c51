"""What root's process and the process that takes a home's inventory say to each other. No message holds a value.

One order, then answers as things are found, so that what was found counts even if the home's owner stops the process.
On the wire as in framing.
"""

from typing import Literal

from msgspec import Struct

State = Literal["plain", "phantom", "encrypted", "unrecognised", "unopened"]
"""``plain``: whoever may read the file has the secret, by its content if it was opened, by its place if not.
``phantom``: the broker's own, worthless elsewhere. ``encrypted``: needs a passphrase. ``unrecognised``: opened, and
nothing in it looks like a secret. ``unopened``: it could be a decoy, and opening one raises an alert."""

Source = Literal["catalogue", "settings", "profile", "env-file", "environment.d", "direnv", "session", "machine"]


class Limits(Struct, frozen=True):
    """What a hostile home can't exceed. Whatever lies beyond is counted as not looked at."""

    folder_entries: int = 50_000
    """Of one folder."""
    entries: int = 300_000
    """In all: about two seconds from a disk cache."""
    depth: int = 8
    """Of folders below the home in which project files are looked for."""
    opened_files: int = 4_000
    file_bytes: int = 4 * 1024 * 1024
    """Of one file; a larger one is not opened."""
    line_bytes: int = 16 * 1024
    """Of one line; what is behind it is not looked at."""
    findings: int = 5_000
    hashed_bytes: int = 8 * 1024 * 1024 * 1024
    time_s: float = 60.0


class Order(Struct, frozen=True, tag="order"):
    """Take this inventory. First and only message."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    become: bool
    """False: the process is this user already."""
    skip: tuple[str, ...]
    """Decoys, absolute: never opened."""
    watched: bool
    """The monitor watches this home's credential paths: they are not opened."""
    hidden_decoys: bool
    """There may be decoys whose places the caller can't learn: files that could be one are not opened."""
    patterns: tuple[tuple[str, str, tuple[str, ...], tuple[str, ...]], ...]
    """Of the catalogue: pattern below ``~/``, what it holds, agents whose own it is, names that don't count."""
    search_path: tuple[str, ...]
    phantom_prefix: str
    bus: str = ""
    """The socket of the user's session bus; empty: there is none to ask."""
    programs: bool = True
    """Whether agents' programs are looked for, too."""
    variables: frozenset[str] = frozenset()
    """Names that hold a credential, besides those that are known by themselves."""
    machine: bool = False
    """``home`` is the machine's ``/etc``: what every session and shell of everybody's reads is looked at."""
    limits: Limits = Limits()


class Readers(Struct, frozen=True):
    """Who besides the owner and root can read a file, by mode, ACL and the folders on the way."""

    everybody: bool = False
    groups: tuple[int, ...] = ()
    users: tuple[int, ...] = ()


class Sighting(Struct, frozen=True):
    """One credential, or one file that may be one."""

    path: bytes
    """Absolute."""
    holds: str
    """``anthropic-api-key``."""
    state: State
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    readers: Readers
    name: str = ""
    """The member or variable, as it can be shown; empty: the file itself."""
    line: int = 0
    """0: not known."""
    agents: tuple[str, ...] = ()
    """Whose credential it is."""
    source: Source = "catalogue"
    opened: bool = True
    files: int = 1
    """More than one: a folder of them; mode, readers and age are those of the most exposed, and of the oldest."""


class AgentSighting(Struct, frozen=True):
    """One agent's program."""

    agent: str
    path: bytes
    """As it is started."""
    resolved: bytes
    version: str
    """Empty: nothing says."""
    layout: str
    """``native``, ``npm``, ``script``."""
    sha256: str
    """Empty: it could not be read."""
    size_bytes: int


class Found(Struct, frozen=True, tag="found"):
    """Some of what is there."""

    credentials: tuple[Sighting, ...] = ()
    agents: tuple[AgentSighting, ...] = ()


class Busy(Struct, frozen=True, tag="busy"):
    """A sign of life."""

    entries: int


class Finished(Struct, frozen=True, tag="finished"):
    """The last answer."""

    entries: int
    missed: dict[str, int]
    """Reason: how many files or folders were not looked at for it."""


class NotStarted(Struct, frozen=True, tag="not-started"):
    """The home can't be looked at."""

    why: str


Answer = Found | Busy | Finished | NotStarted
