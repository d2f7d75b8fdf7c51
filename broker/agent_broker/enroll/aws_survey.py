"""The profiles of ``~/.aws``: which have keys, and what becomes of both files.

A profile's keys leave the file that they are in, and ``credential_process`` takes their place in ``~/.aws/config``.
Keys under the same name would be used in its stead, so the decoy stands under a name that no profile had.

A profile that assumes a role by another profile's keys is given to the broker too, which assumes it: otherwise whoever
may use the other profile could assume any role of it. What has no keys (SSO, a web identity, a command, the machine's
own role) stays as it is, and so does a role that asks for a code.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agent_broker.enroll.aws_profile import CONFIG, CREDENTIALS, KEY_NAMES, decoy_pair, keys_value
from agent_broker.enroll.document_file import DocumentFile
from agent_broker.enroll.pointer import Pointer
from agent_broker.enroll.recipe import (
    AbsentError,
    Decoy,
    Edit,
    FoundSecret,
    RemoveMember,
    Row,
    SetMember,
    Survey,
    SurveyedFile,
)
from agent_broker.enroll.tool_plan import names_for
from agent_broker.enroll.user_files import UserFiles
from agent_broker.errors import MisuseError
from agent_broker.honeytoken.presented import digests_of
from agent_broker.vault.record import (
    EXTERNAL_ID_ATTRIBUTE,
    MODES_ATTRIBUTE,
    PROFILE_ATTRIBUTE,
    REGION_SHAPE,
    REGIONS_ATTRIBUTE,
    ROLE_ATTRIBUTE,
    ROLE_SESSION_ATTRIBUTE,
)
from agent_broker.vault.secret import Secret

KIND: Final = "aws-keys"
_PROCESS: Final = "credential_process"
_OLD_TOKEN: Final = "aws_security_token"  # noqa: S105 - a name; what aws_session_token was called
_DECOY_NAMES: Final = ("admin", "backup", "deploy", "billing", "legacy", "ops", "root-account", "infra")
_NAME: Final = re.compile(r"[A-Za-z0-9_.@+=:,/ -]{1,64}")
_ROLE_MEMBERS: Final = ("role_arn", "source_profile", "external_id", "role_session_name", "duration_seconds")
_SESSIONS: Final = (
    "programs get sessions of an hour in place of the keys; such a session can't call IAM, nor most of STS: for that, "
    'allow the keys themselves instead, by a rule with modes = ["release"]'
)
_PLUGIN_PATH: Final = "cli_legacy_plugin_path"
_STAYS: Final = {
    "sso_session": "logs in by SSO",
    "sso_start_url": "logs in by SSO",
    "login_session": "logs in by the browser",
    "web_identity_token_file": "shows a web identity",
    "credential_source": "uses what the machine or the environment has",
    _PROCESS: "gets its keys from a command",
}


@dataclass(frozen=True)
class _Place:
    """Where one file has a profile."""

    file: DocumentFile
    section: str

    def text(self, name: str) -> str:
        """Return a member; empty: there is none."""
        return self.file.text((self.section, name)) or ""


@dataclass
class _Profile:
    """One profile, of both files; what the credentials file says comes first, as botocore has it."""

    name: str
    places: list[_Place]
    pair: dict[str, str] = field(default_factory=dict, repr=False)
    keys_in: _Place | None = None

    def text(self, name: str) -> str:
        """Return a member of either file; empty: there is none."""
        return next((text for place in self.places if (text := place.text(name))), "")


@dataclass
class AwsSurvey:
    """One look at one home."""

    files: UserFiles
    shim: Path
    edits: dict[str, list[Edit]] = field(default_factory=lambda: {CREDENTIALS: [], CONFIG: []})
    rows: list[Row] = field(default_factory=list)
    moved: list[tuple[_Profile, FoundSecret]] = field(default_factory=list)
    needles: list[Secret] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def survey(self) -> Survey:
        """Return what is there and what shall be done."""
        self.credentials = DocumentFile.load(self.files, CREDENTIALS, "ini")
        self.config = DocumentFile.load(self.files, CONFIG, "ini")
        self._require_no_plugins()
        self.profiles = _profiles(self.credentials, self.config)
        for profile in self.profiles.values():
            _find_keys(profile)
        wired = [each for each in self.profiles.values() if self._source_of(each) is not None]
        if not wired:
            raise AbsentError(
                f"no profile of {self.credentials.name} or {self.config.name} has keys of its own"
                + "".join(f"; {each}" for each in self._left(())),
                next_step="aws configure, then try again",
            )
        for profile, name in zip(wired, names_for(each.name for each in wired), strict=True):
            self._wire(profile, name)
        self._take_keys()
        if any(not each.pair["aws_session_token"] and not each.text("role_arn") for each in wired):
            self.warnings.append(_SESSIONS)
        self.warnings += self._left(tuple(wired))
        return self._result()

    def _require_no_plugins(self) -> None:
        """Refuse code from a folder of the user's in the aws command itself (awscli.clidriver)."""
        if self.config.has(("plugins", _PLUGIN_PATH)):
            raise MisuseError(
                f"{self.config.name} has aws run plug-ins from a folder of yours, which could print all keys",
                next_step=f"delete {_PLUGIN_PATH} there, then try again",
            )

    def _source_of(self, profile: _Profile) -> _Profile | None:
        """Return the profile whose keys this one uses, itself or another; None: it stays as it is."""
        if not profile.text("role_arn"):
            return profile if profile.pair else None
        source = self.profiles.get(profile.text("source_profile"))
        if source is None or not source.pair or profile.text("mfa_serial"):
            return None
        return source if source is profile or not source.text("role_arn") else None

    def _wire(self, profile: _Profile, name: str) -> None:
        source = self._source_of(profile)
        if source is None or source.keys_in is None:  # can't be: it is one of the wired
            return
        _require_plain(profile.name, self.config.name)
        keys = source.keys_in
        where: Pointer = (keys.section, "aws_secret_access_key")
        attributes = _attributes(profile, source)
        value = keys_value(source.pair)
        self.moved.append((profile, FoundSecret(name, KIND, value, keys.file.path, where, "fixed", attributes)))
        for place in profile.places if profile.text("role_arn") else ():
            held = place.file.value((place.section,))
            members = held if isinstance(held, dict) else {}
            self.edits[place.file.path] += [
                RemoveMember((place.section, each)) for each in _ROLE_MEMBERS if each in members
            ]
        section = next((each.section for each in profile.places if each.file is self.config), _section(profile.name))
        command = shlex.join((str(self.shim), "aws", profile.name))
        self.edits[CONFIG].append(SetMember((section, _PROCESS), command))

    def _take_keys(self) -> None:
        for profile in self.profiles.values():
            if profile.keys_in is None:
                continue
            file, section = profile.keys_in.file, profile.keys_in.section
            for name in (*KEY_NAMES, _OLD_TOKEN):
                if file.has((section, name)):
                    self.edits[file.path].append(RemoveMember((section, name)))
            self.needles += [Secret(profile.pair[name].encode()) for name in KEY_NAMES[1:] if profile.pair[name]]
            if profile.pair["aws_session_token"]:
                self.warnings.append(
                    f"the keys of the profile {profile.name} are temporary: they end within hours; the broker can't "
                    "renew them, and gives them out as they are"
                )

    def _left(self, wired: tuple[_Profile, ...]) -> Iterator[str]:
        for profile in self.profiles.values():
            if any(profile is each for each in wired):
                continue
            why = next((text for member, text in _STAYS.items() if profile.text(member)), "")
            if profile.text("mfa_serial"):
                why = "assumes a role with a code that a person types"
            elif profile.text("role_arn") and not why:
                why = f"assumes a role by the profile {profile.text('source_profile')}"
            if why:
                yield f"the profile {profile.name} {why}: it stays as it is"

    def _result(self) -> Survey:
        decoy_name = next(each for each in _DECOY_NAMES if each not in self.profiles)
        first = next(each for each in self.profiles.values() if each.pair)
        decoy = decoy_pair({**first.pair, "aws_session_token": ""})
        self.edits[CREDENTIALS] += [SetMember((decoy_name, name), value) for name, value in decoy.items()]
        self._note_rows(decoy_name)
        secrets = tuple(secret for _, secret in self.moved)
        return Survey(
            files=tuple(
                SurveyedFile(file.path, file.content, tuple(self.edits[file.path]), format="ini")
                for file in (self.credentials, self.config)
            ),
            secrets=secrets,
            active=secrets[0].name,
            decoys=(Decoy(CREDENTIALS, "aws-profile", digests_of(decoy.values()), shared=True),),
            needles=tuple(self.needles),
            scan_first=(CREDENTIALS, CONFIG),
            rows=tuple(self.rows),
            warnings=tuple(self.warnings),
        )

    def _note_rows(self, decoy_name: str) -> None:
        for file in (self.credentials, self.config):
            names = [each.name for each in self.profiles.values() if each.keys_in and each.keys_in.file is file]
            holds = f"keys of: {', '.join(names)}" if names else "no keys"
            wills = ["to the vault"] if names else []
            if file is self.credentials:
                wills.append(f"a decoy under the name {decoy_name}, watched")
            else:
                wired = ", ".join(profile.name for profile, _ in self.moved)
                wills.append(f"credential_process is the broker, for: {wired}")
            made = "does not exist" if file.content is None else holds
            self.rows.append(Row(file.name, made, ("made: " if file.content is None else "") + "; ".join(wills)))


def _profiles(credentials: DocumentFile, config: DocumentFile) -> dict[str, _Profile]:
    found: dict[str, _Profile] = {}
    for file in (credentials, config):
        seen: set[str] = set()
        for section in file.members():
            name = section if file is credentials or section == "default" else _name_in(section)
            if not name or not isinstance(file.value((section,)), dict):
                continue
            if name in seen:
                raise MisuseError(f"{file.name} has the profile {name} twice", next_step="make it one, then try again")
            seen.add(name)
            found.setdefault(name, _Profile(name, [])).places.append(_Place(file, section))
    return found


def _name_in(section: str) -> str:
    """Return the profile that a section of ``~/.aws/config`` is; empty: it is none (botocore.configloader)."""
    try:
        words = shlex.split(section)
    except ValueError:
        return ""
    return words[1] if len(words) == 2 and words[0] == "profile" else ""  # noqa: PLR2004 - profile NAME


def _section(profile: str) -> str:
    return "default" if profile == "default" else f"profile {shlex.quote(profile)}"


def _find_keys(profile: _Profile) -> None:
    """Note where a profile's pair is.

    Raises:
        MisuseError: in both files, or only half of it is there.
    """
    for place in profile.places:
        pair = {name: place.text(name) for name in KEY_NAMES}
        pair["aws_session_token"] = pair["aws_session_token"] or place.text(_OLD_TOKEN)
        if not any(pair.values()):
            continue
        if not pair["aws_access_key_id"] or not pair["aws_secret_access_key"]:
            raise MisuseError(
                f"{place.file.name} has half a pair of keys in the profile {profile.name}",
                next_step="complete it or delete it, then try again",
            )
        if profile.keys_in is not None:
            raise MisuseError(
                f"the profile {profile.name} has keys in both {CREDENTIALS} and {CONFIG}",
                next_step="delete those that are not used (of ~/.aws/config), then try again",
            )
        profile.pair, profile.keys_in = pair, place


def _require_plain(profile: str, name: str) -> None:
    if not _NAME.fullmatch(profile):
        raise MisuseError(
            f"a profile of {name} has a name that can't stand in a command safely",
            next_step="rename it: letters, digits, spaces and _ . @ + = : , / -",
        )


def _attributes(profile: _Profile, source: _Profile) -> dict[str, str]:
    region = profile.text("region") or source.text("region")
    modes = "mint release"
    if profile.text("role_arn"):
        modes = "mint"  # the pair itself opens more than the role
    elif source.pair["aws_session_token"]:
        modes = "release"  # STS gives no session for a session
    found = {
        MODES_ATTRIBUTE: modes,
        PROFILE_ATTRIBUTE: profile.name,
        REGIONS_ATTRIBUTE: region if REGION_SHAPE.fullmatch(region) else "",
        ROLE_ATTRIBUTE: profile.text("role_arn"),
        EXTERNAL_ID_ATTRIBUTE: profile.text("external_id"),
        ROLE_SESSION_ATTRIBUTE: profile.text("role_session_name"),
    }
    return {name: value for name, value in found.items() if value}
