"""Claude Code: where it keeps its credentials, which one it uses, and how it is wired to the broker.

Claude's own precedence (observed with 2.1): ``x-api-key`` from the settings' ``env.ANTHROPIC_API_KEY``, then
``apiKeyHelper``, then ``primaryApiKey`` of ``~/.claude.json``; ``Authorization`` from ``env.ANTHROPIC_AUTH_TOKEN``;
only without any of them ``CLAUDE_CODE_OAUTH_TOKEN``, then ``~/.claude/.credentials.json``.

Wiring: the user's ``settings.json`` gets the broker's address as ``ANTHROPIC_BASE_URL`` and a phantom as
``ANTHROPIC_AUTH_TOKEN`` (Claude asks no question about that one). ``.credentials.json`` gets a decoy that never
expires: Claude opens it at every start, and with a phantom set it never sends it.
"""

import json
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent_broker.enroll.claude_clouds import Cloud, cloud_of, take_cloud
from agent_broker.enroll.document_file import DocumentFile, UnreadableFileError
from agent_broker.enroll.home_survey import HomeSurvey
from agent_broker.enroll.json_document import JsonPath, JsonValue
from agent_broker.enroll.profile import exports
from agent_broker.enroll.recipe import (
    Decoy,
    Edit,
    Form,
    FoundSecret,
    RemoveMember,
    Row,
    SetMember,
    Survey,
    SurveyedFile,
    Wire,
)
from agent_broker.enroll.user_files import UserFiles
from agent_broker.enroll.variables import Variable
from agent_broker.errors import MisuseError
from agent_broker.honeytoken.likeness import FAR_FUTURE_MS, decoy_like, fresh_token
from agent_broker.honeytoken.presented import digests_of
from agent_broker.ids import Sha256
from agent_broker.vault.secret import Secret

_FOLDER = ".claude"
_BACKUPS = ".claude/backups"
_CREDENTIALS = ".claude/.credentials.json"
_SETTINGS = ".claude/settings.json"
_LOCAL_SETTINGS = ".claude/settings.local.json"
_CONFIG = ".claude.json"
_OAUTH: JsonPath = ("claudeAiOauth",)
_ACCESS_TOKEN: JsonPath = (*_OAUTH, "accessToken")
_PRIMARY: JsonPath = ("primaryApiKey",)
_HELPER: JsonPath = ("apiKeyHelper",)
_BASE_URL: JsonPath = ("env", "ANTHROPIC_BASE_URL")
_AUTH_TOKEN: JsonPath = ("env", "ANTHROPIC_AUTH_TOKEN")
_API_KEY: JsonPath = ("env", "ANTHROPIC_API_KEY")
_OAUTH_TOKEN: JsonPath = ("env", "CLAUDE_CODE_OAUTH_TOKEN")

_PRECEDENCE = (
    "api-key",
    "exported-api-key",
    "auth-token",
    "exported-auth-token",
    "helper",
    "primary-api-key",
    "oauth-token",
    "exported-oauth-token",
    "oauth",
)
_TITLES = {
    "api-key": "API key",
    "auth-token": "bearer token",
    "helper": "apiKeyHelper",
    "primary-api-key": "API key",
    "oauth-token": "OAuth token",
    "exported-api-key": "API key",
    "exported-auth-token": "bearer token",
    "exported-oauth-token": "OAuth token",
    "oauth": "OAuth login",
    "bedrock-api-key": "Bedrock API key",
    "aws-keys": "AWS keys",
    "aws-profile": "AWS keys",
    "google-adc": "login at Google",
}
_OVERRIDES = {
    "ANTHROPIC_API_KEY": "is sent beside the phantom, so the real key stays in every process; remove it",
    "ANTHROPIC_AUTH_TOKEN": "holds a credential that every process can read; remove it",
    "CLAUDE_CODE_OAUTH_TOKEN": "holds a credential that every process can read; remove it",
    "CLAUDE_CODE_USE_BEDROCK": "makes Claude talk to Bedrock, past the broker; set it in the env of its settings",
    "CLAUDE_CODE_USE_VERTEX": "makes Claude talk to Vertex, past the broker; set it in the env of its settings",
    "CLAUDE_CONFIG_DIR": "moves Claude's files elsewhere; only ~/.claude is enrolled",
}
_AT_CLOUD = ("bedrock-api-key", "aws-keys", "aws-profile", "google-adc")
"""The names of what can be used at a cloud, in Claude's order."""


@dataclass(kw_only=True)
class ClaudeSurvey(HomeSurvey):
    """One look at one home."""

    managed_settings: Path
    helper: bool = False
    cloud: Cloud = ""
    """At which cloud Claude is set to use its models; then its own credential there is the active one."""
    cloud_decoys: tuple[Decoy, ...] = ()

    def survey(self) -> Survey:
        """Return what is there and what shall be done.

        Raises:
            MisuseError: see Recipe.survey.
        """
        self.files.check_folder(_FOLDER)
        self._settings()
        self._config()
        backups = list(self._backups())
        self._credentials()
        self.secrets += self.take_exported(EXPORTED, [file.path for file in self.changed])
        active = self._active()
        self._surroundings()
        decoys = (Decoy(_CREDENTIALS, "claude-oauth", self._decoy_digests()), *self.cloud_decoys)
        return self.result(active, decoys, (_FOLDER, _CONFIG, *backups))

    def _settings(self) -> None:
        file = DocumentFile.load(self.files, _SETTINGS)
        file.require_object(("env",))
        held = [
            *self._take(file, _API_KEY, "api-key", "anthropic-api-key"),
            *self._take(file, _AUTH_TOKEN, "auth-token", "anthropic-auth-token"),
            *self._take(file, _OAUTH_TOKEN, "oauth-token", "anthropic-oauth", form="fixed"),
        ]
        edits: list[Edit] = [SetMember(_BASE_URL, Wire.INJECTION_URL), SetMember(_AUTH_TOKEN, Wire.PHANTOM)]
        self.cloud = cloud_of(file)
        if self.cloud:
            wiring = take_cloud(self, file, self.cloud)
            edits, self.cloud_decoys = wiring.edits, wiring.decoys
            held += wiring.held
        set_anew = {edit.path for edit in edits if isinstance(edit, SetMember)}
        others = (_AUTH_TOKEN, _API_KEY, _OAUTH_TOKEN, _HELPER)
        edits += [RemoveMember(path) for path in others if path not in set_anew and file.has(path)]
        will = "wired to the broker: its address and a phantom token"
        if file.has(_HELPER):
            self.helper = True
            held.append("apiKeyHelper (a command of yours)")
            will += "; apiKeyHelper off while enrolled, back at unenroll"
        base_url = file.text(_BASE_URL)
        if base_url is not None and not self.cloud:
            self.warnings.append(
                f"{file.name} sets ANTHROPIC_BASE_URL; while enrolled, requests go to the upstream that the operator "
                "configured ([upstream.anthropic] base_url) instead: make sure that it is the same"
            )
        self.change(file, edits, ", ".join(held) or "no secret", ("secrets to the vault; " if held else "") + will)

    def _config(self) -> None:
        file = DocumentFile.load(self.files, _CONFIG)
        held = self._take(file, _PRIMARY, "primary-api-key", "anthropic-api-key")
        if held:
            self.files.check_folder(".")
            self.change(file, [RemoveMember(_PRIMARY)], ", ".join(held), "secret to the vault; its member removed")

    def _backups(self) -> Iterator[str]:
        """Clean the copies that Claude makes of its configuration; yield what the scan shall look at as well."""
        names = [f"{_BACKUPS}/{name}" for name in self.files.list_folder(_BACKUPS)]
        names += [name for name in self.files.list_folder(".") if name.startswith(f"{_CONFIG}.")]
        for path in names:
            yield path
            state = self.files.look(path)
            if state is None or stat.S_ISDIR(state.mode):  # the agent's locks are folders
                continue
            if not stat.S_ISREG(state.mode):
                self.warnings.append(f"{self.files.absolute(path)} is not a regular file: not looked into")
                continue
            try:
                self._backup(DocumentFile.load(self.files, path))
            except UnreadableFileError:
                self.warnings.append(f"{self.files.absolute(path)} is not JSON: not looked into")

    def _backup(self, file: DocumentFile) -> None:
        key = file.text(_PRIMARY)
        if not key:
            return
        self.files.check_folder(str(Path(file.path).parent))
        self.needles.append(Secret(key.encode()))
        edits: list[Edit] = [RemoveMember(_PRIMARY)]
        self.changed.append(SurveyedFile(file.path, file.content, tuple(edits), put_back=False))
        self.rows.append(Row(file.name, "API key (a copy)", "its member removed; the original file to the vault"))

    def _credentials(self) -> None:
        file = DocumentFile.load(self.files, _CREDENTIALS)
        file.require_object(_OAUTH)
        oauth = file.value(_OAUTH)
        others = sorted(set(file.members()) - {_OAUTH[0]})
        if others:
            self.warnings.append(
                f"{file.name} also holds {', '.join(others)}: other credentials of Claude's, which stay; "
                "whoever else opens the file raises an alert"
            )
        if isinstance(oauth, dict) and oauth.get("accessToken"):
            secret = Secret(json.dumps(oauth).encode())
            self.secrets.append(FoundSecret("oauth", "anthropic-oauth", secret, _CREDENTIALS, _OAUTH, "object"))
            tokens = {key: value for key, value in oauth.items() if isinstance(value, str) and _is_token(key, value)}
            self.needles += [Secret(value.encode()) for value in tokens.values()]
            edits: list[Edit] = [SetMember((*_OAUTH, key), decoy_like(value)) for key, value in tokens.items()]
            edits.append(SetMember((*_OAUTH, "expiresAt"), FAR_FUTURE_MS, follows=_ACCESS_TOKEN))
            self.change(file, edits, "OAuth login", "secret to the vault; a decoy of the same shape instead, watched")
        else:
            self.change(file, _new_decoy(), "no login", "a decoy is put there, watched")

    def _decoy_digests(self) -> tuple[Sha256, ...]:
        edits = [edit for file in self.changed if file.path == _CREDENTIALS for edit in file.edits]
        values = [(edit.path[-1], edit.value) for edit in edits if isinstance(edit, SetMember)]
        return digests_of(value for key, value in values if isinstance(value, str) and _is_token(key, value))

    def _take(self, file: DocumentFile, path: JsonPath, name: str, kind: str, form: Form = "text") -> list[str]:
        """Note one secret; return its description for the table, if it is there."""
        text = file.text(path)
        if not text:
            return []
        value = text if form == "text" else bare_oauth(text)
        self.secrets.append(FoundSecret(name, kind, Secret(value.encode()), file.path, path, form))
        self.needles.append(Secret(text.encode()))
        return [f"{_TITLES[name]} ({'.'.join(path)})"]

    def _active(self) -> str:
        found = {secret.name for secret in self.secrets}
        usable = [name for name in (_AT_CLOUD if self.cloud else _PRECEDENCE) if name in found]
        if not usable:
            raise self._nothing_to_enroll()
        active = usable[0]
        if self.helper and not self.cloud and _PRECEDENCE.index("helper") < _PRECEDENCE.index(active):
            self.warnings.append(
                f"Claude has used what apiKeyHelper prints, which can't be moved; while enrolled it uses the "
                f"{_TITLES[active]} of {self._place(active)}"
            )
        rest = [name for name in (*_AT_CLOUD, *_PRECEDENCE) if name in found and name != active]
        if rest:
            others = ", ".join(f"{_TITLES[name]} of {self._place(name)}" for name in rest)
            self.warnings.append(
                f"in use while enrolled: the {_TITLES[active]} of {self._place(active)}; only kept: {others}"
            )
        return active

    def _place(self, name: str) -> str:
        secret = next(secret for secret in self.secrets if secret.name == name)
        return f"{self.files.absolute(secret.file)} ({secret.place})"

    def _nothing_to_enroll(self) -> MisuseError:
        if self.helper:
            return MisuseError(
                "Claude's only credential is what its apiKeyHelper prints; a command's output can't be moved",
                next_step='put the key into ~/.claude/settings.json as {"env": {"ANTHROPIC_API_KEY": ...}}, remove '
                "apiKeyHelper, then try again",
            )
        return self.nothing(
            f"no credential of Claude's was found in {self.files.absolute(_FOLDER)} and ~/.claude.json",
            next_step="log in with Claude once (claude, then /login), then try again",
        )

    def _surroundings(self) -> None:
        """Warn of what would defeat the wiring, as far as it can be seen in files."""
        shown = () if self.exports is None else tuple(EXPORTED)
        for export in exports(self.files, tuple(name for name in _OVERRIDES if name not in shown)):
            self.warnings.append(f"{export.place}: {export.name} {_OVERRIDES[export.name]}")
        for name, data in (
            (self.files.absolute(_LOCAL_SETTINGS), _read_if_plain(self.files, _LOCAL_SETTINGS)),
            (str(self.managed_settings), self._managed()),
        ):
            beats = [
                word for word in ("apiKeyHelper", "ANTHROPIC_", "CLAUDE_CODE_OAUTH_TOKEN") if word.encode() in data
            ]
            if beats:
                self.warnings.append(f"{name} mentions {', '.join(beats)}, which may beat the wiring: look at it")

    def _managed(self) -> bytes:
        try:
            return self.managed_settings.read_bytes()
        except OSError:  # not there, or not for us to see: nothing is known to beat the wiring
            return b""


def _is_token(key: str, value: str) -> bool:
    return key.endswith("Token") or value.startswith("sk-ant-")


def bare_oauth(token: str) -> str:
    """Return a long-lived OAuth token (``claude setup-token``) in the vault's form; nothing can refresh it."""
    return json.dumps(
        {"accessToken": token, "refreshToken": None, "expiresAt": FAR_FUTURE_MS, "scopes": ["user:inference"]}
    )


def _new_decoy() -> list[Edit]:
    values: dict[str, JsonValue] = {
        "accessToken": fresh_token("sk-ant-oat01-"),
        "refreshToken": fresh_token("sk-ant-ort01-"),
        "expiresAt": FAR_FUTURE_MS,
        "scopes": ["user:inference", "user:profile"],
        "subscriptionType": "pro",
    }
    return [SetMember((*_OAUTH, key), value, follows=_ACCESS_TOKEN) for key, value in values.items()]


def _read_if_plain(files: UserFiles, path: str) -> bytes:
    try:
        content = files.read(path)
    except MisuseError:  # display only: what is not a plain file is not looked at
        return b""
    return b"" if content is None else content.data


EXPORTED = {
    "ANTHROPIC_API_KEY": Variable("exported-api-key", "anthropic-api-key"),
    "ANTHROPIC_AUTH_TOKEN": Variable("exported-auth-token", "anthropic-auth-token"),
    "CLAUDE_CODE_OAUTH_TOKEN": Variable("exported-oauth-token", "anthropic-oauth", "fixed", bare_oauth),
}
"""What Claude reads from its environment."""
