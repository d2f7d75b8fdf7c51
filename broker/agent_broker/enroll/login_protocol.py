"""What ``agent-broker login`` asks of the process that makes the private room, and the one answer."""

import msgspec
from msgspec import Struct


class Room(Struct, frozen=True):
    """What the room is to hold. Descriptors are numbers of the new process."""

    folder: str
    """An absolute path of root's that is covered by the room, inside of it only."""
    uid: int
    """Of the user and the group that nobody else is: the agent's in the room."""
    terminal_fd: int
    program_fd: int
    program_sha256: str
    """It must have when it was copied."""
    name: str
    """``argv[0]``."""
    arguments: tuple[str, ...]
    environment: dict[str, str]
    files: dict[str, str]
    """Text that is in its home before it starts, by relative path."""
    result: str
    needed: tuple[str, str]
    """Where the result holds what is waited for if ``stays``: member or empty, and the name of a text in it."""
    stays: bool
    max_result_bytes: int
    package: str = ""
    """The folder of an interpreted agent's package; empty: there is none."""
    package_digest: str = ""
    package_files: int = 0
    package_bytes: int = 0
    script: str = ""
    """Relative to the package: the interpreter's first argument."""


class Left(Struct, frozen=True, tag="left"):
    """The agent has ended."""

    exit_status: int
    """As os.waitstatus_to_exitcode."""
    result: bytes | None = None
    """None: it left none."""

    def __repr__(self) -> str:
        return f"Left({self.exit_status})"


class NoRoom(Struct, frozen=True, tag="no-room"):
    """The agent was not run, or its result can't be taken."""

    why: str


RoomAnswer = Left | NoRoom
ANSWERS: msgspec.msgpack.Decoder[RoomAnswer] = msgspec.msgpack.Decoder(RoomAnswer)
