"""What root's process and the process that acts as the user say to each other.

One request, one answer; ``Working`` answers may come before it. On the wire as in framing. Contents of files and
needles of a scan travel here and nowhere else.
"""

from msgspec import Struct

from agent_broker.enroll.file_state import Attributes, Expected, FileState, KnownFolder


class Start(Struct, frozen=True, tag="start"):
    """Become this user for good, in this home. First message, once."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    folders: tuple["KnownFolder", ...] = ()
    """Those that must still be what they were."""


class Look(Struct, frozen=True, tag="look"):
    """What is there? Does not open the file, so it wakes no watch. Answered by Seen."""

    path: str
    plain: bool = False
    """True: fail if something is there that may not be touched."""


class Read(Struct, frozen=True, tag="read"):
    """Its bytes, if it is a plain file of the user's own. Answered by Seen."""

    path: str
    limit_bytes: int


class ListFolder(Struct, frozen=True, tag="list"):
    """The names in a folder; none if it is not there. Answered by Names."""

    path: str


class CheckFolder(Struct, frozen=True, tag="check-folder"):
    """Is it a folder of the user's own that files can be replaced in? Answered by Done."""

    path: str


class MakeFolder(Struct, frozen=True, tag="make-folder"):
    """Make one folder, for the user alone; one that is there is fine. Answered by Done."""

    path: str


class RemoveFolder(Struct, frozen=True, tag="remove-folder"):
    """Delete a folder if it is empty; a missing one is fine. Answered by Done."""

    path: str


class Stage(Struct, frozen=True, tag="stage"):
    """Write a new file beside ``path``, durably; attributes of the file at ``path`` are copied. Answered by Done."""

    path: str
    temporary: str
    data: bytes
    mode: int
    gid: int
    times_ns: tuple[int, int] | None
    """Access and modification time; None: now."""
    attributes: Attributes = ()
    """For a file that takes the place of none."""


class Rehearse(Struct, frozen=True, tag="rehearse"):
    """Could a file be staged and swapped here? Tried with one that has no name. Answered by Done."""

    path: str
    size_bytes: int
    gid: int
    """Of a file that does not exist yet."""


class Swap(Struct, frozen=True, tag="swap"):
    """Put the staged file in place, durably, if ``path`` is still what was expected (None: missing).

    The file that was there has the temporary name afterwards. Answered by Done.
    """

    path: str
    temporary: str
    expected: Expected | None


class StageLink(Struct, frozen=True, tag="stage-link"):
    """Make a symbolic link beside ``path``, durably. Answered by Done."""

    path: str
    temporary: str
    target: str


class SwapLink(Struct, frozen=True, tag="swap-link"):
    """Put the staged file in the place of the link to ``target``, durably; the link goes. Answered by Done."""

    path: str
    temporary: str
    target: str


class ReadLink(Struct, frozen=True, tag="read-link"):
    """Where does the link lead? Answered by Names: one; none if it is no link, or nothing is there."""

    path: str


class Discard(Struct, frozen=True, tag="discard"):
    """Delete the temporary file, durably; a missing one is fine. Answered by Done."""

    path: str
    temporary: str


class Withdraw(Struct, frozen=True, tag="withdraw"):
    """Delete ``path``, durably, if it is still what was expected. Answered by Done."""

    path: str
    temporary: str
    expected: Expected


class Scan(Struct, frozen=True, tag="scan"):
    """Look for byte strings in the home. Answered by Scanned, after Working."""

    needles: tuple[bytes, ...]
    first: tuple[str, ...]
    """Files and folders that are looked at before the rest, each up to ``limit_bytes``."""
    skip: tuple[str, ...]
    """Files that must not be opened: watched decoys."""
    limit_bytes: int
    limit_files: int


class Seen(Struct, frozen=True, tag="seen"):
    """Answers Look and Read; no state: nothing is there."""

    state: FileState | None = None
    data: bytes | None = None
    attributes: Attributes = ()


class Names(Struct, frozen=True, tag="names"):
    """Answers ListFolder, sorted."""

    names: tuple[str, ...]


class Done(Struct, frozen=True, tag="done"):
    """It is done, and durable."""


class Working(Struct, frozen=True, tag="working"):
    """A scan goes on."""

    files: int


class Scanned(Struct, frozen=True, tag="scanned"):
    """Answers Scan."""

    found: tuple[str, ...]
    """Relative paths of the files that hold one of the needles."""
    files: int
    """Files looked at."""
    not_looked_at: int
    """Files beyond the limits, unreadable, or on other file systems; folders count as one."""


class Failed(Struct, frozen=True, tag="failed"):
    """It could not be done, and nothing was changed by this request."""

    problem: str
    """A key of ``user_files.PROBLEMS``."""
    path: str
    detail: str = ""


Request = (
    Start
    | Look
    | Read
    | ListFolder
    | CheckFolder
    | MakeFolder
    | RemoveFolder
    | Rehearse
    | Stage
    | Swap
    | StageLink
    | SwapLink
    | ReadLink
    | Discard
    | Withdraw
    | Scan
)
Answer = Seen | Names | Done | Working | Scanned | Failed
