"""Passwords of package indexes, in the files of pip, uv and twine: found, moved, and what stays in their place.

A password in one of these files beats keyring, so none may stay, not even a decoy: pip or twine would use it instead.
``~/.pypirc`` keeps its servers and user names, and gets a section of a server that no upload uses, whose password is
worthless (whoever else reads the file is told by the catalogue, as of any file of credentials). pip and uv keep their
addresses with the user's name, so that they ask keyring, as they are told to. An address in one of TOML's arrays
(uv's ``[[index]]``) is edited where its text is, if that is there once; the file is replaced as a whole then. What is
said in a way that can't be edited safely, and what another tool's file says, is told and left.
"""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit, urlunsplit

from agent_broker.enroll.document_file import DocumentFile
from agent_broker.enroll.netrc_file import netrc_warnings
from agent_broker.enroll.pointer import Format, Pointer
from agent_broker.enroll.recipe import (
    Edit,
    FoundSecret,
    RemoveMember,
    ReplaceFile,
    Row,
    SetMember,
    Survey,
    SurveyedFile,
)
from agent_broker.enroll.rewrite import rewritten
from agent_broker.enroll.tool_plan import names_for
from agent_broker.enroll.user_files import UserFiles
from agent_broker.errors import MisuseError
from agent_broker.honeytoken.likeness import decoy_like
from agent_broker.policy.destination import Destination
from agent_broker.vault.record import DESTINATION_ATTRIBUTE, USERNAME_ATTRIBUTE
from agent_broker.vault.secret import Secret

KIND: Final = "keyring-password"
PYPIRC: Final = ".pypirc"
_PIP: Final = (".config/pip/pip.conf", ".pip/pip.conf")
_UV: Final = ".config/uv/uv.toml"
_PYPI: Final = "https://upload.pypi.org/legacy/"
_REPOSITORIES: Final = {"pypi": _PYPI, "testpypi": "https://test.pypi.org/legacy/"}
"""What twine takes for a section that names no repository."""
_UNUSED: Final = "pypi-before"
"""A server that ``index-servers`` does not list."""
_PLACES: Final = ("index-url", "extra-index-url", "find-links")
_PROVIDER: Final = "keyring-provider"
_LOGIN: Final = re.compile(r"://[^/\s@:]+:[^/\s@]+@")


@dataclass(frozen=True)
class _Found:
    """One password."""

    file: str
    path: Pointer
    user: str
    password: str = field(repr=False)
    to: Destination = field(default_factory=lambda: Destination("", "", 0))


@dataclass
class KeyringSurvey:
    """One look at one home."""

    files: UserFiles
    shim: Path
    found: list[_Found] = field(default_factory=list)
    changed: list[SurveyedFile] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def survey(self) -> Survey:
        """Return what is there and what shall be done."""
        self._pypirc()
        for path in _PIP:
            self._indexes(path, "ini")
        self._indexes(_UV, "toml")
        self.warnings += [*netrc_warnings(self.files, "pip, uv and twine use", "keyring"), *self._link()]
        names = names_for(str(each.to).partition("://")[2] for each in self.found)
        secrets = tuple(_secret(name, each) for name, each in zip(names, self.found, strict=True))
        return Survey(
            files=tuple(self.changed),
            secrets=secrets,
            active=names[0] if names else "",
            decoys=(),
            needles=tuple(each.value for each in secrets),
            scan_first=tuple(each.path for each in self.changed),
            rows=tuple(self.rows),
            warnings=tuple(self.warnings),
        )

    def _pypirc(self) -> None:
        file = DocumentFile.load(self.files, PYPIRC, "ini")
        edits: list[Edit] = []
        for server in file.members():
            password = file.text((server, "password"))
            user = file.text((server, "username")) or "__token__"
            place = file.text((server, "repository")) or _REPOSITORIES.get(server, "")
            to = _destination(place)
            if password is None or server == _UNUSED:
                continue
            if to is None:
                self.warnings.append(f"{file.name}: the password of {server} is for no address; it stays")
                continue
            self.found.append(_Found(PYPIRC, (server, "password"), user, password, to))
            edits.append(RemoveMember((server, "password")))
        if not edits:
            return
        decoy = decoy_like(self.found[-1].password)
        edits += [
            SetMember((_UNUSED, "repository"), _PYPI),
            SetMember((_UNUSED, "username"), "__token__"),
            SetMember((_UNUSED, "password"), decoy),
        ]
        self._change(file, edits, "to the vault; a worthless one in a section that no upload uses")

    def _indexes(self, path: str, file_format: Format) -> None:
        file = DocumentFile.load(self.files, path, file_format)
        edits: list[Edit] = []
        data = self._listed(file)
        for pointer in _addresses(file):
            text = _plain(file, pointer)
            parts = _login_of(text)
            if parts is None:
                if text is None or _LOGIN.search(text):
                    self.warnings.append(
                        f"{file.name}: {'.'.join(pointer)} can't be moved; one address, on a line of its own, can"
                    )
                continue
            user, password, to, without = parts
            self.found.append(_Found(path, pointer, user, password, to))
            edits.append(SetMember(pointer, without))
        if not edits and data is None:
            return
        edits.append(SetMember((_PROVIDER,) if file_format == "toml" else ("global", _PROVIDER), "subprocess"))
        if data is not None:
            edits = [ReplaceFile(rewritten(data, tuple(edits), {}, file_format)[0])]
        self._change(file, edits, "to the vault; the address keeps the user's name, and keyring is asked")

    def _listed(self, file: DocumentFile) -> bytes | None:
        """Take the passwords out of addresses in arrays; return the file's bytes then, None: nothing was done."""
        data = b"" if file.content is None else file.content.data
        count = len(self.found)
        for place, text in _listed_addresses(file):
            parts = _login_of(text)
            quoted = [quote + text.encode() + quote for quote in (b'"', b"'")]
            if parts is None or sum(data.count(each) for each in quoted) != 1:
                if _LOGIN.search(text):
                    self.warnings.append(f"{file.name}: {place} has a password, and stays; take it out of there")
                continue
            user, password, to, without = parts
            for each in quoted:
                data = data.replace(each, each[:1] + without.encode() + each[:1])
            self.found.append(_Found(file.path, (place,), user, password, to))
        return data if len(self.found) > count else None

    def _change(self, file: DocumentFile, edits: list[Edit], will: str) -> None:
        self.changed.append(SurveyedFile(file.path, file.content, tuple(edits), format=file.format))
        count = sum(each.file == file.path for each in self.found)
        self.rows.append(Row(file.name, f"{count} password" + ("s" if count > 1 else ""), will))

    def _link(self) -> Iterator[str]:
        found = shutil.which("keyring")
        if found is None or Path(found).resolve() != self.shim:
            yield f"pip and uv must find keyring on their PATH: ln -s {self.shim} ~/.local/bin/keyring"


def _addresses(file: DocumentFile) -> Iterator[Pointer]:
    """Yield where a file has addresses of indexes; pip's in any section."""
    if file.format == "toml":
        yield from ((key,) for key in _PLACES if file.has((key,)) and not isinstance(file.value((key,)), list))
        return
    for section in file.members():
        for key in _PLACES:
            if isinstance(file.value((section,)), dict) and (
                file.has((section, key)) or file.is_refused((section, key))
            ):
                yield (section, key)


def _listed_addresses(file: DocumentFile) -> Iterator[tuple[str, str]]:
    """Yield the addresses in TOML's arrays, and where they are."""
    for key in ("index", *_PLACES):
        value = file.value((key,))
        for number, each in enumerate(value if isinstance(value, list) else ()):
            if isinstance(each, str):
                yield f"{key}[{number}]", each
            elif isinstance(each, dict):
                yield from ((f"{key}[{number}].{name}", text) for name, text in each.items() if isinstance(text, str))


def _plain(file: DocumentFile, pointer: Pointer) -> str | None:
    """Return an address; None: it is written in a way that can't be edited."""
    try:
        return file.text(pointer)
    except MisuseError:
        return None


def _login_of(text: str | None) -> tuple[str, str, Destination, str] | None:
    """Return user, password, place, and the address without the password; None: not one address with a password."""
    if text is None or not text.split() or text.split() != [text]:
        return None
    try:
        parts = urlsplit(text)
        login, at, host = parts.netloc.rpartition("@")
        user, colon, password = login.partition(":")
    except ValueError:
        return None
    to = _destination(urlunsplit((parts.scheme, host, parts.path, "", "")))
    if not at or not colon or not user or not password or to is None:
        return None
    without = urlunsplit((parts.scheme, f"{user}@{host}", parts.path, parts.query, parts.fragment))
    return unquote(user), unquote(password), to, without


def _destination(text: str) -> Destination | None:
    try:
        return Destination.parse(text)
    except MisuseError:
        return None


def _secret(name: str, found: _Found) -> FoundSecret:
    attributes = {DESTINATION_ATTRIBUTE: str(found.to), USERNAME_ATTRIBUTE: found.user}
    return FoundSecret(name, KIND, Secret(found.password.encode()), found.file, found.path, "fixed", attributes)
