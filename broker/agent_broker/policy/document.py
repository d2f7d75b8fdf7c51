"""The policy as root wrote it: ``policy.d/*.toml``, read in the order of file names.

The law of this module: what can't be understood in full is refused in full, with file and line; a file (or the folder)
that others than root could have written is refused. No folder, or no files: no rules, and everything is denied.
"""

import os
import pwd
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar

from msgspec import Meta, Struct

from agent_broker.disk import require_root_owned
from agent_broker.errors import MisuseError
from agent_broker.ids import AgentName, Uid
from agent_broker.policy.destination import Destination
from agent_broker.policy.narrowing import parse_session_policy
from agent_broker.policy.rule import CredentialPattern, Hours, Policy, Rule
from agent_broker.toml_document import TomlDocument

MAX_FILE_BYTES: Final = 1 << 20

S = TypeVar("S")
T = TypeVar("T")

_TOOL_MODES: Final = ("release", "mint", "sign", "view")
"""What a rule of a tool's credential allows if it does not say: the tool's protocol has one of them. To store must be
said: it changes what others are given."""

_MINT: Final = "mint"

_Text = Annotated[str, Meta(min_length=1)]


class _RuleTable(Struct, frozen=True, forbid_unknown_fields=True):
    """``[[rule]]`` as it is written."""

    credential: _Text
    agent: _Text | None = None
    session: Literal["terminal", "user"] | None = None
    owner: _Text | Annotated[int, Meta(ge=0, lt=0xFFFF_FFFF)] | None = None
    to: _Text | None = None
    modes: (
        Annotated[tuple[Literal["inject", "release", "mint", "sign", "store", "view"], ...], Meta(min_length=1)] | None
    ) = None
    rate_per_min: Annotated[int, Meta(ge=1)] | None = None
    hours: str | None = None
    session_policy: _Text | Annotated[tuple[_Text, ...], Meta(min_length=1)] | None = None


class _Document(Struct, frozen=True, forbid_unknown_fields=True):
    rule: tuple[_RuleTable, ...] = ()


def load_policy(folder: Path) -> Policy:
    """Return the rules of all ``*.toml`` files of a folder.

    Raises:
        IntegrityError: the folder or a file could have been written by others than root.
        MisuseError: a file can't be read or understood; with its line.
    """
    if not os.path.lexists(folder):
        return Policy(())
    require_root_owned(folder, folder.lstat())
    rules: list[Rule] = []
    for path in sorted(folder.glob("*.toml")):
        rules += parse_policy(_read(path), str(path)).rules
    return Policy(tuple(rules))


def parse_policy(data: bytes, name: str) -> Policy:
    """Return the rules of one document; ``name`` is how messages and decisions call it.

    Raises:
        MisuseError: it can't be understood; with its line.
    """
    document = TomlDocument(data, name)
    tables = document.decode(_Document).rule
    return Policy(tuple(_rule(document, index, table) for index, table in enumerate(tables)))


def _rule(document: TomlDocument, index: int, table: _RuleTable) -> Rule:
    def parsed(key: str, parse: Callable[[S], T], value: S) -> T:
        try:
            return parse(value)
        except MisuseError as error:
            raise document.misuse(("rule", index, key), f"{key}: {error.message}") from error

    if (table.agent is None) == (table.session is None):
        raise document.misuse(("rule", index), "a rule has agent or session, one of them")
    pattern = parsed("credential", _with_number, table.credential)
    tool = pattern.text.split("/", 1)[0]
    if table.modes is None and (tool == table.agent or _has_wildcard(tool)):
        raise document.misuse(("rule", index), "a rule of an agent's own credentials has modes")
    modes = table.modes or (_TOOL_MODES if table.session_policy is None else (_MINT,))
    if table.session_policy is not None and modes != (_MINT,):
        raise document.misuse(("rule", index), 'a session policy narrows what is minted: modes is ["mint"]')
    return Rule(
        where=f"{Path(document.name).name}:{document.line_of(('rule', index))}",
        agent=AgentName(table.agent or ""),
        owner_uid=parsed("credential", _owner_in, pattern)
        if table.owner is None
        else parsed("owner", _uid_of, table.owner),
        credential=pattern,
        modes=frozenset(modes),
        rate_per_min=table.rate_per_min,
        hours=None if table.hours is None else parsed("hours", Hours.parse, table.hours),
        session=table.session or "",
        to=None if table.to is None else parsed("to", Destination.parse, table.to),
        narrowed=""
        if table.session_policy is None
        else parsed("session_policy", parse_session_policy, table.session_policy),
    )


def _with_number(text: str) -> CredentialPattern:
    """Return the pattern; its owner may be given by name."""
    pattern = CredentialPattern.parse(text)
    first, owner, *rest = pattern.text.split("/")
    if owner.isdecimal() or _has_wildcard(owner):
        return pattern
    return CredentialPattern.parse("/".join((first, str(_uid_of(owner)), *rest)))


def _owner_in(pattern: CredentialPattern) -> Uid:
    owner = pattern.text.split("/")[1]
    if not owner.isdecimal():
        raise MisuseError("it names no owner; give the key owner as well")
    return Uid(int(owner))


def _has_wildcard(part: str) -> bool:
    return not set(part).isdisjoint("*?")


def _uid_of(owner: str | int) -> Uid:
    if isinstance(owner, int):
        return Uid(owner)
    try:
        return Uid(pwd.getpwnam(owner).pw_uid)
    except KeyError as error:
        raise MisuseError("there is no user of this name on this machine") from error


def _read(path: Path) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as file:
            require_root_owned(path, os.fstat(fd))
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise MisuseError(f"{path} is not a regular file")
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise MisuseError(f"{path} can't be read: {error.strerror}") from error
    if len(data) > MAX_FILE_BYTES:
        raise MisuseError(f"{path} is longer than {MAX_FILE_BYTES} bytes")
    return data
