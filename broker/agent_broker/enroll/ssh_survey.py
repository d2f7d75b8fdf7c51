"""What is in ~/.ssh, and what enrolment does to it."""

import posixpath
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agent_broker.enroll.document import open_document
from agent_broker.enroll.file_state import sha256_of
from agent_broker.enroll.owner import Owner
from agent_broker.enroll.pointer import MISSING, NotEditableError, value_at
from agent_broker.enroll.recipe import Decoy, Edit, FoundSecret, ReplaceFile, Row, SetMember, Survey, SurveyedFile
from agent_broker.enroll.ssh_document import IDENTITY_AGENT
from agent_broker.enroll.tool_plan import names_for
from agent_broker.enroll.user_files import Content, UserFiles
from agent_broker.errors import MisuseError
from agent_broker.honeytoken.keys import private_key_like
from agent_broker.honeytoken.presented import digests_of
from agent_broker.ids import Sha256
from agent_broker.ssh.binding import Limits
from agent_broker.ssh.keys import (
    PassphraseNeededError,
    PrivateKey,
    algorithm_of,
    blob_of_line,
    load_private_key,
    public_blob,
    public_line,
    sealed_form,
)
from agent_broker.ssh.record import KIND, KeyFacts
from agent_broker.vault.secret import Secret

FOLDER: Final = ".ssh"
CONFIG: Final = ".ssh/config"
MAX_KEY_BYTES: Final = 64 * 1024  # an RSA key of 16384 bits has 13 kB
MAX_FILES: Final = 256
PASSPHRASE_TRIES: Final = 3

_HEAD = re.compile(rb"\s*-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----")
_NO_KEYS = re.compile(r".*\.pub|known_hosts.*|authorized_keys.*|config|environment|rc|allowed_signers|.*\.sock")
_FLAGS = re.MULTILINE | re.IGNORECASE
_IDENTITY_FILE = re.compile(
    rb"^[ \t]*identityfile(?:[ \t]*=[ \t]*|[ \t]+)\"?(?P<path>[^\"\r\n]+?)\"?[ \t]*\r?$", _FLAGS
)
_ELSEWHERE = re.compile(rb"^[ \t]*(?P<word>include|identityagent|pkcs11provider|securitykeyprovider)\b", _FLAGS)


class Passphrases:
    """Asks for the passphrase of a key once, however often the key is looked at."""

    def __init__(self, ask: Callable[[str], bytes | None] | None = None) -> None:
        """``ask``: given the key's path, returns the passphrase, None to leave the key; None: nobody can be asked."""
        self._ask = ask
        self._known: dict[Sha256, Secret] = {}
        self._left: set[Sha256] = set()
        """Keys that nobody had a passphrase for: they are not asked for again."""

    def open(self, path: str, content: Content) -> PrivateKey:
        """Return the key of a file, asking if need be.

        Raises:
            PassphraseNeededError: it has a passphrase that nobody told.
            MisuseError: it is no key that can be enrolled.
        """
        digest = content_digest(content)
        if digest in self._known:
            return load_private_key(content.data, self._known[digest].reveal())
        try:
            return load_private_key(content.data)
        except PassphraseNeededError:
            return self._asked(path, content, digest)

    def _asked(self, path: str, content: Content, digest: Sha256) -> PrivateKey:
        ask = self._ask if digest not in self._left else None
        for _ in range(PASSPHRASE_TRIES if ask is not None else 0):
            told = ask(path) if ask is not None else None
            if not told:
                break
            try:
                key = load_private_key(content.data, told)
            except PassphraseNeededError:
                continue
            self._known[digest] = Secret(told)
            return key
        self._left.add(digest)
        raise PassphraseNeededError(f"{path} is protected by a passphrase that was not given")


def content_digest(content: Content) -> Sha256:
    """Return the digest of a file's bytes."""
    return sha256_of(content.data)


@dataclass(frozen=True)
class _Found:
    """One private key's file."""

    path: str
    content: Content
    key: PrivateKey = field(repr=False)
    blob: bytes = b""
    comment: str = ""


@dataclass
class SshSurvey:
    """One look at one home."""

    files: UserFiles
    owner: Owner
    socket: Path
    passphrases: Passphrases
    changed: list[SurveyedFile] = field(default_factory=list)
    decoys: list[Decoy] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def survey(self) -> Survey:
        """Return what is there and what shall be done.

        Raises:
            MisuseError: there is no key that can be enrolled, or the configuration can't be edited safely.
        """
        config = self.files.read(CONFIG)
        found = list(self._keys(b"" if config is None else config.data))
        if not found:
            raise MisuseError(
                f"no private key that can be enrolled was found in {self.files.absolute(FOLDER)}",
                next_step="; ".join(self.warnings) or "make one with ssh-keygen, then try again",
            )
        for each in found:
            self._replace(each)
        self._wire(config)
        firsts = list({each.blob: each for each in reversed(found)}.values())[::-1]
        names = names_for(posixpath.basename(each.path) for each in firsts)
        secrets = tuple(_secret(name, each) for name, each in zip(names, firsts, strict=True))
        return Survey(
            files=tuple(self.changed),
            secrets=secrets,
            active=names[0],
            decoys=tuple(self.decoys),
            needles=tuple(map(_needle, found)),
            scan_first=(FOLDER,),
            rows=tuple(self.rows),
            warnings=tuple(self.warnings),
        )

    def _keys(self, config: bytes) -> Iterator[_Found]:
        for path in self._places(config):
            content = self._content(path)
            if content is None or not _HEAD.match(content.data):
                continue
            name = self.files.absolute(path)
            try:
                key = self.passphrases.open(name, content)
            except PassphraseNeededError as error:
                self.warnings.append(f"{error.message}: it stays; enroll on a terminal to move it")
                continue
            except MisuseError as error:
                self.warnings.append(f"{name} stays: {error.message}")
                continue
            yield self._with_public(_Found(path, content, key, public_blob(key)))

    def _places(self, config: bytes) -> list[str]:
        """Return where keys may be: all of ~/.ssh, and what the configuration names below the home."""
        names = self.files.list_folder(FOLDER)
        if len(names) > MAX_FILES:
            self.warnings.append(f"{self.files.absolute(FOLDER)} has {len(names)} files; {MAX_FILES} are looked at")
        places = [f"{FOLDER}/{name}" for name in names[:MAX_FILES] if not _NO_KEYS.fullmatch(name)]
        home = self.owner.home.rstrip("/") + "/"
        for found in _IDENTITY_FILE.finditer(config):
            text = found["path"].decode("utf-8", "replace").replace("~/", home, 1).replace("%d/", home, 1)
            path = posixpath.normpath(text)
            if path.startswith(home) and not path.endswith(".pub"):
                places.append(path.removeprefix(home))
            elif not path.endswith(".pub"):
                self.warnings.append(f"the key {path!r} is not below the home: it stays")
        return list(dict.fromkeys(places))[: 2 * MAX_FILES]

    def _content(self, path: str) -> Content | None:
        """Return a file that could be a key; links, folders and large files are passed over."""
        state = self.files.look(path)
        if state is None or state.size_bytes > MAX_KEY_BYTES:
            return None
        if stat.S_ISLNK(state.mode):
            self.warnings.append(f"{self.files.absolute(path)} is a link: what it leads to stays")
        return self.files.read(path) if stat.S_ISREG(state.mode) else None

    def _with_public(self, found: _Found) -> _Found:
        """Take the comment from the public file; make that file if it is not there."""
        path = f"{found.path}.pub"
        content = self.files.read(path)
        name = self.files.absolute(path)
        if content is None:
            line = public_line(found.blob, f"{self.owner.name}@agent-broker")
            self.changed.append(SurveyedFile(path, None, (ReplaceFile(f"{line}\n".encode()),)))
            self.rows.append(Row(name, "does not exist", "made: the public half, by which ssh knows the key"))
            return found
        try:
            blob, comment = blob_of_line(content.data.decode("utf-8", "replace").strip())
        except MisuseError:
            blob, comment = b"", ""
        if blob != found.blob:
            self.warnings.append(f"{name} is not the public half of {found.path}: ssh will not find the key by it")
        return _Found(found.path, found.content, found.key, found.blob, comment)

    def _replace(self, found: _Found) -> None:
        decoy = private_key_like(found.content.data, algorithm_of(found.blob), found.comment)
        self.changed.append(SurveyedFile(found.path, found.content, (ReplaceFile(decoy.encode()),)))
        values = (decoy, "".join(decoy.splitlines()[1:-1]))
        self.decoys.append(Decoy(found.path, "ssh-private-key", digests_of(values)))
        kind = algorithm_of(found.blob)
        will = "to the vault; a decoy of the same kind instead; watched"
        self.rows.append(Row(self.files.absolute(found.path), f"private key ({kind})", will))

    def _wire(self, content: Content | None) -> None:
        data = b"" if content is None else content.data
        name = self.files.absolute(CONFIG)
        edit: Edit = SetMember(IDENTITY_AGENT, str(self.socket))
        try:
            document = open_document("ssh", data)
            document.with_value(IDENTITY_AGENT, str(self.socket))
        except NotEditableError as error:
            raise MisuseError(f"{name}: {error.message}", next_step="repair it, then try again") from error
        before = value_at(document.value, IDENTITY_AGENT)
        if before is not MISSING:
            self.warnings.append(f"{name} sets IdentityAgent: while enrolled, keys of that agent are not used")
        said = {found["word"].decode().lower() for found in _ELSEWHERE.finditer(data)}
        if "include" in said and before is not MISSING:
            self.warnings.append(f"{name} includes other files: if one sets IdentityAgent above it, that one counts")
        if {"pkcs11provider", "securitykeyprovider"} & said:
            self.warnings.append(f"{name} names a library: ssh is refused while it has one loaded that is not root's")
        self.changed.append(SurveyedFile(CONFIG, content, (edit,), format="ssh"))
        made = "does not exist" if content is None else "your settings of ssh"
        self.rows.append(Row(name, made, f"IdentityAgent {self.socket}, in its first line"))
        self.warnings.append(
            "programs that don't read ssh's configuration (ssh-add, ssh-keygen -Y sign, git's signatures, libraries) "
            f"find the keys by: export SSH_AUTH_SOCK={self.socket}"
        )
        self.warnings.append("what an ssh-agent of your session has loaded stays loaded there: ssh-add -D")


def _secret(name: str, found: _Found) -> FoundSecret:
    facts = KeyFacts(found.blob, found.comment, Limits())
    value = Secret(sealed_form(found.key))
    return FoundSecret(name, KIND, value, found.path, ("private key",), "fixed", facts.attributes())


def _needle(found: _Found) -> Secret:
    """Return a line of the private half. Of the last two, the longer that is not part of the public half as well."""
    public = public_line(found.blob, "").split()[1].encode()
    lines = [line.strip() for line in found.content.data.splitlines() if not line.startswith(b"-----") and line.strip()]
    private = [line for line in lines[-2:] if line not in public]
    return Secret(max(private, key=len, default=b""))
